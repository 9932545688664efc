"""Protocols: the clips, classes and splits that the annotations of a dataset define, independent
of any media files."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A clip that annotations define, before any file is searched."""

    clip_id: str
    """Unique within the protocol."""
    split: str
    """`train`, `val` or `test`."""
    labels: tuple[str, ...]
    """Names of classes; several where clips have several."""
    source_id: str
    """Recording, person or group: never in two splits, unless the protocol says that it leaks."""
    names: tuple[str, ...]
    """What the file may be called, best first: relative POSIX paths or bare names. One without a
    media ending stands for any ending."""
    start_seconds: float | None = None
    """The labelled stretch within the file begins here; None: where the file does."""
    end_seconds: float | None = None
    """And ends here; None: where the file does."""
    video: str = ""
    """Id of the video that the clip was cut from, where files are called by it; any form of id and
    seconds is then a name of the clip (`avmix.prepare.clip_file_names`)."""
    cut_seconds: tuple[float, float] | None = None
    """From where to where in that video."""
    seconds: float | None = None
    """How long the file should be, where the dataset says so."""
    where: str = ""
    """`testlist01.txt:17`: for messages."""
    video_labels: tuple[str, ...] | None = None
    """As of `avmix.types.Entry`, like the next three."""
    audio_labels: tuple[str, ...] | None = None
    unknown_labels: tuple[str, ...] = ()
    subsets: tuple[str, ...] = ()

    def of_classes(self, wanted: Collection[str]) -> "Expected":
        """With the labels that are among these classes."""

        def some(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name for name in names if name in wanted)

        seen, heard = self.video_labels, self.audio_labels
        return replace(
            self,
            labels=some(self.labels),
            video_labels=None if seen is None else some(seen),
            audio_labels=None if heard is None else some(heard),
            unknown_labels=some(self.unknown_labels),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A row of an annotation file that could not be used, or was used with a correction."""

    where: str
    """File and line."""
    reason: str
    """`duplicate row`, `label 'Foo' is not in classes.txt; did you mean ...`."""
    text: str
    """The row as it stands."""
    dropped: bool
    """False where it was used, with the correction that `reason` tells."""


def _unknown() -> Mapping[str, int]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """A division of a dataset into classes and splits, as its annotations define it."""

    name: str
    """`ucf101/split1`: becomes the protocol of `dataset.json`."""
    classes: tuple[str, ...]
    """In the order of the network's outputs."""
    expected: tuple[Expected, ...]
    problems: tuple[Problem, ...] = ()
    published: Mapping[str, int] = field(default_factory=_unknown)
    """Clips per split that the source states, for the report; empty where unknown."""
    leaks: str = ""
    """Why sources are in two splits by this protocol's definition: allowed then, and printed."""
    needs_audio: bool = False
    """True: clips without audio are left out; False: kept, with masks of what is present."""
    label_sets: tuple[str, ...] = ()
    """As of `avmix.data.manifest.Manifest`, like the next one."""
    tail_classes: tuple[str, ...] = ()
    annotation_sha256: str = ""
    """Hash of the files that it was read from."""
