"""`avmix guard`: fit the guard of a trained network's fusion to kept predictions of clips that the
network has not learned from."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from avmix.config import TrainConfig, from_yaml
from avmix.evaluation.guard_fit import GuardFit
from avmix.evaluation.kept_predictions import KeptPredictions, PredictionsError
from avmix.evaluation.prediction_file import found_in, read_predictions
from avmix.models.fusion_guard import FusionGuard
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text
from avmix.system.paths import unwritable
from avmix.system.printing import echo
from avmix.training import checkpoint
from avmix.training.checkpoint import Checkpoint, CheckpointError
from avmix.training.guarding import fit_to, fit_to_folds

EPILOG = """\
Predictions are those that `avmix evaluate --split val` keeps, of a val split or of what
data.holdout held out of the train split. Those of a test split are refused: the test split chooses
nothing. Several after --from are folds: each of another network with the same options, which was
trained without the clips that it predicts (data.holdout, each with another data.holdout_seed); the
network of --checkpoint may then be trained on all clips. The fused prediction of the new checkpoint
is a pool of its three heads where that is surely better on these clips than the better modality
head, and otherwise that head (docs/models.md).
exit:   0 written   1 the checkpoint or the predictions do not fit; one line says why
        2 wrong usage   130 interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="PATH",
                        help="checkpoint, or folder of a run, whose last one is taken")  # fmt: skip
    parser.add_argument("--from", type=Path, dest="predictions", metavar="PATH", nargs="+",
                        help="folder or file of its kept predictions of held-out clips (eval_val "
                        "beside the checkpoint); several: folds")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE.pt",
                        help="checkpoint to write (guarded.pt beside it)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was fitted, and why")


def run(args: argparse.Namespace) -> int:
    """Fit and write; returns the exit code."""
    path = args.checkpoint / "last.pt" if args.checkpoint.is_dir() else args.checkpoint
    out = args.out or path.with_name("guarded.pt")
    try:
        for option, written in (("--out", out), ("--json", args.json)):
            if written is not None and (why := unwritable(written)):
                raise ValueError(f"{option} {written} {why}")
        state = checkpoint.load(path)
        found = args.predictions or [path.parent]
        kept = [read_predictions(found_in(one, "val")) for one in found]
        if len(found) == 1:
            fit = guard_of(path, state, kept[0], found[0])
        else:
            fit = guard_of_folds(path, state, dict(zip(found, kept, strict=True)))
        checkpoint.save(out, guarded(state, fit))
        if args.json:
            replace_text(args.json, strict_json.dumps(asdict(fit), indent=2) + "\n")
    except (ValueError, OSError) as error:
        echo(f"error: {error}", error=True)
        return 1
    echo(str(fit))
    echo(f"wrote {out}")
    return 0


def guard_of(path: Path, state: Checkpoint, kept: KeptPredictions, found: Path) -> GuardFit:
    """Fit to kept predictions of the checkpoint `state`, which came from `path`; `found`: where
    they are.

    Raises `CheckpointError` for a network that has no fusion to guard, or has one that is guarded,
    and `PredictionsError` for predictions of another network, of clips that it has learned from,
    and of a test split.
    """
    _check_network(path, state, kept)
    if kept.origin.checkpoint != (state.digest or ""):
        raise PredictionsError(f"{found} is of another checkpoint than {path}: evaluate this one")
    if state.average is not None and kept.origin.weights != "average":
        raise PredictionsError(
            f"{found} is of the last weights, and evaluation takes their average"
        )
    _refuse_test(found, kept)
    if kept.split == state.config.data.train_split or kept.split_sha256 == state.split_sha256:
        raise PredictionsError(
            f"{found} is of {kept.split!r}, which the network was trained on: train with a val "
            "split or data.holdout, and --split val"
        )
    return fit_to(kept.predictions(), [clip.source_id for clip in kept.clips])


def guard_of_folds(
    path: Path, state: Checkpoint, folds: Mapping[Path, KeptPredictions]
) -> GuardFit:
    """Fit to kept predictions of other networks, each of clips that it was trained without; a clip
    that several have held out counts as often. By where they are.

    Raises `CheckpointError` as `guard_of`, and `PredictionsError` for predictions of the checkpoint
    itself, of a network with other options or classes, which held nothing out, and of a test split.
    """
    options = _options(state.config)
    for found, kept in folds.items():
        _check_network(path, state, kept)
        _refuse_test(found, kept)
        if kept.origin.checkpoint == (state.digest or ""):
            raise PredictionsError(f"{found} is of {path} itself; folds are of other networks")
        try:
            trained = from_yaml(TrainConfig, kept.origin.config)
        except ValueError as error:
            raise PredictionsError(f"{found}: its configuration cannot be read: {error}") from None
        theirs = _options(trained)
        if other := [key for key, value in options.items() if theirs.get(key) != value]:
            raise PredictionsError(
                f"{found} is of a network with another {other[0]}: {theirs.get(other[0])!r}, and "
                f"{path} has {options[other[0]]!r}"
            )
        if not trained.data.holdout or kept.split != "val":
            raise PredictionsError(
                f"{found} is not of clips that its network held out: train with data.holdout, and "
                "evaluate with --split val"
            )
        if list(kept.classes) != state.classes:
            raise PredictionsError(f"{found} is of other classes than {path}")
    found = [kept.predictions() for kept in folds.values()]
    return fit_to_folds(found, [[clip.source_id for clip in kept.clips] for kept in folds.values()])


def _options(config: TrainConfig) -> dict[str, Any]:
    """Those that folds must have in common, by dotted name."""
    return {
        f"{section}.{name}": value
        for section, options in asdict(config).items()
        if section != "run"
        for name, value in options.items()
        if f"{section}.{name}" not in _OF_A_FOLD
    }


_OF_A_FOLD = {"data.holdout", "data.holdout_seed", "data.val_split"}


def _check_network(path: Path, state: Checkpoint, kept: KeptPredictions) -> None:
    config = state.config
    if config.model.guard:
        raise CheckpointError(f"{path}: its fusion is guarded already")
    if config.model.modalities != "both":
        raise CheckpointError(f"{path}: a network of one modality, which fuses nothing")
    if not kept.single or config.loss.binary:
        raise CheckpointError(f"{path}: a guard is of clips with one label each")


def _refuse_test(found: Path, kept: KeptPredictions) -> None:
    if kept.split == "test":
        raise PredictionsError(f"{found} is of the test split, which must not choose anything")


def guarded(state: Checkpoint, fit: GuardFit) -> Checkpoint:
    """The same network with a guard that acts."""
    guard = FusionGuard()
    guard.set(fit.pool, fit.scale)
    added = {f"guard.{name}": tensor for name, tensor in guard.state_dict().items()}

    def with_guard(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {**weights, **added}

    return replace(
        state,
        config=replace(state.config, model=replace(state.config.model, guard=True)),
        model=with_guard(state.model),
        average=None if state.average is None else with_guard(state.average),
    )
