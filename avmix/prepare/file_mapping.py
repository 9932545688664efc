"""Assignment of files to clips before any file is read, and the links of missing ones."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from avmix.media.folder_walk import File
from avmix.prepare.clip_file_names import kinetics_stem, times_in
from avmix.prepare.clip_status import Judged
from avmix.prepare.inventory import like_missing
from avmix.prepare.media_folder import MediaIndex, nfc_name, split_ending, stem_of
from avmix.prepare.protocol import Expected, Protocol
from avmix.system.atomic_files import replace_text
from avmix.system.printing import counted, echo
from avmix.tools.link_list import Item, write_list

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
    """Unexpected files whose names begin like a missing clip."""


def mapping_of(
    protocol: Protocol, index: MediaIndex, candidates: Mapping[Expected, Sequence[File]]
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
    echo(f"{mapping.protocol}: {counted(len(mapping.clips), 'clip')}")
    for how in get_args(How):
        of_kind = [m for m in mapping.clips if m.how == how]
        if of_kind:
            some = ", ".join(
                f"{m.clip.clip_id} <- {m.path}" if m.path else m.clip.clip_id
                for m in of_kind[:_EXAMPLES]
            )
            echo(f"  {len(of_kind):8}  {how}: {some}")
    for what, paths in (
        ("files that are not in the annotations", mapping.unexpected),
        ("of them have names that begin like missing clips", mapping.like_missing),
    ):
        if paths:
            echo(f"  {len(paths):8}  {what}: {', '.join(paths[:_EXAMPLES])}")
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("clip_id", "split", "path", "how"))
    rows.writerows((m.clip.clip_id, m.clip.split, m.path, m.how) for m in mapping.clips)
    replace_text(out / "mapping.csv", text.getvalue())
    echo(f"  written: {out / 'mapping.csv'}")
    links = list(missing_links(m.clip for m in mapping.clips if not m.path))
    if links:
        write_list(out / "missing.txt", links)
        echo(f"  written: {out / 'missing.txt'}")


def missing_links(clips: Iterable[Expected]) -> Iterator[Item]:
    """What `avmix download --with yt-dlp` can fetch, of the clips of YouTube's videos: named
    without ending, and cut to the seconds of the clip. Some may come twice."""
    for clip in clips:
        if _YOUTUBE.fullmatch(clip.video):
            cut = clip.cut_seconds
            yield Item(
                url=f"https://www.youtube.com/watch?v={clip.video}",
                name=clip.video if cut is None else kinetics_stem(clip.video, *cut),
                cut_seconds=cut,
            )


def _how(clip: Expected, path: str) -> How:
    if not path:
        return "missing"
    at, names = nfc_name(path), [nfc_name(name) for name in clip.names]
    bare = at.rpartition("/")[2]
    if at in names:
        return "path"
    if bare in (name.rpartition("/")[2] for name in names):
        return "name"
    stem = stem_of(bare)
    if stem in (split_ending(name.rpartition("/")[2])[0] for name in names):
        return "other ending"
    return "id and seconds" if times_in(stem, clip.video) else "id alone"
