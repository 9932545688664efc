"""OGM-GE as published against balance.method ogm_ge, on the clips of UCF101's eight classes.

    python benchmarks/ogm_ge.py --root DIR [--seeds 0 1 2] [--epochs 20]

Both train what the card ogm_ge/ucf101_av8 says, from the same weights, on the same windows and
augmentations, and are evaluated alike. "As published" is tests/ogm_ge_double.py, a plain loop of
the authors' formulas: gradients of convolutions are scaled, and noise is added to them. avmix
scales what the optimizer's step has changed. So runs are not equal; the result says whether the
difference of their means is within the spread over seeds.
"""

import argparse
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from shared import provenance, result_files
from shared.paths import RESULTS, ROOT
from torch import Tensor, nn

from avmix.config import TrainConfig
from avmix.evaluation.metrics import Scores, all_scores
from avmix.leaderboard.card import card_of
from avmix.leaderboard.plan import cell_options, cells_of, config_of
from avmix.prepare.csv_table import prepare_table
from avmix.training import runtime
from avmix.training.evaluation_loop import evaluate
from avmix.training.training_setup import Training, build
from tests.ogm_ge_double import Classifier, train

CARD, SPLIT, VARIANT = "ogm_ge/ucf101_av8", "split1", "last_epoch"
RESULT = RESULTS / "ogm_ge.json"
ARMS = ("concat, as published", "concat, avmix", "ogm_ge, as published", "ogm_ge, avmix")
STEP_SHARE = 0.7
"""Of the epochs, after which the rate falls: 70 of 100 in the original."""


def config_for(method: str, seed: int, epochs: int, root: str, out: Path) -> TrainConfig:
    """Of a cell of the card. Where this version of avmix has no section `balance`, `CardError`."""
    card = card_of(CARD)
    cell = cells_of(card, VARIANT, methods=[method], seeds=[seed], splits=[SPLIT])[0]
    options = {**cell_options(card, cell), "data.root": root, "run.out": str(out),
               "data.val_split": "test", "optim.epochs": epochs,
               "optim.milestones": [STEP_SHARE]}  # fmt: skip
    return config_of(options, CARD)


def published(config: TrainConfig, alpha: float, seed: int) -> float:
    """Top-1 of the double."""
    prepare_table(config.data)
    with (
        runtime.start(device="cpu", threads=config.run.threads) as here,
        ExitStack() as at_end,
    ):
        run = build(config, here, at_end)
        epochs = config.optim.epochs
        train(double_of(run), lambda number: batches(run, number), epochs=epochs,
              lr=config.optim.lr, step_epochs=math.ceil(STEP_SHARE * epochs), alpha=alpha,
              seed=seed)  # fmt: skip
        return top1(run)


def double_of(run: Training) -> Classifier:
    """The network of avmix in its three parts: same weights, same features."""
    wide = run.model.video.num_features + run.model.audio.num_features
    heads = [m for m in run.model.modules() if isinstance(m, nn.Linear) and m.in_features == wide]
    assert len(heads) == 1
    return Classifier(video=run.model.video, audio=run.model.audio, head=heads[0])


def batches(run: Training, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Frames, spectrograms and labels as avmix trains on them."""
    for batch, bad in run.loader.epoch(epoch):
        assert not bad
        yield *run.frontend(batch), batch.target.argmax(1)


def top1(run: Training) -> float:
    """On the test split."""
    assert run.val is not None
    found = evaluate(run.model, run.frontend, run.val, run.here)
    scores = all_scores(found.predictions)["fused"]
    assert isinstance(scores, Scores)
    return scores.top1


def of_avmix(config: TrainConfig) -> float:
    """Top-1 of `avmix.train`."""
    import avmix

    found = avmix.train(config).val
    assert found is not None
    scores = found["fused"]
    assert isinstance(scores, Scores)
    return scores.top1


def agreement(values: dict[str, list[float]], method: str) -> dict[str, Any]:
    """Difference of the means, and the spread that it is compared with: two standard errors."""
    ours, theirs = values[f"{method}, avmix"], values[f"{method}, as published"]
    error = math.sqrt((stdev(ours) ** 2 + stdev(theirs) ** 2) / len(ours))
    difference = mean(ours) - mean(theirs)
    return {"difference": difference, "standard_error": error,
            "within": abs(difference) <= 2 * error}  # fmt: skip


def main() -> None:
    """Run every arm with every seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the clips, with clips.csv")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    provenance.add_option(parser)
    args = parser.parse_args()
    if len(args.seeds) < 2:
        parser.error("--seeds: two are needed for a spread")
    if not hasattr(TrainConfig(), "balance"):
        parser.error("this version of avmix has no option balance.method: nothing to compare with")
    origin = provenance.measured(args, "ogm_ge")
    os.chdir(ROOT)
    options = card_of(CARD).methods["ogm_ge"].options
    alpha = float(options["balance.alpha"])  # pyright: ignore[reportArgumentType]
    values: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for seed in args.seeds:
        for arm in ARMS:
            method, _, code = arm.partition(", ")
            work = Path(tempfile.mkdtemp(prefix="ogm_ge"))
            try:
                plain = "concat" if code == "as published" else method
                config = config_for(plain, seed, args.epochs, args.root, work)
                found = of_avmix(config) if code == "avmix" else published(
                    config, alpha if method == "ogm_ge" else 0.0, seed)  # fmt: skip
            finally:
                shutil.rmtree(work)
            values[arm].append(found)
            print(f"seed {seed}, {arm}: {100 * found:.1f}", flush=True)
    result_files.write(RESULT, {
        "kind": "ogm_ge", "command": "python benchmarks/ogm_ge.py --root DIR", "protocol": CARD,
        "split": SPLIT, "measured": origin, "seeds": args.seeds, "epochs": args.epochs,
        "top1": values,
        "agreement": {m: agreement(values, m) for m in ("concat", "ogm_ge")},
    })  # fmt: skip


if __name__ == "__main__":
    main()
