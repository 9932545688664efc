"""Parsing of annotation files, in the variants that circulate, into the clips they name.

One `Annotations` reads the files of one protocol. It forgives how they are written (a byte order
mark, CRLF, quoted commas, blank lines, a header or none, UTF-16, decomposed unicode), and forgives
nothing of what they say: a row that cannot be used becomes a `Problem` with its file and line, and
the rest goes on. Only a missing or wholly unreadable file is an error.
"""

import csv
import difflib
import hashlib
import json
import math
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from avmix.prepare.annotation_rows import (
    SEP_LINE,
    AnnotationError,
    Row,
    cells_of,
    table_columns,
    text_lines,
    without_invisible,
)
from avmix.prepare.annotation_values import by_plain_name, leaves, plain
from avmix.prepare.protocol import Expected, Problem, Protocol


@dataclass(slots=True)
class Annotations:
    """What was read for one protocol: its clips, its problems, the hash of its files."""

    folder: Path
    """Where the files are; they may lie in folders of it."""
    official: bool = False
    """Whether the lists were published: then they are taken as they are, also where a clip is in
    several splits. What somebody made for themselves is theirs to mend."""
    problems: list[Problem] = field(default_factory=list)
    clips: dict[str, Expected] = field(default_factory=dict)
    _shared: dict[Any, Any] = field(default_factory=dict)
    """Labels and seconds that many clips have, each once: there may be millions of clips."""
    _sha256: Any = field(default_factory=hashlib.sha256)

    def find(self, *names: str) -> Path | None:
        """The first of these files that is there: in the folder, else anywhere below it.

        Raises `AnnotationError` where several files below are called so.
        """
        if not self.folder.is_dir():
            raise AnnotationError(f"{self.folder}: not a folder; --annotations is wrong")
        for name in names:
            if (self.folder / name).is_file():
                return self.folder / name
        for name in names:
            found = sorted(p for p in self.folder.rglob(name) if p.is_file())
            if len(found) > 1:
                listed = ", ".join(str(p.relative_to(self.folder)) for p in found[:3])
                raise AnnotationError(f"{self.folder}: which {name}: {listed}? Keep one")
            if found:
                return found[0]
        return None

    def need(self, *names: str) -> Path:
        """As `find`; raises `AnnotationError` where none is."""
        path = self.find(*names)
        if path is None:
            has = ", ".join(sorted(p.name for p in self.folder.iterdir())[:12]) or "nothing"
            raise AnnotationError(f"{self.folder}: no {' or '.join(names)} in it; it has: {has}")
        return path

    def data(self, path: Path) -> bytes:
        """The bytes of a file, which count as annotations; `AnnotationError` where none is."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise AnnotationError(f"{path}: {error.strerror}") from None
        self._sha256.update(path.name.encode() + b"\0" + hashlib.sha256(data).digest())
        return data

    def text(self, path: Path) -> str:
        """The whole file; raises `AnnotationError` where it is missing, empty or not text."""
        data = self.data(path)
        utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        try:
            text = data.decode("utf-16" if utf16 else "utf-8-sig")
        except UnicodeDecodeError as error:
            raise AnnotationError(
                f"{path}: not UTF-8 ({error.reason} at byte {error.start}); convert it, for "
                "example with `iconv -f latin1 -t utf-8`"
            ) from None
        if not any(map(without_invisible, text_lines(text))):
            raise AnnotationError(f"{path}: the file is empty")
        return text

    def lines(self, path: Path, *, comment: str = "") -> Iterator[Row]:
        """The lines that are not blank, each as the column `line`.

        A line that begins with `comment` is left out; without it none is: names of HMDB51 begin
        with `#`.
        """
        # splitlines() would also split at U+2028 and the like, which occur in titles.
        for number, line in enumerate(text_lines(self.text(path)), 1):
            stripped = unicodedata.normalize("NFC", without_invisible(line))
            if stripped and not (comment and stripped.startswith(comment)):
                yield Row(cells={"line": stripped}, where=f"{path.name}:{number}", text=line)

    def csv(
        self,
        path: Path,
        columns: Sequence[str],
        *,
        optional: Sequence[str] = (),
        header: bool | None = None,
        delimiter: str = ",",
        comment: str = "",
        aliases: Mapping[str, Sequence[str]] | None = None,
    ) -> Iterator[Row]:
        """The rows of a table that has these columns.

        With a `header` (None: where the first row names all of `columns`, whatever the case),
        columns are found by name, may stand in any order and beside others, and a table of `;`,
        `|` or tabs is known by it; a column that is missing may be called one of its `aliases`. A
        first line `sep=;` is heeded. Without one, `columns` and then `optional` are taken as they
        come. A row with too few or too many cells, or with a quote that does not close, is a
        problem: it does not swallow the rows after it. Raises `AnnotationError` where `header` is
        True and a column is missing.
        """
        names: list[str] | None = None
        for row in self.lines(path, comment=comment):
            if names is None:
                sign = SEP_LINE.fullmatch(row["line"])
                if sign is not None:
                    delimiter = sign[1] or "\t"
                    continue
                names, delimiter, is_header = table_columns(
                    row, path, columns, optional, header, delimiter, aliases or {}
                )
                if is_header:
                    continue
            try:
                cells = cells_of(row["line"], delimiter)
            except csv.Error as error:
                self.drop(row, f"not a row of a CSV: {error}")
                continue
            if not any(cells):
                continue  # a blank line of a spreadsheet: ",,,"
            while len(cells) > len(names) and not cells[-1]:
                cells.pop()
            wanted = [n for n in names if n in columns]
            if not 1 + max(map(names.index, wanted)) <= len(cells) <= len(names):
                self.drop(row, f"{len(cells)} cells; expected are: {', '.join(names)}")
                continue
            found = dict(zip(names, cells, strict=False))
            missing = [name for name in wanted if not found[name]]
            if missing:
                self.drop(row, f"{missing[0]} is empty")
                continue
            yield Row(cells=found, where=row.where, text=row.text)

    def json(self, path: Path) -> Any:
        """The value; raises `AnnotationError` with line and column where it is not JSON."""
        try:
            return json.loads(self.text(path))
        except ValueError as error:
            raise AnnotationError(f"{path}: not JSON: {error}") from None

    def drop(self, row: Row, reason: str) -> None:
        """The row is not used."""
        self.problems.append(Problem(where=row.where, reason=reason, text=row.text, dropped=True))

    def note(self, row: Row, reason: str) -> None:
        """The row is used, and something is to be said."""
        self.problems.append(Problem(where=row.where, reason=reason, text=row.text, dropped=False))

    def remark(self, where: str, reason: str, *, dropped: bool = False) -> None:
        """Something to be said of a whole file."""
        self.problems.append(Problem(where=where, reason=reason, text="", dropped=dropped))

    def label(self, row: Row, name: str, classes: Iterable[str]) -> str | None:
        """The class of this name, or None and a problem.

        What differs only in case, commas, underscores and spaces is the same name: copies of one
        list do. Anything else is not guessed: the nearest name is said, and the row dropped.
        """
        known = by_plain_name(tuple(classes))
        found = known.get(plain(name))
        if found is None:
            near = difflib.get_close_matches(plain(name), known, n=1, cutoff=0.7)
            hint = f"; did you mean {known[near[0]]!r}?" if near else ""
            self.drop(row, f"label {name!r} is not one of the {len(known)} classes{hint}")
        return found

    def number(self, row: Row, column: str) -> float | None:
        """The finite number in this cell, or None and a problem."""
        try:
            value = float(row[column])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.drop(row, f"{column} {row[column]!r} is not a number")
            return None
        return value

    def add(
        self,
        row: Row,
        *,
        clip_id: str,
        split: str,
        labels: Sequence[str],
        source_id: str,
        names: Sequence[str],
        start_seconds: float | None = None,
        end_seconds: float | None = None,
        seconds: float | None = None,
        video: str = "",
        cut_seconds: tuple[float, float] | None = None,
        video_labels: Sequence[str] | None = None,
        audio_labels: Sequence[str] | None = None,
        unknown_labels: Sequence[str] = (),
        subsets: Sequence[str] = (),
    ) -> None:
        """The clip of this row, unless an earlier one is it already or the row is impossible.

        A clip of an official list that is in a further split, too, is called `CLIP_ID/SPLIT` there.
        """
        bad = next((n for n in names if leaves(n)), None)
        if bad is not None:
            self.drop(row, f"{bad!r} does not stay within the media folder")
            return
        low, high = start_seconds, end_seconds
        if low is not None and (low < 0 or (high is not None and high <= low)):
            self.drop(row, f"from {low:g} s to {high} s is no stretch of time")
            return
        clip = Expected(
            clip_id=clip_id,
            split=split,
            labels=self._shared.setdefault(tuple(labels), tuple(labels)),
            source_id=source_id,
            names=tuple(dict.fromkeys(name.removeprefix("./") for name in names)),
            start_seconds=start_seconds,
            end_seconds=end_seconds,
            seconds=self._shared.setdefault(seconds, seconds),
            video=video,
            cut_seconds=self._shared.setdefault(cut_seconds, cut_seconds),
            where=row.where,
            video_labels=None if video_labels is None else tuple(video_labels),
            audio_labels=None if audio_labels is None else tuple(audio_labels),
            unknown_labels=tuple(unknown_labels),
            subsets=tuple(subsets),
        )
        first = self.clips.get(clip_id)
        if first is not None and first.split != split and self.official:
            clip_id = f"{clip_id}/{split}"
            clip, first = replace(clip, clip_id=clip_id), self.clips.get(clip_id)
        if first is None:
            self.clips[clip_id] = clip
            return
        same = (first.split, first.labels, first.start_seconds, first.end_seconds) == (
            clip.split, clip.labels, clip.start_seconds, clip.end_seconds)  # fmt: skip
        said = f"{'/'.join(first.labels)} in {first.split}"
        self.drop(
            row,
            f"duplicate row: as {first.where}"
            if same
            else f"clip {clip_id!r} is already {said} ({first.where}), and stays it",
        )

    def protocol(
        self,
        name: str,
        classes: Sequence[str],
        *,
        published: Mapping[str, int] | None = None,
        leaks: str = "",
        needs_audio: bool = False,
    ) -> Protocol:
        """The protocol of all that was read."""
        return Protocol(
            name=name,
            classes=tuple(classes),
            expected=tuple(self.clips.values()),
            problems=tuple(self.problems),
            published=published or {},
            leaks=leaks,
            needs_audio=needs_audio,
            annotation_sha256=self._sha256.hexdigest(),
        )

    def protocols(
        self,
        name: str,
        classes: Sequence[str],
        *,
        sources: str,
        disjoint: str = "",
        published: Mapping[str, int] | None = None,
        needs_audio: bool = False,
    ) -> list[Protocol]:
        """The protocol of all that was read, and where it leaks a second one that does not.

        `sources` is what the source of a clip is, in the plural: `videos`. The second is called
        `disjoint` (`NAME/disjoint`): a source that is in several splits stays in the one that is
        evaluated on last (test, then val), and its rows of the others are dropped. Where nothing
        would be left to train on there is none.
        """
        torn = in_two_splits(self.clips.values())
        leaks = ""
        if torn:
            total = len({clip.source_id for clip in self.clips.values()})
            leaks = _leaks_of(torn.values(), total, sources)
        whole = self.protocol(name, classes, published=published, needs_audio=needs_audio,
                              leaks=leaks)  # fmt: skip
        if not torn:
            return [whole]
        kept: list[Expected] = []
        dropped: list[Problem] = []
        for clip in whole.expected:
            stays = min(torn.get(clip.source_id, (clip.split,)), key=_EVALUATED.index)
            if stays == clip.split:
                kept.append(clip)
            else:
                reason = f"{clip.clip_id}: {clip.source_id} is in {stays}, too"
                dropped.append(Problem(where=clip.where, reason=reason, text="", dropped=True))
        trains = "train" in {clip.split for clip in whole.expected}
        if trains and "train" not in {clip.split for clip in kept}:
            return [whole]
        apart = replace(whole, name=disjoint or f"{name}/disjoint", expected=tuple(kept),
                        problems=(*whole.problems, *dropped), published={}, leaks="")  # fmt: skip
        return [whole, apart]


_EVALUATED = ("test", "val", "train")
"""The split whose clips one would miss most comes first."""


def asked_of(names: Iterable[str] | None, known: Iterable[str]) -> list[str]:
    """The protocols of a recipe that `--protocol` asks for: `NAME/disjoint` is made with `NAME`."""
    asked = {name.removesuffix("/disjoint") for name in names or ()}
    return [name for name in known if name in asked]


def _leaks_of(torn: Collection[Sequence[str]], total: int, sources: str) -> str:
    """How many of `total` sources are in which two splits; `torn` has the splits of each."""
    counts = {pair: sum(set(pair) <= set(splits) for splits in torn)
              for pair in (("train", "test"), ("train", "val"), ("val", "test"))}  # fmt: skip
    said = ", ".join(f"{n} in {one} and {other}" for (one, other), n in counts.items() if n)
    return f"of {total} {sources}, {said}, as published"


def read_classes(path: Path) -> tuple[str, ...]:
    """The names in a `classes.txt`, one a line, in the order of the outputs."""
    return tuple(line for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def in_two_splits(clips: Iterable[Expected]) -> dict[str, tuple[str, ...]]:
    """The sources that are in more than one split, and in which."""
    first: dict[str, str] = {}
    torn: dict[str, dict[str, None]] = {}
    for clip in clips:
        split = first.setdefault(clip.source_id, clip.split)
        if split != clip.split:
            torn.setdefault(clip.source_id, {split: None})[clip.split] = None
    return {source: tuple(splits) for source, splits in torn.items()}
