"""Label sets: groups of classes, of each of which a clip has exactly one; verb and noun, for
example.

A class belongs to the set whose name and a colon it begins with (`verb:cut`), and the classes of a
set follow each other, so that a set is a range of columns of every target, logit and probability.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from avmix.system.printing import shortened

_NAME = re.compile(r"[^\W_][\w -]{0,63}")
"""Of a set: it is also the name of a folder, and a file of predictions may come from anyone."""


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Columns of the classes of one set."""

    name: str
    start: int
    stop: int
    """The column after its last one."""
    weight: float = 1.0
    """Of its loss."""

    @property
    def columns(self) -> slice:
        """Of its classes."""
        return slice(self.start, self.stop)

    @property
    def num_classes(self) -> int:
        """How many classes it has."""
        return self.stop - self.start

    def classes(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Names of its classes without that of the set; `classes`: of all sets."""
        return tuple(name.removeprefix(f"{self.name}:") for name in classes[self.columns])


def label_sets(
    classes: Sequence[str], names: Sequence[str], weights: Mapping[str, float] | None = None
) -> tuple[LabelSet, ...]:
    """The sets of these names, in the order of their classes; none where there are no names.

    Raises ValueError where a name is none that a folder may have, a class is in none of them, the
    classes of one do not follow each other, or one has fewer than two classes.
    """
    if not names:
        return ()
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"label set {shortened(name, 60)!r}: the name must be of at most 64 letters, "
                "digits, _, - and spaces, and begin with a letter or digit; it names a folder"
            )
    found: dict[str, list[int]] = {}
    for column, name in enumerate(classes):
        of, colon, _ = name.partition(":")
        if not colon or of not in names:
            raise ValueError(
                f"class {name!r} is in none of the label sets {', '.join(names)}: the name of its "
                "set and a colon must come first"
            )
        found.setdefault(of, []).append(column)
    for name in names:
        if len(found.get(name, [])) < 2:
            raise ValueError(f"label set {name!r} needs at least two classes")
        if found[name][-1] - found[name][0] + 1 != len(found[name]):
            raise ValueError(f"the classes of label set {name!r} do not follow each other")
    return tuple(
        LabelSet(name, columns[0], columns[-1] + 1, (weights or {}).get(name, 1.0))
        for name, columns in found.items()
    )


def set_of(name: str, sets: Sequence[LabelSet]) -> LabelSet:
    """The set of this name. Raises ValueError where there is none."""
    for one in sets:
        if one.name == name:
            return one
    known = ", ".join(one.name for one in sets) or "none: each clip has one label, or several"
    raise ValueError(f"no label set {name!r}; there are: {known}")


def has_one_of_each(labels: Sequence[str], sets: Sequence[LabelSet]) -> bool:
    """Whether these labels of a clip are one of each set."""
    return sorted(name.partition(":")[0] for name in labels) == sorted(s.name for s in sets)
