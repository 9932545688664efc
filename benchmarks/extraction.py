"""Time of `avmix features` beside that of decoding and encoding alone, in rounds in turn.

    python benchmarks/extraction.py --root DIR

Both read the same clips of UCF101's eight classes with the same window, batches, threads and loader
processes, and encode them with the same networks. The bare loop is what one would write by hand:
`decode_clip` in a `torch.utils.data.DataLoader`, the central square, the encoders, features in a
list. It compares no hashes, isolates no bad file, stores nothing. Each starts its own loader
processes. On a machine with other work the ratio says little.
"""

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from shared import machine, provenance, result_files
from shared.medians import median, quartiles
from shared.paths import RESULTS, ROOT
from shared.rounds import rounds_in_turn
from torch.utils.data import DataLoader, Dataset
from training.lite0_features import AUDIO, ENCODERS, WINDOWS, options_of

from avmix import decode_clip
from avmix.augment import apply_video, centred
from avmix.config import TrainConfig, load_config
from avmix.data.kept_features import open_features
from avmix.data.manifest import Manifest, read_manifest, write_manifest
from avmix.features.frozen_encoders import FrozenEncoders, of_config
from avmix.features.keep import Keeping, Progress, begin, keep_split
from avmix.prepare.csv_table import prepare_table
from avmix.training import runtime
from avmix.training.runtime import Runtime
from avmix.types import Batch, Entry

RESULT = RESULTS / "extraction.json"
ARMS = ("features", "bare loop")
THREADS = 1
"""Beside one loader process on two cores."""
PACKAGES = ("torch", "timm", "av", "numpy")


class Clips(Dataset[tuple[np.ndarray, np.ndarray]]):
    """The middle window of each clip, decoded, its central square scaled."""

    def __init__(self, root: Path, entries: Sequence[Entry], config: TrainConfig) -> None:
        """`config` has the window."""
        self.root, self.entries, self.clip = root, entries, config.clip

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.entries)

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Frames (t h w c) and waveform (s)."""
        entry, clip = self.entries[row], self.clip
        found = decode_clip(
            self.root / entry.path,
            start_seconds=max(0.0, (entry.duration_seconds - clip.duration_seconds) / 2),
            duration_seconds=clip.duration_seconds, num_frames=clip.num_frames,
            sample_rate=clip.sample_rate, short_side=clip.short_side,
            audio="silence" if entry.audio is None else "require",
        )  # fmt: skip
        height, width = found.video.shape[1:3]
        return apply_video(found.video, centred(height, width), clip.crop), found.audio


def bare_loop(
    dataset: Clips, encoders: FrozenEncoders, batch_size: int, num_workers: int
) -> dict[str, np.ndarray]:
    """Features (n d) of each modality."""
    loader = DataLoader(dataset, batch_size=batch_size, num_workers=num_workers)
    found: dict[str, list[np.ndarray]] = {}
    for video, audio in loader:
        count = len(video)
        there = torch.ones(count, dtype=torch.bool)
        batch = Batch(video=video, audio=audio, has_video=there, has_audio=there,
                      target=torch.zeros(count, 2), row=torch.arange(count),
                      source=torch.arange(count))  # fmt: skip
        for name, value in encoders(batch).items():
            found.setdefault(name, []).append(value.numpy())
    return {name: np.concatenate(values) for name, values in found.items()}


def kept(keeping: Keeping, encoders: FrozenEncoders, here: Runtime) -> None:
    """What `avmix features` does once networks are built."""
    shutil.rmtree(keeping.out, ignore_errors=True)
    keeping.out.mkdir()
    header, _ = begin(keeping, encoders, here)
    keep_split("train", keeping, encoders, header, here, Progress())


def chosen(manifest: Manifest, count: int, folder: Path) -> Manifest:
    """A dataset of `count` clips, evenly spread over the split; those without audio are left out,
    which the bare loop would have to tell from silence."""
    audible = [e for e in manifest.entries if e.audio is not None and not e.audio.silent]
    places = np.linspace(0, len(audible) - 1, count).round().astype(int)
    write_manifest(folder, classes=manifest.classes, protocol=manifest.protocol,
                   splits={"train": [audible[place] for place in places]})  # fmt: skip
    return read_manifest(folder, "train")


def measure(
    window: str, config: TrainConfig, clips: int, rounds: int, folder: Path
) -> dict[str, Any]:
    """Seconds of both in every round, and that their features are the same."""
    root = Path(config.data.root)
    manifest = chosen(read_manifest(config.data.manifest_folder, "train"), clips, folder)
    with runtime.start(device="cpu", threads=THREADS) as here:
        encoders = of_config(config, ["video", "audio"])
        keeping = Keeping(manifest_folder=folder, root=root, out=folder / "features",
                          num_workers=config.data.num_workers)  # fmt: skip
        dataset = Clips(root, manifest.entries, config)
        seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
        features: dict[str, np.ndarray] = {}
        for turn in rounds_in_turn(ARMS, rounds, warm_up=1):
            for arm in turn.order:
                began = time.perf_counter()
                if arm == "features":
                    kept(keeping, encoders, here)
                else:
                    features = bare_loop(dataset, encoders, keeping.batch_size, keeping.num_workers)
                took = time.perf_counter() - began
                print(window, turn.number, arm, f"{took:.2f} s", flush=True)
                if turn.counts:
                    seconds[arm].append(took)
        stored = open_features(keeping.out, "train").features
        for name, value in features.items():
            if not np.allclose(stored[name][:, 0], value, rtol=1e-3, atol=1e-3):
                raise SystemExit(f"error: the {name} features of both are not the same")
        ratios = [a / b for a, b in zip(*(seconds[arm] for arm in ARMS), strict=True)]
        return {
            "window": window,
            "clips_per_second": {a: median([clips / s for s in seconds[a]]) for a in ARMS},
            "ratio": median(ratios),
            "ratio_quartiles": quartiles(ratios),
            "batch_size": keeping.batch_size,
            "num_workers": keeping.num_workers,
            "threads": torch.get_num_threads(),
            "seconds": {arm: [round(s, 3) for s in seconds[arm]] for arm in ARMS},
        }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the clips, with clips.csv")
    parser.add_argument("--clips", type=int, default=150, help="of each round (150)")
    parser.add_argument("--rounds", type=int, default=5, help="that count (5)")
    provenance.add_option(parser)
    args = parser.parse_args()
    origin, facts = provenance.measured(args, "extraction"), machine.facts(PACKAGES)
    arms = []
    for window in WINDOWS:
        config = load_config(TrainConfig, [
            "--config", str(ROOT / ENCODERS), "--data.root", args.root,
            "--data.manifest", str(ROOT / "runs/manifests/ucf101_av8_split1"),
            *(f"--{word}" for word in options_of(window=window)),
        ])  # fmt: skip
        prepare_table(config.data)
        with TemporaryDirectory() as folder:
            arms.append(measure(window, config, args.clips, args.rounds, Path(folder)))
    result_files.write(RESULT, {
        "kind": "extraction",
        "command": f"python benchmarks/extraction.py --root DIR --clips {args.clips} --rounds "
        f"{args.rounds}",
        "config": ENCODERS,
        "options": ["clip.num_frames=3", *AUDIO],
        "measured": origin,
        "environment": facts,
        "num_clips": args.clips,
        "num_rounds": args.rounds,
        "arms": arms,
        "load_average_at_the_end": machine.load_average(),
    })  # fmt: skip
    print(f"wrote {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
