"""Names of files and classes where people read them: as they are, whatever is in them."""

from rich.console import Console


def console_of(*, quiet: bool = False) -> Console:
    """A console for lines that hold names: it neither takes `[x]` for markup nor `:x:` for an emoji
    nor colours numbers. What a terminal would not print as a character is for `printable`."""
    return Console(quiet=quiet, soft_wrap=True, markup=False, emoji=False, highlight=False)


def say(console: Console, text: str) -> None:
    """Print a line that holds names on the console of `console_of`."""
    console.print(printable(text))


def printable(text: str, keep: str = "") -> str:
    """`text` with everything escaped that a terminal would not print as a character, but for the
    characters in `keep`."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def drawable(text: str) -> str:
    """`printable` lines for matplotlib, which takes what is between dollars for a formula."""
    return printable(text, keep="\n").replace("$", r"\$")
