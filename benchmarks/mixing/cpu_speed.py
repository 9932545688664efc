"""What mixing costs on a CPU, in this process, which has one thread and its own way of malloc.

    python -m mixing.cpu_speed '{"rounds": 3, ...}'     writes JSON; benchmarks/mix.py calls it

Candidates take turns, in another order in every round. What counts is CPU time of the process, user
and system: page faults, which fresh memory costs, are system time.
"""

import gc
import json
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from shared.rounds import rounds_in_turn
from torch import Tensor

from avmix.system import strict_json
from mixing.mixers import CANDIDATES, Inputs, Kind, Layout, Mixer, Task, make_inputs
from mixing.recovered_weights import (
    PIXEL_TOLERANCE,
    normalised,
    pixels_off,
    said,
    set_seeds,
    video_shares,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A batch and what is done with it."""

    kind: Kind
    batch: int
    num_frames: int
    side: int
    layout: Layout

    @property
    def name(self) -> str:
        """For example `mixup_16x3x16x112x112_decoded`."""
        size = f"{self.batch}x3x{self.num_frames}x{self.side}x{self.side}"
        return f"{self.kind}_{size}_{self.layout}"

    @property
    def num_elements(self) -> int:
        """Of the frames."""
        return self.batch * 3 * self.num_frames * self.side**2

    def inputs(self) -> Inputs:
        """Random ones."""
        return make_inputs(self.batch, self.num_frames, self.side, self.layout)


def load_mixers(names: Sequence[str], task: Task) -> dict[str, Mixer]:
    """Those of `names` that are for this task."""
    return {
        name: CANDIDATES[name].load(task) for name in names if task.kind in CANDIDATES[name].kinds
    }


def measure(
    load: Workload, names: Sequence[str], rounds: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """One row per round and candidate: milliseconds of CPU and wall time, page faults. And what
    those said that refused."""
    inputs, rows, refused = load.inputs(), [], {}
    mixers = load_mixers(names, Task(kind=load.kind))
    for name, mixer in list(mixers.items()):  # first calls load, compile and allocate
        try:
            mixer.stage(inputs)
            mixer.stage(inputs)  # a ring of two outputs needs two
        except Exception as error:  # any library may raise anything
            refused[name] = said(error)
            del mixers[name]
    for turn in rounds_in_turn(mixers, rounds, warm_up=0):
        gc.collect()
        for name in turn.order:
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            cpu, wall = time.process_time(), time.perf_counter()
            mixed = mixers[name].stage(inputs)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
            del mixed  # the next batch of a training loop comes when this one is gone
            rows.append({"workload": load.name, "round": turn.number, "candidate": name,
                         "cpu_ms": round(1e3 * cpu, 3), "wall_ms": round(1e3 * wall, 3),
                         "page_faults": faults})  # fmt: skip
    return rows, refused


def check_at_size(load: Workload, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Whether frames are what their label says at full size: the judge uses small clips."""
    inputs, found = load.inputs(), {}
    own = normalised(inputs.video, torch.float32)
    for name in names:
        if load.kind not in CANDIDATES[name].kinds or not CANDIDATES[name].judged:
            continue
        set_seeds(1)
        mixed = CANDIDATES[name].load(Task(kind=load.kind)).stage(inputs)
        off = pixels_off(mixed.video, own, video_shares(mixed, inputs), load.kind)
        found[name] = {"largest_error": float(f"{off:.2g}"), "right": off < PIXEL_TOLERANCE}
    return found


def peak_memory(load: Workload, names: Sequence[str]) -> dict[str, float]:
    """Most memory that torch holds at a time over three calls, the first ones, in units of the
    float clips: everything that the stage makes, its result and what it keeps too; not its inputs.
    """
    from torch.profiler import ProfilerActivity, profile

    inputs, found = load.inputs(), {}
    for name, mixer in load_mixers(names, Task(kind=load.kind)).items():
        with profile(
            activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True
        ) as profiler:
            for _ in range(3):
                mixed = mixer.stage(inputs)
                del mixed
        held = most = 0
        result: Any = profiler.profiler
        events = [e for e in result.kineto_results.events() if e.name() == "[memory]"]
        for event in sorted(events, key=lambda e: e.start_ns()):
            held += event.nbytes()
            most = max(most, held)
        found[name] = round(most / (4 * load.num_elements), 2)
    return found


def measure_step(config_path: str, rounds: int) -> dict[str, Any]:
    """What mixing adds to a training step of a configuration, on a random batch of its size.

    The stage with mixing: plan drawn, video and audio normalised and mixed, labels mixed. The
    stage without it: normalised. The rest: forward, losses, backward, step.
    """
    from torch import nn

    from avmix.config import TrainConfig, load_config
    from avmix.mix import clip_grids, draw_plan, mixed_targets
    from avmix.models import build_model
    from avmix.models.frontend import Frontend
    from avmix.rng import rng
    from avmix.training.engine import clips_of
    from avmix.training.losses import head_losses, objective, presence
    from avmix.training.optimizer import build_optimizer
    from avmix.types import Batch, Heads

    config = load_config(TrainConfig, ["--config", config_path])
    clip, size, num_classes = config.clip, config.optim.batch_size, 10
    num_samples = round(clip.duration_seconds * clip.sample_rate)
    there = torch.ones(size, dtype=torch.bool)
    batch = Batch(
        video=torch.randint(
            256, (size, clip.num_frames, clip.crop, clip.crop, 3), dtype=torch.uint8
        ),
        audio=torch.randn(size, num_samples),
        has_video=there, has_audio=there,
        target=nn.functional.one_hot(torch.arange(size) % num_classes, num_classes).float(),
        row=torch.arange(size), source=torch.arange(size),
    )  # fmt: skip
    grids = clip_grids(clip, config.frontend, config.mix.audio_domain)
    frontend = Frontend(config.frontend, clip.sample_rate, reuse_output=True)
    model = build_model(config.model, num_classes)
    optimizer = build_optimizer(model, config.optim)

    num_mixed = 0

    def stage(step: int, mixed: bool) -> tuple[Tensor, Tensor, Heads]:
        nonlocal num_mixed
        if not mixed:
            return *frontend(batch), Heads(batch.target, batch.target, batch.target)
        plan = draw_plan(
            config.mix, clips_of(batch), grids,
            shared=rng(0, 0, "mix_shared", step), own=rng(0, 0, "mix", step, 0),
        ).to(batch.video.device)  # fmt: skip
        num_mixed += plan.plan.mixes
        return *frontend(batch, plan), mixed_targets(plan, batch.target, config.mix.labels)

    def train(video: Tensor, audio: Tensor, target: Heads) -> None:
        logits = model(video, audio, there, there).logits
        losses = head_losses(logits, target, presence(there, there), config.loss.label_smoothing)
        objective(config.loss, losses, {}).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip_norm)
        optimizer.step()
        optimizer.zero_grad()

    ms: dict[str, list[float]] = {"with": [], "without": [], "step": []}
    for turn in rounds_in_turn(["with", "without"], rounds, warm_up=2):
        # Both ways meet the caches as a training step leaves them.
        for name in turn.order:
            began = time.process_time()
            made = stage(turn.number + 2, name == "with")
            done = time.process_time()
            train(*made)
            if turn.counts:
                ms[name].append(1e3 * (done - began))
                ms["step"].append(1e3 * (time.process_time() - done))
    extra = [a - b for a, b in zip(ms["with"], ms["without"], strict=True)]
    step_ms = statistics.median(ms["step"])
    return {
        "config": config_path,
        "method": config.mix.method,
        "stage_with_ms": round(statistics.median(ms["with"]), 3),
        "stage_without_ms": round(statistics.median(ms["without"]), 3),
        "extra_ms": round(statistics.median(extra), 3),
        "rest_of_step_ms": round(step_ms, 2),
        "extra_percent": round(100 * statistics.median(extra) / step_ms, 3),
        "rounds": rounds,
        "num_mixed": num_mixed,
    }


def main() -> None:
    """Do what the first argument says."""
    options = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    if options["keep_pages"]:
        # More than any candidate holds at a time: from here on no page is fresh.
        torch.empty(options["grow_bytes"], dtype=torch.uint8).fill_(1)
    rows, refused, checks, memory = [], {}, {}, {}
    for number, fields in enumerate(options["workloads"]):
        load, names = Workload(**fields), options["candidates"]
        began = time.monotonic()
        found, refused[load.name] = measure(load, names, options["rounds"])
        rows += found
        if options["check"]:
            able = [name for name in names if name not in refused[load.name]]
            checks[load.name] = check_at_size(load, able)
            memory[load.name] = peak_memory(load, able)
        text = f"{load.name}, {number + 1} of {len(options['workloads'])}"
        print(f"{text}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    found = {"rows": rows, "refused": refused, "checks": checks, "memory": memory}
    if options["step_config"]:
        found["step"] = measure_step(options["step_config"], options["step_rounds"])
    sys.stdout.write(strict_json.dumps(found))


if __name__ == "__main__":
    main()
