"""Memory and time of kept features of millions of clips.

`python benchmarks/feature_rows.py` writes a synthetic folder of features of two million clips, as
`avmix features` writes it, line by line, and opens it in a process of its own: its largest memory,
and the seconds of opening (with and without comparing hashes), of a thousand clips anywhere in it,
of 3 clips of each class, and of steps of training. The features are 4 + 4 numbers, because what is
measured is the list of clips: 1.2 GB of lines.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from shared import machine, provenance, result_files
from shared.paths import RESULTS

from avmix.data.clip_list import write_index
from avmix.data.feature_loader import feature_train_loader
from avmix.data.few_shot import few_shot
from avmix.data.kept_features import Header, open_features, tensors_path, write_header
from avmix.data.manifest import write_manifest
from avmix.data.tensor_file import Shape, write_tensors
from avmix.system import strict_json
from avmix.types import AudioInfo, Entry, VideoInfo

CLASSES, WIDTH, BATCH, STEPS = 500, 4, 256, 200
VIDEO = VideoInfo(fps=25.0, num_frames=250, width=320, height=240, start_seconds=0.0,
                  duration_seconds=10.0, codec="h264", rotation=0, vfr=False)  # fmt: skip
AUDIO = AudioInfo(rate_hz=44_100, channels=2, start_seconds=0.0, duration_seconds=10.0, codec="aac",
                  rms_dbfs=-20.0, silent=False)  # fmt: skip


class Clips(Sequence[Entry]):
    """So many clips, none of which is held."""

    def __init__(self, count: int) -> None:
        """`count`: clips."""
        self._count = count

    def __len__(self) -> int:
        """All of them."""
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """One, built when it is asked for."""
        if not 0 <= index < self._count:
            raise IndexError(index)
        return Entry(clip_id=f"{index:011d}", path=f"videos/{index % 1000:03d}/{index:011d}.mp4",
                     start_seconds=0.0, end_seconds=10.0, labels=(f"class {index % CLASSES}",),
                     source_id=f"{index // 3:011d}", video=VIDEO, audio=AUDIO, bytes=1_000_000,
                     sha256=f"{index:064x}")  # fmt: skip


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=2_000_000, help="clips (2,000,000)")
    parser.add_argument("--trial", action="store_true", help="print the result and keep none")
    parser.add_argument("--opened", type=Path, help=argparse.SUPPRESS)
    provenance.add_option(parser)
    args = parser.parse_args()
    if args.opened:
        print(strict_json.dumps(opened(args.opened)))
        return
    origin = {} if args.trial else provenance.measured(args, "feature_rows")
    started = machine.facts(["avmix", "torch", "numpy"])
    with TemporaryDirectory() as folder:
        size = write_folder(Path(folder), args.rows)
        child = subprocess.run([sys.executable, __file__, "--opened", folder],
                               check=True, stdout=subprocess.PIPE)  # fmt: skip
    result = {
        "kind": "feature_rows",
        "command": f"python benchmarks/feature_rows.py --rows {args.rows}",
        "measured": origin,
        "environment": started,
        "num_rows": args.rows,
        "list_bytes": size,
        **json.loads(child.stdout),
        "load_average_at_the_end": machine.load_average(),
    }
    print(result_files.text_of(result))
    if not args.trial:
        result_files.write(RESULTS / "feature_rows.json", result)


def write_folder(folder: Path, count: int) -> int:
    """Features of so many clips; returns the bytes of their list."""
    write_manifest(folder, classes=[f"class {n}" for n in range(CLASSES)], protocol="synthetic",
                   splits={"train": Clips(count)})  # fmt: skip
    sha256 = json.loads((folder / "dataset.json").read_bytes())["splits"]["train"]["sha256"]
    rows = np.arange(count)
    index = write_index(folder, "train", label=rows % CLASSES, source=rows // 3, sha256=sha256)
    shapes = {name: Shape(np.dtype("<f4"), (count, 1, WIDTH)) for name in ("video", "audio")}
    shapes["has_audio"] = Shape(np.dtype("?"), (count, 1))
    features = write_tensors(tensors_path(folder, "train"), shapes,
                             lambda name: parts(shapes[name]), {})  # fmt: skip
    said = {"complete": True, "manifest_sha256": sha256, "rows_sha256": sha256,
            "index_sha256": index, "sha256": features, "num_clips": count}  # fmt: skip
    write_header(folder, Header(identity={"views": 1}, computed_with={}, splits={"train": said}))
    return (folder / "train.jsonl").stat().st_size


def parts(shape: Shape) -> Iterator[np.ndarray]:
    """A tensor of random numbers, or of True, in pieces."""
    draw, left = np.random.default_rng(0), shape.shape[0]
    while left:
        size = (min(left, 100_000), *shape.shape[1:])
        drawn = draw.standard_normal(size, np.float32)
        yield drawn if shape.dtype.kind == "f" else np.ones(size, np.bool_)
        left -= size[0]


def opened(folder: Path) -> dict[str, Any]:
    """What this process needs for a folder of features."""
    before, seconds = peak_bytes(), {}

    def timed(name: str, since: float) -> None:
        seconds[name] = round(time.perf_counter() - since, 3)

    began = time.perf_counter()
    open_features(folder, "train", verify=False)
    timed("open without hashes", began)
    began = time.perf_counter()
    kept = open_features(folder, "train")
    timed("open", began)
    began = time.perf_counter()
    for row in np.random.default_rng(1).integers(len(kept.manifest.entries), size=1000):
        assert kept.manifest.entries[row].clip_id == f"{row:011d}"
        assert np.isfinite(kept.features["video"][row]).all()
    timed("1,000 clips and their features", began)
    began = time.perf_counter()
    assert len(few_shot(kept.manifest, 3, 0, "source").entries) == 3 * CLASSES
    timed("3 clips a class by source", began)
    began = time.perf_counter()
    loader = feature_train_loader(kept, kept.manifest, batch_size=BATCH, seed=0)
    for batch, _ in islice(loader.epoch(0, 0), STEPS):
        assert batch.size == BATCH
    timed(f"{STEPS} batches of {BATCH}", began)
    return {"seconds": seconds, "peak_bytes": peak_bytes(), "peak_bytes_before": before}


def peak_bytes() -> int:
    """Largest memory of this process until now, with what of mapped files was looked at. As the
    kernel counts it since the program began: `getrusage` counts what the parent had, too."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert found, "no VmHWM in /proc/self/status"
    return int(found[1]) * 1024


if __name__ == "__main__":
    main()
