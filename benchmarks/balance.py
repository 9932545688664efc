"""What is left of balanced multimodal learning beside a fair baseline? UCF101's eight classes with
audio, few clips, kept features.

    python benchmarks/balance.py --root DIR

Each method is trained on the same clips, for the same epochs, with the same seeds, with and without
mixing. Branches that learn are a linear projection of each modality (model.shared_width). Each
method has three values of one option to choose from; sources that are held out of the train split
choose, by the fused head, for each split, number of clips and way of mixing. The test split chooses
nothing. The features are computed once, by `avmix features`. The result is written again after each
run; what is in it is not done again by the same code.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from balancing.arms import ALONE, ARMS, AVERAGED, Arm, options_of
from shared import provenance, result_files
from shared.paths import RESULTS, ROOT
from training.feature_run import ROWS, Done, run
from training.lite0_features import CONFIG, features_of

from avmix.evaluation.kept_predictions import KeptPredictions
from avmix.evaluation.score_table import score_table
from avmix.evaluation.separate_networks import mean_of_both

RESULT = RESULTS / "balance.json"
MIXING = ("none", "mixup@feature")
EPOCHS, BATCH, WIDTH, HOLDOUT = 20, {3: 8, 10: 16}, 128, 0.2
SEEDS = range(5)
TUNED_WITH = 100
"""Seed of the draw of clips, and of the training, that chooses."""


def cell_options(folder: Path, shots: int, mixing: str, seed: int) -> dict[str, Any]:
    """Options that all methods share."""
    return {
        "config": CONFIG, "data.features": folder, "data.shots": shots, "data.shots_seed": seed,
        "data.shots_by": "source", "data.holdout": HOLDOUT, "optim.epochs": EPOCHS,
        "optim.batch_size": BATCH[shots], "model.shared_width": WIDTH, "mix.method": mixing,
        "run.seed": seed,
    }  # fmt: skip


def teachers(arm: Arm) -> dict[str, Any]:
    """Those that umt learns from, which were trained before in the same cell."""
    if arm.options.get("balance.method") != "umt":
        return {}
    return {f"balance.{name}_teacher": _folder(f"{name} alone") for name in ("video", "audio")}


def _folder(name: str) -> Path:
    return Path("runs/balance") / name.replace(" ", "_")


class Results:
    """The result, written after each run."""

    def __init__(self, path: Path, result: dict[str, Any]) -> None:
        """Goes on with what is at `path` of the same code and options."""
        self.path, self.result = path, result
        if path.exists():
            old = json.loads(path.read_text())
            same = old["measured"]["sources"] == result["measured"]["sources"]
            if same and all(old[key] == result[key] for key in ("arms", "fixed")):
                result |= {key: old[key] for key in ("tuned", "trained")}

    def there(self, kind: str, **what: Any) -> dict[str, Any] | None:
        """The entry of this cell; None: not yet."""
        return next((one for one in self.result[kind] if what.items() <= one.items()), None)

    def add(self, kind: str, entry: dict[str, Any]) -> None:
        """Note it, and write."""
        self.result[kind].append(entry)
        result_files.write(self.path, self.result)


def tune(results: Results, folder: Path, cell: dict[str, Any]) -> None:
    """Choose the value of each arm in a cell, where that was not done."""
    words = cell_options(folder, cell["shots"], cell["mixing"], TUNED_WITH)
    for name, arm in {**ALONE, **ARMS}.items():
        if results.there("tuned", arm=name, **cell):
            continue
        if teachers(arm):
            for one, of_one in ALONE.items():
                chosen = results.there("tuned", arm=one, **cell)
                assert chosen is not None
                run({**words, **options_of(of_one, chosen["value"])}, test=False,
                    keep=_folder(one))  # fmt: skip
        held_out = []
        for value in arm.grid:
            found = run({**words, **options_of(arm, value), **teachers(arm)}, test=False)
            held_out.append(numbers(found.kept)["fused"])
        best = arm.grid[held_out.index(max(held_out))]
        results.add("tuned", {**cell, "arm": name, "value": best, "held_out": held_out})


def compare(results: Results, folder: Path, cell: dict[str, Any], seed: int) -> None:
    """Train every arm of a cell with a seed, and evaluate it on the test split."""
    if all(results.there("trained", seed=seed, arm=name, **cell) for name in (*ARMS, AVERAGED)):
        return
    words, alone = cell_options(folder, cell["shots"], cell["mixing"], seed), {}
    for name, arm in {**ALONE, **ARMS}.items():
        if name in ARMS and results.there("trained", seed=seed, arm=name, **cell):
            continue
        chosen = results.there("tuned", arm=name, **cell)
        assert chosen is not None
        options = {**words, **options_of(arm, chosen["value"]), **teachers(arm)}
        found = run(options, test=True, keep=_folder(name) if name in ALONE else None)
        if name in ALONE:
            alone[name] = found
            continue
        _keep(results, cell, name, seed, found, numbers(found.kept))
    both = numbers(mean_of_both(*(one.kept for one in alone.values())))
    video, audio = alone.values()
    if not results.there("trained", seed=seed, arm=AVERAGED, **cell):
        _keep(results, cell, AVERAGED, seed, video, both, seconds=video.seconds + audio.seconds)


def _keep(
    results: Results,
    cell: dict[str, Any],
    name: str,
    seed: int,
    found: Done,
    of_test: dict[str, float],
    seconds: float | None = None,
) -> None:
    spent = found.seconds if seconds is None else seconds
    results.add("trained", {**cell, "arm": name, "seed": seed, "scores": of_test,
                            "ms_per_step": round(1000 * spent / found.steps, 3),
                            "log_ratio": found.ratio[-1] if found.ratio else None})  # fmt: skip
    print(f"{cell}, {name}, seed {seed}: {of_test}", flush=True)


def numbers(kept: KeptPredictions) -> dict[str, float]:
    """Top-1 of each row, NLL of the fused one, gain over the better head and mu."""
    table = score_table(kept, num_resamples=0)
    found = {row: of["top1"].value for row in ROWS if (of := table.rows[row])}
    if fused := table.rows["fused"]:
        found["nll"] = fused["nll"].value
    found |= {key: table.fusion[key].value for key in ("gain", "mu") if key in table.fusion}
    return {key: round(value, 5) for key, value in found.items() if value is not None}


def main() -> None:
    """Run all that is not in the result yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the clips, with clips.csv")
    provenance.add_option(parser)
    args = parser.parse_args()
    origin = provenance.measured(args, "balance")
    os.chdir(ROOT)
    folders = features_of(args.root)
    results = Results(RESULT, {
        "kind": "balance", "command": "python benchmarks/balance.py --root DIR", "config": CONFIG,
        "arms": {name: {"options": arm.options, "tuned": arm.tuned, "grid": list(arm.grid)}
                 for name, arm in {**ALONE, **ARMS}.items()},
        "fixed": {"epochs": EPOCHS, "batch_size": {str(s): b for s, b in BATCH.items()},
                  "shared_width": WIDTH, "holdout": HOLDOUT},
        "measured": origin, "protocol": "ucf101_av8, official splits 1 to 3",
        "tuned": [], "trained": [],
    })  # fmt: skip
    cells = [(folder, {"split": number, "shots": shots, "mixing": mixing})
             for shots in BATCH for mixing in MIXING
             for number, folder in folders.items()]  # fmt: skip
    for folder, cell in cells:
        tune(results, folder, cell)
    for seed in SEEDS:
        for folder, cell in cells:
            compare(results, folder, cell, seed)


if __name__ == "__main__":
    main()
