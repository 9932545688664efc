"""Preview of an augmentation: a clip before and after it on one time axis, and as videos."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from avmix.augment import AugmentPlan, VisibleParts, apply_video, centred, in_words
from avmix.config import AugmentConfig, ClipConfig, FrontendConfig, TrainConfig
from avmix.data.clip_reader import is_audible
from avmix.data.dataset import TrainSet
from avmix.data.manifest import Manifest
from avmix.decode import decode_clip
from avmix.decode.mono_track import channels_to_read, one_channel
from avmix.evaluation.figures import OWN, PARTNER, Strip, draw_strips
from avmix.events.clip_events import events_of
from avmix.media.judgement import entry_of
from avmix.media.write_mp4 import audio_rate, write_mp4
from avmix.models.frontend import Frontend
from avmix.training.engine import targets_of
from avmix.types import Batch, Clip, Entry

FPS = 25
_SHEET_FRAMES = 8
_GREY = 115
"""What the network sees of a hidden frame: the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmented:
    """One window of a file, as it is and augmented."""

    plan: AugmentPlan
    before: Clip
    after: Clip
    shown: VisibleParts | None
    batch: Batch
    """Batch of `after` alone, as training collates it."""


def preview_augment(
    file: Path,
    background: Path | None = None,
    *,
    out: Path,
    augment: AugmentConfig,
    clip: ClipConfig,
    frontend: FrontendConfig | None = None,
    videos: bool = True,
    seed: int = 0,
    epoch: int = 0,
    title: str = "",
    scale: float = 1.0,
) -> AugmentPlan:
    """Write a PNG (or what the ending of `out` says) of a window of `file` before and after
    `augment`, and the same as two videos beside it, OUT_before.mp4 and OUT_after.mp4.

    Everything goes the way of training, with `FPS` frames a second; the frames of the sheet are
    some of them. The file is row 0, and the window the first of those of `epoch`. `background` is
    the other clip, for `augment.background`; for window `event` the file is listened to. Classes
    are not known here: `never_flip` has no effect. `scale`: as of `draw_strips`. Raises what
    `decode_clip` raises, and ValueError for options that do not fit the clip, a background that is
    missing, silent or not asked for, and videos of a sample rate that AAC lacks.
    """
    settings = (frontend or FrontendConfig()).drawn
    clip = replace(clip, num_frames=max(1, round(FPS * clip.duration_seconds)))
    # What two sections must agree on is checked where training checks it; batches do not matter.
    TrainConfig(clip=clip, frontend=settings, augment=replace(augment, repeats=1))
    if augment.background > 0 and background is None:
        raise ValueError(
            "augment.background needs a second file, whose audio is mixed in as background"
        )
    if augment.background == 0 and background is not None:
        raise ValueError(f"{background}: a second file is a background; augment.background is 0")
    if videos and audio_rate(clip.sample_rate) != clip.sample_rate:
        raise ValueError(f"clip.sample_rate: videos have AAC audio, which has no "
                         f"{clip.sample_rate} Hz; use another rate, or --no-videos")  # fmt: skip
    found = _augmented(file, background, augment, clip, settings, seed, epoch)
    _draw(found, settings, title or file.stem, out, scale)
    if videos:
        hidden = (*found.plan.time.hidden, *found.plan.audio.hidden_seconds)
        write_film(out.with_name(f"{out.stem}_before.mp4"), found.before)
        write_film(out.with_name(f"{out.stem}_after.mp4"), found.after, found.shown, hidden)
    return found.plan


def _augmented(
    file: Path,
    background: Path | None,
    augment: AugmentConfig,
    clip: ClipConfig,
    frontend: FrontendConfig,
    seed: int,
    epoch: int,
) -> Augmented:
    root = Path(file.absolute().anchor)
    files = [file] if background is None else [file, background]
    entries = [_entry(path, root, number) for number, path in enumerate(files)]
    if background is not None and not is_audible(entries[1]):
        raise ValueError(f"{background}: a background needs audio, and this file has none")
    events: dict[str, tuple[float, ...]] = {}
    if augment.window == "event":
        heard = events_of(root, entries[0])
        if heard.problem:
            raise ValueError(f"{file}: {heard.problem}")
        events = {entry.clip_id: heard.event_seconds for entry in entries}
    train = TrainSet(
        manifest=Manifest(
            classes=tuple(entry.labels[0] for entry in entries),
            protocol="preview",
            split="train",
            entries=tuple(entries),
            sha256="",
        ),
        root=root,
        clip=clip,
        frontend=frontend,
        augment=replace(augment, never_flip=[]),
        seed=seed,
        events_seconds=events,
    )
    (sample,) = train.read_row(epoch, 0)
    if sample.bad:
        raise ValueError(f"{root / sample.bad[0].path}: {sample.bad[0].reason}")
    batch, plan = train.collate([sample]).batch, sample.plan
    assert batch is not None
    assert sample.clip is not None
    assert plan is not None
    before = decode_clip(
        file,
        start_seconds=plan.time.start_seconds,
        duration_seconds=clip.duration_seconds,
        num_frames=clip.num_frames,
        sample_rate=clip.sample_rate,
        short_side=clip.short_side,
        channels=channels_to_read(entries[0].audio, clip.audio_channels),
        audio="silence",
        until_seconds=entries[0].usable_until_seconds,
    )
    audio = one_channel(entries[0].audio, before.audio, clip.audio_channels)
    whole = centred(before.video.shape[1], before.video.shape[2])
    before = replace(before, video=apply_video(before.video, whole, clip.crop), audio=audio)
    return Augmented(plan=plan, before=before, after=sample.clip, shown=sample.shown, batch=batch)


def _entry(path: Path, root: Path, number: int) -> Entry:
    # Numbered: both may be the same file, or files of one name.
    name = f"{path.stem} ({number + 1})"
    return entry_of(
        path.absolute(), root, clip_id=name, labels=[name], source_id=name, in_part=True
    )


def _draw(found: Augmented, frontend: FrontendConfig, title: str, out: Path, scale: float) -> None:
    stage = Frontend(frontend, found.before.sample_rate)
    names = ("own", "background")
    target = targets_of(found.batch).audio[0].tolist()
    shares = [share for share in target if share > 0]
    seconds = found.before.duration_seconds
    strips = []
    for clip, shown, words, labels in (
        (found.before, None, "before", (1.0,)),
        (found.after, found.shown, f"after: {in_words(found.plan)}", shares),
    ):
        audio = torch.from_numpy(np.ascontiguousarray(clip.audio))
        log_mel = stage.log_mel(audio[None])[0].mean(0).numpy()
        frames = _greyed(clip.video, shown.frames if shown else None)
        if shown is not None:
            log_mel = np.where(shown.bins[:, None] & shown.columns[None], log_mel, 0.0)
        rows = ((np.arange(_SHEET_FRAMES) + 0.5) * len(frames) / _SHEET_FRAMES).astype(int)
        columns = frontend.first_column + frontend.hop_length * np.arange(log_mel.shape[1])
        strips.append(
            Strip(
                title=words,
                frames=frames[rows],
                frame_seconds=(rows + 0.5) * seconds / len(frames),
                log_mel=log_mel,
                column_seconds=columns / clip.sample_rate,
                labels=list(zip(names, labels, (OWN, PARTNER), strict=False)),
            )
        )
    draw_strips(strips, 0.0, seconds, title, out, scale)


def _greyed(
    video: UInt8[np.ndarray, "t h w c"], kept: Bool[np.ndarray, " t"] | None
) -> UInt8[np.ndarray, "t h w c"]:
    if kept is None:
        return video
    return np.where(kept[:, None, None, None], video, np.uint8(_GREY))


def write_film(
    path: Path,
    clip: Clip,
    shown: VisibleParts | None = None,
    hidden_seconds: Sequence[tuple[float, float]] = (),
) -> None:
    """Write an mp4 of the network's input: hidden frames are grey, and `hidden_seconds`, intervals
    (start, stop) of the window, are silent. (A hidden band of the spectrogram stays audible.) The
    sample rate must be one of `AAC_RATES_HZ`."""
    wave = clip.audio.copy()
    for start, stop in hidden_seconds:
        wave[..., round(start * clip.sample_rate) : round(stop * clip.sample_rate)] = 0
    video = _greyed(clip.video, shown.frames if shown else None)
    # As long as it is played; `clip.duration_seconds` is how much of its file was read.
    seconds = wave.shape[-1] / clip.sample_rate
    fps = Fraction(len(video) / seconds).limit_denominator(1001)
    write_mp4(path, [video], wave, fps=fps, rate_hz=clip.sample_rate)
