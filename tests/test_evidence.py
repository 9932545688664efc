"""Labels of cut audio by its energy, by hand."""

from dataclasses import replace

import pytest
import torch

from avmix.config import FrontendConfig, MixConfig
from avmix.mix import MixPlan
from avmix.mix.evidence import energy_share, with_audio_share
from avmix.mix.mix_plan import Part
from avmix.models.frontend import Frontend

YES = (True, True, True)
PLAN = MixPlan(
    num_inputs=3, partner=(1, 0, 0), method="cutmix_temporal", level="input",
    parts=(
        Part(name="video", domain="pixels", weight=(0.0, 0.0, 1.0), present=YES,
             box=((0, 1), (0, 1), (0, 1)), shape=(4,)),
        Part(name="audio", domain="log_mel", weight=(0.0, 0.0, 1.0), present=(True, False, True),
             box=((0, 2, 1, 2), (0, 2, 1, 4), (0, 2, 0, 1)), shape=(2, 4)),
    ),
)  # fmt: skip
ENERGY = torch.tensor([
    [[1.0, 9, 1, 1], [1, 9, 1, 1]],
    [[2.0, 2, 0, 0], [2, 1, 0, 0]],
    [[0.0, 0, 0, 0], [0, 0, 0, 0]],
])  # fmt: skip


def test_shares_by_hand() -> None:
    placed = PLAN.to(torch.device("cpu"))
    # Clip 0 keeps 6 of columns 0, 2 and 3 and gets 2 + 1; by area 3/4. Clip 1 keeps 2 + 2 and gets
    # 22 of columns 1 to 3. Clip 2 is silent and not mixed.
    found = energy_share(placed.part("audio"), ENERGY)
    assert found.tolist() == pytest.approx([6 / 9, 4 / 26, 1])
    plan = with_audio_share(placed, ENERGY)
    assert plan.part("audio").lam.tolist() == pytest.approx([6 / 9, 4 / 26, 1])
    assert plan.part("video").lam.equal(placed.part("video").lam)
    assert plan.lam.tolist() == pytest.approx([(3 / 4 + 6 / 9) / 2, 3 / 4, 1])  # 1 has no audio


def test_equal_energy_and_silence_leave_the_area() -> None:
    placed = PLAN.to(torch.device("cpu"))
    for energy in (torch.ones(3, 2, 4), torch.zeros(3, 2, 4)):
        found = with_audio_share(placed, energy)
        assert found.part("audio").lam.tolist() == pytest.approx(PLAN.part("audio").lam)
        assert found.lam.tolist() == pytest.approx(PLAN.lam)
    whole = replace(PLAN, parts=(PLAN.parts[0], replace(PLAN.parts[1], box=None, shape=())))
    part = whole.to(torch.device("cpu")).part("audio")
    assert energy_share(part, ENERGY) is part.lam


def test_energy_is_that_of_the_cells() -> None:
    stage = Frontend(FrontendConfig(num_mels=16, n_fft=256, hop_length=128), 8000)
    audio = torch.randn(2, 4000)
    power = stage.energy(audio, "log_mel")
    assert power.shape == stage.log_mel(audio)[:, 0].shape
    louder = stage.energy(2 * audio, "log_mel")
    torch.testing.assert_close(louder, 4 * power)
    stereo = stage.energy(torch.stack([audio, audio], 1), "power")
    torch.testing.assert_close(stereo, 2 * power)
    assert stage.energy(audio, "waveform").equal(audio.square())
    assert MixConfig().audio_label == "area"
