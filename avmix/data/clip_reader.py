"""Clip reader: decoding of the clips of a manifest, and stacking into batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32

from avmix.augment import TimePlan
from avmix.config import ClipConfig, Modalities
from avmix.data.manifest import Manifest, ManifestError
from avmix.data.sample import Loaded, Sample
from avmix.decode import ClipError, Limits, decode_clips
from avmix.decode.clips import DecodedAudio, decode_audios
from avmix.decode.mono_track import channels_to_read, one_channel, track_of
from avmix.types import Batch, Clip, Entry


@dataclass(frozen=True, kw_only=True)
class ClipReader:
    """What training and evaluation share: a manifest and how its clips are decoded."""

    manifest: Manifest
    root: Path
    clip: ClipConfig
    verify: Literal["first", "never"] = "first"
    """As `data.verify`."""
    limits: Limits = Limits()  # noqa: RUF009  frozen
    """What a file may cost before the decoder refuses it."""
    roots: Mapping[str, Path] = field(default_factory=dict)
    """Folder of each clip, by `clip_id`, that is not below `root`."""
    several_labels: bool = False
    """Targets are multi-hot, with nan where a label is unknown; False: every clip has one label."""
    modalities: Modalities = "both"
    """As `model.modalities`: the other one is not decoded."""

    def __post_init__(self) -> None:
        """Check what the network cannot do without."""
        for entry in self.manifest.entries:
            where = f"{self.manifest.protocol} {self.manifest.split}: clip {entry.clip_id!r}"
            if entry.video is None and entry.audio is None:
                raise ManifestError(
                    f"{where}: {entry.path} has no video stream and no audio; leave it out"
                )
            if not (self.several_labels or entry.has_one_label):
                raise ManifestError(
                    f"{where} has {_labels_of(entry)}; one label is needed. `loss.labels multi` "
                    "trains on several"
                )

    @property
    def _bytes_as_decoded(self) -> int:
        """Bytes of a clip in a `Batch`, without what augmentation adds."""
        c = self.clip
        frames, samples = c.num_frames * c.crop**2 * 3, round(c.duration_seconds * c.sample_rate)
        samples *= c.audio_channels
        targets = 3 if self._by_modality else 1
        return frames + 4 * samples + 4 * targets * len(self.manifest.classes) + 1 + 1 + 8 + 8

    @cached_property
    def _by_modality(self) -> bool:
        """Whether labels of video and audio may differ."""
        return any(entry.video_labels is not None for entry in self.manifest.entries)

    @cached_property
    def _sources(self) -> list[int]:
        """Number of the source of each row."""
        numbers: dict[str, int] = {}
        return [numbers.setdefault(e.source_id, len(numbers)) for e in self.manifest.entries]

    def decode(self, entry: Entry, times: Sequence[TimePlan]) -> list[Clip | ClipError]:
        """One outcome per window, all played alike; raises what concerns the file as a whole."""
        first, wanted = times[0], self.clip.audio_channels
        if not self._has_video(entry):
            return self._decode_audio(entry, times)
        reads_audio = self.modalities != "video"
        clips = decode_clips(
            self.path_of(entry),
            starts_seconds=[time.start_seconds for time in times],
            duration_seconds=first.read_seconds,
            num_frames=first.num_frames,
            sample_rate=first.decoded_rate,
            channels=channels_to_read(entry.audio, wanted),
            audio_track=track_of(entry.audio),
            short_side=self.clip.short_side,
            audio="skip" if not reads_audio else "silence" if entry.audio is None else "require",
            audio_shift_seconds=first.audio_shift_seconds,
            sha256=self._hash(entry),
            until_seconds=entry.usable_until_seconds,
            limits=self.limits,
        )
        silence = self._silence(first)
        return [
            c if isinstance(c, ClipError)
            else replace(
                c, audio=one_channel(entry.audio, c.audio, wanted) if reads_audio else silence
            )
            for c in clips
        ]  # fmt: skip

    def _decode_audio(self, entry: Entry, times: Sequence[TimePlan]) -> list[Clip | ClipError]:
        """As `decode`, with black frames, for a clip of which no frame is to be read."""
        first, wanted, side = times[0], self.clip.audio_channels, self.clip.short_side
        found: Sequence[DecodedAudio | ClipError] = [
            DecodedAudio(audio=self._silence(first), audio_valid=0.0) for _ in times
        ]
        if entry.audio is not None and self.modalities != "video":
            found = decode_audios(
                self.path_of(entry),
                starts_seconds=[time.start_seconds for time in times],
                duration_seconds=first.read_seconds,
                sample_rate=first.decoded_rate,
                channels=channels_to_read(entry.audio, wanted),
                audio_shift_seconds=first.audio_shift_seconds,
                audio_track=track_of(entry.audio),
                sha256=self._hash(entry),
                until_seconds=entry.usable_until_seconds,
                limits=self.limits,
                needs_video=entry.video is not None,
            )
        return [
            one if isinstance(one, ClipError)
            else Clip(
                video=np.zeros((first.num_frames, side, side, 3), np.uint8),
                audio=one_channel(entry.audio, one.audio, wanted),
                pts_seconds=np.zeros(first.num_frames),
                start_seconds=time.start_seconds,
                duration_seconds=first.read_seconds,
                sample_rate=first.decoded_rate,
                audio_valid=one.audio_valid,
                num_held=0,
            )
            for one, time in zip(found, times, strict=True)
        ]  # fmt: skip

    def _silence(self, time: TimePlan) -> Float32[np.ndarray, "*c s"]:
        """The waveform of a window of which no audio is read."""
        num_samples = round(time.read_seconds * time.decoded_rate)
        return np.zeros((2, num_samples) if self.clip.stereo else num_samples, np.float32)

    def _has_video(self, entry: Entry) -> bool:
        return entry.video is not None and self.modalities != "audio"

    def name(self, row: int) -> str:
        """Path of the file of a row, as the manifest has it."""
        return self.manifest.entries[row].path

    def path_of(self, entry: Entry) -> Path:
        """Where the file of a clip is."""
        return self.roots.get(entry.clip_id, self.root) / entry.path

    def _hash(self, entry: Entry) -> str | None:
        return (entry.sha256 or None) if self.verify == "first" else None

    def collate(self, samples: list[Sample]) -> Loaded:
        """Stack `samples`, in order, into a `Batch` with one-hot (or multi-hot) targets.

        Those without a clip are left out of the batch, not of `bad`.
        """
        bad = tuple(b for s in samples for b in s.bad)
        whole = [s for s in samples if s.clip is not None]
        read = [(s.row, s.clip) for s in samples if s.clip is not None]
        if not read:
            return Loaded(None, bad)
        rows = [row for row, _ in read]
        batch = Batch(
            video=torch.from_numpy(np.stack([clip.video for _, clip in read])),
            audio=torch.from_numpy(np.stack([clip.audio for _, clip in read])),
            has_video=torch.tensor([self._has_video(self.manifest.entries[row]) for row in rows]),
            has_audio=torch.tensor(
                [
                    is_audible(self.manifest.entries[row]) and clip.audio_valid > 0
                    for row, clip in read
                ]
            ),
            target=self._targets(rows),
            row=torch.tensor(rows),
            source=torch.tensor([self._sources[row] for row in rows]),
        )
        if self._by_modality:
            batch = replace(batch, video_target=self._targets(rows, "video"),
                            audio_target=self._targets(rows, "audio"))  # fmt: skip
        if all(s.background is not None for s in whole):
            others, shares = zip(
                *(s.background for s in whole if s.background is not None), strict=True
            )
            share = torch.tensor(shares)[:, None]
            own, other = self._targets(rows, "audio"), self._targets(others, "audio")
            laid = own * (1 - share) + other * share
            batch = replace(batch, audio_target=laid.where(share > 0, own))
        parts = [s.shown for s in whole if s.shown is not None]
        if parts:
            batch = replace(
                batch,
                frame_visible=torch.from_numpy(np.stack([part.frames for part in parts])),
                column_visible=torch.from_numpy(np.stack([part.columns for part in parts])),
                bin_visible=torch.from_numpy(np.stack([part.bins for part in parts])),
            )
        return Loaded(batch, bad)

    @cached_property
    def _classes(self) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.manifest.classes)}

    def _targets(
        self, rows: Sequence[int], modality: Literal["", "video", "audio"] = ""
    ) -> torch.Tensor:
        """Targets (b k) of these rows: of the whole clip, or of what is visible or audible."""
        target = torch.zeros(len(rows), len(self._classes))
        for i, row in enumerate(rows):
            entry = self.manifest.entries[row]
            labels = getattr(entry, f"{modality}_labels") if modality else None
            for name in entry.labels if labels is None else labels:
                target[i, self._classes[name]] = 1.0
            for name in entry.unknown_labels:
                target[i, self._classes[name]] = torch.nan
        return target


def _labels_of(entry: Entry) -> str:
    """What labels a clip has that has not one label."""
    if entry.video_labels is not None:
        return "labels for each modality"
    if entry.unknown_labels:
        return f"unknown labels ({entry.unknown_labels[0]!r})"
    return f"{len(entry.labels)} labels"


def is_audible(entry: Entry) -> bool:
    """True when a clip has audio that is not digital silence."""
    return entry.audio is not None and not entry.audio.silent


def error_reason(error: Exception) -> str:
    """In one line, and without the path, which a `BadClip` names already.

    Whatever a decoder raises is the fault of its file until proved otherwise: a file must not end a
    run of days. A mistake of ours concerns many files, and `data.max_bad_share` stops it.
    """
    what = str(error)
    if isinstance(error, ClipError):
        what = error.problem
    elif isinstance(error, OSError) and error.strerror:
        what = error.strerror
    return f"{type(error).__name__}: {' '.join(what.split())}"
