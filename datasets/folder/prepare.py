"""Make a manifest of your own clips: one folder per class.

    python datasets/folder/prepare.py --media my_clips --out data/mine

reads my_clips/CLASS/anything.mp4. Clips are dealt out to train, val and test by source, so that
what was cut from one recording stays in one split. `--source` says which part of a file name is the
source; without it every file is a source of its own.
"""

import argparse
import hashlib
import re
import sys
from pathlib import Path

from avmix.data.manifest import ManifestError
from avmix.prepare.table import Row, prepare_rows

ENDINGS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".flv"}


def split_of(source_id: str, val_share: float, test_share: float) -> str:
    """`train`, `val` or `test`: by a hash of the source, so that more files change nothing."""
    digest = hashlib.sha256(source_id.encode()).digest()
    at = int.from_bytes(digest[:8], "big") / 2**64
    return "test" if at < test_share else "val" if at < test_share + val_share else "train"


def rows_of(
    media: Path, source: re.Pattern[str] | None, val_share: float, test_share: float
) -> list[Row]:
    """A row for every media file in a class folder; raises `ManifestError` when there is none."""
    rows: list[Row] = []
    for path in sorted(media.glob("*/**/*")):
        if path.suffix.lower() not in ENDINGS:
            continue
        relative = path.relative_to(media)
        source_id = relative.as_posix()
        if source is not None:
            found = source.match(path.stem)
            if found is None:
                raise ManifestError(f"{path}: --source {source.pattern!r} does not match its name")
            source_id = found.group(1) if source.groups else found.group(0)
        rows.append(
            Row(
                path=relative.as_posix(),
                label=relative.parts[0],
                split=split_of(source_id, val_share, test_share),
                source_id=source_id,
            )
        )
    if not rows:
        known = " ".join(sorted(ENDINGS))
        raise ManifestError(f"{media}: no CLASS/FILE with one of the endings {known}")
    return rows


def main(argv: list[str] | None = None) -> None:
    """Read the folder, probe every file, write the manifest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--media", type=Path, required=True, help="folder of class folders")
    parser.add_argument("--out", type=Path, required=True, help="folder for the manifest")
    parser.add_argument("--val", type=float, default=0.1, help="share of the sources (0.1)")
    parser.add_argument("--test", type=float, default=0.2, help="share of the sources (0.2)")
    parser.add_argument(
        "--source",
        type=re.compile,
        help="regular expression at the start of a file name (without ending) whose first group, "
        r"or whole match, is the source, whatever the class; UCF101: '(v_\w+_g\d+)'. "
        "Default: every file is its own source",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument(
        "--max_bad_share", type=float, default=0.01, help="share of files that may fail (0.01)"
    )
    args = parser.parse_args(argv)
    if (args.out / "dataset.json").exists():
        sys.exit(f"error: {args.out / 'dataset.json'} exists; delete it to prepare anew")
    try:
        rows = rows_of(args.media, args.source, args.val, args.test)
        prepare_rows(
            args.media,
            args.out,
            rows,
            protocol=f"folder/{args.media.resolve().name}",
            workers=args.workers,
            max_bad_share=args.max_bad_share,
            notes={
                "val": args.val,
                "test": args.test,
                "source": args.source and args.source.pattern,
            },
        )
    except ManifestError as error:
        sys.exit(f"error: {error}")
    print(f"{args.out}: {len(rows)} clips; what was left out is in {args.out}/excluded.jsonl")


if __name__ == "__main__":
    main()
