"""The front end of exported files: frames to the bit, spectrograms within what float32 allows, and
the network with it within rounding of the network itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from media import write_flash_beep
from test_trained import CLASSES, CONFIG, clips, write

import avmix
from avmix.augment.video_transforms import apply_video, centred
from avmix.config import FrontendConfig, LossConfig, ModelConfig
from avmix.exporting.check_clips import decoded_clips, largest_difference
from avmix.exporting.dft_spectrogram import DftSpectrogram
from avmix.exporting.exportable import ExportableNetwork
from avmix.exporting.file_formats import Runner
from avmix.exporting.integer_resize import CentreSquare
from avmix.models.spectrograms import spectrogram

AVX = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


@pytest.mark.skipif(not AVX, reason="torch resizes uint8 in fixed point with AVX2 only")
@pytest.mark.parametrize(
    ("side", "size", "height", "width"),
    [(72, 64, 72, 129), (256, 224, 341, 256), (100, 33, 100, 177), (64, 64, 90, 64),
     (240, 16, 240, 320), (9, 8, 9, 9)],
)  # fmt: skip
def test_frames_are_resized_to_the_bit(side: int, size: int, height: int, width: int) -> None:
    draw = torch.Generator().manual_seed(side)
    video = torch.randint(0, 256, (2, 3, height, width, 3), dtype=torch.uint8, generator=draw)
    video[0, 0] = 255
    video[0, 1] = 255 * (video[0, 1] > 127)
    expected = [apply_video(clip.numpy(), centred(height, width), size) for clip in video]
    assert torch.equal(CentreSquare(side, size)(video), torch.from_numpy(np.stack(expected)))


KINDS = {
    "log_mel": (512, 256, 64), "kaldi": (400, 160, 128), "kaldi_povey": (400, 160, 128),
    "panns": (512, 160, 64), "librosa": (1024, 320, 64), "linear": (511, 120, 1),
    "scipy": (512, 159, 1), "magnitudes": (2048, 160, 64),
}  # fmt: skip
OPTIONS = {"linear": {"window_length": 240, "centred": True},
           "magnitudes": {"exponent": 1, "window_length": 320, "kind": "log_mel"}}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_spectrograms_by_convolution_are_those_of_the_front_end(kind, tmp_path: Path) -> None:
    """Within 1e-4 down to 40 dB below the loudest bin of a column; below, float32 limits both, and
    the convolution is not farther from the truth (in double precision) than twice the other."""
    n_fft, hop, mels = KINDS[kind]
    given = {"kind": kind, "n_fft": n_fft, "hop_length": hop, "num_mels": mels, "mel_mean": 0.0,
             "mel_std": 1.0}  # fmt: skip
    config = FrontendConfig(**(given | OPTIONS.get(kind, {})))
    path = write_flash_beep(tmp_path / "a.mp4", seconds=1, events_seconds=(0.2, 0.6), size=(48, 32))
    read = avmix.decode_clip(path, start_seconds=0, duration_seconds=1, num_frames=1)
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 16_000, generator=draw) * torch.tensor([[0.3], [1e-3]])
    wave = torch.cat([torch.from_numpy(read.audio)[None], noise])
    own, exact = spectrogram(config, 16_000), spectrogram(config, 16_000).double()
    power = exact(wave.double())
    truth = exact.logarithm(power)
    expected, found = own.logarithm(own(wave)), DftSpectrogram(config, 16_000)(wave)
    assert found.shape == expected.shape
    loud = power > 1e-4 * power.amax(1, keepdim=True)
    assert (found - truth)[loud].abs().max() < 1e-4
    assert (found - truth).abs().max() <= max(1e-4, 2 * (expected - truth).abs().max().item())
    assert truth.std() > 1


def runner(network: ExportableNetwork) -> Runner:
    def run(inputs):
        with torch.inference_mode():
            return [found.numpy() for found in network(*map(torch.from_numpy, inputs))]

    return run


@pytest.mark.parametrize(
    "change",
    ["concat", "average", "weighted", "bottleneck", "several", "stereo", "video", "audio", "kaldi"],
)
def test_the_network_with_that_front_end_says_the_same(change: str, tmp_path: Path) -> None:
    config = replace(CONFIG, model=replace(CONFIG.model, missing="mask", shared_width=0))
    match change:
        case "several":
            config = replace(config, loss=LossConfig(labels="multi", kind="binary"))
        case "stereo":
            config = replace(config, clip=replace(config.clip, stereo=True))
        case "video" | "audio":
            model = ModelConfig(modalities=change, video=config.model.video,
                                audio=config.model.audio)  # fmt: skip
            config = replace(config, model=model)
        case "kaldi":
            config = replace(config, frontend=replace(config.frontend, kind="kaldi", num_mels=12))
        case fusion:
            config = replace(config, model=replace(config.model, fusion=fusion))
    net = avmix.load(write(tmp_path, config))
    read = decoded_clips(net, [])
    assert [clip.video.shape[1:3] for clip in read] == [(20, 27), (27, 20)]
    assert largest_difference(net, runner(ExportableNetwork(net)), read) < 1e-5


def test_what_a_clip_has_is_what_it_is_said_to_have(tmp_path: Path) -> None:
    net = avmix.load(write(tmp_path))
    network = ExportableNetwork(net)
    video, audio = clips(side=20)
    audio[0] = 0
    seen = torch.tensor([True, True, False, False])
    here = torch.tensor([True, True, True, False])
    fused, of_video, of_audio = network(video, audio, seen, here)
    assert of_audio.isnan().all(1).tolist() == [False, False, False, True]
    assert of_video.isnan().all(1).tolist() == [False, False, True, True]
    assert fused.isnan().all(1).tolist() == [False, False, False, True]
    assert fused[:3].sum(1).tolist() == pytest.approx([1, 1, 1])
    expected = net(video, audio, seen, here)
    torch.testing.assert_close(fused[:3], expected.fused.softmax(1)[:3], atol=1e-6, rtol=0)
    assert len(CLASSES) == fused.shape[1]


def test_another_network_is_found_out(tmp_path: Path) -> None:
    net = avmix.load(write(tmp_path))
    network = ExportableNetwork(net)
    network.shift += 1
    read = decoded_clips(net, [])
    assert largest_difference(net, runner(network), read) > 1e-4

    def nothing(inputs):
        return [np.full((len(inputs[0]), 3), np.nan)] * 3

    assert largest_difference(net, nothing, read) == float("inf")
