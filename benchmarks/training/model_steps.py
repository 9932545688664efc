"""Time and memory of a training step of one network, avmix's and a plain loop's in turns.

`python -m training.model_steps '{"case": ...}'`, which benchmarks/models.py calls, prints JSON. A
process measures the times of one network, or the memory of one arm.

avmix's step is `train_one_epoch` itself: plan, front end, mixing, network, three heads, losses,
norms of the gradient and their clipping, update, log. The plain loop has the steps of the reference
recipes of torchvision and timm: network, cross-entropy, gradient, update, on frames and
spectrograms that are on the device already, normalised; `from bytes` normalises frames and computes
spectrograms, too, as those recipes do.
"""

import copy
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from shared.rounds import rounds_in_turn
from torch import Tensor, nn

from avmix.config import TrainConfig
from avmix.data.loader import BadClips, EpochSampler, TrainLoader
from avmix.data.sample import Loaded, Place
from avmix.mix import clip_grids, draw_plan
from avmix.models import LateFusionClassifier, build_model
from avmix.models.frontend import Frontend
from avmix.rng import rng
from avmix.system import strict_json
from avmix.training import chance_level, runtime
from avmix.training.chance_level import ChanceMeter
from avmix.training.engine import clips_of, train_one_epoch
from avmix.training.optimizer import build_optimizer
from avmix.training.runlog import RunLog
from avmix.training.runtime import Runtime
from avmix.types import Batch
from training.model_cases import CASES, CLASSES, Plain, Prepared, config_of

ARMS = ("plain", "avmix")
"""Whose memory is measured; of times there is `from bytes`, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is measured."""

    case: str
    """One of `CASES`."""
    quick: bool = False
    device: str = "cpu"
    precision: str = "fp32"
    compile: bool = False
    threads: int = 1
    rounds: int = 0
    """In which the arms take turns."""
    memory_of: str = ""
    """One of `ARMS`: measure its memory in place of times."""


class Same:
    """`BatchSource` that gives one batch again and again."""

    def __init__(self, batch: Batch) -> None:
        """The batch."""
        self._batch = batch

    def read(self, batches: Iterable[Sequence[Place]], epoch: int | None) -> Iterator[Loaded]:
        """As `BatchSource`."""
        return (Loaded(self._batch, ()) for _ in batches)

    def close(self) -> None:
        """Nothing is open."""


class Bench:
    """Both arms of a task."""

    def __init__(self, task: Task, here: Runtime, folder: Path) -> None:
        """Builds the network, and the arm that is measured, or both."""
        case = CASES[task.case]
        self.task, self.here, self.steps = task, here, case.steps
        more = ("optim.epochs=100000", f"optim.batch_size={case.batch}",
                f"run.precision={task.precision}")  # fmt: skip
        quick = case.quick if task.quick else ()
        self.config = config_of(case, folder, *quick, *more)
        torch.manual_seed(0)
        self.batch = batch_of(self.config, case.batch)
        model = build_model(self.config.model, CLASSES, clip=self.config.clip,
                            frontend=self.config.frontend).to(here.device)  # fmt: skip
        self.frontend = Frontend(self.config.frontend, self.config.clip.sample_rate, model.pixels,
                                 reuse_output=True).to(here.device)  # fmt: skip
        self.parameters = sum(p.numel() for p in model.parameters())
        self.arms: dict[str, Callable[[], None]] = {}
        with torch.no_grad():
            given = [x.clone() for x in self.frontend(self.batch.to(here.device))]
        if task.memory_of != "avmix":
            self._add_plain(model if task.memory_of else copy.deepcopy(model), model, given)
        self.log = RunLog(folder / "run", here, self.config.run.log_every)
        if task.memory_of != "plain":
            self.arms["avmix"] = self._avmix(model)

    def _add_plain(
        self, theirs: LateFusionClassifier, ours: LateFusionClassifier, given: Sequence[Tensor]
    ) -> None:
        """The arms of the plain loop, with the encoders of `theirs`."""
        device, optim = self.here.device, self.config.optim
        network = Plain(theirs).to(device)
        prepared = Prepared(self.config, ours.pixels).to(device)
        bytes_given = self.batch.video.to(device), self.batch.audio.to(device)
        check_same(ours, network, prepared, given, bytes_given)
        loss_fn = nn.CrossEntropyLoss(label_smoothing=self.config.loss.label_smoothing)
        label = self.batch.target.argmax(1).to(device)
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=optim.lr, weight_decay=optim.weight_decay
        )
        network.train()
        if self.task.compile:
            network.compile()

        def steps(inputs: Callable[[], Sequence[Tensor]]) -> None:
            for _ in range(self.steps):
                x = inputs()
                with self.here.autocast(self.config.run.precision):
                    loss = loss_fn(network(*x).float(), label)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            loss.item()

        self.arms["plain"] = lambda: steps(lambda: given)
        if not self.task.memory_of:
            self.arms["from bytes"] = lambda: steps(lambda: prepared(*bytes_given))

    def _avmix(self, model: LateFusionClassifier) -> Callable[[], None]:
        config, here, log, steps = self.config, self.here, self.log, self.steps
        size = self.batch.size
        loader = TrainLoader(source=Same(self.batch), sampler=EpochSampler(size * steps, size),
                             bad=BadClips(size, 0.0), paths=[""] * size)  # fmt: skip
        optimizer = build_optimizer(model, config.optim, config.model)
        log.begin("", epoch=0, step=0, steps_per_epoch=steps)
        history = chance_level.initial_history(CLASSES)
        meter = ChanceMeter(history, config.loss, CLASSES, here.device)
        if self.task.compile:
            model.compile()
        epoch = 0

        def run() -> None:
            nonlocal epoch
            train_one_epoch(
                model, self.frontend, optimizer, loader, config, here, log, epoch=epoch,
                first_step=0, save=lambda _: None, meter=meter,
            )  # fmt: skip
            epoch += 1

        return run

    def given_to_the_network(self) -> None:
        """Plan, front end and mixing alone, as often as a round has steps."""
        grids = clip_grids(self.config.clip, self.config.frontend, self.config.mix.audio_domain)
        for step in range(self.steps):
            plan = draw_plan(
                self.config.mix, clips_of(self.batch), grids,
                shared=rng(0, 0, "mix_shared", step), own=rng(0, 0, "mix", step, 0),
            )  # fmt: skip
            with torch.no_grad():
                self.frontend(self.batch.to(self.here.device), plan.to(self.here.device))


def batch_of(config: TrainConfig, size: int) -> Batch:
    """Noise; every clip of another source, so that all are mixed."""
    clip = config.clip
    draw = torch.Generator().manual_seed(0)
    there = torch.ones(size, dtype=torch.bool)
    wave = (size, round(clip.duration_seconds * clip.sample_rate))
    shape = (size, clip.num_frames, clip.crop, clip.crop, 3)
    return Batch(
        video=torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw),
        audio=0.1 * torch.randn(wave, generator=draw), has_video=there, has_audio=there.clone(),
        target=nn.functional.one_hot(torch.arange(size) % CLASSES, CLASSES).float(),
        row=torch.arange(size), source=torch.arange(size),
    )  # fmt: skip


@torch.no_grad()
def check_same(
    model: LateFusionClassifier,
    plain: Plain,
    prepared: Prepared,
    given: Sequence[Tensor],
    bytes_given: Sequence[Tensor],
) -> None:
    """Raises RuntimeError where the arms are not of one network, or are given other clips."""
    ours, theirs = model.eval().encode(*given), plain.eval().features(*given)
    if not all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)):
        raise RuntimeError("the plain loop does not run the same network")
    for a, b in zip(given, prepared(*bytes_given), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def times(bench: Bench, task: Task) -> dict[str, Any]:
    """Milliseconds of a step by arm and round: CPU time of all threads on a CPU, else wall time."""
    on_cpu = bench.here.device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    ways = {**bench.arms, "input": bench.given_to_the_network}
    ms: dict[str, list[float]] = {name: [] for name in ways}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    for turn in rounds_in_turn(ways, task.rounds, warm_up=2):
        for name in turn.order:
            if not on_cpu:
                torch.cuda.synchronize()
            began, began_wall = clock(), time.perf_counter()
            ways[name]()
            if not on_cpu:
                torch.cuda.synchronize()
            if turn.counts:
                ms[name].append(round(1e3 * (clock() - began) / bench.steps, 3))
                wall[name].append(round(1e3 * (time.perf_counter() - began_wall) / bench.steps, 3))
    return {"ms": ms, "wall_ms": {name: round(statistics.median(x), 3) for name, x in wall.items()}}


def memory(bench: Bench, before: int) -> dict[str, Any]:
    """Largest number of bytes that three rounds of the arm add to what was there before it."""
    (arm,) = bench.arms.values()
    for _ in range(3):
        arm()
    if bench.here.device.type == "cuda":
        return {"bytes": torch.cuda.max_memory_allocated()}
    return {"bytes": peak_bytes() - before}


def peak_bytes() -> int:
    """Of this process so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Do what the first argument says."""
    task = Task(**json.loads(sys.argv[1]))
    with ExitStack() as at_end:
        folder = Path(at_end.enter_context(TemporaryDirectory()))
        here = at_end.enter_context(runtime.start(device=task.device, threads=task.threads))
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        before = peak_bytes()
        bench = Bench(task, here, folder)
        at_end.callback(bench.log.close)
        found = memory(bench, before) if task.memory_of else times(bench, task)
        found |= {
            "parameters": bench.parameters,
            "steps": bench.steps,
            "clip": clip_of(bench.config),
        }
    sys.stdout.write(strict_json.dumps(found))


def clip_of(config: TrainConfig) -> dict[str, Any]:
    """What the tables say of clips."""
    clip = config.clip
    return {"num_frames": clip.num_frames, "crop": clip.crop, "seconds": clip.duration_seconds}


if __name__ == "__main__":
    main()
