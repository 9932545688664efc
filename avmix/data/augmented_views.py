"""Evaluation views of every clip with augmented ones after them, for features that are kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from avmix.augment import VisibleParts
from avmix.data.clip_reader import error_reason
from avmix.data.dataset import TrainSet
from avmix.data.eval_set import EvalSet
from avmix.data.sample import NO_ROWS, Place, Sample, no_watcher


@dataclass(frozen=True, kw_only=True)
class AugmentedViews(EvalSet):
    """Reader of both; `num_views` counts both. Augmented view v of a row is what training with the
    same seed reads of it in epoch v: it has the address (seed, v, row), whoever reads it."""

    plain: EvalSet
    drawn: TrainSet

    @property
    def bytes_per_clip(self) -> int:
        """Bytes of a clip in a `Batch`."""
        return self.drawn.bytes_per_clip

    def groups(self, places: Sequence[Place]) -> list[list[Place]]:
        """Views of one row that follow each other."""
        return self.apart(places)

    def samples(
        self,
        places: Sequence[Place],
        skip: Mapping[int, str] = NO_ROWS,
        begin: Callable[[int], None] = no_watcher,
    ) -> list[Sample]:
        """The views at (row, number of the view), as `EvalSet` and `TrainSet` read them.

        A row of which an augmented view cannot be read is one sample without a clip. A background
        that cannot be read is reported, and left out.
        """
        found: list[Sample] = []
        for group in self.groups(places):
            row, first = group[0][0], self.plain.num_views
            numbers = [view - first for _, view in group if view >= first]
            plain = [place for place in group if place[1] < first]
            samples = self.plain.samples(plain, skip, begin) if plain else []
            if numbers and row not in skip:
                begin(row)
                try:
                    drawn = self._drawn(row, numbers, skip, begin)
                except Exception as error:
                    found.append(self._missing(row, error_reason(error)))
                    continue
                shown = drawn[0].shown
                if shown is not None:
                    samples = [sample._replace(shown=_all_of(shown)) for sample in samples]
                samples += drawn
            found += samples or [self._missing(row, skip[row])]
        return found

    def _drawn(
        self,
        row: int,
        numbers: Sequence[int],
        skip: Mapping[int, str],
        begin: Callable[[int], None],
    ) -> list[Sample]:
        if self.drawn.augment.repeats > 1:
            return self.drawn.read_row(0, row, numbers, skip, begin)
        return [
            sample
            for number in numbers
            for sample in self.drawn.read_row(number, row, (0,), skip, begin)
        ]


def augmented_views(plain: EvalSet, drawn: TrainSet, count: int) -> AugmentedViews:
    """The views of `plain`, and `count` augmented as `drawn` is; `augment.repeats` does not matter.

    Raises ValueError for labels that augmentation changes: features are kept with the label of
    their clip.
    """
    augment = drawn.augment
    if augment.background > 0 and augment.background_label == "soften":
        raise ValueError(
            "augment.background_label soften: kept features have the label of their clip; keep"
        )
    # Windows that are played alike are read from the open file in one go; the draws are the same.
    alike = augment.speed == 1 and augment.binding == "sync"
    augment = replace(augment, repeats=count if alike else 1)
    return AugmentedViews(
        manifest=plain.manifest, root=plain.root, clip=plain.clip, verify=plain.verify,
        limits=plain.limits, roots=plain.roots, num_views=plain.num_views + count,
        plain=plain, drawn=replace(drawn, augment=augment),
    )  # fmt: skip


def _all_of(shown: VisibleParts) -> VisibleParts:
    """Nothing hidden, in the shape of `shown`."""
    return VisibleParts(
        frames=np.ones_like(shown.frames),
        columns=np.ones_like(shown.columns),
        bins=np.ones_like(shown.bins),
    )
