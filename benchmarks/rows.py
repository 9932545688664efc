"""Time and memory of preparing a list of millions of rows, as those of AudioSet.

`python benchmarks/rows.py` writes a synthetic list of the same form, with one class name for each
row and 0.1 % of the files there, prepares it with the recipe in a process of its own, and keeps the
seconds and the largest memory of that process in benchmarks/results/rows.json. The files are empty,
and the journal says what probing them found: what is measured is everything but probing, which
benchmarks/prepare.py measures for real files.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from shared import machine, provenance, result_files
from shared.paths import RESULTS, ROOT

from avmix.media.folder_walk import File
from avmix.prepare.probe_journal import Journal, Probed
from avmix.types import AudioInfo, VideoInfo

SEGMENTS = "# synthetic\n# synthetic\n# YTID, start_seconds, end_seconds, positive_labels\n"
VIDEO = VideoInfo(fps=25.0, num_frames=250, width=320, height=240, start_seconds=0.0,
                  duration_seconds=10.0, codec="h264", rotation=0, vfr=False)  # fmt: skip
AUDIO = AudioInfo(rate_hz=44_100, channels=2, start_seconds=0.0, duration_seconds=10.0, codec="aac",
                  rms_dbfs=-20.0, silent=False)  # fmt: skip
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=2_000_000, help="of the list (2,000,000)")
    parser.add_argument("--there", type=float, default=0.001, help="share of files there (0.001)")
    parser.add_argument("--trial", action="store_true", help="print the result and keep none")
    provenance.add_option(parser)
    args = parser.parse_args()
    origin = {} if args.trial else provenance.measured(args, "rows")
    started = machine.facts(["avmix"])
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write_set(root, args.rows, int(args.rows * args.there))
        began = time.monotonic()
        script = ROOT / "datasets/audioset/prepare.py"
        subprocess.run(
            [sys.executable, str(script), "--media", str(root / "media"), "--annotations",
             str(root / "csv"), "--out", str(root / "out"), "--protocol", "audioset/unbalanced",
             "--workers", "1", "--leaks", "off"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        seconds = time.monotonic() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        header = json.loads((root / "out/dataset.json").read_bytes())
    result = {
        "measured": origin,
        "kind": "rows",
        "command": f"python benchmarks/rows.py --rows {args.rows} --there {args.there:g}",
        "environment": started,
        "num_rows": args.rows,
        "num_there": header["splits"]["train"]["num_clips"],
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "wall_seconds": round(seconds, 1),
        "peak_bytes": used.ru_maxrss * 1024,
        "load_average_at_the_end": machine.load_average(),
    }
    print(result_files.text_of(result))
    if not args.trial:
        result_files.write(RESULTS / "rows.json", result)


def write_set(root: Path, num_rows: int, num_there: int) -> None:
    """Lists, empty files of the first rows, and a journal that says what is in them."""
    lists, media = root / "csv", root / "media"
    lists.mkdir()
    media.mkdir()
    classes = [f"{n},/m/{n:05x},Class {n}\n" for n in range(527)]
    (lists / "class_labels_indices.csv").write_text("index,mid,display_name\n" + "".join(classes))
    (lists / "eval_segments.csv").write_text(f'{SEGMENTS}{"_" * 11}, 0.000, 10.000, "/m/00000"\n')
    with (lists / "unbalanced_train_segments.csv").open("w") as file:
        file.write(SEGMENTS)
        for n in range(num_rows):
            low = 10 * (n % 40)
            mids = f"/m/{n % 527:05x},/m/{n * 7 % 526 + 1:05x}"
            file.write(f'{video_id(n)}, {low}.000, {low + 10}.000, "{mids}"\n')
    journal = Journal(root / "out/.prepare/probe.jsonl", "fast")
    for n in range(num_there):
        path = media / f"{video_id(n)}.mp4"
        path.touch()
        stat = path.stat()
        # As of clips of one length: many differ by a frame or not at all, none is as loud.
        video = replace(VIDEO, duration_seconds=9.5 + n % 1000 / 1000)
        audio = replace(AUDIO, rms_dbfs=-20 - n / num_there)
        journal.add(File(path.name, 0, stat.st_mtime_ns),
                    Probed(video=video, audio=audio, sha256=f"{n:064x}"))  # fmt: skip
    journal.close()


def video_id(number: int) -> str:
    """Eleven characters, another for every number."""
    letters = []
    for _ in range(11):
        number, place = divmod(number * 37 + 11 if not letters else number, 64)
        letters.append(LETTERS[place])
    return "".join(letters)


if __name__ == "__main__":
    main()
