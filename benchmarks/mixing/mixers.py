"""Ways to make a training batch of a mixed one: each peer as its users call it, and avmix.

The work is the same for all. In: clips in uint8, a spectrogram of each, class numbers. Out: float
frames, normalised and mixed, the mixed spectrogram, mixed labels. Where a peer knows nothing of
audio it is called a second time for it; where it can be told to take the same lambda, it is told.
Every candidate draws its own partners, lambdas and boxes, with alpha = 1.

Libraries are imported by `load`; what is not installed is named, not measured.
"""

import importlib
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Kind = Literal["mixup", "cutmix"]
Layout = Literal["planar", "decoded"]
"""Of clips in memory: (b c t h w), or (b t h w c) as decoders write them."""
MEAN, STD = 0.45, 0.225
"""Of pixels in [0, 1], the same for all colours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What goes in."""

    video: Tensor
    """uint8 (b t h w c), in whatever order in memory"""
    audio: Tensor
    """float32 (b 1 m f)"""
    number: Tensor
    """int64 (b), of the class"""
    target: Tensor
    """float32 (b k), the same one-hot"""
    numbers: tuple[int, ...]
    """The same on the host, as a loader has them."""


class Mixed(NamedTuple):
    """What comes out."""

    video: Tensor
    """float (b c t h w)"""
    audio: Tensor
    label: Tensor
    """(b k), of the clip"""
    video_label: Tensor | None = None
    """Of its frames alone, where that is told apart."""
    audio_label: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is asked for."""

    kind: Kind = "mixup"
    num_classes: int = 400
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    """Frames in the order (b t h w c) in memory, otherwise (b c t h w)."""


class Mixer(NamedTuple):
    """A candidate at work."""

    normalise: Callable[[Tensor], Tensor]
    """The clips to what `mix` takes: a tensor of its own, or the clips themselves."""
    mix: Callable[[Tensor, Inputs], Mixed]

    def stage(self, inputs: Inputs) -> Mixed:
        """All of it."""
        return self.mix(self.normalise(inputs.video), inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to mix."""

    label: str
    load: Callable[[Task], Mixer]
    """Imports what it needs; raises ImportError when that is not installed."""
    note: str = ""
    kinds: tuple[Kind, ...] = ("mixup", "cutmix")
    timed: bool = True
    """False when only its correctness is of interest."""
    judged: bool = True
    """False when it does not mix."""
    device: Literal["any", "cpu", "cuda"] = "any"
    passes: str = ""
    """Of a whole float tensor, read or written, in mixing alone (mixup), by its source; the last
    number is the sum."""
    bytes_per_element: int | None = None
    """Read and written by the whole stage for one float32 element, counted from the source."""


def planes(video: Tensor, task: Task) -> Tensor:
    """uint8 (b t h w c) to float (b c t h w), one pass, not normalised."""
    order = torch.preserve_format if task.channels_last else torch.contiguous_format
    return video.permute(0, 4, 1, 2, 3).to(task.dtype, memory_format=order)


def _as_loaders_do(task: Task) -> Callable[[Tensor], Tensor]:
    """`float`, `sub_`, `div_`, as the loader of timm: 5 + 8 + 8 bytes per float32 element."""
    return lambda video: planes(video, task).sub_(255 * MEAN).div_(255 * STD)


def _timm(
    mode: Literal["batch", "pair", "elem"], *, same_lambda: bool = True, as_images: bool = False
) -> Any:
    """`as_images`: on the view (b c*t h w), in which its boxes have the axes they are meant for."""

    def load(task: Task) -> Mixer:
        from timm.data.mixup import Mixup

        alphas = {"mixup": (1.0, 0.0), "cutmix": (0.0, 1.0)}[task.kind]
        mixup = Mixup(*alphas, mode=mode, label_smoothing=0.0, num_classes=task.num_classes)
        again: Any = getattr(mixup, f"_mix_{mode}")

        def mix(frames: Tensor, inputs: Inputs) -> Mixed:
            state = np.random.get_state()  # noqa: NPY002  what timm draws from
            images = frames.flatten(1, 2) if as_images else frames
            video, label = mixup(images, inputs.number)
            if same_lambda:
                np.random.set_state(state)  # noqa: NPY002
            again(inputs.audio)
            return Mixed(video.view_as(frames), inputs.audio, label)

        return Mixer(_as_loaders_do(task), mix)

    return load


def _torchvision(wave: Literal["tensor", "image"]) -> Any:
    def load(task: Task) -> Mixer:
        from torchvision import tv_tensors
        from torchvision.transforms import v2

        mixing = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[task.kind](num_classes=task.num_classes)
        to_float = v2.ToDtype(task.dtype, scale=True)
        normal = v2.Normalize([MEAN] * 3, [STD] * 3)

        def normalise(video: Tensor) -> Tensor:
            # Its videos are (b t c h w): a view of either order in memory.
            return normal(to_float(tv_tensors.Video(video.permute(0, 1, 4, 2, 3))))

        def mix(frames: Tensor, inputs: Inputs) -> Mixed:
            audio = tv_tensors.Image(inputs.audio) if wave == "image" else inputs.audio
            out = mixing({"video": frames, "audio": audio, "labels": inputs.target})
            video = out["video"].as_subclass(Tensor).permute(0, 2, 1, 3, 4)
            return Mixed(video, out["audio"].as_subclass(Tensor), out["labels"])

        return Mixer(normalise, mix)

    return load


def _pytorchvideo_mix() -> ModuleType:
    """Its module `transforms.mix`. The package `transforms` cannot be imported beside torchvision
    0.26 (it wants `functional_tensor`, which is gone), but this file of it can, alone."""
    found = find_spec("pytorchvideo")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'pytorchvideo'", name="pytorchvideo")
    package = ModuleType("pytorchvideo.transforms")
    package.__path__ = [f"{found.submodule_search_locations[0]}/transforms"]
    before = {
        name: module for name, module in sys.modules.items() if name.startswith(package.__name__)
    }
    sys.modules[package.__name__] = package
    try:
        return importlib.import_module("pytorchvideo.transforms.mix")
    finally:  # no one else should find the package without content
        for name in [name for name in sys.modules if name.startswith(package.__name__)]:
            del sys.modules[name]
        sys.modules.update(before)


def _load_pytorchvideo(task: Task) -> Mixer:
    """Frames and label: its classes. The audio: what they do with `x_audio` on its main branch
    (0.1.5 does not know audio), which is the same once more, CutMix with another box."""
    classes = _pytorchvideo_mix()
    name = {"mixup": "MixUp", "cutmix": "CutMix"}[task.kind]
    mixing = getattr(classes, name)(num_classes=task.num_classes)
    sampler = f"{task.kind}_beta_sampler"
    drawn = getattr(mixing, sampler)
    kept: dict[str, Tensor] = {}

    class Keeping:
        """Draws, and keeps what it has drawn for the audio."""

        def sample(self) -> Tensor:
            kept["lam"] = drawn.sample()
            return kept["lam"]

    setattr(mixing, sampler, Keeping())

    def mix(frames: Tensor, inputs: Inputs) -> Mixed:
        video, label = mixing(frames, inputs.number)
        lam, audio = kept["lam"], inputs.audio
        if task.kind == "mixup":
            flipped = audio.flip(0).mul_(1.0 - lam)
            audio.mul_(lam).add_(flipped)
        else:
            audio, _ = mixing._cutmix(audio, lam)
        return Mixed(video, audio, label)

    return Mixer(_as_loaders_do(task), mix)


def _load_kornia(task: Task) -> Mixer:
    from kornia.augmentation import RandomCutMixV2, RandomMixUpV2

    keys: Any = ["input", "class"]
    mixing: Any = (
        RandomMixUpV2(data_keys=keys)
        if task.kind == "mixup"
        else RandomCutMixV2(data_keys=keys, use_correct_lambda=True)
    )

    def dense(label: Tensor) -> Tensor:
        """Its (own class, partner's class, lambda) as one row of weights."""
        own, other, lam = label.reshape(-1, 3).unbind(1)
        # MixUp gives the weight of the partner, CutMix of the clip itself.
        share = 1 - lam if task.kind == "mixup" else lam
        rows = torch.zeros(len(own), task.num_classes, device=label.device)
        rows.scatter_add_(1, own.long()[:, None], share[:, None])
        return rows.scatter_add_(1, other.long()[:, None], 1 - share[:, None])

    def mix(frames: Tensor, inputs: Inputs) -> Mixed:
        b, c, t, h, w = frames.shape
        video, label = mixing(frames.reshape(b, c * t, h, w), inputs.number)
        # Its boxes are in pixels of the frames: they cannot be used again for the audio.
        same = {"params": mixing._params} if task.kind == "mixup" else {}
        audio, _ = mixing(inputs.audio, inputs.number, **same)
        return Mixed(video.view(b, c, t, h, w), audio, dense(label))

    return Mixer(_as_loaders_do(task), mix)


def _load_lerp(task: Task) -> Mixer:
    def mix(frames: Tensor, inputs: Inputs) -> Mixed:
        size = len(frames)
        partner = torch.randperm(size).to(frames.device, non_blocking=True)
        lam = torch.rand(size).to(frames.device, non_blocking=True)

        def one(x: Tensor) -> Tensor:
            return x[partner].lerp_(x, lam.to(x.dtype).view(-1, *[1] * (x.ndim - 1)))

        return Mixed(one(frames), one(inputs.audio), one(inputs.target))

    return Mixer(_as_loaders_do(task), mix)


def _compiled(**options: Any) -> Any:
    """The fused formula, written down in one line and left to torch.compile."""

    def load(task: Task) -> Mixer:
        scale, shift = 1 / (255 * STD), -MEAN / STD

        @torch.compile(dynamic=False, fullgraph=True, options=options or None)
        def frames_of(video: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
            own = planes(video, task) if task.channels_last else video.permute(0, 4, 1, 2, 3)
            own, lam = own.float(), lam.view(-1, 1, 1, 1, 1)
            mixed = own * lam + own[partner] * (1 - lam)
            out = (mixed * scale + shift).to(task.dtype)
            return out if task.channels_last else out.contiguous()

        def mix(video: Tensor, inputs: Inputs) -> Mixed:
            partner, lam = torch.randperm(len(video)), torch.rand(len(video))
            partner = partner.to(video.device, non_blocking=True)
            lam = lam.to(video.device, non_blocking=True)

            def one(x: Tensor) -> Tensor:
                return x[partner].lerp_(x, lam.view(-1, *[1] * (x.ndim - 1)))

            return Mixed(frames_of(video, partner, lam), one(inputs.audio), one(inputs.target))

        return Mixer(lambda video: video, mix)

    return load


def _load_floor(task: Task) -> Mixer:
    """The bytes that have to be read and written, in the order in which they lie, into memory that
    is there already; nothing else."""
    out: dict[torch.Size, Tensor] = {}

    def mix(video: Tensor, inputs: Inputs) -> Mixed:
        flat = video if video.is_contiguous() else video.permute(0, 4, 1, 2, 3)
        if flat.shape not in out:
            out[flat.shape] = torch.empty(flat.shape, dtype=task.dtype, device=flat.device)
        return Mixed(out[flat.shape].copy_(flat), inputs.audio, inputs.target)

    return Mixer(lambda video: video, mix)


def _avmix(kernel: Literal["auto", "torch"], reuse_output: bool) -> Any:
    def load(task: Task) -> Mixer:
        from avmix.config import MixConfig
        from avmix.mix import Clips, Grid, draw_plan, mixed_targets
        from avmix.mix.blend import mix_part
        from avmix.mix.frame_mixer import FrameMixer

        method = {"mixup": "mixup", "cutmix": "cutmix_spatial"}[task.kind]
        config = MixConfig(method=method, alpha=1.0)
        frames_of = FrameMixer(
            kernel, (MEAN, MEAN, MEAN), (STD, STD, STD), reuse_output=reuse_output
        )

        def mix(video: Tensor, inputs: Inputs) -> Mixed:
            size, *shape = video.shape[:4]
            grids = {
                "video": Grid(domain="pixels", shape=tuple(shape), frame_axes=(1, 2)),
                "audio": Grid(domain="log_mel", shape=tuple(inputs.audio.shape[2:]), band_axis=0),
            }
            clips = Clips(
                present=(("video", (True,) * size), ("audio", (True,) * size)),
                source=tuple(range(size)),
                labels=tuple(frozenset((number,)) for number in inputs.numbers),
            )
            shared, own = (np.random.default_rng(random.getrandbits(64)) for _ in range(2))
            plan = draw_plan(config, clips, grids, shared=shared, own=own).to(video.device)
            # Only the kernel for CUDA heeds the type.
            frames = frames_of(video, plan, task.dtype).to(task.dtype)
            audio = mix_part(plan.part("audio"), inputs.audio)
            return Mixed(frames, audio, *mixed_targets(plan, inputs.target))

        return Mixer(lambda video: video, mix)

    return load


CANDIDATES: dict[str, Candidate] = {
    "floor": Candidate(
        label="floor: `out.copy_(uint8)`",
        load=_load_floor,
        judged=False,
        note="every byte read and written once; nothing computed",
        bytes_per_element=5,
    ),
    "avmix": Candidate(
        label="avmix",
        load=_avmix("auto", True),
        note="its output in memory that it keeps, as training does on a CPU",
        passes="none: mixed while it is converted",
        bytes_per_element=5,
    ),
    "avmix_fresh": Candidate(
        label="avmix, a new output every time",
        load=_avmix("auto", False),
        passes="none: mixed while it is converted",
        bytes_per_element=5,
    ),
    "avmix_torch": Candidate(
        label='avmix, kernel "torch"',
        load=_avmix("torch", False),
        passes="index_select 2 + lerp 3 = 5",
        bytes_per_element=41,
    ),
    "lerp": Candidate(
        label="plain torch: `x[partner].lerp_(x, lam)`",
        load=_load_lerp,
        kinds=("mixup",),
        passes="gather 2 + lerp_ 3 = 5",
        bytes_per_element=41,
    ),
    "timm": Candidate(
        label="timm Mixup, batch",
        load=_timm("batch"),
        note="called again for the audio, numpy's state set back",
        passes="flip 2 + mul_ 2 + mul_ 2 + add_ 3 = 9",
        bytes_per_element=57,
    ),
    "timm_pair": Candidate(
        label="timm Mixup, pair",
        load=_timm("pair"),
        note="called again for the audio, numpy's state set back",
        passes="clone 2 + mul 2 + mul 2 + add 3 + copy 2 = 11",
        bytes_per_element=65,
    ),
    "timm_elem": Candidate(
        label="timm Mixup, elem",
        load=_timm("elem"),
        note="called again for the audio, numpy's state set back",
        passes="clone 2 + mul 2 + mul 2 + add 3 + copy 2 = 11",
        bytes_per_element=65,
    ),
    "timm_twice": Candidate(
        label="timm Mixup, batch, called for each modality",
        load=_timm("batch", same_lambda=False),
        timed=False,
    ),
    "timm_images": Candidate(
        label="timm Mixup, batch, on (b c*t h w)",
        load=_timm("batch", as_images=True),
        note="called again for the audio, numpy's state set back",
        timed=False,
    ),
    "torchvision": Candidate(
        label="torchvision v2, audio as a tensor",
        load=_torchvision("tensor"),
        note="`{video: tv_tensors.Video, audio: Tensor, labels: Tensor}`",
        passes="roll 2 + mul_ 2 + mul 2 + add_ 3 = 9",
        bytes_per_element=65,
    ),
    "torchvision_image": Candidate(
        label="torchvision v2, audio as an image",
        load=_torchvision("image"),
        note="the audio as tv_tensors.Image",
        passes="roll 2 + mul_ 2 + mul 2 + add_ 3 = 9",
        bytes_per_element=65,
    ),
    "pytorchvideo": Candidate(
        label="pytorchvideo",
        load=_load_pytorchvideo,
        note="0.1.5; audio as `x_audio` on its main branch, which is the same formula once more",
        passes="flip 2 + mul_ 2 + mul_ 2 + add_ 3 = 9",
        bytes_per_element=57,
    ),
    "kornia": Candidate(
        label="kornia RandomMixUpV2, RandomCutMixV2",
        load=_load_kornia,
        note="on (b c*t h w); same parameters for the audio where it can take them",
        passes="index_select 2 + (1 - lam) 1 + mul 3 + mul 2 + add 3 + where 3 = 14",
        bytes_per_element=77,
    ),
    "compile": Candidate(
        label="torch.compile of the formula",
        load=_compiled(),
        kinds=("mixup",),
        bytes_per_element=6,
    ),
    "compile_scalar": Candidate(
        label="torch.compile of the formula, `cpp.simdlen` 1",
        load=_compiled(**{"cpp.simdlen": 1}),
        kinds=("mixup",),
        device="cpu",
        bytes_per_element=6,
    ),
}
"""By name; `timm` and `floor` are what the others are compared with."""


def make_inputs(
    batch: int, num_frames: int, side: int, layout: Layout, *,
    device: str = "cpu", num_classes: int = 400, mels: int = 64, columns: int = 198, seed: int = 0,
) -> Inputs:  # fmt: skip
    """Random clips of classes that are all different."""
    draw = torch.Generator().manual_seed(seed)
    order = (batch, 3, num_frames, side, side)
    if layout == "decoded":
        order = (batch, num_frames, side, side, 3)
    video = torch.randint(256, order, dtype=torch.uint8, generator=draw)
    number = torch.randperm(num_classes, generator=draw)[:batch]
    return Inputs(
        video=(video.permute(0, 2, 3, 4, 1) if layout == "planar" else video).to(device),
        audio=torch.randn(batch, 1, mels, columns, generator=draw).to(device),
        number=number.to(device),
        target=torch.nn.functional.one_hot(number, num_classes).float().to(device),
        numbers=tuple(number.tolist()),
    )
