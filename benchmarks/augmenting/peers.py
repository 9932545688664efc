"""The same work by torchvision (frames) and torchaudio (audio): time, and what becomes of it.

Each does it as its documentation says, on clips that are decoded already: `v2` transforms on a
`tv_tensors.Video`, functions of torchaudio on a waveform. Drawing is part of the time. Both start
from the layout of the decoder and end in the one that `Batch` has.

torchvision's policies do nothing one time in 14, leave black outside the frame, where ours leave
grey, and have other limits for some operations; its stretched audio is a phase vocoder's.

What is checked, by looking at the result: one draw for all frames (a still clip stays still),
equal pixels stay equal where the rest of the frame changes, and what becomes of the audio.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torchaudio
from shared.medians import median, quartiles
from shared.rounds import rounds_in_turn
from torchvision import tv_tensors
from torchvision.transforms import v2

from avmix.augment import AudioPlan, apply_audio, apply_video, draw_video
from avmix.augment.audio_transforms import Band, Noise, Room, impulse_response
from avmix.augment.wsola import stretch
from avmix.config import AugmentConfig, ClipConfig
from avmix.rng import rng

_AREA, _ASPECT = (0.5, 1.0), (1 / 1.33, 1.33)
_COLOURS = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
_FACTOR = 1.25
"""Of the stretched audio: its window lasts so much longer in the file."""

VideoFunction = Callable[[np.ndarray, int], np.ndarray]
AudioFunction = Callable[[np.ndarray], np.ndarray]


def frame_pairs(crop: int) -> dict[str, tuple[str, VideoFunction, VideoFunction]]:
    """Name to: what torchvision is asked for, ours, theirs."""
    base: list[Any] = [
        v2.RandomResizedCrop(crop, scale=_AREA, ratio=_ASPECT, antialias=True),
        v2.RandomHorizontalFlip(0.5),
    ]
    options: dict[str, tuple[str, dict[str, Any], list[Any]]] = {
        "crop": ("RandomResizedCrop", {"flip": 0.0}, base[:1]),
        "crop_flip": ("RandomResizedCrop, RandomHorizontalFlip", {}, base),
        "colours": ("these and ColorJitter", _COLOURS, [*base, v2.ColorJitter(**_COLOURS)]),
        "randaugment": (
            "these and RandAugment",
            {"policy": "randaugment", "policy_strength": 0.3},
            [*base, v2.RandAugment(2, 9, interpolation=v2.InterpolationMode.BILINEAR)],
        ),
        "trivialaugment": (
            "these and TrivialAugmentWide",
            {"policy": "trivialaugment"},
            [*base, v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR)],
        ),
        "erase": (
            "these and RandomErasing",
            {"erase": 1.0},
            [*base, v2.RandomErasing(1.0, value=115)],
        ),
    }
    return {
        name: (label, _ours(AugmentConfig(**changes), crop), _theirs(v2.Compose(steps)))
        for name, (label, changes, steps) in options.items()
    }


def _ours(config: AugmentConfig, crop: int) -> VideoFunction:
    def run(video: np.ndarray, step: int) -> np.ndarray:
        stream = rng(0, step, "augment")
        return apply_video(video, draw_video(config, *video.shape[1:3], crop, stream), crop)

    return run


def _theirs(transform: Callable[[Any], Any]) -> VideoFunction:
    def run(video: np.ndarray, step: int) -> np.ndarray:
        torch.manual_seed(step)
        frames = tv_tensors.Video(torch.from_numpy(video).permute(0, 3, 1, 2))
        return transform(frames).permute(0, 2, 3, 1).contiguous().numpy()

    return run


def audio_pairs(
    sample_rate: int, num_samples: int
) -> dict[str, tuple[str, AudioFunction, AudioFunction]]:
    """Name to: what torchaudio is asked for, ours, theirs."""
    functional = torchaudio.functional
    room = Room(rt60_seconds=0.4, predelay_seconds=0.02, wet_db=-6.0, seed=1)
    n_fft, hop = 512, 128
    window = torch.hann_window(n_fft)
    slower = torchaudio.transforms.TimeStretch(hop, n_fft // 2 + 1)

    def planned(plan: AudioPlan) -> AudioFunction:
        return lambda wave: apply_audio(wave, plan, sample_rate)

    def low_pass(wave: np.ndarray) -> np.ndarray:
        return functional.lowpass_biquad(torch.from_numpy(wave), sample_rate, 2000.0).numpy()

    def echo(wave: np.ndarray) -> np.ndarray:
        response = torch.from_numpy(impulse_response(room, sample_rate))
        return functional.fftconvolve(torch.from_numpy(wave), response)[: len(wave)].numpy()

    def noisy(wave: np.ndarray) -> np.ndarray:
        noise, snr = torch.randn(len(wave)), torch.tensor(10.0)
        return functional.add_noise(torch.from_numpy(wave), noise, snr).numpy()

    def vocoder(wave: np.ndarray) -> np.ndarray:
        spectrum = torch.stft(
            torch.from_numpy(wave), n_fft, hop, window=window, return_complex=True
        )
        changed = slower(spectrum, len(wave) / num_samples)
        return torch.istft(changed, n_fft, hop, window=window, length=num_samples).numpy()

    return {
        "filter": (
            "lowpass_biquad",
            planned(AudioPlan(band=Band(low_hz=None, high_hz=2000.0))),
            low_pass,
        ),
        "reverb": ("fftconvolve", planned(AudioPlan(room=room)), echo),
        "noise": (
            "add_noise (white)",
            planned(AudioPlan(noise=Noise(snr_db=10.0, tilt=0.0, seed=1))),
            noisy,
        ),
        "speed_keeps_pitch": (
            "stft, TimeStretch, istft",
            lambda wave: stretch(wave, num_samples, sample_rate),
            vocoder,
        ),
    }


def measure_peers(
    clips: Sequence[np.ndarray], clip: ClipConfig, num_rounds: int
) -> dict[str, dict[str, Any]]:
    """A row per pair: milliseconds of ours, theirs over ours, and what was checked."""
    found: dict[str, dict[str, Any]] = {}
    num_samples = round(clip.duration_seconds * clip.sample_rate)
    for name, (label, *pair) in frame_pairs(clip.crop).items():
        ours, theirs = pair
        times = _alternate(
            lambda step, f=ours: [f(c, 100 * step + n) for n, c in enumerate(clips)],
            lambda step, f=theirs: [f(c, 100 * step + n) for n, c in enumerate(clips)],
            num_rounds,
            len(clips),
        )
        found[name] = {"peer": f"torchvision {label}", "of": "pictures"} | times
        for who, run in (("ours", ours), ("theirs", theirs)):
            found[name][f"{who}_one_draw"] = _one_draw(run, clip.crop)
            found[name][f"{who}_steady"] = _steady(run, clip.crop)
        found[name] |= {
            "ours_sound": "follows: channels change places with a flip",
            "theirs_sound": "not touched",
        }
    for name, (label, ours, theirs) in audio_pairs(clip.sample_rate, num_samples).items():
        length = round(_FACTOR * num_samples) if name == "speed_keeps_pitch" else num_samples
        wave = _wave(length)
        times = _alternate(
            lambda _, f=ours, w=wave: f(w), lambda _, f=theirs, w=wave: f(w), num_rounds, 1
        )
        found[name] = {"peer": f"torchaudio {label}", "of": "sound"} | times
        if name in (
            "filter",
            "speed_keeps_pitch",
        ):  # the others delay audio on purpose, or spread it
            for who, run in (("ours", ours), ("theirs", theirs)):
                moved, spread = _moved(run, length, num_samples, clip.sample_rate)
                found[name] |= {f"{who}_moves_ms": moved, f"{who}_spread_ms": spread}
    return found


def _alternate(
    ours: Callable[[int], Any], theirs: Callable[[int], Any], rounds: int, count: int
) -> dict[str, Any]:
    """In turns, in random order; CPU milliseconds per clip."""
    ms: dict[str, list[float]] = {"ours": [], "theirs": []}
    both = {"ours": ours, "theirs": theirs}
    for turn in rounds_in_turn(both, rounds, warm_up=1):
        for name in turn.order:
            began = time.process_time()
            both[name](turn.number + 1)
            if turn.counts:
                ms[name].append(1e3 * (time.process_time() - began) / count)
    ratios = [b / a for a, b in zip(ms["ours"], ms["theirs"], strict=True)]
    return {
        "ours_ms": median(ms["ours"]),
        "theirs_ms": median(ms["theirs"]),
        "ratio": median(ratios),
        "ratio_quartiles": quartiles(ratios),
    }


def _one_draw(run: VideoFunction, crop: int) -> bool:
    """Whether a still clip stays still, over sixteen draws."""
    frame = np.random.default_rng(0).integers(0, 256, (1, crop + 8, crop + 24, 3), np.uint8)
    still = np.repeat(frame, 4, axis=0)
    return all(bool((made == made[:1]).all()) for made in (run(still, s) for s in range(16)))


def _steady(run: VideoFunction, crop: int) -> bool:
    """Whether grey stays the same in all frames, of which a sixteenth is black or white by turns,
    over sixteen draws: where every frame is measured by itself, all of the grey flickers."""
    height, width = crop + 8, crop + 24
    video = np.full((4, height, width, 3), 100, np.uint8)
    patch = np.s_[:, 3 * height // 8 : 5 * height // 8, 3 * width // 8 : 5 * width // 8]
    video[0::2][patch], video[1::2][patch] = 0, 255
    for step in range(16):
        made = run(video, step)
        if (made[0] != made[1]).any(-1).mean() > 0.5:  # cropping enlarges the patch to an eighth
            return False
    return True


def _wave(length: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(length)).astype(np.float32)


def _moved(
    run: AudioFunction, length: int, num_samples: int, sample_rate: int
) -> tuple[float, float]:
    """Of clicks of 1 ms, each alone at one of eight places: how far the middle of its energy is
    from where it should be, and the deviation of the energy around it, milliseconds, at worst."""
    size, scale = sample_rate // 1000, 1e3 / sample_rate
    moved, spread = [], []
    for share in np.linspace(0.2, 0.8, 8):
        wave = np.zeros(length, np.float32)
        at = round(share * length)
        wave[at : at + size] = 0.5
        energy = run(wave).astype(np.float64) ** 2
        places = np.arange(len(energy))
        middle = float((energy * places).sum() / energy.sum())
        spread.append(float(((energy * (places - middle) ** 2).sum() / energy.sum()) ** 0.5))
        moved.append(abs(middle - (at + (size - 1) / 2) * num_samples / length))
    return round(scale * max(moved), 2), round(scale * max(spread), 2)
