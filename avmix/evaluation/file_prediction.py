"""Prediction for one file, or for one window of it: probabilities and what decided the answer."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32

from avmix.label_sets import LabelSet, set_of

MARGIN = 0.05
"""Changes of probability up to which two count as alike, and one as none."""
Decided = Literal["video", "audio", "both", "either"]

DEFINITION = (
    "The answer is the class with the highest fused probability. A modality's drop is that "
    "probability minus the fused probability of the same class when the modality is removed (below "
    f"0: counted as 0). The modality with the larger drop decided; where they differ by at most "
    f"{MARGIN:g}: both, if the larger is above {MARGIN:g}, else either (each alone gives the "
    "answer). A file that has one modality was decided by it."
)
"""How `Decision.decided` is found, for reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A class with its probability (0 to 1) by each head; None where the modality is missing."""

    name: str
    fused: float
    video: float | None
    audio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Which modality decided the answer, by `DEFINITION`."""

    answer: str
    """Class with the highest fused probability."""
    probability: float
    """Its fused probability."""
    without_video: float | None
    """That of the same class when video is removed; None where the file has not both."""
    without_audio: float | None
    """That of the same class when audio is removed; None where the file has not both."""
    decided: Decided


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FilePrediction:
    """Probabilities of all classes, averaged over the windows that have what a head needs."""

    path: str
    """The file, as it was named."""
    classes: tuple[str, ...]
    """Names, in the order of the probabilities."""
    start_seconds: float
    """Begin of what was looked at; 0 is the first presented frame."""
    end_seconds: float
    num_views: int
    """Windows that were averaged."""
    fused: Float32[np.ndarray, " k"]
    video: Float32[np.ndarray, " k"] | None
    """By the video head; None: the file has no video, or the network does not read it."""
    audio: Float32[np.ndarray, " k"] | None
    """By the audio head; None: no audio, or only digital silence."""
    without_video: Float32[np.ndarray, " k"] | None
    """Fused, with video removed; None where there is no audio."""
    without_audio: Float32[np.ndarray, " k"] | None
    """Fused, with audio removed; None where there is no video."""
    note: str = ""
    """What of the file is left out, or damaged; empty where nothing is."""
    label_sets: tuple[LabelSet, ...] = ()
    """Where a clip has one label of each set: the probabilities of each add up to 1."""

    def of_set(self, name: str) -> "FilePrediction":
        """The prediction for one label set. Raises ValueError where there is none of this name."""
        columns = set_of(name, self.label_sets).columns

        def some(p: np.ndarray | None) -> np.ndarray | None:
            return None if p is None else p[columns]

        return replace(
            self, classes=self.classes[columns], fused=self.fused[columns], video=some(self.video),
            audio=some(self.audio), without_video=some(self.without_video),
            without_audio=some(self.without_audio), label_sets=(),
        )  # fmt: skip

    def top(self, k: int = 5) -> tuple[Ranked, ...]:
        """The `k` classes with the highest fused probability, in falling order; equal ones in the
        order of the classes. Raises ValueError for `k` below 1, and where there are label sets
        (`of_set`)."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        return tuple(map(self._ranked, self._order()[:k]))

    def above(self, threshold: float) -> tuple[Ranked, ...]:
        """Classes with a fused probability of at least `threshold`, in falling order."""
        return tuple(self._ranked(i) for i in self._order() if self.fused[i] >= threshold)

    @property
    def decision(self) -> Decision:
        """Which modality decided."""
        best = self._order()[0]
        answer, whole = self.classes[best], float(self.fused[best])
        if self.video is None or self.audio is None:
            return Decision(
                answer=answer, probability=whole, without_video=None, without_audio=None,
                decided="audio" if self.video is None else "video",
            )  # fmt: skip
        assert self.without_video is not None
        assert self.without_audio is not None
        no_video, no_audio = float(self.without_video[best]), float(self.without_audio[best])
        return Decision(
            answer=answer, probability=whole, without_video=no_video, without_audio=no_audio,
            decided=_decided(whole - no_video, whole - no_audio),
        )  # fmt: skip

    def _order(self) -> list[int]:
        if self.label_sets:
            names = ", ".join(one.name for one in self.label_sets)
            raise ValueError(f"classes are ranked within a label set: of_set(NAME) with {names}")
        return np.argsort(-self.fused, kind="stable").tolist()

    def _ranked(self, i: int) -> Ranked:
        return Ranked(
            name=self.classes[i],
            fused=float(self.fused[i]),
            video=None if self.video is None else float(self.video[i]),
            audio=None if self.audio is None else float(self.audio[i]),
        )


def _decided(video_drop: float, audio_drop: float) -> Decided:
    video, audio = max(video_drop, 0.0), max(audio_drop, 0.0)
    if abs(video - audio) > MARGIN:
        return "video" if video > audio else "audio"
    return "both" if max(video, audio) > MARGIN else "either"
