"""The words of the field, in everything that is read: code, comments, messages and pages.

`BANNED` lists words that a newcomer would trip over, and what to write instead; `ALLOWED` lists
the places where one of them stays, with the reason. docs/glossary.md defines the words to use.
"""

import importlib
import io
import re
import string
import tokenize
from collections.abc import Iterator
from dataclasses import is_dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pytest

from avmix.config import TrainConfig

ROOT = Path(__file__).parents[1]
READ = ("avmix/**/*.py", "docs/*.md", "docs/*.ipynb", "docs/site/*.py", "mkdocs.yml",
        "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md",
        "train.py", "eval.py", "datasets/**/*.py", "datasets/**/*.md", "configs/**/*.yaml",
        "benchmarks/**/*.py")  # fmt: skip


class Banned(NamedTuple):
    """Words that are not used."""

    words: tuple[str, ...]
    """In lower case; a blank also matches the end of a line."""
    instead: str
    names_too: bool = False
    """True: also as a part of names in code, between `_` or capitals."""


class Allowed(NamedTuple):
    """Where a banned word stays."""

    files: str
    """A glob of paths; `*` crosses folders."""
    pattern: str
    """What may be written there."""
    reason: str


BANNED = (
    Banned(("picture", "pictures"), "frame, or image where it is a still one", True),
    Banned(("sound", "sounds", "sounding", "soundless"), "audio, or noise or event", True),
    Banned(("data set", "data sets", "data-set", "data-sets"), "dataset"),
    Banned(("made clip", "made clips"), "synthetic clips"),
    Banned(("heard", "hear", "hears", "overheard"), "audible, played, in the audio"),
    Banned(("nobody",), "what is not done, or `no one in particular`"),
    Banned(("laid under", "lie under", "lies under", "lay under"), "mixed in as background"),
    Banned(("laid",), "placed"),
    Banned(("anew",), "again"),
    Banned(("besides",), "also, additional, apart from"),
    Banned(("complain", "complains", "complained", "complaint", "complaints"), "error, warning"),
    Banned(("film", "films"), "video"),
    Banned(("the order of an epoch",), "the sampling order"),
    Banned(("is no way of",), "unknown ..."),
)

_RECIPE = "text of `Synthetic.recipe`: bytes of manifests that were written"
_KEY = "a key or code of stored data: renaming it needs another version of the format"
_TOY = "thuds, pings, claps and chirps are the sounds of synthetic actions: audio events"
_CLASSES = "classes of the dataset are kinds of sounds"
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
ALLOWED = (
    Allowed("avmix/doctor/*", r'"(picture|sound)"', _KEY + " (Damage.stream in --json)"),
    Allowed("avmix/doctor/*", r"\b(no|damaged)_(picture|sound)s?\b", _KEY + " (Finding.code)"),
    Allowed(
        "avmix/doctor/*",
        r"\b(picture|sound)_(gaps|short|broken|ends_early)\b",
        _KEY + " (Finding.code)",
    ),
    Allowed("avmix/tools/*", r'"(pictures|sound)"', _KEY + " (leaks.json, fingerprints.jsonl)"),
    Allowed(
        "avmix/tools/*", r"\b(picture_bits|sound_share|sound_seconds)\b", _KEY + " (leaks.json)"
    ),
    Allowed("avmix/prepare/*", r"\bno_pictures\b", _KEY + " (excluded.jsonl, inventory.json)"),
    Allowed("avmix/synth/*", r"\bno_sound_parents\b", _KEY + " (report.json)"),
    Allowed("avmix/*", r'"sound"', "the purpose of a random stream: its number seeds the stream"),
    Allowed("docs/augment.md", r"`sound`", "the purpose of a random stream"),
    Allowed("*", r"\bFiLM\b|\bfilm\b(?=[`\"'])", "feature-wise linear modulation, a fusion"),
    Allowed("avmix/*", r"\bdirect sound\b", "a term of room acoustics"),
    Allowed("docs/augment.md", r"\bdirect sound\b", "a term of room acoustics"),
    Allowed("avmix/synth/action*", r"\b_?sounds?\b|\bSound\b", _TOY),
    Allowed(
        "avmix/synth/repair.py", r"pictures of \{|; sound of \{|heard from \{| pictures/s", _RECIPE
    ),
    Allowed("avmix/synth/compose.py", r"has no sound|; its sound ", _RECIPE),
    Allowed("avmix/tools/*", r"--max-(picture-bits|sound-share)", "former names of options"),
    Allowed("avmix/commands/preview.py", r"--no-films", "the former name of an option"),
    Allowed("datasets/toy/*", r"\bsounds?\b", _TOY),
    Allowed("docs/synthesis.md", r"\bsounds?\b", _TOY),
    Allowed("README.md", r"\bmotions and sounds\b", _TOY),
    Allowed("*", r"(?i)kinetics?[-_]?sounds?|vgg-?sound", "names of datasets"),
    Allowed("datasets/*", r"\b(527|309) sounds\b", _CLASSES),
    Allowed(
        "benchmarks/*",
        r"[\"'](\w+_)?(pictures?|sounds?)(_\w+)?[\"']",
        _KEY + " (benchmarks/results)",
    ),
    Allowed("benchmarks/report/tables/mixing.py", r"say sound for|\"sound as\"", "older results"),
    Allowed("*", r"sound51", _KEY + " (name of a protocol)"),
    Allowed("*/hmdb51*", r"films?", "movies, which are the sources of its clips"),
    Allowed("datasets/README.md", r"\bno_pictures\b", _KEY + " (excluded.jsonl, inventory.json)"),
)


def _prose(text: str) -> str:
    """Python source with its identifiers blanked out: comments and strings stay in place."""
    lines = [list(line) for line in text.splitlines(keepends=True)]
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            (row, start), (_, stop) = token.start, token.end
            lines[row - 1][start:stop] = " " * (stop - start)
    return re.sub(r"\{[^{}\"'\n]*\}", lambda m: " " * len(m[0]), "".join(map("".join, lines)))


def _places(word: Banned, text: str, lower: str) -> Iterator[tuple[int, int]]:
    """(start, stop) of each of the words in `text`."""
    for each in word.words:
        if each.split()[0] not in lower:
            continue
        for match in re.finditer(re.escape(each).replace(r"\ ", r"(?:\s|#|\"\s*f?\")+"), lower):
            start, stop = match.span()
            before, after = text[start - 1 : start], text[stop : stop + 1]
            if word.names_too:
                begins = not before.isalpha() or (before.islower() and text[start].isupper())
                ends = not after.islower()
            else:
                begins = not (before.isalnum() or before in ("_", "-"))
                ends = not (after.isalnum() or after in ("_", "-"))
            if begins and ends:
                yield start, stop


def find(path: str, text: str, banned: tuple[Banned, ...] = BANNED) -> Iterator[tuple[int, str]]:
    """(line, message) of each banned word in `text` of the file `path`, where it is not allowed."""
    for allowed in ALLOWED:
        if fnmatch(path, allowed.files):
            text = re.sub(allowed.pattern, lambda m: "-" * len(m[0]), text)
    lower = text.translate(_LOWER)
    prose = ""
    for word in banned:
        for start, stop in _places(word, text, lower):
            if path.endswith(".py") and not word.names_too:
                prose = prose or _prose(text)
                if prose[start:stop].isspace():
                    continue  # a name
            yield text.count("\n", 0, start) + 1, f"{text[start:stop]!r}: write {word.instead}"


def test_no_banned_word_is_written() -> None:
    found = [
        f"{path}:{line}: {word}"
        for glob in READ
        for file in sorted(ROOT.glob(glob))
        for path in [file.relative_to(ROOT).as_posix()]
        for line, word in find(path, file.read_text())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "text", "lines"),
    [
        ("avmix/x.py", "def f():\n    '''Of the pictures.'''\n", [2]),
        ("avmix/x.py", "x = 1\nnum_pictures = 2\n", [2]),
        ("avmix/x.py", "class PicturePlan: ...\n", [1]),
        ("avmix/x.py", "heard = 1  # what is heard\n", [1]),
        ("avmix/x.py", "x = f'{heard} of {nobody}'\n", []),
        ("avmix/x.py", "# a data\n# set\n", [1]),
        ("docs/x.md", "The sound of a data set.\n\nClips that nobody\nfilmed.\n", [1, 1, 3]),
        ("docs/x.md", "Kinetics-Sounds, resounding\n", []),
        ("avmix/doctor/x.py", "stream = 'picture'\nother = \"picture\"\n", [1]),
    ],
)
def test_the_search_names_the_line(path: str, text: str, lines: list[int]) -> None:
    assert sorted(line for line, _ in find(path, text)) == lines


def test_every_allowance_is_needed() -> None:
    """A row of `ALLOWED` whose words are gone is taken out."""
    files = [file for glob in READ for file in ROOT.glob(glob)]
    texts = {file.relative_to(ROOT).as_posix(): file.read_text() for file in files}
    for allowed in ALLOWED:
        assert any(
            fnmatch(path, allowed.files) and re.search(allowed.pattern, text)
            for path, text in texts.items()
        ), allowed


_ROW = re.compile(r"^\| (?!term \|)([^|]+) \| ([^|]+) \| ([^|]*) ?\| ([^|]+) \|$", re.MULTILINE)


def _glossary() -> list[tuple[str, str, list[str]]]:
    """(term, definition, names in code) of every row of docs/glossary.md."""
    rows = _ROW.findall((ROOT / "docs/glossary.md").read_text())
    return [(term, text, re.findall(r"`([^`]+)`", code)) for term, text, _, code in rows]


def _found(name: str) -> bool:
    """True when `name` is a Python name of avmix or SECTION.OPTION of the configuration."""
    parts = name.split(".")
    if parts[0] != "avmix":
        kind: Any = TrainConfig
        for part in parts:
            hints = get_type_hints(kind) if is_dataclass(kind) else {}
            if part not in hints:
                return False
            kind = hints[part]
        return True
    module = importlib.import_module("avmix")
    thing: Any = module
    for i, part in enumerate(parts[1:], 1):
        if not hasattr(thing, part):
            if isinstance(thing, type):
                return i == len(parts) - 1 and part in get_type_hints(thing)
            try:
                importlib.import_module(".".join(parts[: i + 1]))
            except ModuleNotFoundError:
                return False
        thing = getattr(thing, part)
    return True


def test_every_name_in_the_glossary_exists() -> None:
    rows = _glossary()
    lines = (ROOT / "docs/glossary.md").read_text().splitlines()
    assert len(rows) == sum(
        line.startswith("| ") and not line.startswith("| term") for line in lines
    )
    missing = [f"{term}: {name}" for term, _, names in rows for name in names if not _found(name)]
    assert not missing, missing
    assert not [term for term, _, names in rows if not names]


def test_a_term_is_in_the_glossary_once_and_has_one_sentence() -> None:
    rows = _glossary()
    terms = [term.lower() for term, _, _ in rows]
    assert sorted(set(terms)) == sorted(terms)
    assert not [term for term, text, _ in rows if not text.endswith((".", ".)"))]


def test_a_name_that_is_not_there_is_found_out() -> None:
    assert _found("avmix.types.Clip.video")
    assert _found("model.video.pooling")
    assert not _found("avmix.types.Clip.picture")
    assert not _found("avmix.typos")
    assert not _found("mix.lambda")
