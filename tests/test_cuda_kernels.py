"""The Triton kernels without a GPU: run in the interpreter, and compiled for one (sm_90).

The interpreter checks what they compute, against float64 loops; the machine code of each variant
that is launched shows how: no spilled register, no barrier, 16 bytes per store.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from tests.kernel_cases import DTYPES, FRAMES, LAYOUTS, OTHERS

ROOT = Path(__file__).parents[1]

Mode = Literal["normalise", "mix", "box"]
MODES: tuple[Mode, ...] = ("normalise", "mix", "box")


@pytest.fixture(scope="module")
def wrong() -> dict[str, str]:
    """What is wrong with each case in the interpreter; warnings of Triton's own numpy are its."""
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "tests.kernel_cases"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.long
@pytest.mark.parametrize("name", [*FRAMES, *OTHERS, "divide"])
def test_in_the_interpreter(name: str, wrong: dict[str, str]) -> None:
    assert not wrong[name], wrong[name]


def test_a_cpu_is_refused_and_the_plain_function_named() -> None:
    kernels = pytest.importorskip("avmix.mix.cuda_kernels", exc_type=ImportError)
    video = torch.zeros(1, 1, 2, 2, 3, dtype=torch.uint8)
    partner, weight = torch.zeros(1, dtype=torch.int32), torch.ones(1)
    options: dict[str, Any] = {"scale": (1.0,) * 3, "shift": (0.0,) * 3, "dtype": torch.float32}
    with pytest.raises(ValueError, match=r"video is on cpu, .* cuda: use avmix\.mix\.blend"):
        kernels.mix_frames(video, partner, weight, None, channels_last=True, **options)


def test_clips_beyond_int32_are_refused() -> None:
    kernels = pytest.importorskip("avmix.mix.cuda_kernels", exc_type=ImportError)
    options: dict[str, Any] = {"scale": (1.0,) * 3, "shift": (0.0,) * 3, "dtype": torch.float32}
    video = torch.empty((1, 700, 1024, 1024, 3), dtype=torch.uint8, device="meta")
    limit = 2**31 - 2**26
    with pytest.raises(ValueError, match=rf"has {700 * 3 * 2**20} values, .* {limit} in one clip"):
        kernels.frames_launch(video, None, None, None, channels_last=True, **options)
    # The largest clips that pass: the last offset of the last program is still an int32.
    video = torch.empty((2, limit // 3 // 64, 8, 8, 3), dtype=torch.uint8, device="meta")
    for dtype in (torch.float32, torch.bfloat16):
        options["dtype"] = dtype
        launch = kernels.frames_launch(video, None, None, None, channels_last=True, **options)
        clips, columns, rest = launch.grid
        assert (clips, columns) == (2, 2**15)
        assert columns * rest * 128 * (16 // dtype.itemsize) <= 2**31
        assert columns * rest * 128 * (16 // dtype.itemsize) >= video[0].numel()
        assert rest < 2**16


@dataclass(frozen=True)
class Compiled:
    """What the compilers say of a kernel."""

    spilled_bytes: int
    shared_bytes: int
    access: Counter[str]
    """Instructions of PTX that touch memory or wait at a barrier, `st.global.v4.b32` and so on."""

    @property
    def stores(self) -> set[str]:
        return {name for name in self.access if name.startswith("st.global")}


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Compiled kernels of these tests are made here, not found in somebody's home."""
    triton = pytest.importorskip("triton")
    with triton.knobs.cache.scope():
        triton.knobs.cache.dir = str(tmp_path_factory.mktemp("triton"))
        yield


def compile_for_sm90(launch: Any, folder: Path) -> Compiled:
    """What `launch` would run, specialised on its arguments as Triton does at a real launch."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, make_backend
    from triton.runtime.jit import create_function_from_signature

    target, kernel = GPUTarget("cuda", 90, 32), launch.kernel
    backend = make_backend(target)
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    options = {"num_warps": launch.num_warps}
    bound, special, rest = bind(**launch.arguments, **options)
    _, signature, constants, known = kernel._pack_args(backend, options, bound, special, rest)
    source = ASTSource(kernel, signature, constants, known)
    compiled = triton.compile(source, target=target, options=options)
    ptx = folder / "kernel.ptx"
    ptx.write_text(compiled.asm["ptx"])
    ptxas = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    command = [ptxas, "-v", "--gpu-name", "sm_90a", ptx, "-o", ptx.with_suffix(".cubin")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = re.findall(r"(\d+) bytes spill (?:stores|loads)", said)
    assert len(spilled) == 2, said
    pattern = r"^\s*(?:@!?%p\d+ )?((?:ld|st)\.(?:global|shared|local)[\w.:]*|bar[.\w]*)"
    return Compiled(
        spilled_bytes=sum(map(int, spilled)),
        shared_bytes=compiled.metadata.shared,
        access=Counter(re.findall(pattern, ptx.read_text(), re.MULTILINE)),
    )


def frames_launch(size: tuple[int, int], mode: Mode, layout: str, dtype: str, kernels: Any) -> Any:
    video = torch.zeros(2, 2, *size, 3, dtype=torch.uint8)
    mixing = (
        torch.zeros(2, dtype=torch.int32),
        torch.ones(2),
        torch.zeros(2, 6, dtype=torch.int32),
    )
    given = {"normalise": 0, "mix": 2, "box": 3}[mode]
    return kernels.frames_launch(
        video,
        *(x if i < given else None for i, x in enumerate(mixing)),
        scale=(1.0, 1.0, 1.0),
        shift=(0.0, 0.0, 0.0),
        dtype=getattr(torch, dtype),
        channels_last=layout == "channels_last",
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_frames_compile_to_wide_stores_without_barriers(
    layout: str, dtype: str, mode: Mode, tmp_path: Path
) -> None:
    kernels = pytest.importorskip("avmix.mix.cuda_kernels", exc_type=ImportError)
    launch = frames_launch((8, 8), mode, layout, dtype, kernels)
    assert layout == "channels_last" or launch.arguments["WORDS"]
    code = compile_for_sm90(launch, tmp_path)
    assert code.spilled_bytes == code.shared_bytes == 0
    assert not any(name.startswith(("bar", "st.local", "ld.local")) for name in code.access)
    planes = 1 if layout == "channels_last" else 3
    assert code.stores == {"st.global.v4.b32"}
    assert code.access["st.global.v4.b32"] == planes
    # No byte is loaded alone: 8 of them at a time, or 4 where a store of 16 bytes holds 4 values.
    assert "ld.global.b8" not in code.access
    if layout == "channels_last" and dtype != "float32":
        assert code.access["ld.global.v2.b32"] == (1 if mode == "normalise" else 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(7, 7), (2, 6)], ids=["odd", "words_only"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_frames_of_other_sizes_compile_without_spills(
    layout: str, size: tuple[int, int], dtype: str, tmp_path: Path
) -> None:
    kernels = pytest.importorskip("avmix.mix.cuda_kernels", exc_type=ImportError)
    launch = frames_launch(size, "box", layout, dtype, kernels)
    assert launch.arguments.get("WORDS") in (None, size == (2, 6))
    assert compile_for_sm90(launch, tmp_path).spilled_bytes == 0


def test_words_are_read_only_where_they_are_aligned_and_end_with_the_clip() -> None:
    kernels = pytest.importorskip("avmix.mix.cuda_kernels", exc_type=ImportError)
    memory = torch.zeros(400, dtype=torch.uint8)

    def words(pixels: int, start: int, stride: int) -> bool:
        strides = (stride, 3 * pixels, 3 * pixels, 3, 1)
        video = memory.as_strided((2, 1, 1, pixels, 3), strides, start)
        launch = kernels.frames_launch(
            video, None, None, None, scale=(1.0,) * 3, shift=(0.0,) * 3,
            dtype=torch.float32, channels_last=False,
        )  # fmt: skip
        return launch.arguments["WORDS"]

    assert words(pixels=8, start=0, stride=24)
    assert words(pixels=8, start=4, stride=28)
    assert not words(pixels=8, start=2, stride=24)
    assert not words(pixels=8, start=0, stride=26)
    assert not words(pixels=6, start=0, stride=20)  # its last word would end beyond the clip
