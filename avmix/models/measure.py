"""What a network costs: parameters of each part, shapes, operations and memory of each stage, time.

Operations are those of matrix products, convolutions and attention, as torch counts them: a
multiplication and an addition are two. The front end is not counted.
"""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from avmix.config import ClipConfig, FrontendConfig, MixConfig
from avmix.config.mix_method import parse_mix_method
from avmix.mix.clip_grid import input_shapes
from avmix.models.classifier import LateFusionClassifier
from avmix.models.hidden import Joint, tensors_of

PARTS = ("video", "audio", "joint", "to_shared", "fusion")
"""Of a `LateFusionClassifier`, by attribute; it has `video` and `audio`, or `joint`."""
_CLIPS, _REPEATS = 4, 5
"""Of what is timed: clips of a batch, and batches, of which the median counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the network."""

    name: str
    """One of `PARTS`."""
    parameters: int
    learning: int
    """Of them, those that have a gradient: none of a frozen encoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A step of a clip through the network."""

    part: str
    """One of `PARTS`."""
    name: str
    """`stage 0`, `pool`, `projection`, `heads`."""
    shapes: list[list[int]]
    """Of what it gives for one clip: one tensor, or one of each pathway or head."""
    flops: int
    """Of a clip, forward."""
    activation_bytes: int
    """That training keeps of a clip for the backward pass, in float32; buffers that several stages
    share are counted where they come first, weights nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a network costs."""

    inputs: dict[str, list[int]]
    """Shape of a clip by modality: (c t h w), (channels mels columns)."""
    parts: list[Part]
    stages: list[Stage]
    eval_seconds: float
    """Of a clip, forward, in a batch of four; the front end is not in it."""
    train_seconds: float
    """Of a clip, forward and backward, likewise; 0 where nothing learns."""

    @property
    def parameters(self) -> int:
        """Of the whole network."""
        return sum(part.parameters for part in self.parts)

    @property
    def flops(self) -> int:
        """Of a clip, forward."""
        return sum(stage.flops for stage in self.stages)

    @property
    def activation_bytes(self) -> int:
        """Of a clip in training."""
        return sum(stage.activation_bytes for stage in self.stages)


def measure(model: LateFusionClassifier, clip: ClipConfig, frontend: FrontendConfig) -> Measured:
    """What `model` costs on its device, for clips of this kind. `model` is left as it is."""
    model = copy.deepcopy(model)
    device = next(model.parameters()).device
    shapes = {name: [*shape] for name, shape in input_shapes(clip, frontend).items()}

    def given(size: int) -> tuple[Tensor, ...]:
        here = torch.ones(size, dtype=torch.bool, device=device)
        return (*(torch.randn(size, *shape, device=device) for shape in shapes.values()), here,
                here)  # fmt: skip

    with torch.random.fork_rng():
        flops = _by_stage(model.eval(), given(1), _Flops())
        kept = _by_stage(model.train(), given(2), _Kept(model))
        seconds = _seconds(model.eval(), given(_CLIPS), backward=False)
        learns = any(p.requires_grad for p in model.parameters())
        train = _seconds(model.train(), given(_CLIPS), backward=True) if learns else 0.0
    return Measured(
        inputs=shapes,
        parts=[
            Part(name=name, parameters=sum(p.numel() for p in part),
                 learning=sum(p.numel() for p in part if p.requires_grad))
            for name in PARTS
            if hasattr(model, name) and (part := list(getattr(model, name).parameters()))
        ],
        stages=[
            Stage(part=part, name=name, shapes=shape, flops=count, activation_bytes=size // 2)
            for (part, name, shape, count), (_, _, _, size) in zip(flops, kept, strict=True)
        ],
        eval_seconds=seconds,
        train_seconds=train,
    )  # fmt: skip


Counter = Callable[[Callable[[], Any]], tuple[Any, int]]
"""Calls a stage; what it gave, and what it cost."""


def _by_stage(
    model: LateFusionClassifier, given: tuple[Tensor, ...], count: Counter
) -> list[tuple[str, str, list[list[int]], int]]:
    """Part, name, shapes and cost of every stage, in the order of `LateFusionClassifier.encode`."""
    found: list[tuple[str, str, list[list[int]], int]] = []

    def through(part: str, name: str, stage: Callable[..., Any], *x: Any) -> Any:
        y, cost = count(lambda: stage(*x))
        several = [*y[:2]] if isinstance(y, Joint) else y  # but not what a clip has
        several = tensors_of(several)
        found.append((part, name, [list(one.shape[1:]) for one in several], cost))
        return y

    def projected(i: int, x: Tensor) -> Tensor:
        if not model.to_shared:
            return x
        name = f"projection of {('video', 'audio')[i]}"
        return through("to_shared", name, model.to_shared[i], x)

    inputs = {"video": given[0], "audio": given[1], "joint": Joint(*given)}
    features: list[Tensor] = []
    for part, encoder in model.encoders.items():
        x = inputs[part]
        for number, stage in enumerate(encoder.stages):
            x = through(part, f"stage {number}", stage, x)
        x = through(part, "pool", encoder.pool, x)
        for feature in x[:2] if isinstance(x, Joint) else [x]:
            features.append(projected(len(features), feature))
    through("fusion", "heads", model.fusion, *features, *given[2:])
    return found


def _attention_flops(query: Any, key: Any, value: Any, *args: Any, **options: Any) -> int:
    return sdpa_flop_count(query, key, value)


_CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
"""Attention of processors, which torch does not count."""


class _Flops:
    """Counts operations."""

    @torch.no_grad()
    def __call__(self, stage: Callable[[], Any]) -> tuple[Any, int]:
        with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
            y = stage()
        return y, counter.get_total_flops()


class _Kept:
    """Counts bytes that autograd keeps and has not kept before; weights are there anyway."""

    def __init__(self, model: nn.Module) -> None:
        self._known = {t.untyped_storage().data_ptr() for t in (*model.parameters(),
                                                                *model.buffers())}  # fmt: skip
        self._alive: list[Tensor] = []  # so that no address is used again

    def __call__(self, stage: Callable[[], Any]) -> tuple[Any, int]:
        cost = 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal cost
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._known:
                self._known.add(storage.data_ptr())
                self._alive.append(tensor)
                cost += storage.nbytes()
            return tensor

        with saved_tensors_hooks(keep, lambda tensor: tensor):
            y = stage()
        return y, cost


def _seconds(model: LateFusionClassifier, given: tuple[Tensor, ...], *, backward: bool) -> float:
    """Of a clip: the median over batches, after one that is not counted."""
    on_gpu = given[0].device.type == "cuda"
    times = []
    for _ in range(_REPEATS + 1):
        begun = time.perf_counter()
        with torch.set_grad_enabled(backward):
            logits = torch.cat([*model(*given).logits])
        if backward:
            logits.square().mean().backward()
            model.zero_grad()
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:]) / len(given[0])


def mixing_of(mix: MixConfig) -> list[dict[str, Any]]:
    """Every way of mixing: its word, its share of the batches, what is mixed of which modalities,
    and after how many stages; None there for what is mixed before or after the encoders."""
    found: list[dict[str, Any]] = []
    for word, share in mix.mix_methods.items():
        method = parse_mix_method(word)
        if share == 0 or mix.probability == 0 or word == "none":
            continue
        what = {"video": ["video"], "audio": ["audio"], "none": []}.get(
            method.method, ["video", "audio"]
        )
        inputs = {"video": "frames", "audio": f"audio ({mix.audio_domain})"}
        mixed = {
            "input": " and ".join(inputs[name] for name in what),
            "layer": " and ".join(f"hidden states of {name}" for name in what),
            "feature": " and ".join(f"features of {name}" for name in what),
        }[method.level]  # fmt: skip
        found.append(
            {
                "method": word,
                "share": share * mix.probability,
                "level": method.level,
                "mixed": mixed or "nothing, but a modality is left out",
                "modalities": what,
                "after_stages": list(mix.layers) if method.level == "layer" else None,
            }
        )
    return found


def shape_text(shape: list[int]) -> str:
    """`16x8x16x16`"""
    return "x".join(map(str, shape))
