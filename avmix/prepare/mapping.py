"""Which file is taken for which clip, before any file is read; and where to get the others."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from avmix.atomic import replacing
from avmix.doctor.show import console_of
from avmix.names import printable
from avmix.prepare.expected import Expected, Protocol
from avmix.prepare.inventory import like_missing
from avmix.prepare.judge import Judged
from avmix.prepare.names import kinetics_stem, times_in
from avmix.prepare.scan import File, Index, normal, split_ending, stem_of

How = Literal["path", "name", "other ending", "id and seconds", "id alone", "missing"]
"""How the name of a file says that it is the clip."""

_EXAMPLES = 3
_YOUTUBE = re.compile(r"[A-Za-z0-9_-]{11}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """One clip, and the file that is taken for it."""

    clip: Expected
    path: str
    """Empty where there is none."""
    how: How


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A protocol, and the files of a folder."""

    protocol: str
    clips: tuple[Mapped, ...]
    unexpected: tuple[str, ...]
    like_missing: tuple[str, ...]
    """Of the unexpected files those that begin as a missing clip is called."""


def mapping_of(
    protocol: Protocol, index: Index, candidates: Mapping[Expected, Sequence[File]]
) -> Found:
    """The first candidate of every clip; which can be read is not asked."""
    clips: list[Mapped] = []
    for clip in protocol.expected:
        files = candidates[clip]
        path = files[0].path if files else ""
        clips.append(Mapped(clip=clip, path=path, how=_how(clip, path)))
    expected = {file.path for files in candidates.values() for file in files}
    unexpected = sorted(set(index.files) - expected)
    missing = [Judged(clip=m.clip, status="missing") for m in clips if not m.path]
    like = tuple(row["path"] for row in like_missing(unexpected, missing))
    return Found(protocol=protocol.name, clips=tuple(clips), unexpected=tuple(unexpected),
                    like_missing=like)  # fmt: skip


def show_mapping(mapping: Found, out: Path) -> None:
    """Print it, and write `mapping.csv` and, where anything is missing and has a link,
    `missing.txt` to `out`."""
    console = console_of()
    counts = Counter(mapped.how for mapped in mapping.clips)
    console.print(printable(f"{mapping.protocol}: {len(mapping.clips)} clips"), soft_wrap=True)
    for how in get_args(How):
        of_kind = [m for m in mapping.clips if m.how == how]
        if of_kind:
            some = ", ".join(
                f"{m.clip.clip_id} <- {m.path}" if m.path else m.clip.clip_id
                for m in of_kind[:_EXAMPLES]
            )
            console.print(printable(f"  {counts[how]:8}  {how}: {some}"), soft_wrap=True)
    for what, paths in (
        ("files that nothing expects", mapping.unexpected),
        ("of them begin as clips that are missing are called", mapping.like_missing),
    ):
        if paths:
            some = ", ".join(paths[:_EXAMPLES])
            console.print(printable(f"  {len(paths):8}  {what}: {some}"), soft_wrap=True)
    out.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("clip_id", "split", "path", "how"))
    rows.writerows((m.clip.clip_id, m.clip.split, m.path, m.how) for m in mapping.clips)
    files = {"mapping.csv": text.getvalue()}
    if links := [
        f"{line}\n" for line in missing_links(m.clip for m in mapping.clips if not m.path)
    ]:
        files["missing.txt"] = "".join(links)
    for name, data in files.items():
        with replacing(out / name) as file:
            file.write(data.encode())
        console.print(printable(f"  written: {out / name}"), soft_wrap=True)


def missing_links(clips: Iterable[Expected]) -> Iterator[str]:
    """Lines for `avmix download --with yt-dlp`, of the clips of YouTube's videos: link, name of the
    file without its ending, and from where to where it is cut. Some may come twice."""
    for clip in clips:
        if _YOUTUBE.fullmatch(clip.video):
            cells = [f"https://www.youtube.com/watch?v={clip.video}"]
            if clip.cut_seconds is not None:
                low, high = clip.cut_seconds
                name = kinetics_stem(clip.video, low, high)
                cells += [name, f"{low:g}-{high:g}"]
            else:
                cells.append(clip.video)
            yield "\t".join(cells)


def _how(clip: Expected, path: str) -> How:
    if not path:
        return "missing"
    at, names = normal(path), [normal(name) for name in clip.names]
    bare = at.rpartition("/")[2]
    if at in names:
        return "path"
    if bare in (name.rpartition("/")[2] for name in names):
        return "name"
    stem = stem_of(bare)
    if stem in (split_ending(name.rpartition("/")[2])[0] for name in names):
        return "other ending"
    return "id and seconds" if times_in(stem, clip.video) else "id alone"
