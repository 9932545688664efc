"""Would a C++ kernel for mixing pay on the CPU? No: it is not shipped.

    python benchmarks/cpp_mix.py        writes benchmarks/results/cpp_mix.json

Decided by the numbers in that file: the kernel takes a fifth to a half of the time of `mix_frames`,
but `mix_frames` is already 0.8 to 0.9 % of a training step of the demo's small network. The kernel
would make that step 0.6 to 0.7 % shorter, and would ask for a compiler on every machine.

The kernel below needs a compiler where it runs (g++, ninja). It does what
`avmix.mix.cpu_kernels.mix_frames` does without boxes, for frames as they are decoded, once with
ordinary stores and once with stores that go past the caches. Both are held against float64 before
anything is timed. One thread; CPU time, user and system (page faults are system time); candidates
take turns, in another order every round; the median of the rounds. malloc as it is, and made to
keep freed pages. Frames only, as labels are nothing beside them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared import machine, provenance, result_files
from shared.medians import median
from shared.paths import RESULTS, ROOT
from shared.processes import ONE_THREAD
from shared.rounds import rounds_in_turn

from avmix.system import strict_json

KEPT_PAGES = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
}
"""glibc then never gives freed memory back, and no page is fresh twice."""

SIZES = {"16x3x16x112x112": (16, 16, 112, 112), "16x3x8x64x64": (16, 8, 64, 64)}
"""Clips, frames, rows, columns; the second is the batch of the demo, beside its training step."""
STEP_SIZE = "16x3x8x64x64"

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALE = (1 / (255 * STD[0]), 1 / (255 * STD[1]), 1 / (255 * STD[2]))
SHIFT = (-MEAN[0] / STD[0], -MEAN[1] / STD[1], -MEAN[2] / STD[2])

SOURCE = r"""
#include <immintrin.h>
#include <cstring>
#include <vector>

constexpr int64_t kBlock = 1024;  // pixels: three planes of floats stay in the L1 cache

static void put(float* to, const float* from, int64_t count, bool past_caches) {
  if (past_caches && reinterpret_cast<uintptr_t>(to) % 32 == 0 && count % 8 == 0) {
    for (int64_t k = 0; k < count; k += 8) _mm256_stream_ps(to + k, _mm256_load_ps(from + k));
  } else {
    std::memcpy(to, from, count * sizeof(float));
  }
}

void mix_frames(const torch::Tensor& video, const std::vector<int64_t>& partner,
                const std::vector<double>& weight, const std::vector<double>& scale,
                const std::vector<double>& shift, torch::Tensor out, bool past_caches) {
  const int64_t size = out[0][0].numel();
  const uint8_t* bytes = video.const_data_ptr<uint8_t>();
  const float s0 = scale[0], s1 = scale[1], s2 = scale[2];
  const float t0 = shift[0], t1 = shift[1], t2 = shift[2];
  for (size_t i = 0; i < partner.size(); ++i) {
    const uint8_t* own = bytes + i * 3 * size;
    const uint8_t* other = bytes + partner[i] * 3 * size;
    float* planes = out.data_ptr<float>() + i * 3 * size;
    const float w = weight[i], v = 1 - weight[i];
    for (int64_t begin = 0; begin < size; begin += kBlock) {
      const int64_t count = std::min(kBlock, size - begin);
      alignas(64) float r[kBlock], g[kBlock], b[kBlock];
      const uint8_t* x = own + 3 * begin;
      const uint8_t* y = other + 3 * begin;
      for (int64_t p = 0; p < count; ++p) {
        r[p] = (w * x[3 * p] + v * y[3 * p]) * s0 + t0;
        g[p] = (w * x[3 * p + 1] + v * y[3 * p + 1]) * s1 + t1;
        b[p] = (w * x[3 * p + 2] + v * y[3 * p + 2]) * s2 + t2;
      }
      put(planes + begin, r, count, past_caches);
      put(planes + size + begin, g, count, past_caches);
      put(planes + 2 * size + begin, b, count, past_caches);
    }
  }
  if (past_caches) _mm_sfence();
}
"""


def build(folder: Path) -> Any:
    """The module of the kernel, compiled in `folder` unless it is there."""
    from torch.utils.cpp_extension import load_inline

    return load_inline(
        name="cpp_mix",
        cpp_sources=SOURCE,
        functions=["mix_frames"],
        extra_cflags=["-O3", "-march=native"],
        build_directory=str(folder),
    )


def candidates(module: Any, sizes: tuple[int, int, int, int]) -> dict[str, Callable[[], Any]]:
    """By name; all but the floors and the unmixed one mix clip i with clip -1 - i."""
    import torch

    from avmix.mix.cpu_kernels import mix_frames

    b, t, h, w = sizes
    video = torch.randint(0, 256, (b, t, h, w, 3), dtype=torch.uint8)
    planar = video.permute(0, 4, 1, 2, 3).contiguous()
    as_decoded = planar.permute(0, 2, 3, 4, 1)
    warm = torch.zeros(b, 3, t, h, w)
    lam = 0.3
    partner, weight = list(range(b - 1, -1, -1)), [lam] * b
    mean = torch.tensor(MEAN).mul(255).view(1, 3, 1, 1, 1)
    std = torch.tensor(STD).mul(255).view(1, 3, 1, 1, 1)

    def peer(frames: torch.Tensor) -> torch.Tensor:
        """timm's loader, then its Mixup of mode batch."""
        x = frames.float().sub_(mean).div_(std)
        flipped = x.flip(0).mul_(1 - lam)
        return x.mul_(lam).add_(flipped)

    def eager(frames: torch.Tensor, out: torch.Tensor | None = warm) -> torch.Tensor:
        return mix_frames(frames, partner, weight, None, scale=SCALE, shift=SHIFT, out=out)

    def compiled(past_caches: bool, fresh: bool = False) -> torch.Tensor:
        out = torch.empty_like(warm) if fresh else warm
        module.mix_frames(video, partner, weight, SCALE, SHIFT, out, past_caches)
        return out

    return {
        "floor: out.copy_(planar bytes)": lambda: warm.copy_(planar),
        "out.copy_(bytes as decoded)": lambda: warm.copy_(video.permute(0, 4, 1, 2, 3)),
        "timm, planar": lambda: peer(planar),
        "timm, as decoded": lambda: peer(video.permute(0, 4, 1, 2, 3).contiguous()),
        "mix_frames, planar": lambda: eager(as_decoded),
        "mix_frames, as decoded": lambda: eager(video),
        "mix_frames, as decoded, fresh out": lambda: eager(video, None),
        "mix_frames, as decoded, unmixed": lambda: mix_frames(
            video, None, None, None, scale=SCALE, shift=SHIFT, out=warm
        ),
        "C++, as decoded": lambda: compiled(False),
        "C++ past caches, as decoded": lambda: compiled(True),
        "C++, as decoded, fresh out": lambda: compiled(False, fresh=True),
    }


def training_step() -> Callable[[], Any]:
    """Forward and backward of the demo's network on 16 clips of 8x64x64 and their log-mels."""
    import torch

    from avmix.config import AudioEncoderConfig, ModelConfig, VideoEncoderConfig
    from avmix.models import build_model

    config = ModelConfig(
        video=VideoEncoderConfig(channels=[8, 16, 32, 64]),
        audio=AudioEncoderConfig(channels=[8, 16, 32, 64]),
    )
    model = build_model(config, 10)
    video, audio = torch.randn(16, 3, 8, 64, 64), torch.randn(16, 1, 64, 124)
    present = torch.ones(16, dtype=torch.bool)

    def step() -> None:
        for parameter in model.parameters():
            parameter.grad = None
        logits = model(video, audio, present, present).logits
        (logits.fused.logsumexp(1) + logits.video.sum(1) + logits.audio.sum(1)).sum().backward()

    return step


def check(module: Any) -> dict[str, float]:
    """Largest error against float64, of odd sizes and a map of partners without mutual pairs.

    Raises AssertionError where one is not rounding.
    """
    import torch

    from avmix.mix.cpu_kernels import mix_frames

    partner, weight = [3, 0, 0, 4, 4], [0.3, 1.0, 0.0, 0.5, 0.9]
    found = {}
    for sizes in ((3, 21, 37), (2, 32, 64)):
        video = torch.randint(0, 256, (5, *sizes, 3), dtype=torch.uint8)
        mean, std = torch.tensor([MEAN, STD], dtype=torch.float64)
        frames = ((video.double() / 255 - mean) / std).permute(0, 4, 1, 2, 3)
        own = torch.tensor(weight, dtype=torch.float64).view(-1, 1, 1, 1, 1)
        truth = own * frames + (1 - own) * frames[partner]
        out = torch.full((5, 3, *sizes), float("nan"))
        for name in ("C++", "C++ past caches"):
            module.mix_frames(video, partner, weight, SCALE, SHIFT, out, "past" in name)
            found[name] = max(found.get(name, 0.0), float((out - truth).abs().max()))
        eager = mix_frames(video, partner, weight, None, scale=SCALE, shift=SHIFT, out=out.fill_(0))
        error = float((eager - truth).abs().max())
        found["mix_frames"] = max(found.get("mix_frames", 0.0), error)
    assert max(found.values()) < 1e-6, found
    return found


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Median milliseconds of CPU time by size and candidate, in this process and its malloc."""
    import torch

    torch.set_num_threads(1)
    module = build(folder)
    result: dict[str, Any] = {"largest_errors": check(module), "milliseconds": {}}
    for name, sizes in SIZES.items():
        stages = candidates(module, sizes)
        if name == STEP_SIZE:
            stages["training step"] = training_step()
        times: dict[str, list[float]] = {stage: [] for stage in stages}
        for turn in rounds_in_turn(sorted(stages), rounds, warm_up=2):
            for stage in turn.order:
                began = time.process_time()
                made = stages[stage]()
                seconds = time.process_time() - began
                del made
                if turn.counts:
                    times[stage].append(1e3 * seconds)
        result["milliseconds"][name] = {stage: median(times[stage]) for stage in stages}
    return result


def ratios(milliseconds: dict[str, dict[str, float]]) -> dict[str, Any]:
    """What the decision is made from."""
    found: dict[str, Any] = {}
    for size, ms in milliseconds.items():
        floor = ms["floor: out.copy_(planar bytes)"]
        found[size] = {
            "timm over mix_frames, as decoded": ms["timm, as decoded"]
            / ms["mix_frames, as decoded"],
            "timm over mix_frames, planar": ms["timm, planar"] / ms["mix_frames, planar"],
            "timm over C++ past caches, as decoded": ms["timm, as decoded"]
            / ms["C++ past caches, as decoded"],
            "mix_frames over C++, as decoded": ms["mix_frames, as decoded"] / ms["C++, as decoded"],
            "mix_frames over C++ past caches, as decoded": ms["mix_frames, as decoded"]
            / ms["C++ past caches, as decoded"],
            "mix_frames over floor, as decoded": ms["mix_frames, as decoded"] / floor,
            "mix_frames over floor, planar": ms["mix_frames, planar"] / floor,
            "C++ past caches over floor": ms["C++ past caches, as decoded"] / floor,
        }
        if "training step" in ms:
            for stage in ("timm, as decoded", "mix_frames, as decoded", "C++, as decoded"):
                found[size][f"% of a training step: {stage}"] = (
                    100 * ms[stage] / ms["training step"]
                )
        found[size] = {name: round(value, 2) for name, value in found[size].items()}
    return found


def environment(build_seconds: float) -> dict[str, Any]:
    """What the numbers depend on."""
    import torch

    compiler = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True)
    return machine.facts(["torch"]) | {
        "cpu_capability_of_torch": torch.backends.cpu.get_cpu_capability(),
        "compiler": compiler.stdout.splitlines()[0],
        "build_seconds": round(build_seconds, 1),
    }


def main() -> None:
    """Measure with both kinds of malloc, each in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=41, help="of every candidate")
    parser.add_argument("--out", type=Path, default=RESULTS / "cpp_mix.json", help="JSON")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    provenance.add_option(parser)
    args = parser.parse_args()
    if args.measure:
        print(strict_json.dumps(measure(args.measure, args.rounds)))
        return
    origin = provenance.measured(args, "cpp_mix")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        build(Path(folder))
        result: dict[str, Any] = {
            "kind": "cpp_mix",
            "command": f"python benchmarks/cpp_mix.py --rounds {args.rounds}",
            "measured": origin,
            "environment": environment(time.perf_counter() - began),
            "unit": "milliseconds of CPU time, median of the rounds, one thread",
            "malloc": {},
        }
        for malloc, variables in (("default", {}), ("kept pages", KEPT_PAGES)):
            done = subprocess.run(
                [sys.executable, __file__, "--measure", folder, "--rounds", str(args.rounds)],
                env={**os.environ, **ONE_THREAD, **variables},
                cwd=ROOT,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise SystemExit(f"malloc {malloc}: {done.stderr}")
            measured = json.loads(done.stdout.splitlines()[-1])
            result["malloc"][malloc] = {**measured, "ratios": ratios(measured["milliseconds"])}
    result["load_average_at_the_end"] = machine.load_average()
    result_files.write(args.out, result)
    print(result_files.text_of(result["malloc"]))


if __name__ == "__main__":
    main()
