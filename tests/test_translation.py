"""Prediction of a missing feature from the other one: its loss by hand, and who learns of it."""

import torch
from torch import Tensor

from avmix.models.fusion import ConcatFusion
from avmix.models.translation import Translation

YES, NO = torch.tensor([True, True, True]), torch.tensor([True, True, False])


def test_the_loss_by_hand() -> None:
    parts = Translation(2, 1)
    video, audio = torch.tensor([[1.0, 3], [0, 0], [9, 9]]), torch.tensor([[2.0], [4], [9]])
    # Zeros are predicted: ((1 + 9) / 2 + 4) / 2 = 4.5 and (0 + 16) / 2 = 8.
    assert parts.loss(video, audio, NO).item() == (4.5 + 8) / 2
    assert parts.loss(video, audio, ~YES).item() == 0


def test_only_the_predictors_learn_of_the_loss() -> None:
    torch.manual_seed(0)
    fusion = ConcatFusion(3, 2, 4, 0.0, "translate").train()
    video, audio = torch.randn(3, 3, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    _, loss = fusion.with_translation(video, audio, YES, NO)
    assert loss is not None
    loss.backward()
    assert video.grad is None
    assert audio.grad is None
    assert fusion.norm_video.weight.grad is None
    learned = {name for name, p in fusion.named_parameters() if p.grad is not None}
    assert learned == {name for name, _ in fusion.named_parameters()
                       if name.startswith("translation.")}  # fmt: skip
    assert fusion.eval().with_translation(video, audio, YES, NO)[1] is None


def test_a_missing_feature_is_what_is_predicted_from_the_other() -> None:
    torch.manual_seed(1)
    fusion = ConcatFusion(3, 2, 4, 0.0, "translate").eval()
    translation = fusion.translation
    assert translation is not None
    with torch.no_grad():
        for parameter in translation.parameters():
            parameter.normal_()
    video, audio = torch.randn(3, 3), torch.randn(3, 2)
    audio[2] = torch.nan
    heads = fusion(video, audio, YES, NO)

    def normal(x: Tensor) -> Tensor:
        return x / torch.tensor(1 + 1e-5).sqrt()

    predicted = translation.to_audio(normal(video))
    joint = torch.cat([normal(video), torch.cat([normal(audio[:2]), predicted[2:]])], 1)
    torch.testing.assert_close(heads.fused, fusion.fused(joint))
    torch.testing.assert_close(heads.audio[:2], fusion.audio(normal(audio[:2])))
    assert bool(heads.fused.isfinite().all())


def test_at_first_it_is_the_mean_feature() -> None:
    torch.manual_seed(2)
    translated = ConcatFusion(3, 2, 4, 0.0, "translate").eval()
    mean = ConcatFusion(3, 2, 4, 0.0, "mean").eval()
    mean.load_state_dict(
        {name: value for name, value in translated.state_dict().items()
         if not name.startswith("translation.")}
    )  # fmt: skip
    video, audio = torch.randn(3, 3), torch.randn(3, 2)
    for has in (YES, NO):
        assert translated(video, audio, has, NO).fused.equal(mean(video, audio, has, NO).fused)
