"""The Triton kernels on a GPU: right, in one launch, in the memory of the result, never waiting."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.kernel_cases import (
    FRAMES,
    HARDWARE,
    OTHERS,
    check_frames,
)

pytestmark = pytest.mark.needs_cuda


@pytest.mark.parametrize("name", FRAMES)
def test_frames(name: str) -> None:
    check_frames(FRAMES[name], "cuda", HARDWARE)


# Tests run with checked signatures, which refuse a wrong dtype or rank before the function does.
@pytest.mark.parametrize("name", [name for name in OTHERS if name != "errors"])
def test_the_rest(name: str) -> None:
    OTHERS[name]("cuda")


def test_results_beyond_2_to_the_31_are_written() -> None:
    from avmix.mix.cuda_kernels import mix_frames

    rows, size = 700, (8, 400, 400)
    need = rows * 3 * 8 * 400 * 400 * 3 + 2**30
    if torch.cuda.mem_get_info()[0] < need:
        pytest.skip(
            f"results beyond 2**31 elements were not tested: they need {need / 2**30:.0f} GiB "
            "of free GPU memory"
        )
    video = torch.zeros(rows, *size, 3, dtype=torch.uint8, device="cuda")
    video[-1], video[1] = 100, 200
    partner = torch.ones(rows, dtype=torch.int32, device="cuda")
    weight = torch.full((rows,), 0.5, device="cuda")
    for channels_last in (True, False):
        out = mix_frames(video, partner, weight, None, scale=(1.0, 2.0, 3.0),
                         shift=(0.0, 0.0, 0.0), dtype=torch.bfloat16,
                         channels_last=channels_last)  # fmt: skip
        assert out.numel() > 2**31
        for row, value in ((0, 100), (1, 200), (rows - 1, 150)):
            for colour in range(3):
                plane = out[row, colour]
                expected = torch.tensor(value * (colour + 1.0), dtype=torch.bfloat16).item()
                assert plane.min().item() == plane.max().item() == expected
        del out


Call = Callable[[], Tensor]


def _frames_call(channels_last: bool, dtype: torch.dtype) -> Call:
    from avmix.mix.cuda_kernels import mix_frames

    video = torch.randint(0, 256, (8, 8, 112, 112, 3), dtype=torch.uint8, device="cuda")
    partner = torch.arange(7, -1, -1, dtype=torch.int32, device="cuda")
    weight = torch.rand(8, device="cuda")
    box = torch.tensor([[0, 8, 20, 90, 10, 100]] * 8, dtype=torch.int32, device="cuda")
    options: dict[str, Any] = {"dtype": dtype, "channels_last": channels_last}
    options |= {"scale": (0.01, 0.02, 0.03), "shift": (0.1, 0.2, 0.3)}
    return lambda: mix_frames(video, partner, weight, box, **options)


CALLS: dict[str, Callable[[], Call]] = {
    "channels_last-bfloat16": partial(_frames_call, True, torch.bfloat16),
    "channels_last-float32": partial(_frames_call, True, torch.float32),
    "contiguous-bfloat16": partial(_frames_call, False, torch.bfloat16),
    "contiguous-float32": partial(_frames_call, False, torch.float32),
}


@pytest.fixture(params=CALLS)
def call(request: pytest.FixtureRequest) -> Call:
    """A call whose kernel is compiled and loaded."""
    prepared = CALLS[request.param]()
    prepared()
    torch.cuda.synchronize()
    return prepared


def test_nothing_waits_for_the_device(call: Call) -> None:
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode(before)


def test_memory_is_that_of_the_result(call: Call) -> None:
    def requested(what: str) -> int:
        return torch.cuda.memory_stats()[f"requested_bytes.all.{what}"]

    torch.cuda.reset_peak_memory_stats()
    before = requested("current")
    out = call()
    assert requested("peak") - before == out.nbytes


def test_a_call_is_one_launch(call: Call) -> None:
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        call()
        torch.cuda.synchronize()
    events = profile.events() or ()
    on_device = [event.name for event in events if event.device_type.name == "CUDA"]
    assert len(on_device) == 1, on_device
    assert on_device[0].startswith("_frames_")


def test_unmixed_clips_cost_no_exactness_beside_mixed_ones() -> None:
    """In one batch: rows of weight 1 and of an empty box are to the bit what they are alone."""
    from avmix.mix.cuda_kernels import mix_frames

    video = torch.randint(0, 256, (4, 8, 112, 112, 3), dtype=torch.uint8, device="cuda")
    partner = torch.tensor([1, 0, 3, 2], dtype=torch.int32, device="cuda")
    weight = torch.tensor([1.0, 0.3, 0.4, 0.0], device="cuda")
    full, empty = [0, 8, 0, 112, 0, 112], [3, 3, 0, 112, 0, 112]
    box = torch.tensor([full, full, empty, full], dtype=torch.int32, device="cuda")
    options: dict[str, Any] = {"scale": (0.01, 0.02, 0.03), "shift": (-1.0, -2.0, -3.0)}
    for dtype in (torch.float32, torch.bfloat16):
        for channels_last in (True, False):
            options |= {"dtype": dtype, "channels_last": channels_last}
            plain = mix_frames(video, None, None, None, **options)
            mixed = mix_frames(video, partner, weight, box, **options)
            assert torch.equal(mixed[0], plain[0])
            assert not torch.equal(mixed[1], plain[1])
            assert torch.equal(mixed[2:], plain[[2, 2]])
