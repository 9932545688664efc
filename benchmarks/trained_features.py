"""How good is a network that is trained on kept features of all clips? UCF101's eight classes with
audio, three official splits, three seeds.

    python benchmarks/trained_features.py --root DIR

In each split, options are chosen from a grid by held-out sources of its own train split
(`data.holdout`, three choices of them): the highest mean top-1 of the fused head, then the lowest
negative log-likelihood. With them the whole train split is trained on, and the test split is judged
once for each seed; and again with a guarded fusion, which is fitted to what networks with the same
options say of the sources that each was trained without. All splits are of the same clips, whose
features are computed once. The result is written again after each run; what is in it is not done
again by the same code.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from shared import provenance, result_files
from shared.paths import RESULTS, ROOT
from training.lite0_features import CONFIG, features_of

from avmix.commands.evaluate import evaluate
from avmix.commands.guard import guard_of_folds, guarded
from avmix.commands.train import train
from avmix.config import EvalConfig, TrainConfig, load_config
from avmix.evaluation.kept_predictions import KeptPredictions
from avmix.evaluation.metrics import AllScores, Scores
from avmix.evaluation.prediction_file import read_predictions
from avmix.training import checkpoint

RESULT = RESULTS / "trained_features.json"
ROWS = ("fused", "video head", "audio head")
GRID: dict[str, tuple[float, ...]] = {
    "clip.num_frames": (3, 8),
    "optim.weight_decay": (0.02, 5, 20, 50),
    "model.dropout": (0.2, 0.5),
}
FIXED = ("--mix.method", "none", "--optim.epochs", "20", "--optim.batch_size", "64")
HOLDOUT, HELD_OUT, SEEDS = 0.25, range(3), range(3)
ARMS = ("trained", "guarded")
"""What is judged by the test split: networks, and the same ones with a guarded fusion."""
WORK = Path("runs/trained_features")


def run(
    folder: Path,
    options: dict[str, float],
    seed: int,
    words: Sequence[str] = (),
    *,
    out: Path = WORK / "run",
) -> AllScores | None:
    """Train; returns the scores of what the `words` hold out of the train split."""
    shutil.rmtree(out, ignore_errors=True)
    own = [w for key, value in options.items() if key != "clip.num_frames"
           for w in (f"--{key}", str(value))]  # fmt: skip
    config = load_config(TrainConfig, [
        "--config", CONFIG, "--data.features", str(folder), *FIXED, *own, *words,
        "--run.seed", str(seed), "--run.out", str(out), "--run.threads", "1",
    ])  # fmt: skip
    with _quietly():
        return train(config).val


def evaluated(checkpoint_path: Path, split: str, out: Path) -> AllScores:
    """Scores on a split; predictions are kept in the folder `out`."""
    with _quietly():
        return evaluate(EvalConfig(checkpoint=str(checkpoint_path), split=split, threads=1,
                                   resamples=0, out=str(out)))  # fmt: skip


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def kept(scores: AllScores | None) -> dict[str, dict[str, float]]:
    """Top-1 and negative log-likelihood of each row."""
    assert scores is not None
    found: dict[str, dict[str, float]] = {}
    for row in ROWS:
        score = scores[row]
        assert isinstance(score, Scores)
        found[row] = {"top1": score.top1, "nll": score.nll}
    return found


def folds_of(folder: Path, options: dict[str, float]) -> dict[Path, KeptPredictions]:
    """What networks with the options say of the sources that each was trained without."""
    found: dict[Path, KeptPredictions] = {}
    for held in HELD_OUT:
        out = WORK / f"fold{held}"
        run(folder, options, held, held_out(held), out=out)
        evaluated(out, "val", out / "eval_val")
        found[out] = read_predictions(out / "eval_val")
    return found


def held_out(seed: int) -> list[str]:
    """Options that hold out a quarter of the sources of the train split."""
    return ["--data.holdout", str(HOLDOUT), "--data.holdout_seed", str(seed),
            "--data.val_split", ""]  # fmt: skip


def chosen(tried: list[dict[str, Any]]) -> dict[str, float]:
    """The options with the highest mean top-1 of held-out clips, then the lowest NLL."""

    def merit(values: tuple[float, ...]) -> tuple[float, float]:
        of = [t["scores"]["fused"] for t in tried if tuple(t["options"].values()) == values]
        return round(mean(s["top1"] for s in of), 9), -mean(s["nll"] for s in of)

    known = dict.fromkeys(tuple(t["options"].values()) for t in tried)
    return dict(zip(GRID, max(known, key=merit), strict=True))


def begun(origin: dict[str, Any]) -> dict[str, Any]:
    """The result without its runs, or with those that the same code has done."""
    new: dict[str, Any] = {
        "kind": "trained_features", "command": "python benchmarks/trained_features.py --root DIR",
        "config": CONFIG, "protocol": "ucf101_av8, official splits 1 to 3",
        "grid": {key: list(values) for key, values in GRID.items()}, "fixed": list(FIXED),
        "holdout": HOLDOUT, "measured": origin, "tried": [], "chosen": {},
        **{arm: [] for arm in ARMS},
    }  # fmt: skip
    if not RESULT.exists():
        return new
    old = json.loads(RESULT.read_text())
    same = old["measured"]["sources"] == origin["sources"]
    same = same and all(old[key] == new[key] for key in ("grid", "fixed", "holdout"))
    return {**old, "measured": origin} if same else new


def main() -> None:
    """Run all that is not in the result yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the clips, with clips.csv")
    provenance.add_option(parser)
    args = parser.parse_args()
    origin = provenance.measured(args, "trained_features")
    os.chdir(ROOT)
    folders = {frames: features_of(args.root, int(frames)) for frames in GRID["clip.num_frames"]}
    result = begun(origin)
    combinations = [dict(zip(GRID, values, strict=True))
                    for values in itertools.product(*GRID.values())]  # fmt: skip
    for number in (1, 2, 3):
        for options, held in itertools.product(combinations, HELD_OUT):
            key = {"split": number, "options": options, "holdout_seed": held}
            if any(key == {k: t[k] for k in key} for t in result["tried"]):
                continue
            scores = run(folders[options["clip.num_frames"]][number], options, held,
                         held_out(held))  # fmt: skip
            result["tried"].append({**key, "scores": kept(scores)})
            result_files.write(RESULT, result)
        best = chosen([t for t in result["tried"] if t["split"] == number])
        result["chosen"][str(number)] = best
        print(f"split {number}: {best}", flush=True)
        folder, folds = folders[best["clip.num_frames"]][number], None
        for seed in SEEDS:
            if any((t["split"], t["seed"]) == (number, seed) for t in result["guarded"]):
                continue
            folds = folds or folds_of(folder, best)
            run(folder, best, seed)
            last = WORK / "run/last.pt"
            state = checkpoint.load(last)
            fit = guard_of_folds(last, state, folds)
            checkpoint.save(last.with_name("guarded.pt"), guarded(state, fit))
            for arm, path in (("trained", last), ("guarded", last.with_name("guarded.pt"))):
                scores = kept(evaluated(path, "test", WORK / f"run/eval_{arm}"))
                done = {"split": number, "seed": seed, "scores": scores}
                result[arm].append({**done, "fuses": fit.fuses} if arm == "guarded" else done)
                said = ", ".join(f"{row} {100 * s['top1']:.1f}" for row, s in scores.items())
                print(f"split {number}, {arm}, seed {seed}: {said}", flush=True)
            result_files.write(RESULT, result)


if __name__ == "__main__":
    main()
