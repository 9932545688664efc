"""Printing of file and class names: unchanged where possible, escaped where a terminal could not
show them."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_LONGEST = 120
"""Characters of a name among others; none of a usual length is shortened."""
_PIPE_COLUMNS = 100


def console_of(*, quiet: bool = False, stderr: bool = False, tables: bool = False) -> "Console":
    """A console for text that holds names: it neither takes `[x]` for markup nor `:x:` for an emoji
    nor colours numbers. What a terminal would not print as a character is for `printable`.

    Lines are as long as they are; with `tables` everything fits the terminal, or `_PIPE_COLUMNS`
    where there is none.
    """
    from rich.console import Console  # slow to import, and not needed by every command

    console = Console(
        quiet=quiet, stderr=stderr, soft_wrap=not tables, markup=False, emoji=False, highlight=False
    )
    if tables and not console.is_terminal:
        console.width = _PIPE_COLUMNS
    return console


def echo_on(console: "Console", text: str) -> None:
    """Print a line that holds names on the console of `console_of`."""
    console.print(printable(text))


def echo(text: str, *, error: bool = False, keep: str = "") -> None:
    """Print a line that holds names to the standard output, or to the standard error."""
    print(printable(text, keep), file=sys.stderr if error else sys.stdout)


def printable(text: str, keep: str = "") -> str:
    """`text` with everything escaped that a terminal would not print as a character, but for the
    characters in `keep`."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def shortened(text: str, most: int) -> str:
    """`text` in at most `most` characters: the middle of what is longer is left out."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def listed(names: Sequence[str], total: int | None = None, *, most: int = 8) -> str:
    """The first `most` names, and how many more there are: of `total` where `names` are a part."""
    more = (len(names) if total is None else total) - most
    some = ", ".join(shortened(name, _LONGEST) for name in names[:most])
    return f"{some} and {more} more" if more > 0 else some


def counted(number: int, noun: str) -> str:
    """`1 clip`, `2 clips`, `2 classes`, `2 processes`."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}" + ("" if number == 1 else plural)


def drawable(text: str) -> str:
    """`printable` lines for matplotlib, which takes what is between dollars for a formula."""
    return printable(text, keep="\n").replace("$", r"\$")
