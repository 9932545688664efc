"""`avmix transcode`: re-encodes a prepared dataset into files that training reads fast.

Each clip becomes a file of its own: its stretch and a margin, its short side made smaller where it
is larger, a keyframe every few frames, H.264 and AAC (or Opus) in mp4. Video and audio come
through `avmix.decode`, so both are written on one clock from 0: frame k at k / fps, whatever the
source did, and its audio to the sample beside it. A constant rate is kept, and the times of its
frames; where it varies, frames are those on the screen at the mean rate. The ffmpeg
program may do it instead (`--ffmpeg`): once its files are checked, that saves 10 % at most, and of
AVI files as UCF101's it gets many wrong, which PyAV then makes (benchmarks/results/prepare.json).
What was written is read again and compared with the source, whoever wrote it, and what does not
hold is left out with its reason (`excluded.jsonl`).
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import av
import av.error

from avmix.data.manifest import (
    Manifest,
    ManifestError,
    parse_row,
    read_manifest,
    row_of,
    splits_of,
    write_manifest,
)
from avmix.isolate.clip_pool import failure_text, for_each_clip
from avmix.isolate.process_pool import Failure
from avmix.system import strict_json
from avmix.system.atomic_files import PARTIAL, replace_text
from avmix.system.printing import counted, echo
from avmix.tools.transcode_check import TranscodeError
from avmix.tools.transcode_clip import Job, TargetFormat, Transcoded, make_one
from avmix.types import Entry

_JOURNAL = "transcode.jsonl"
_MAX_LISTED = 20

EPILOG = """\
Interrupted or killed, the same command continues. Needs some 0.2 s of a core per second of video.
exit:   0 all clips were written   1 some were not (excluded.jsonl says why), or none could be   2 wrong
        usage   130 interrupted
"""  # noqa: E501


def transcode(
    folder: Path,
    root: Path,
    out: Path,
    form: TargetFormat,
    *,
    workers: int = 0,
    seconds: float = 900.0,
) -> dict[str, Any]:
    """Make `out`, a dataset with the clips of `folder`: same ids, labels, sources and splits.

    Returns counts. `workers` processes, each limited to `seconds` for one clip; 0: none but this.
    Raises `TranscodeError` where `out` holds something else or nothing can be made, `ManifestError`
    as reading and writing manifests do, OSError where the disk refuses.
    """
    _check(form)
    manifests = {split: read_manifest(folder, split) for split in splits_of(folder)}
    notes = _notes(manifests, form)
    jobs = _jobs([e for m in manifests.values() for e in m.entries])
    done = _begin(out, notes)
    kept = {
        key: made for key, made in done.items()
        if made.entry is not None and _is_there(out, made.entry)
    }  # fmt: skip
    todo = [job for job in jobs if _key(job) not in kept]
    make = partial(make_one, root, out, form=form)
    with (out / _JOURNAL).open("a", encoding="utf-8") as journal:
        for at, made in for_each_clip(
            make, todo, workers=workers, seconds=seconds, what="transcoding"
        ):
            if isinstance(made, Failure):
                made = Transcoded(entry=None, reason=failure_text(made))
            if made.fatal:
                raise OSError(f"{out}: {made.reason}; the same command continues")
            kept[_key(todo[at])] = made
            row = None if made.entry is None else row_of(made.entry)
            line = {"key": _key(todo[at]), "row": row, "reason": made.reason, "by": made.by}
            # A line that a kill cut in two must not swallow this one.
            journal.write("\n" + strict_json.dumps(line) + "\n")
            journal.flush()
    return _finish(folder, out, manifests, notes, jobs, kept)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    usual = TargetFormat()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--root", "--media", type=Path, required=True, help="media folder")
    parser.add_argument("--manifest", type=Path, help="folder with dataset.json (--root)")
    parser.add_argument("--out", type=Path, required=True, help="folder for media and manifest")
    parser.add_argument("--short-side", type=int, default=usual.short_side, metavar="N",
                        help=f"short side of the frames, pixels ({usual.short_side})")  # fmt: skip
    parser.add_argument("--gop", type=int, default=usual.gop, metavar="N",
                        help=f"distance of keyframes, frames ({usual.gop})")  # fmt: skip
    parser.add_argument("--audio", choices=("aac", "opus"), default=usual.audio,
                        help=f"codec of the audio ({usual.audio})")  # fmt: skip
    parser.add_argument("--margin", type=float, default=usual.margin_seconds, metavar="SECONDS",
                        help="seconds kept before and after each stretch (0)")  # fmt: skip
    parser.add_argument("--crf", type=int, default=usual.crf, metavar="N",
                        help=f"quality of H.264, less is better ({usual.crf})")  # fmt: skip
    parser.add_argument("--ffmpeg", default="never", metavar="auto|never|PATH", help="ffmpeg to "
                        "encode with in place of PyAV, if its result verifies (never)")  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")


def run(args: argparse.Namespace) -> int:
    """Make the set, say what was written, and return the exit code."""
    folder = args.manifest or args.root
    try:
        if args.workers < 1:
            raise TranscodeError(f"--workers must be at least 1, got {args.workers}")
        form = TargetFormat(
            short_side=args.short_side, gop=args.gop, audio=args.audio, crf=args.crf,
            margin_seconds=args.margin, ffmpeg=find_ffmpeg(args.ffmpeg),
        )  # fmt: skip
        counts = transcode(folder, args.root, args.out, form, workers=args.workers)
    except (TranscodeError, ManifestError, OSError) as error:
        echo(f"error: {error}", error=True)
        return 1
    except KeyboardInterrupt:
        echo("stopped; the same command continues", error=True)
        return 130
    echo(f"{args.out}: {counted(counts['made'], 'clip')}, {counts['bytes'] / 1e6:.1f} MB "
          f"(were {counts['bytes_before'] / 1e6:.1f}); {counts['resampled']} of a varying rate are "
          "at their mean rate")  # fmt: skip
    if counts["excluded"]:
        where = args.out / "excluded.jsonl"
        echo(f"excluded {counts['excluded']}; see {where}", error=True)
    return int(bool(counts["excluded"]))


def find_ffmpeg(wanted: str) -> str:
    """Path of the program; "" for `never`, and for `auto` where there is none."""
    if wanted == "never":
        return ""
    found = shutil.which("ffmpeg" if wanted == "auto" else wanted)
    if found is None and wanted != "auto":
        raise TranscodeError(f"--ffmpeg {wanted}: no such program")
    return found or ""


def _jobs(entries: Sequence[Entry]) -> list[Job]:
    """Files named as theirs were; where one file has several stretches, with their seconds."""
    names: dict[str, int] = {}
    for entry in entries:
        name = str(PurePosixPath(entry.path).with_suffix(""))
        names[name] = names.get(name, 0) + 1
    taken: set[str] = set()
    jobs: list[Job] = []
    for entry in entries:
        name = str(PurePosixPath(entry.path).with_suffix(""))
        if names[name] > 1:
            name += f"_{round(1000 * entry.start_seconds):06}_{round(1000 * entry.end_seconds):06}"
        while name in taken:
            name += "_"
        taken.add(name)
        jobs.append(Job(entry=entry, path=f"clips/{name}.mp4"))
    return jobs


def _check(form: TargetFormat) -> None:
    if form.short_side < 32 or form.short_side % 2:
        raise TranscodeError(f"--short-side must be even and at least 32, got {form.short_side}")
    if not 1 <= form.gop <= 300:
        raise TranscodeError(f"--gop must be from 1 to 300, got {form.gop}")
    if not 0 <= form.margin_seconds < 3600:
        raise TranscodeError(f"--margin must be in [0, 3600), got {form.margin_seconds}")
    if not 0 <= form.crf <= 51:
        raise TranscodeError(f"--crf must be from 0 to 51, got {form.crf}")


def _notes(manifests: Mapping[str, Manifest], form: TargetFormat) -> dict[str, Any]:
    """All that the files depend on."""
    arguments = {**asdict(form), "ffmpeg": bool(form.ffmpeg)}
    return {
        "made_by": "avmix transcode",
        "arguments": arguments,
        "from": {split: m.sha256 for split, m in manifests.items()},
        "pyav": av.__version__,
    }


def _begin(out: Path, notes: Mapping[str, Any]) -> dict[tuple, Transcoded]:
    """What an earlier run has made; an empty journal where there was none."""
    path = out / _JOURNAL
    if not path.exists():
        if out.exists() and any(out.iterdir()):
            raise TranscodeError(
                f"{out} is not empty and is not a transcoded dataset; choose another"
            )
        out.mkdir(parents=True, exist_ok=True)
        replace_text(path, strict_json.dumps(notes) + "\n")
        return {}
    for left in out.rglob(f"*{PARTIAL}"):  # by a kill
        left.unlink()
    lines = [_parsed(text) for text in path.read_text().split("\n")]
    if not lines or lines[0] is None or "made_by" not in lines[0]:
        raise TranscodeError(f"{path} is damaged; remove {out}")
    differ = [k for k in notes if json.loads(strict_json.dumps(notes[k])) != lines[0].get(k)]
    if differ:
        raise TranscodeError(
            f"{out} was written with other options ({', '.join(differ)}); choose another --out"
        )
    done: dict[tuple, Transcoded] = {}
    for line in lines[1:]:
        if line is not None:
            entry = parse_row(line["row"], str(path)) if line["row"] else None
            done[tuple(line["key"])] = Transcoded(entry=entry, reason=line["reason"], by=line["by"])
    return done


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return json.loads(text)
    except ValueError:
        return None  # cut by a kill: that clip is made once more


def _key(job: Job) -> tuple[str, str, float, float]:
    return (job.entry.clip_id, job.entry.sha256, job.entry.start_seconds, job.entry.end_seconds)


def _is_there(out: Path, entry: Entry) -> bool:
    path = out / entry.path
    return path.exists() and path.stat().st_size == entry.bytes


def _finish(
    folder: Path,
    out: Path,
    manifests: Mapping[str, Manifest],
    notes: Mapping[str, Any],
    jobs: Sequence[Job],
    made: Mapping[tuple, Transcoded],
) -> dict[str, Any]:
    """Write the manifest and what was left out; returns counts."""
    by_id = {job.entry.clip_id: made[_key(job)] for job in jobs}
    splits: dict[str, list[Entry]] = {}
    excluded: list[dict[str, str]] = []
    for split, manifest in manifests.items():
        for old in manifest.entries:
            one = by_id[old.clip_id]
            if one.entry is not None:
                splits.setdefault(split, []).append(one.entry)
            else:
                excluded.append({"clip_id": old.clip_id, "path": old.path, "split": split,
                                 "reason": one.reason})  # fmt: skip
    text = strict_json.lines(excluded)
    replace_text(out / "excluded.jsonl", text)
    if not splits:
        raise TranscodeError(f"{out}: no clip could be written; the first: {excluded[0]['reason']}")
    first = next(iter(manifests.values()))
    header = json.loads((folder / "dataset.json").read_bytes())
    old_entries = [e for m in manifests.values() for e in m.entries]
    resampled = sum(e.video is not None and e.video.vfr for e in old_entries)
    counts = {
        "made": sum(map(len, splits.values())),
        "excluded": len(excluded),
        "resampled": resampled,
        "by_ffmpeg": sum(one.by == "ffmpeg" for one in by_id.values()),
        "bytes": sum(e.bytes for es in splits.values() for e in es),
        "bytes_before": sum({e.path: e.bytes for e in old_entries}.values()),
    }
    write_manifest(
        out,
        classes=first.classes,
        protocol=first.protocol,
        splits=splits,
        notes={**notes, "counts": counts, "source": header.get("notes", {})},
        leaks=header.get("leaks", ""),
        label_sets=first.label_sets,
        tail_classes=first.tail_classes,
    )
    return counts
