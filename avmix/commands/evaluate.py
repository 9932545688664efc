"""Evaluate a checkpoint: `python eval.py`, `avmix evaluate` and `avmix.evaluate(config)`."""

from contextlib import closing
from pathlib import Path

from avmix.commands.evaluation_report import print_report, write_report
from avmix.commands.robustness import measure_robustness, subject_of
from avmix.config import EvalConfig
from avmix.data.dataset import EvalSet
from avmix.data.loader import eval_loader, read_limits
from avmix.data.manifest import read_manifest
from avmix.data.quarantine import Quarantine
from avmix.evaluation.metrics import Scores, all_scores
from avmix.models import build_model
from avmix.models.frontend import Frontend
from avmix.system.paths import unmakable
from avmix.system.printing import console_of, echo_on
from avmix.training import checkpoint, engine, runtime
from avmix.training.checkpoint import CheckpointError


def evaluate(config: EvalConfig) -> dict[str, Scores | None]:
    """Evaluate, print, write; returns the metrics of each row of the table, None where no clip has
    its modality.

    Raises ValueError (`ManifestError`, `CheckpointError`, an option that does not fit the machine)
    `TooManyBadClips` when no clip can be read, and `LoaderError`.
    """
    path = Path(config.checkpoint)
    path = path / "last.pt" if path.is_dir() else path
    state = checkpoint.load(path)
    trained = state.config
    if config.raw_weights and state.average is None:
        raise CheckpointError(f"raw_weights cannot act: {path} has no average of its weights")
    root = Path(config.root or trained.data.root)
    folder = Path(config.manifest or trained.data.manifest or root)
    manifest = read_manifest(folder, config.split)
    if list(manifest.classes) != state.classes:
        raise CheckpointError(
            f"{path} was trained on other classes ({len(state.classes)}) than {folder} has "
            f"({len(manifest.classes)})"
        )
    if len(state.classes) < 2:
        raise CheckpointError(
            f"{path}: its only class is {state.classes[0]!r}; there is nothing to evaluate"
        )
    out = Path(config.out) if config.out else path.parent / f"eval_{config.split}"
    if why := unmakable(out):
        raise ValueError(f"out: {out} {why}")
    quarantine = Quarantine(out / "quarantine.jsonl", also=[path.parent / "quarantine.jsonl"])
    with runtime.start(device=config.device, threads=config.threads) as here:
        model = build_model(
            trained.model, len(state.classes), clip=trained.clip, frontend=trained.frontend,
            load_weights=False,
        )  # fmt: skip
        averaged = state.average is not None and not config.raw_weights
        checkpoint.load_weights(path, state, model, average=averaged)
        views = EvalSet(
            manifest=manifest, root=root, clip=trained.clip, num_views=config.num_views,
            verify=config.verify, limits=read_limits(config.num_workers, config.clip_seconds),
        )  # fmt: skip
        loader = eval_loader(
            views, batch_size=config.batch_size, num_workers=config.num_workers,
            clip_seconds=config.clip_seconds, quarantine=quarantine,
            rank=here.rank, world_size=here.world_size, pin=here.device.type == "cuda",
        )  # fmt: skip
        frontend = Frontend(trained.frontend, trained.clip.sample_rate, model.pixels)
        frontend = frontend.to(here.device)
        with closing(loader):
            found = engine.evaluate(model.to(here.device), frontend, loader, here)
        scores = all_scores(found.predictions)
        if here.is_main:
            for notice in (quarantine.notice(), state.notice()):
                if notice:
                    echo_on(console_of(), notice)
            if path != Path(config.checkpoint) and (best := path.with_name("best.pt")).exists():
                echo_on(console_of(), f"evaluated {path}, the last epoch; {best} is the one that "
                        f"was best on val: --checkpoint {best} evaluates it")  # fmt: skip
            if averaged:
                echo_on(console_of(), "evaluated the average of the weights (optim.ema_decay "
                        f"{trained.optim.ema_decay:g}); --raw_weights true evaluates the last "
                        "ones")  # fmt: skip
            write_report(out, manifest, found, scores, config, state)  # first: `| head` may end us
            print_report(manifest, found, scores, config.num_views, state)
        if config.robustness:
            with subject_of(config, trained, model, frontend, views, quarantine, here) as subject:
                measure_robustness(config.robustness, subject, out)
    return scores
