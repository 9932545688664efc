"""One lambda for video, audio and label: recovered from each, equal to the plan's.

Every method at every level, with every pairing and several batch sizes: what comes out of the real
frontend and the real network is compared with what comes out unmixed, and the plan is read off it
by least squares, box by box, element by element.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import pytest
import torch
from torch import Tensor

from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    FrontendConfig,
    MixConfig,
    ModelConfig,
    VideoEncoderConfig,
)
from avmix.mix import Clips, MixPlan, Part, PlacedPlan, clip_grids, draw_plan, mixed_targets
from avmix.mix.hidden_mix import hidden_mix
from avmix.mix.loudness import loudness_db
from avmix.models.classifier import LateFusionClassifier, build_model
from avmix.models.frontend import Frontend
from avmix.rng import rng
from avmix.types import Batch

CPU = torch.device("cpu")
SIZES = (1, 2, 3, 64)
PAIRINGS = ("involution", "permutation", "roll", "derangement", "second_batch", "different_class",
            "same_class", "different_source")  # fmt: skip
CLIP = ClipConfig(duration_seconds=1.0, num_frames=4, sample_rate=2000, short_side=8, crop=8)
MEL_MEAN, MEL_STD = -0.3, 3.7
FRONTEND = FrontendConfig(num_mels=8, n_fft=128, hop_length=64, mel_mean=MEL_MEAN, mel_std=MEL_STD)
MODEL = ModelConfig(
    video=VideoEncoderConfig(channels=[3, 4, 5]),
    audio=AudioEncoderConfig(channels=[3, 4, 5]),
    shared_width=6,
)

Domain = Literal["log_mel", "power", "waveform"]
Kernel = Literal["auto", "torch", "fused"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """The tensors are so small that a second thread costs more than it does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def batch_of(size: int) -> Batch:
    """Clips of which no two are alike anywhere, with a class of its own for each."""
    generator = torch.Generator().manual_seed(size)
    # Clip i has the bytes 4 i to 4 i + 3 (64 clips at most): no two clips share one.
    low = torch.randint(0, 4, (size, 4, 8, 8, 3), generator=generator)
    video = 4 * torch.randperm(64, generator=generator)[:size].view(-1, 1, 1, 1, 1) + low
    loud = 0.05 + torch.rand(size, 1, generator=generator)
    return Batch(
        video=video.to(torch.uint8),
        audio=loud * torch.randn(size, 2000, generator=generator),
        has_video=torch.ones(size, dtype=torch.bool),
        has_audio=torch.ones(size, dtype=torch.bool),
        target=torch.eye(size),
        row=torch.arange(size),
        source=torch.arange(size),
    )


def same_batch(one: Batch, two: Batch) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(two, name))
        for name in ("video", "audio", "has_video", "has_audio", "target", "row", "source")
    )


def clips_of(batch: Batch) -> Clips:
    """With two classes, so that pairing by class has a choice."""
    return Clips(
        present=(("video", tuple(batch.has_video.tolist())),
                 ("audio", tuple(batch.has_audio.tolist()))),
        source=tuple(batch.source.tolist()),
        labels=tuple(frozenset({i % 2}) for i in range(batch.size)),
    )  # fmt: skip


def plan_of(config: MixConfig, batch: Batch, seed: int = 0) -> MixPlan:
    grids = clip_grids(CLIP, FRONTEND, config.audio_domain)
    return draw_plan(config, clips_of(batch), grids, shared=rng(seed, 0, "mix_shared"),
                     own=rng(seed, 0, "mix"))  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One cell of the matrix."""

    batch: Batch
    plan: MixPlan
    text: str


def cases(word: str, domain: Domain = "log_mel", **options) -> Iterator[Case]:
    """Every pairing and batch size."""
    for pairing in PAIRINGS:
        for size in SIZES:
            if pairing == "second_batch" and size % 2:
                continue
            config = MixConfig(
                method=word, audio_domain=domain, pairing=pairing,  # pyright: ignore[reportArgumentType]
                **{"law": "uniform", **options},
            )  # fmt: skip
            batch = batch_of(size)
            plan = plan_of(config, batch)
            text = f"{word} {domain} {pairing} {size}"
            check_partners(plan, pairing, text)
            yield Case(batch, plan, text)


def check_partners(plan: MixPlan, pairing: str, text: str) -> None:
    """Nearly all are mixed, or nothing would be shown."""
    alone = sum(i == j for i, j in enumerate(plan.partner))
    if plan.num_inputs == 1 or plan.method == "cross":
        return
    most = {"involution": plan.size % 2, "permutation": plan.size if plan.size < 64 else 5,
            "same_class": plan.size if plan.size < 64 else 0,
            "different_class": 0}.get(pairing, 0)  # fmt: skip
    assert alone <= most, text


def least_squares(own: Tensor, other: Tensor, mixed: Tensor, mask: Tensor) -> Tensor:
    """For each clip the lambda for which lambda * own + (1 - lambda) * other is nearest to `mixed`
    in the mask; 1 where nothing differs there."""
    own, other, mixed = (torch.where(mask, x.double(), 0).flatten(1) for x in (own, other, mixed))
    change = own - other
    found = (change * (mixed - other)).sum(1) / change.square().sum(1)
    return torch.where((change != 0).any(1), found, 1.0)


def boxes(part: Part, shape: torch.Size) -> Tensor:
    """Which elements (of the last axes) are in the box of each clip."""
    mask = torch.full(shape, part.box is None)
    for row, box in zip(mask, part.box or (), strict=False):
        row[(..., *(slice(a, b) for a, b in zip(box[0::2], box[1::2], strict=True)))] = True
    return mask


def column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, *[1] * (like.ndim - 1))


def check_mixed(
    part: Part, plan: MixPlan, before: Tensor, after: Tensor, text: str, within: float = 1e-5
) -> Tensor:
    """Outside the box to the bit the own, inside the mix; the own shares that are found."""
    text = f"{text} {part.name}"
    assert after.shape == (plan.size, *before.shape[1:]), text
    own, other, mask = before[: plan.size], before[list(plan.partner)], boxes(part, after.shape)
    weight, alone = (
        column(part.weight, own),
        column([i == j for i, j in enumerate(plan.partner)], own),
    )
    kept = ~mask | (weight == 1) | (alone == 1)
    assert torch.equal(after[kept], own[kept]), text
    taken = mask & (weight == 0)
    assert torch.equal(after[taken], other[taken]), text
    mix = weight * own.double() + (1 - weight) * other.double()
    assert (after.double() - torch.where(kept, own.double(), mix)).abs().max() < 1e-5, text
    # Every element differs between any two clips, so that what is cut can be counted.
    assert torch.equal((after != own).flatten(1).sum(1)[weight.flatten() == 0],
                       (~kept).flatten(1).sum(1)[weight.flatten() == 0]), text  # fmt: skip
    found = least_squares(own, other, after, ~kept)
    expected = torch.where((~kept).flatten(1).any(1), weight.flatten(), 1.0)
    torch.testing.assert_close(found, expected, atol=within, rtol=0, msg=text)
    inside = mask.flatten(1).double().mean(1)
    return 1 - inside + inside * found


def check_labels(case: Case, video: Tensor, audio: Tensor, within: float = 1e-5) -> None:
    """The own shares found in both modalities are those of the plan and of the mixed labels."""
    plan, text = case.plan, case.text
    if plan.method in ("mixup", "energy", "cutmix_spatial", "cutmix_frequency"):
        torch.testing.assert_close(video.double(), audio.double(), atol=within, rtol=0, msg=text)
    elif plan.method in ("cutmix_temporal", "cutmix_spatiotemporal"):  # in whole columns
        assert (video - audio).abs().max() < 1 / CLIP.num_frames, text
    labels = mixed_targets(plan.to(CPU), case.batch.target)
    lams = (plan.lam, plan.part("video").lam, plan.part("audio").lam)
    for head, found, lam in zip(labels, ((video + audio) / 2, video, audio), lams, strict=True):
        expected = torch.zeros(plan.size, plan.num_inputs, dtype=torch.float64)
        for i, j in enumerate(plan.partner):
            expected[i, j] += 1 - lam[i]
            expected[i, i] += lam[i]
        torch.testing.assert_close(head.double(), expected, atol=1e-6, rtol=0, msg=text)
        own = torch.tensor(lam, dtype=torch.float64)
        torch.testing.assert_close(found.double(), own, atol=within, rtol=0, msg=text)


# Input --------------------------------------------------------------------------------------------

INPUT = ["none", "mixup", "independent", "video", "audio", "cutmix_temporal", "cutmix_spatial",
         "cutmix_spatiotemporal", "cutmix_frequency"]  # fmt: skip


@cache
def frontend_of(kernel: Kernel = "auto") -> Frontend:
    return Frontend(replace(FRONTEND, kernel=kernel), CLIP.sample_rate)


@cache
def unmixed(size: int, kernel: Kernel = "auto") -> tuple[Tensor, Tensor]:
    return frontend_of(kernel)(batch_of(size))


def run(case: Case, kernel: Kernel = "auto") -> tuple[Tensor, Tensor]:
    """Mixed; also by the plan that comes back from JSON, and with the input left as it was."""
    frontend = frontend_of(kernel)
    video, audio = frontend(case.batch, case.plan.to(CPU))
    again = written_and_read(case.plan)
    if case.plan.num_inputs < 64 or "involution" in case.text:
        same_video, same_audio = frontend(case.batch, again.to(CPU))
        assert torch.equal(video, same_video), case.text
        assert torch.equal(audio, same_audio), case.text
    assert same_batch(case.batch, batch_of(case.batch.size)), case.text
    return video, audio


def written_and_read(plan: MixPlan) -> MixPlan:
    again = MixPlan.from_json(plan.to_json())
    assert again == plan
    return again


@pytest.mark.parametrize("kernel", ["torch", "fused"])
@pytest.mark.parametrize("word", INPUT)
def test_pixels_and_log_mel(word, kernel):
    for case in cases(word):
        before = unmixed(case.batch.size, kernel)
        video, audio = run(case, kernel)
        check_labels(
            case,
            check_mixed(case.plan.part("video"), case.plan, before[0], video, case.text),
            check_mixed(case.plan.part("audio"), case.plan, before[1], audio, case.text),
        )


def test_pixels_are_mixed_before_they_are_rounded():
    """0.3 of one and 0.7 of the next byte value is between them."""
    batch = batch_of(2)
    batch = replace(batch, video=torch.tensor([100, 101], dtype=torch.uint8)
                    .view(2, 1, 1, 1, 1).expand(2, 4, 8, 8, 3).contiguous())  # fmt: skip
    plan = plan_of(MixConfig(law="fixed", lam=0.3), batch)
    for kernel in ("torch", "fused"):
        video, _ = frontend_of(kernel)(batch, plan.to(CPU))
        expected = torch.tensor([100.7, 100.3]).view(2, 1, 1, 1, 1) / 255
        torch.testing.assert_close(video, ((expected - 0.45) / 0.225).expand_as(video))


def powers(log_mel: Tensor) -> Tensor:
    return (log_mel.double() * MEL_STD + MEL_MEAN).exp() - FrontendConfig().log_offset


def heard_share(own: Tensor, other: Tensor, case: Case) -> Tensor:
    """Lambda of the paper's formula, from the factors of the waveforms."""
    loud = loudness_db(case.batch.audio, CLIP.sample_rate)
    partner = list(case.plan.partner)
    louder = (loud[: case.plan.size] - loud[partner]).clamp(-20, 20).double()
    return own / (own + other * 10 ** (-louder / 20))


@pytest.mark.parametrize("word", [*INPUT, "energy"])
def test_mel_powers(word):
    """The logarithm undone, audio is mixed linearly; by loudness, with squares of the factors."""
    for case in cases(word, "power"):
        before_video, before = unmixed(case.batch.size)
        video, audio = run(case)
        plan, part, text = case.plan, case.plan.part("audio"), case.text
        seen = check_mixed(plan.part("video"), plan, before_video, video, text)
        own, other, mask = before[: plan.size], before[list(plan.partner)], boxes(part, audio.shape)
        weight = column(part.weight, own)
        kept = (
            ~mask | (weight == 1) | column([i == j for i, j in enumerate(plan.partner)], own).bool()
        )
        assert torch.equal(audio[kept], own[kept]), text
        assert torch.equal(audio[~kept & (weight == 0)], other[~kept & (weight == 0)]), text
        found = least_squares(powers(own), powers(other), powers(audio), ~kept)
        if word == "energy":
            heard = heard_share(found.clamp(min=0).sqrt(), (1 - found).clamp(min=0).sqrt(), case)
            found = torch.where(kept.flatten(1).all(1), 1.0, heard)
        inside = mask.flatten(1).double().mean(1)
        check_labels(case, seen, 1 - inside + inside * found, 1e-3 if word == "energy" else 1e-4)


@pytest.mark.parametrize("word", [w for w in [*INPUT, "energy"] if w != "cutmix_frequency"])
def test_waveforms(word):
    """The power of a sum of waveforms has a cross term, so that three coefficients can be found:
    f * f, g * g and f * g of f * own + g * other."""

    def spectra(waves: Tensor) -> Tensor:
        return powers(frontend_of().log_mel(waves)).flatten(1)

    for case in cases(word, "waveform"):
        before_video, before = unmixed(case.batch.size)
        video, audio = run(case)
        plan, part, text = case.plan, case.plan.part("audio"), case.text
        seen = check_mixed(plan.part("video"), plan, before_video, video, text)
        waves = case.batch.audio
        own, other = waves[: plan.size], waves[list(plan.partner)]
        mask, weight = boxes(part, own.shape), column(part.weight, own)
        kept = ((weight == 1) | (own == other)).all(1)
        torch.testing.assert_close(audio[kept], before[: plan.size][kept], atol=1e-5, rtol=0)
        if part.box is not None:
            # Samples are not seen by themselves: the spectra of what it should be are compared.
            mixed = torch.where(mask, weight * own + (1 - weight) * other, own.double())
            torch.testing.assert_close(powers(audio).flatten(1), spectra(mixed.float()),
                                       atol=1e-3, rtol=1e-4, msg=text)  # fmt: skip
            cut = torch.where(kept, 0.0, mask.double().mean(1))
            check_labels(case, seen, 1 - cut * (1 - weight[:, 0]))
            continue
        a, b, both = spectra(own), spectra(other), spectra(own + other)
        terms = torch.stack([a, b, both - a - b], 2)
        mixed = powers(audio).flatten(1)[..., None]
        f2, g2, fg = torch.linalg.lstsq(terms[~kept], mixed[~kept]).solution[..., 0].unbind(1)
        found = torch.ones(plan.size, dtype=torch.float64)
        if word == "energy":
            torch.testing.assert_close(f2 + g2, torch.ones_like(f2), atol=1e-3, rtol=0, msg=text)
            f, g = torch.zeros(2, plan.size, dtype=torch.float64)
            f[~kept], g[~kept] = f2.clamp(min=0).sqrt(), g2.clamp(min=0).sqrt()
            found = torch.where(kept, 1.0, heard_share(f, g, case))
        else:
            torch.testing.assert_close(f2 + 2 * fg + g2, torch.ones_like(f2), atol=1e-3, rtol=0)
            found[~kept] = f2 + fg
        check_labels(case, seen, found, within=5e-3 if word == "energy" else 1e-4)


@pytest.mark.parametrize("domain", ["log_mel", "power", "waveform"])
def test_lambda_one_is_the_clip_itself_and_zero_the_partner(domain):
    words = ["mixup", "independent", "energy"] if domain != "log_mel" else ["mixup", "independent"]
    for word in words:
        for lam in (1.0, 0.0):
            for case in cases(word, domain, law="fixed", lam=lam):
                video, audio = unmixed(case.batch.size)
                mixed_video, mixed_audio = frontend_of()(case.batch, case.plan.to(CPU))
                rows = list(range(case.plan.size)) if lam else list(case.plan.partner)
                assert torch.equal(mixed_video, video[rows]), case.text
                if domain == "waveform":
                    # The spectrogram of a row depends on its place in the batch by rounding.
                    torch.testing.assert_close(mixed_audio, audio[rows], atol=1e-5, rtol=0)
                else:
                    assert torch.equal(mixed_audio, audio[rows]), case.text
                for head in mixed_targets(case.plan.to(CPU), case.batch.target):
                    assert torch.equal(head, case.batch.target[rows]), case.text


@pytest.mark.parametrize("size", [2, 3, 64])
def test_both_modalities_and_the_label_are_changed(size):
    batch, frontend = batch_of(size), frontend_of()
    plan = plan_of(MixConfig(law="uniform"), batch)
    video, audio = frontend(batch)
    mixed_video, mixed_audio = frontend(batch, plan.to(CPU))
    labels = mixed_targets(plan.to(CPU), batch.target)
    for i in range(size):
        alone = plan.partner[i] == i
        assert torch.equal(mixed_video[i], video[i]) == alone
        assert torch.equal(mixed_audio[i], audio[i]) == alone
        assert all(torch.equal(head[i], batch.target[i]) == alone for head in labels)


@pytest.mark.parametrize("domain", ["log_mel", "power", "waveform"])
def test_what_a_partner_lacks_leaves_the_others_alone(domain):
    frontend, batch = frontend_of(), batch_of(4)
    batch = replace(
        batch,
        has_audio=torch.tensor([True, False, True, True]),
        has_video=torch.tensor([True, True, False, True]),
        source=torch.tensor([0, 1, 2, 2]),
        # What stands where there is no audio means nothing, and must not even be read.
        audio=torch.where(torch.arange(4)[:, None] == 1, torch.nan, batch.audio),
    )
    before = frontend(batch)
    words = ["mixup", "independent", "cutmix_temporal", "cutmix_spatial", "cutmix_spatiotemporal"]
    if domain != "log_mel":
        words.append("energy")
    for word in words:
        config = MixConfig(method=word, audio_domain=domain, law="fixed", lam=0.6, pairing="roll")
        plan = plan_of(config, batch)  # 0 takes 1, 1 takes 2, 2 takes 3, 3 takes 0
        video, audio = frontend(batch, plan.to(CPU))
        assert video.isfinite().all(), word
        assert audio.isfinite().all(), word
        changed = [not torch.equal(video[i], before[0][i]) for i in range(4)]
        assert changed == [True, False, False, True], word
        torch.testing.assert_close(audio[:3], before[1][:3], atol=1e-5, rtol=0, msg=word)
        if domain != "waveform":
            assert torch.equal(audio[:3], before[1][:3]), word
        assert not torch.allclose(audio[3], before[1][3], atol=1e-2), word
        target = mixed_targets(plan.to(CPU), batch.target)
        lam = plan.part("video").lam[0]
        assert target.audio[0].tolist() == [1, 0, 0, 0], word
        expected = pytest.approx([(lam + 1) / 2, (1 - lam) / 2, 0, 0])
        assert target.fused[0].tolist() == expected, word


def test_of_an_unmixed_plan_nothing_changes():
    for word in ("none", "none+dropout", "mixup"):
        config = MixConfig(method=word, probability=1.0 if word != "mixup" else 0.0)
        for size in SIZES:
            batch, frontend = batch_of(size), frontend_of()
            plan = plan_of(config, batch).to(CPU)
            for one, two in zip(frontend(batch, plan), frontend(batch), strict=True):
                assert torch.equal(one, two)
            assert all(
                torch.equal(head, batch.target) for head in mixed_targets(plan, batch.target)
            )
            assert hidden_mix(plan) is None


def test_a_plan_that_does_not_fit_is_refused():
    frontend = frontend_of()
    two, three = batch_of(2), batch_of(3)
    plan = plan_of(MixConfig(), two).to(CPU)
    with pytest.raises(ValueError, match="the plan is for 2 clips, there are 3"):
        frontend(three, plan)
    with pytest.raises(ValueError, match="the plan is for 2 clips, there are 3"):
        mixed_targets(plan, three.target)
    cut = plan_of(MixConfig(method="cutmix_spatiotemporal", law="fixed"), two).to(CPU)
    with pytest.raises(ValueError, match=r"video: .*\(4, 8, 8\).* the clips are \(3, 8, 8\)"):
        frontend(replace(two, video=two.video[:, :3]), cut)
    with pytest.raises(ValueError, match=r"audio: .*\(8, 30\), the tensor is \(2, 8, 15\)"):
        frontend(replace(two, audio=two.audio[:, :1024]), cut)


# Inside the network -------------------------------------------------------------------------------


@cache
def network(dtype: torch.dtype = torch.float32) -> LateFusionClassifier:
    torch.manual_seed(1)
    return build_model(MODEL, 5).to(dtype)


@torch.no_grad()
def states(batch: Batch, plan: PlacedPlan | None, stage: int | None,
           dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What goes into stage `stage` of both encoders (None: the features)."""
    model, seen = network(dtype), {}

    def keep(name: str) -> Callable:
        return lambda module, inputs: seen.update({name: inputs[0].clone()})

    hooks = []
    if stage is not None:
        for name, encoder in (("video", model.video), ("audio", model.audio)):
            hooks.append(encoder.stages[stage].register_forward_pre_hook(keep(name)))
    has = (batch.has_video, batch.has_audio)
    if plan is not None:
        has = (plan.part("video").present, plan.part("audio").present)
    video, audio = (x.to(dtype) for x in frontend_of()(batch, plan))
    out = model(video, audio, *has, hidden_mix(plan) if plan else None)
    for hook in hooks:
        hook.remove()
    if stage is None:
        return out.features.video, out.features.audio
    return seen["video"], seen["audio"]


@cache
def unmixed_states(size: int, stage: int | None = None, dtype: torch.dtype = torch.float32):
    return states(batch_of(size), None, stage, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("where", ["layer 0", "layer 1", "layer 2", "feature"])
@pytest.mark.parametrize("method", ["mixup", "independent", "video", "audio"])
def test_between_stages_and_features(method, where, dtype):
    level, _, stage = where.partition(" ")
    stage = int(stage) if stage else None
    for case in cases(f"{method}@{level}", layers=[stage or 0]):
        assert case.plan.stage == stage
        before = unmixed_states(case.batch.size, stage, dtype)
        after = states(case.batch, case.plan.to(CPU), stage, dtype)
        again = written_and_read(case.plan)
        if case.plan.num_inputs < 64:
            same = states(case.batch, again.to(CPU), stage, dtype)
            assert all(torch.equal(*two) for two in zip(after, same, strict=True)), case.text
        # A feature has six numbers, and those of two clips may be close to each other: what is
        # rounded is then more of their difference. That the mix is right is shown first.
        exact, rounded = (5e-4, 0.1) if stage is None else (1e-5, 0.02)
        within = exact if dtype == torch.float32 else rounded
        found = [
            read_off(case.plan.part(name), case.plan, old, new, case.text, within)
            for name, old, new in zip(("video", "audio"), before, after, strict=True)
        ]
        check_labels(case, *found, within=within)


def read_off(
    part: Part, plan: MixPlan, before: Tensor, after: Tensor, text: str, within: float
) -> Tensor:
    """Own shares of whole tensors, in the precision they have."""
    if before.dtype == torch.float32:
        return check_mixed(part, plan, before, after, text, within)
    own, other = before[: plan.size], before[list(plan.partner)]
    weight = column(part.weight, own)
    # To the bit what it is in float32, rounded once.
    mix = torch.lerp(other.float(), own.float(), weight.float()).to(before.dtype)
    assert torch.equal(after, torch.where(weight == 1, own, mix)), text
    found = least_squares(own, other, after, (weight < 1).expand_as(own))
    apart = (own - other).float().flatten(1).norm(dim=1) / own.float().flatten(1).norm(dim=1)
    return torch.where(apart > 0.2, found, weight.flatten())


@pytest.mark.parametrize("path", ["linear", "sphere"])
@pytest.mark.parametrize("whose", ["own", "partner"])
def test_crosswise(whose, path):
    for case in cases("cross", cross_with=whose, cross_path=path):
        plan, text = case.plan, case.text
        (video, audio), after = cross_states(case, whose)
        weight = torch.tensor(plan.part("video").weight, dtype=torch.float64)
        assert plan.part("audio").weight == plan.part("video").weight, text
        found = []
        for own, others, mixed in ((video, audio, after[0]), (audio, video, after[1])):
            own, other = own[: plan.size], others[list(plan.partner)]
            assert torch.equal(mixed[weight == 1], own[weight == 1]), text
            if path == "linear":
                share = least_squares(own, other, mixed, (weight < 1)[:, None].expand_as(own))
            else:
                x, y, z = own.double(), other.double(), mixed.double()
                length = weight * x.norm(dim=1) + (1 - weight) * y.norm(dim=1)
                torch.testing.assert_close(z.norm(dim=1), length, rtol=1e-4, atol=0, msg=text)
                share = torch.where(weight == 1, 1.0, angle(z, y) / angle(x, y))
            torch.testing.assert_close(share, weight, atol=1e-3, rtol=0, msg=text)
            found.append(share)
        check_labels(case, *found, within=1e-3)


def cross_states(case: Case, whose: str):
    after = states(case.batch, case.plan.to(CPU), None)
    same = states(case.batch, written_and_read(case.plan).to(CPU), None)
    assert all(torch.equal(*two) for two in zip(after, same, strict=True)), case.text
    assert [len(x) for x in after] == [case.plan.size] * 2, case.text
    if whose == "own":
        assert case.plan.partner == tuple(range(case.plan.size)), case.text
        assert max(case.plan.lam) < 1, case.text
    return unmixed_states(case.batch.size), after


def angle(x: Tensor, y: Tensor) -> Tensor:
    return ((x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1))).clamp(-1, 1).acos()


def test_only_what_is_mixed_inside_is_told_to_the_network():
    batch = batch_of(4)
    assert hidden_mix(plan_of(MixConfig(), batch).to(CPU)) is None
    plan = plan_of(MixConfig(method="independent@layer", layers=[2], law="uniform"), batch)
    mix = hidden_mix(plan.to(CPU))
    assert mix is not None
    assert (mix.stage, mix.path) == (2, None)
    assert mix.partner.tolist() == list(plan.partner)
    torch.testing.assert_close(mix.video, torch.tensor(plan.part("video").weight))
    torch.testing.assert_close(mix.audio, torch.tensor(plan.part("audio").weight))
    x = torch.randn(4, 3)
    assert all(one is two for one, two in zip(mix.features(x, x), (x, x), strict=True))
    mix = hidden_mix(plan_of(MixConfig(method="cross", cross_path="linear"), batch).to(CPU))
    assert mix is not None
    assert (mix.stage, mix.path) == (None, "linear")
