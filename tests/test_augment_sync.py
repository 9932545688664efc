"""Whatever is done to a clip, its flash and its beep stay together: real files, every augmentation.

A file flashes white for one frame and beeps at the same instants. The plan of a clip says, by
hand, where in the window each instant must be; the frames and the audio that the loader gives are
searched for it independently of each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from media import BURST_SECONDS, TONE_HZ, write_flash_beep

from avmix.augment import TimePlan, draw_times
from avmix.config import AugmentConfig, ClipConfig, FrontendConfig, TrainConfig, load_config
from avmix.data.dataset import TrainSet
from avmix.data.manifest import Manifest
from avmix.data.sample import Sample
from avmix.media.judgement import entry_of
from avmix.models.frontend import Frontend

FPS = 25
EVENTS = (0.4, 1.08, 1.64, 2.4, 3.2, 4.04, 4.6, 5.4)
CLIP = ClipConfig(duration_seconds=2.0, num_frames=100, short_side=48, crop=32)
SPECTRUM = FrontendConfig(num_mels=32, n_fft=256, hop_length=80)
EPOCHS = range(4)
FILES = {"plain.mp4": {}, "late.mkv": {"audio_start_seconds": 0.3}}

# Every augmentation by itself, as strong as it goes, and some together.
ALONE: dict[str, dict[str, Any]] = {
    "none": {},
    "uniform": {"window": "uniform"},
    "event": {"window": "event"},
    "min_seconds": {"min_seconds": 0.5},
    "speed": {"speed": 1.25},
    "speed_far": {"speed": 2.0},
    "speed_keeps_pitch": {"speed": 1.25, "speed_keeps_pitch": True},
    "reverse": {"reverse": 1.0},
    "hide_seconds": {"hide_seconds": 0.5},
    "jitter": {"binding": "window", "jitter_seconds": 0.2},
    "repeats": {"repeats": 2},
    "multiscale": {"crop": "multiscale", "scales": [1.0, 2.0]},
    "centre": {"crop": "centre"},
    "resized": {"crop": "resized", "min_area": 0.2, "max_aspect": 2.0},
    "flip": {"flip": 1.0},
    "never_flip": {"flip": 1.0, "never_flip": ["flash"]},
    "colours": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.3},
    "randaugment": {
        "policy": "randaugment", "policy_ops": 3, "policy_strength": 0.3, "policy_probability": 0.8,
    },
    "trivialaugment": {"policy": "trivialaugment"},
    "erase": {"erase": 1.0},
    "gain": {"gain_db": 12.0},
    "invert": {"invert": 1.0},
    "filter": {"filter": 1.0},
    "reverb": {"reverb": 1.0},
    "noise": {"noise": 1.0, "noise_snr_db": [0.0, 10.0]},
    "background": {
        "background": 1.0, "background_snr_db": [6.0, 20.0], "background_label": "soften",
    },
    "masks": {
        "time_masks": 2, "time_mask_seconds": 0.3, "mel_masks": 2, "mel_mask_share": 0.3,
    },
}  # fmt: skip
TOGETHER: dict[str, dict[str, Any]] = {
    "backwards, faster": {"reverse": 1.0, "speed": 1.25, "min_seconds": 1.0},
    "backwards, stretched": {"reverse": 1.0, "speed": 1.25, "speed_keeps_pitch": True},
    "all of time": {
        "window": "event", "reverse": 0.5, "speed": 1.5, "min_seconds": 1.0, "hide_seconds": 0.3,
        "binding": "window", "jitter_seconds": 0.1, "repeats": 2,
    },
    "all of audio": {"filter": 1.0, "reverb": 1.0, "noise": 1.0, "gain_db": 6.0, "invert": 0.5},
}  # fmt: skip
PRESETS = sorted((Path(__file__).parents[1] / "configs/augment").glob("*.yaml"))
ALL = {name: AugmentConfig(**options) for name, options in (ALONE | TOGETHER).items()}
ALL |= {path.name: load_config(TrainConfig, ["--config", str(path)]).augment for path in PRESETS}


@pytest.fixture(scope="module")
def flashes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    root = tmp_path_factory.mktemp("flashes")
    with pytest.MonkeyPatch.context() as patch:
        # Nothing else changes in the frames, whatever an augmentation makes of them.
        patch.setattr("media.draw_frame", still_or_flash)
        write(root)
    entries = tuple(
        entry_of(path, root, clip_id=path.name, labels=["flash"], source_id=path.name)
        for path in sorted(root.iterdir())
    )
    return root, Manifest(
        classes=("flash",), protocol="flashes", split="train", entries=entries, sha256=""
    )


def still_or_flash(_: int, *, size: tuple[int, int], flash: bool) -> np.ndarray:
    rows, columns = np.mgrid[: size[1], : size[0]]
    still = np.stack([40 + rows, 120 - columns / 2, 30 + columns], 2).astype(np.uint8)
    return np.full_like(still, 255) if flash else still


def write(root: Path) -> None:
    for name, options in FILES.items():
        write_flash_beep(root / name, fps=FPS, seconds=6, events_seconds=EVENTS, gop=12, **options)


def reader(flashes: tuple[Path, Manifest], augment: AugmentConfig) -> TrainSet:
    root, manifest = flashes
    events = {entry.clip_id: EVENTS for entry in manifest.entries}
    return TrainSet(manifest=manifest, root=root, clip=CLIP, augment=augment, seed=5,
                    frontend=SPECTRUM, events_seconds=events)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """A sample and the plan that it must have been made by."""

    sample: Sample
    time: TimePlan
    stretch_end: float


def windows_of(train: TrainSet) -> Iterator[Seen]:
    """Every window of some epochs."""
    augment, entries = train.augment, train.manifest.entries
    for epoch in EPOCHS:
        places = [(epoch, place) for place in range(len(entries) * augment.repeats)]
        samples = train.samples(places)
        for i, sample in enumerate(samples):
            assert not sample.bad
            times = draw_times(augment, CLIP, entries[sample.row], EVENTS, seed=5, epoch=epoch,
                               row=sample.row)  # fmt: skip
            yield Seen(sample, times[i % augment.repeats], entries[sample.row].end_seconds)


def place_in_window(plan: TimePlan, seconds: float) -> float:
    """When in the window the instant `seconds` of the file is shown: by hand, from the plan."""
    place = (seconds - plan.start_seconds) / plan.speed
    shown = plan.num_visible_frames * CLIP.duration_seconds / CLIP.num_frames
    return shown - place if plan.reverse else place


def bright_times(video: np.ndarray) -> np.ndarray:
    """Middles of the shares of the frames that differ from most others, seconds."""
    away = np.abs(video - np.median(video, 0)).mean((1, 2, 3))
    step = CLIP.duration_seconds / CLIP.num_frames
    return (np.flatnonzero(away > 0.5 * away.max()) + 0.5) * step if away.max() > 1 else np.zeros(0)


def matched(audio: np.ndarray, rate: int, plan: TimePlan) -> np.ndarray:
    """How much the audio around each sample is like the tone burst as it must be played now."""
    factor = 1.0 if plan.keep_pitch else plan.speed
    t = np.arange(-round(BURST_SECONDS * rate), round(BURST_SECONDS * rate) + 1) / rate
    u = t * factor / BURST_SECONDS
    burst = np.where(np.abs(u) < 0.5, np.cos(np.pi * u) ** 2, 0)
    burst = burst * np.exp(2j * np.pi * TONE_HZ * factor * t)
    return np.abs(np.convolve(audio, burst.conj()[::-1], "same"))


def test_every_option_is_in_the_table() -> None:
    tried = {option for options in ALONE.values() for option in options}
    assert tried == {field.name for field in fields(AugmentConfig)}


@pytest.mark.parametrize("name", ALL)
def test_flash_and_beep_stay_together(flashes: tuple[Path, Manifest], name: str) -> None:
    train = reader(flashes, ALL[name])
    step, rate, num_seen = CLIP.duration_seconds / CLIP.num_frames, CLIP.sample_rate, 0
    spectrum = Frontend(SPECTRUM, rate)
    hop = SPECTRUM.hop_length / rate
    for seen in windows_of(train):
        plan, clip = seen.time, seen.sample.clip
        assert clip is not None
        assert clip.video.shape == (CLIP.num_frames, CLIP.crop, CLIP.crop, 3)
        assert clip.audio.shape == (plan.num_samples,)
        assert abs(plan.audio_shift_seconds) <= ALL[name].jitter_seconds
        shown = plan.num_visible_frames * step
        flashed = bright_times(clip.video[: plan.num_visible_frames])
        likeness = matched(clip.audio, rate, plan)
        log_mel = spectrum.log_mel(torch.from_numpy(clip.audio)[None])[0, 0].numpy()
        loud = log_mel.max(0)
        inside = 0
        for event in EVENTS:
            # The frame of the event is on the screen from the event on, for 1 / FPS.
            at = place_in_window(plan, event + 0.5 / FPS)
            beep = place_in_window(plan, event - plan.audio_shift_seconds)
            if not 0.06 < min(at, beep) < max(at, beep) < shown - 0.06:
                continue
            inside += 1
            low, high = round((beep - 0.01) * rate), round((beep + 0.01) * rate) + 1
            heard = (low + likeness[low:high].argmax()) / rate
            assert abs(heard - beep) <= 1e-3, (event, heard, beep)
            assert len(flashed), event
            flash = flashed[np.abs(flashed - at).argmin()]
            assert abs(flash - at) <= 0.5 / FPS / plan.speed + step, (event, flash, at)
            # One output frame and one hop of the spectrogram, without knowing the plan.
            beep_shift = plan.audio_shift_seconds * (1 if plan.reverse else -1) / plan.speed
            columns = (SPECTRUM.n_fft / 2 + SPECTRUM.hop_length * np.arange(len(loud))) / rate
            near = np.abs(columns - heard) < 0.02
            column = columns[near][loud[near].argmax()]
            assert abs(column - heard) <= hop + SPECTRUM.n_fft / 2 / rate
            middle = 0.5 / FPS / plan.speed * (-1 if plan.reverse else 1)
            assert abs(flash - middle - (heard - beep_shift)) <= 1 / FPS / plan.speed + step
        if plan.num_visible_frames < CLIP.num_frames:
            assert (
                clip.video[plan.num_visible_frames :] == clip.video[plan.num_visible_frames - 1]
            ).all()
        # Nothing flashes where no event is.
        places = np.array([place_in_window(plan, event + 0.5 / FPS) for event in EVENTS])
        for flash in flashed:
            assert np.abs(places - flash).min() <= 0.5 / FPS / plan.speed + step, (flash, places)
        num_seen += inside
    assert num_seen >= 2 * len(EPOCHS)


@pytest.mark.parametrize("late_samples", [32, -48])
def test_a_audio_out_of_place_is_noticed(
    flashes: tuple[Path, Manifest], late_samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 and 3 ms: the test above goes red when an augmentation breaks sync."""
    from avmix.data import dataset

    right = dataset.apply_audio

    def late(audio: np.ndarray, *rest: Any) -> np.ndarray:
        return np.roll(right(audio, *rest), late_samples)

    monkeypatch.setattr(dataset, "apply_audio", late)
    with pytest.raises(AssertionError):
        test_flash_and_beep_stay_together(flashes, "none")


def test_a_frame_out_of_place_is_noticed(
    flashes: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    from avmix.data import dataset

    right = dataset.apply_time

    def early(clip: Any, plan: TimePlan) -> Any:
        clip = right(clip, plan)
        return replace(clip, video=np.roll(clip.video, -5, 0))

    monkeypatch.setattr(dataset, "apply_time", early)
    with pytest.raises(AssertionError):
        test_flash_and_beep_stay_together(flashes, "none")
