"""Training of a fusion on frozen encoders where frames and waveforms are mixed before them.

The clips are few: their windows are decoded once and stay in memory. Everything else is what
training on kept features does: its network, optimizer, loader and steps. Only its front end is
another: in place of the features of a batch it takes the windows of the same clips, mixes them as
the plan says, and encodes them.
"""

from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from avmix.config import MixConfig, TrainConfig, to_yaml
from avmix.data.eval_set import EvalSet
from avmix.data.loader import eval_loader
from avmix.data.manifest import Manifest
from avmix.features.frozen_encoders import FrozenEncoders
from avmix.mix.mix_plan import PlacedPlan
from avmix.models.on_features import KeptFrontend
from avmix.training import runtime
from avmix.training.engine import train_one_epoch
from avmix.training.runlog import RunLog
from avmix.training.training_setup import build
from avmix.types import Batch


class MixedWindows(KeptFrontend):
    """Features of the windows of the clips of a batch, mixed by its plan before they are
    encoded."""

    def __init__(self, encoders: FrozenEncoders, windows: Batch) -> None:
        """`windows`: of all clips that are trained on, that of row i at place i."""
        super().__init__()
        self._encoders, self._windows = [encoders], windows  # in a list: not a part of the network

    @torch.no_grad()
    def forward(self, batch: Batch, plan: PlacedPlan | None = None) -> tuple[Tensor, Tensor]:
        """Features (n dv) and (n da) of the clips that the plan gives."""
        kept, windows = self._encoders[0], self._windows
        clips = replace(batch, video=windows.video[batch.row], audio=windows.audio[batch.row])
        video, audio = kept.frontend(clips, plan)
        return kept.encoders["video"](video).float(), kept.encoders["audio"](audio).float()


def windows_of(manifest: Manifest, root: Path, encoders: FrozenEncoders) -> Batch:
    """The window of each clip that evaluation takes, in the order of the manifest. Raises
    ValueError where one cannot be read."""
    dataset = EvalSet(manifest=manifest, root=root, clip=encoders.config.clip, num_views=1)
    with closing(eval_loader(dataset, batch_size=len(manifest.entries), num_workers=0)) as loader:
        ((batch, bad),) = loader
    if batch is None or bad:
        raise ValueError(f"{bad[0].path}: {bad[0].reason}")
    return batch


def train_on_windows(
    config: TrainConfig, mix: MixConfig, encoders: FrozenEncoders, root: Path
) -> Path:
    """Train as `config`, of kept features with one view, says, but mix the windows of these clips
    as `mix` says; returns the last checkpoint. `root`: folder of the files of the clips."""
    with runtime.start(device="cpu", threads=config.run.threads) as here, ExitStack() as at_end:
        run = build(config, here, at_end)
        log = RunLog(Path(config.run.out), here, config.run.log_every)
        log.begin(to_yaml(run.config), epoch=0, step=0, steps_per_epoch=run.loader.num_steps)
        at_end.callback(log.close)
        mixing = replace(run.config, mix=mix, clip=encoders.config.clip,
                         frontend=encoders.config.frontend,
                         data=replace(run.config.data, features=""))  # fmt: skip
        frontend = MixedWindows(encoders, windows_of(run.train, root, encoders))
        for epoch in range(config.optim.epochs):
            watch = train_one_epoch(
                run.network, frontend, run.optimizer, run.loader, mixing, here, log, epoch=epoch,
                first_step=0, meter=run.meter, save=lambda step: None,
            )  # fmt: skip
            log.epoch_done(epoch, watch, {})
            run.meter.epoch_done()
        run.save("last.pt", config.optim.epochs, 0, -1.0)
    return Path(config.run.out) / "last.pt"
