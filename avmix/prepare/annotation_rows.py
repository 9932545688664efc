"""Rows of annotation files: how their text is divided into lines and cells."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avmix.data.manifest import ManifestError
from avmix.prepare.annotation_values import plain


class AnnotationError(ManifestError):
    """Annotations are missing, or none of it can be read; the message names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of an annotation file."""

    cells: Mapping[str, str]
    """By name of column, stripped, in composed unicode (NFC)."""
    where: str
    """`file:line`."""
    text: str
    """The line as it stands there."""

    def __getitem__(self, column: str) -> str:
        """The cell of this column; empty where the table does not have it."""
        return self.cells.get(column, "")


def without_invisible(line: str) -> str:
    """A line without what is not seen: also a mark of the byte order, which files that were put
    together have several of."""
    return line.strip("\ufeff \t\r")


def text_lines(text: str) -> Iterator[str]:
    """The lines one by one: of a large file a list of them takes more than its text."""
    sign, at = "\n" if "\n" in text else "\r", 0
    while at <= len(text):
        end = text.find(sign, at)
        end = len(text) if end < 0 else end
        yield text[at:end].removesuffix("\r")
        at = end + 1


def table_columns(
    row: Row,
    path: Path,
    columns: Sequence[str],
    optional: Sequence[str],
    header: bool | None,
    delimiter: str,
    aliases: Mapping[str, Sequence[str]],
) -> tuple[list[str], str, bool]:
    """Names of the columns, what divides them, and whether this row is the header."""
    plain_names = {plain(c): c for c in (*columns, *optional)}
    signs = dict.fromkeys((delimiter, ";", "\t", ",", "|"))
    for sign in signs:
        if header is False:
            break
        try:
            cells = cells_of(row["line"].lstrip("# "), sign)
        except csv.Error:
            continue
        names = _with_aliases([plain_names.get(plain(cell), cell) for cell in cells], aliases)
        if set(columns) <= set(names):
            return names, sign, True
    if header:
        missing = [c for c in columns if c not in _first_cells(row, delimiter, plain_names)]
        raise AnnotationError(f"{path}: no column {missing[0]!r}; its first line is: {row['line']}")
    if header is None and delimiter not in row["line"]:
        # Without a heading a row shows itself what divides it.
        delimiter = next((sign for sign in signs if sign in row["line"]), delimiter)
    return [*columns, *optional], delimiter, False


SEP_LINE = re.compile(r'"?sep=(.?)"?', re.IGNORECASE)
"""What spreadsheets write into the first line."""


def _with_aliases(names: list[str], aliases: Mapping[str, Sequence[str]]) -> list[str]:
    """A column that is not there takes the first that has one of its other names."""
    names = list(names)
    for column, others in aliases.items():
        known = [plain(name) for name in names]
        at = next((known.index(other) for other in others if other in known), None)
        if column not in names and at is not None:
            names[at] = column
    return names


def _first_cells(row: Row, delimiter: str, names: Mapping[str, str]) -> list[str]:
    return [names.get(plain(cell), cell) for cell in row["line"].split(delimiter)]


def cells_of(line: str, delimiter: str) -> list[str]:
    """The cells of one line of a table, stripped; raises `csv.Error` where it is none."""
    reader = csv.reader(io.StringIO(line), delimiter=delimiter, skipinitialspace=True, strict=True)
    return [cell.strip() for cell in next(reader, [])]
