"""Map-style datasets: index in the sampling order -> decoded, augmented clip.

Everything random about a clip has the address (seed, epoch, row), never (worker, rank, call), so
that the data of a run do not depend on how it is loaded or where it was resumed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import groupby

import numpy as np

from avmix.augment import (
    AugmentPlan,
    Background,
    TimePlan,
    apply_audio,
    apply_time,
    apply_video,
    draw_audio,
    draw_times,
    draw_video,
    is_background_mixed,
    visible_parts,
)
from avmix.config import AugmentConfig, Balance, FrontendConfig
from avmix.data.balance import balanced_order, earlier_visits, mean_visits
from avmix.data.clip_reader import ClipReader, error_reason, is_audible
from avmix.data.manifest import ManifestError
from avmix.data.sample import NO_ROWS, BadClip, Place, Sample, no_watcher
from avmix.decode import ClipError, decode_audio
from avmix.decode.mono_track import channels_to_read, one_channel, track_of
from avmix.mix.clip_grid import Grid, clip_grids
from avmix.rng import rng
from avmix.system.printing import listed
from avmix.types import Clip, Entry

MAX_IN_A_ROW = 100
"""Unreadable clips of one order after which training looks no further."""


@dataclass(frozen=True, kw_only=True)
class TrainSet(ClipReader):
    """Training clips in the shuffled order of each epoch, augmented."""

    augment: AugmentConfig
    seed: int
    frontend: FrontendConfig = FrontendConfig()  # noqa: RUF009  frozen
    """For which columns of the spectrogram an interval hides."""
    balance: Balance = "none"
    """As `data.balance`."""
    events_seconds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Event times by clip_id, for `augment.window` event."""

    def __post_init__(self) -> None:
        """Check also what augmentation needs of the data."""
        super().__post_init__()
        unknown = [c for c in self.augment.never_flip if c not in self.manifest.classes]
        if unknown:
            raise ManifestError(
                f"augment.never_flip: {self.manifest.protocol} has no class {unknown[0]!r}; its "
                f"classes: {listed(self.manifest.classes)}"
            )
        if self.augment.window == "event":
            ids = (entry.clip_id for entry in self.manifest.entries)
            if missing := [i for i in ids if i not in self.events_seconds]:
                raise ManifestError(
                    f"augment.window event: events.jsonl has no line for {len(missing)} clips of "
                    f"{self.manifest.protocol}, the first {missing[0]!r}; `avmix events` writes it"
                )

    @property
    def bytes_per_clip(self) -> int:
        """Bytes of a clip in a `Batch`."""
        softens = self._softens and not self._by_modality  # which has a target of audio already
        labels = 4 * len(self.manifest.classes) if softens else 0
        video, audio = self._grids["video"], self._grids["audio"]
        shown = video.num_steps + sum(audio.shape) if self._hides else 0
        return self._bytes_as_decoded + labels + shown

    @cached_property
    def _grids(self) -> dict[str, Grid]:
        return clip_grids(self.clip, self.frontend, "log_mel")

    @property
    def _softens(self) -> bool:
        return self.augment.background > 0 and self.augment.background_label == "soften"

    @property
    def _hides(self) -> bool:
        a = self.augment
        return a.hide_seconds > 0 or a.time_masks > 0 or a.mel_masks > 0

    def samples(
        self,
        places: Sequence[Place],
        skip: Mapping[int, str] = NO_ROWS,
        begin: Callable[[int], None] = no_watcher,
    ) -> list[Sample]:
        """The clips at (epoch, position in the epoch's order), augmented.

        Windows of one file are read from one open file. A clip that cannot be read, or that `skip`
        has a reason for, is replaced by the next one of the same order, and reported. After
        `MAX_IN_A_ROW` such clips `clip` is None: the media folder is wrong, or gone. `begin` is
        told each row before its file is touched.
        """
        repeats, found = self.augment.repeats, []
        for group in self.groups(places):
            epoch, turn = group[0][0], group[0][1] // repeats
            numbers = [position % repeats for _, position in group]
            found += self._visit(epoch, turn, numbers, skip, begin)
        return found

    def groups(self, places: Sequence[Place]) -> list[list[Place]]:
        """Windows of one file that follow each other are read together."""
        repeats = self.augment.repeats
        together = groupby(places, lambda place: (place[0], place[1] // repeats))
        return [list(group) for _, group in together]

    def apart(self, places: Sequence[Place]) -> list[list[Place]]:
        """Windows of one file are always read together: they are of one clip."""
        return [list(places)]

    def _visit(
        self,
        epoch: int,
        turn: int,
        numbers: Sequence[int],
        skip: Mapping[int, str],
        begin: Callable[[int], None],
    ) -> list[Sample]:
        """The windows with these numbers of the `turn`-th file of an epoch."""
        order, earlier = self._order(epoch)
        bad: list[BadClip] = []
        for offset in range(min(MAX_IN_A_ROW, len(order))):
            place = (turn + offset) % len(order)
            row = int(order[place])
            entry = self.manifest.entries[row]
            if row in skip:
                bad.append(BadClip(row, entry.path, skip[row]))
                continue
            begin(row)
            try:
                found = self.read_row(epoch, row, numbers, skip, begin, earlier=int(earlier[place]))
            except Exception as error:
                bad.append(BadClip(row, entry.path, error_reason(error)))
                continue
            return [found[0]._replace(bad=(*bad, *found[0].bad)), *found[1:]]
        return [
            Sample(bad[-1].row, None, tuple(bad) if number == numbers[0] else ())
            for number in numbers
        ]

    def read_row(
        self,
        epoch: int,
        row: int,
        numbers: Sequence[int] = (0,),
        skip: Mapping[int, str] = NO_ROWS,
        begin: Callable[[int], None] = no_watcher,
        earlier: int = 0,
    ) -> list[Sample]:
        """The windows of one row in one epoch with these numbers, below `augment.repeats`; the row
        came `earlier` times before in this epoch (`balance`).

        Raises what makes the row unreadable.
        """
        entry = self.manifest.entries[row]
        events = self.events_seconds.get(entry.clip_id, ())
        drawn = draw_times(
            self.augment, self.clip, entry, events, seed=self.seed, epoch=epoch,
            row=self._address(row, earlier),
        )  # fmt: skip
        times = [drawn[number] for number in numbers]
        clips = self.decode(entry, times)
        for clip in clips:
            if isinstance(clip, ClipError):
                raise clip
        found: list[Sample] = []
        for number, time, clip in zip(numbers, times, clips, strict=True):
            assert not isinstance(clip, ClipError)
            plan = self.draw(row, epoch * self.augment.repeats + number, time, clip, earlier)
            under, bad = self._background(row, plan, skip, begin)
            found.append(self._augmented(row, clip, plan, under, bad))
        return found

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of an epoch, and how often each came before in it."""
        num_clips = len(self.manifest.entries)
        if self.balance == "none":
            return epoch_order(self.seed, epoch, num_clips), _none_earlier(num_clips)
        if epoch not in self._orders:  # the one before may still be read from
            order = balanced_order(self.seed, epoch, self._mean_visits)
            last = {e: found for e, found in self._orders.items() if e == epoch - 1}
            self._orders.clear()
            self._orders.update(last | {epoch: (order, earlier_visits(order))})
        return self._orders[epoch]

    @cached_property
    def _mean_visits(self) -> np.ndarray:
        return mean_visits(self.manifest.entries, self.balance)

    @cached_property
    def _orders(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        return {}

    def _address(self, row: int, earlier: int) -> int:
        """The row in the address of a draw: a clip that comes again is as a further row."""
        return row + earlier * len(self.manifest.entries)

    def draw(
        self, row: int, visit: int, time: TimePlan, clip: Clip, earlier: int = 0
    ) -> AugmentPlan:
        """Draw the augmentation of the decoded `clip`, the `visit`-th window of its row since the
        start; `earlier` as for `read_row`."""
        entry, address = self.manifest.entries[row], self._address(row, earlier)
        frames = draw_video(
            self.augment,
            clip.video.shape[1],
            clip.video.shape[2],
            self.clip.crop,
            rng(self.seed, visit, "augment", address),
            may_flip=not set(entry.labels) & set(self.augment.never_flip),
        )
        audio = draw_audio(
            self.augment,
            self.clip.duration_seconds,
            self.clip.sample_rate,
            rng(self.seed, visit, "sound", address),
            flipped=frames.flip,
            pick=lambda stream: self._other_source(row, stream) if is_audible(entry) else None,
        )
        return AugmentPlan(time=time, video=frames, audio=audio)

    def _augmented(
        self,
        row: int,
        clip: Clip,
        plan: AugmentPlan,
        under: np.ndarray | None,
        bad: tuple[BadClip, ...],
    ) -> Sample:
        clip = apply_time(clip, plan.time)
        # After what is shown there is silence: nothing is added to it, and no level counts it.
        heard = plan.time.num_audible_samples
        own, under = clip.audio[..., :heard], None if under is None else under[..., :heard]
        label = None
        if self._softens:
            laid = plan.audio.background if is_background_mixed(own, under) else None
            label = (row, 0.0) if laid is None else (laid.row, laid.share)
        audio = np.zeros_like(clip.audio)
        audio[..., :heard] = apply_audio(own, plan.audio, clip.sample_rate, under)
        return Sample(
            row=row,
            clip=replace(
                clip,
                video=apply_video(clip.video, plan.video, self.clip.crop),
                audio=audio,
            ),
            bad=bad,
            plan=plan,
            shown=visible_parts(plan, self._grids) if self._hides else None,
            background=label,
        )

    @cached_property
    def _rows_with_audio(self) -> list[int]:
        return [row for row, entry in enumerate(self.manifest.entries) if is_audible(entry)]

    def _other_source(self, row: int, stream: np.random.Generator) -> int | None:
        """A row with audio of another source; None where twenty draws find none."""
        rows = self._rows_with_audio
        for number in stream.integers(max(1, len(rows)), size=20 if rows else 0):
            other = rows[number]
            if self._sources[other] != self._sources[row]:
                return other
        return None

    def _background(
        self, row: int, plan: AugmentPlan, skip: Mapping[int, str], begin: Callable[[int], None]
    ) -> tuple[np.ndarray | None, tuple[BadClip, ...]]:
        """Background audio of a clip; None and a report where it cannot be read."""
        wanted = plan.audio.background
        if wanted is None:
            return None, ()
        entry = self.manifest.entries[wanted.row]
        if wanted.row in skip:
            return None, (BadClip(wanted.row, entry.path, skip[wanted.row]),)
        begin(wanted.row)
        try:
            audio = self._audio_of(entry, wanted)
            if not np.isfinite(audio).all():
                raise ValueError("its audio is not finite")
            return audio, ()
        except Exception as error:
            return None, (BadClip(wanted.row, entry.path, error_reason(error)),)
        finally:
            begin(row)  # what follows is about the clip itself again

    def _audio_of(self, entry: Entry, wanted: Background) -> np.ndarray:
        slack = max(0.0, entry.duration_seconds - self.clip.duration_seconds)
        channels = self.clip.audio_channels
        audio = decode_audio(
            self.path_of(entry),
            start_seconds=entry.start_seconds + wanted.place * slack,
            duration_seconds=self.clip.duration_seconds,
            sample_rate=self.clip.sample_rate,
            channels=channels_to_read(entry.audio, channels),
            audio_track=track_of(entry.audio),
            sha256=self._hash(entry),
            until_seconds=entry.usable_until_seconds,
            limits=self.limits,
        ).audio
        return one_channel(entry.audio, audio, channels)


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, num_clips: int) -> np.ndarray:
    """Rows of the manifest in the order in which an epoch visits them."""
    return rng(seed, epoch, "order").permutation(num_clips)


@lru_cache(maxsize=1)
def _none_earlier(num_clips: int) -> np.ndarray:
    return np.zeros(num_clips, np.int64)
