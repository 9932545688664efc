"""What mixing costs on a CUDA device: time, launches, memory, waiting; beside plain copying.

Frames come as decoded, (b t h w c), and leave in the same order (channels_last_3d) as float32 or
bfloat16. Candidates take turns; every call has other inputs than the one before, none of which is
in the cache. `device_ms` is the time on the device when its queue is full, as in training;
`wall_ms` is one call with an empty queue, everything that Python does included.
"""

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from shared.rounds import rounds_in_turn
from torch import Tensor

from mixing.mixers import CANDIDATES, Inputs, Mixer, Task, make_inputs
from mixing.recovered_weights import normalised, pixels_off, said, set_seeds, video_shares

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_NUM_INPUTS = 3
_SLEEP_CYCLES = 40_000_000
"""Of the device, about 20 ms: longer than any candidate takes to queue its work."""


def measure_cuda(
    names: Sequence[str], *, batch: int, num_frames: int, side: int, rounds: int
) -> dict[str, Any]:
    """All candidates, in both types, on the current device."""
    inputs = [
        make_inputs(batch, num_frames, side, "decoded", device="cuda", seed=seed)
        for seed in range(_NUM_INPUTS)
    ]
    num_elements = inputs[0].video.numel()
    bandwidth = copy_bandwidth(num_elements, rounds)
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "workload": f"mixup_{batch}x3x{num_frames}x{side}x{side}_decoded",
        "copy_gb_per_second": round(bandwidth / 1e9, 1),
        "rounds": rounds,
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda},
    }
    for dtype_name, dtype in DTYPES.items():
        task = Task(dtype=dtype, channels_last=True)
        mixers, rows = {}, {}
        for name in names:
            if task.kind not in CANDIDATES[name].kinds:
                continue
            try:
                mixer = CANDIDATES[name].load(task)
                rows[name] = examine(mixer, inputs[0], judged=CANDIDATES[name].judged)
                mixers[name] = mixer
            except Exception as error:  # any library may raise anything
                rows[name] = {"error": said(error)}
        needed = num_elements * (1 + dtype.itemsize)
        for name, (device_ms, wall_ms) in time_all(mixers, inputs, rounds).items():
            rows[name] |= {
                "device_ms": round(device_ms, 4),
                "wall_ms": round(wall_ms, 4),
                # Of the time, how much copying the bytes that are always needed would take.
                "share_of_copy_bandwidth": round(1e3 * needed / bandwidth / device_ms, 4),
            }
        found[dtype_name] = {name: rows[name] for name in names if name in rows}
    return found


def copy_bandwidth(num_elements: int, rounds: int) -> float:
    """Bytes per second, read and written, of copying float32 within the device."""
    source = torch.empty(num_elements, device="cuda").normal_()
    target = torch.empty_like(source)
    ms = [_device_ms(lambda: target.copy_(source)) for _ in range(rounds + 1)]
    return 2 * source.nbytes / (statistics.median(ms[1:]) / 1e3)


def time_all(
    mixers: dict[str, Mixer], inputs: Sequence[Inputs], rounds: int
) -> dict[str, tuple[float, float]]:
    """Median milliseconds of each, on the device and on the wall."""
    device: dict[str, list[float]] = {name: [] for name in mixers}
    wall: dict[str, list[float]] = {name: [] for name in mixers}
    for turn in rounds_in_turn(mixers, rounds, warm_up=0):
        for place, name in enumerate(turn.order):
            mixer, one = mixers[name], inputs[(turn.number + place) % len(inputs)]
            device[name].append(_device_ms(lambda m=mixer, i=one: m.stage(i)))
            torch.cuda.synchronize()
            began = time.perf_counter()
            mixer.stage(one)
            torch.cuda.synchronize()
            wall[name].append(1e3 * (time.perf_counter() - began))
    return {
        name: (statistics.median(device[name]), statistics.median(wall[name])) for name in mixers
    }


def examine(mixer: Mixer, inputs: Inputs, *, judged: bool) -> dict[str, Any]:
    """Errors, memory, launches and waiting of one call, after a first one that compiles."""
    mixer.stage(inputs)
    found: dict[str, Any] = {}
    if judged:
        set_seeds(1)
        audio = inputs.audio.clone()
        mixed = mixer.stage(inputs)
        inputs.audio.copy_(audio)  # some mix it in place
        own = normalised(inputs.video, torch.float32)
        off = pixels_off(mixed.video, own, video_shares(mixed, inputs), "mixup")
        found["largest_error"] = float(f"{off:.2g}")
        del mixed, own
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    mixer.stage(inputs)
    torch.cuda.synchronize()
    found["peak_mib"] = round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
    found["num_launches"] = count_launches(lambda: mixer.stage(inputs))
    found["num_syncs"] = count_syncs(lambda: mixer.stage(inputs))
    return found


def count_launches(call: Callable[[], Any]) -> int:
    """Kernels and copies that the device runs for one call."""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities, acc_events=True) as profiler:
        call()
        torch.cuda.synchronize()
    events = profiler.events() or []
    return sum(str(event.device_type).endswith("CUDA") for event in events)


def count_syncs(call: Callable[[], Any]) -> int:
    """How often one call waits for the device, as far as torch can tell."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def _device_ms(call: Callable[[], Any]) -> float:
    """Time on the device, whose queue is kept busy until everything of the call is in it."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    torch.cuda._sleep(_SLEEP_CYCLES)
    start.record()
    made: Tensor | Any = call()
    stop.record()
    stop.synchronize()
    del made
    return start.elapsed_time(stop)
