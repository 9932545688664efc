"""Frame mixer: uint8 frames -> normalised, mixed frames, with the kernel that suits the device."""

from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avmix.mix import cpu_kernels
from avmix.mix.blend import mix_part
from avmix.mix.mix_plan import PlacedPlan

Kernel = Literal["torch", "fused", "triton"]
KernelChoice = Literal["auto", "torch", "fused", "triton"]
Colour = tuple[float, float, float]
"""A number for each of red, green and blue."""


class FrameMixer:
    """Frame normalisation and mixing with the kernel of a device; keeps scale and buffers between
    calls."""

    def __init__(
        self,
        kernel: KernelChoice,
        mean: Colour,
        std: Colour,
        *,
        reuse_output: bool = False,
    ) -> None:
        """`mean` and `std` of each colour of pixels in [0, 1]; the rest as for `Frontend`."""
        self._kernel: KernelChoice = kernel
        # One affine map a colour: pixel * scale + shift.
        self._scale: Colour = (1 / (255 * std[0]), 1 / (255 * std[1]), 1 / (255 * std[2]))
        self._shift: Colour = (-mean[0] / std[0], -mean[1] / std[1], -mean[2] / std[2])
        self._reuse = reuse_output
        self._kept: dict[tuple[int, ...], list[Tensor]] = {}
        self._affine: tuple[Tensor, Tensor] | None = None

    def __call__(
        self, video: UInt8[Tensor, "b t h w c"], plan: PlacedPlan | None, dtype: torch.dtype
    ) -> Float[Tensor, "n c t h w"]:
        """(pixel / 255 - mean) / std, mixed as `plan` says; `dtype` is heeded by Triton alone.

        Raises ValueError where the kernel cannot run on the device of `video`.
        """
        if video.shape[-1] != 3:
            raise ValueError(f"frames have 3 colours (b t h w c), got {tuple(video.shape)}")
        part = plan.part("video") if plan else None
        if part is not None and part.box is not None and tuple(video.shape[1:4]) != part.part.shape:
            raise ValueError(
                f"video: the plan cuts boxes from {part.part.shape} (frames, rows, columns), the "
                f"clips are {tuple(video.shape[1:4])}"
            )
        size = plan.plan.size if plan else len(video)
        if part is not None and not part.part.mixes:
            video, part = video[:size], None
        match kernel_of(self._kernel, video.device):
            case "torch":
                if self._affine is None or self._affine[0].device != video.device:
                    # Kept: creating them again would wait for a GPU in every step.
                    self._affine = affine_of(self._scale, self._shift, video.device)
                frames = normalise_frames(video, *self._affine)
                return mix_part(part, frames) if part else frames
            case "fused":
                out = self._warm((size, 3, *video.shape[1:4]))
                numbers = plan.plan.partner if plan and part else None
                weight, box = (part.part.weight, part.part.box) if part else (None, None)
                return cpu_kernels.mix_frames(
                    video, numbers, weight, box, scale=self._scale, shift=self._shift, out=out
                )
            case "triton":
                from avmix.mix import cuda_kernels  # only where there is a GPU, and so Triton

                partner, weight, box = (
                    (part.partner, part.weight, part.box) if part else (None, None, None)
                )
                return cuda_kernels.mix_frames(
                    video, partner, weight, box,
                    scale=self._scale, shift=self._shift, dtype=dtype, channels_last=True,
                )  # fmt: skip

    def _warm(self, shape: tuple[int, ...]) -> Tensor | None:
        """Memory that was written to before: fresh pages cost several times the copying.

        Two of each shape take turns, so that a step can hold its mixed and its unmixed frames.
        (A run has two shapes at most: those of a step, and with second_batch those it reads.)
        """
        if not self._reuse or torch.is_inference_mode_enabled():
            return None
        kept = self._kept.setdefault(shape, [])
        if len(kept) < 2:
            kept.append(torch.empty(shape))
        else:
            kept.reverse()
        return kept[-1]


def kernel_of(name: KernelChoice, device: torch.device) -> Kernel:
    """Resolve a kernel name for `device`; ValueError where it does not run there."""
    if name == "auto":
        return "triton" if device.type == "cuda" else "fused" if device.type == "cpu" else "torch"
    if (name, device.type) in (("fused", "cuda"), ("triton", "cpu")):
        raise ValueError(f"frontend.kernel {name} does not run on {device.type}; use auto or torch")
    return name


def affine_of(scale: Colour, shift: Colour, device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and shift as tensors (1 c 1 1 1)."""
    factor, term = (torch.tensor(x, device=device).view(1, -1, 1, 1, 1) for x in (scale, shift))
    return factor, term


def normalise_frames(
    video: UInt8[Tensor, "b t h w c"],
    scale: Float[Tensor, "1 c 1 1 1"],
    shift: Float[Tensor, "1 c 1 1 1"],
) -> Float[Tensor, "b c t h w"]:
    """`pixel * scale + shift`, contiguous in the new axis order, with ordinary tensor
    operations."""
    frames = video.permute(0, 4, 1, 2, 3).to(torch.float32, memory_format=torch.contiguous_format)
    return frames.mul_(scale).add_(shift)
