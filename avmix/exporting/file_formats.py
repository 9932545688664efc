"""The formats of `avmix export`, a program of torch.export and ONNX: written, and run again."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from avmix.exporting.exportable import INPUTS, OUTPUTS, ExportableNetwork
from avmix.models.encoder import AnyEncoder
from avmix.system import strict_json
from avmix.training.trained import TrainedNetwork

Format = Literal["onnx", "torch"]
ENDINGS: Mapping[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
KEY = "avmix.json"
"""Of the description, inside of the files."""
_MOST_BYTES = 2_000_000_000
"""Of the weights in one ONNX file, which is a protocol buffer."""
Runner = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""The inputs in the order of `INPUTS` to the outputs in that of `OUTPUTS`."""


class ExportError(ValueError):
    """A network cannot be exported, or what was written does not compute the same; the message
    names the encoder or the file."""


def example(trained: TrainedNetwork, size: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random inputs of `size` clips, frames wider than high."""
    clip, draw = trained.clip, torch.Generator().manual_seed(0)
    shape = (size, clip.num_frames, clip.short_side, clip.short_side + 2, 3)
    samples = round(clip.duration_seconds * clip.sample_rate)
    wave = (size, 2, samples) if clip.stereo else (size, samples)
    return (
        torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw),
        torch.randn(wave, generator=draw),
        torch.ones(size, dtype=torch.bool),
        torch.ones(size, dtype=torch.bool),
    )


def traced(trained: TrainedNetwork) -> torch.export.ExportedProgram:
    """The network with its front end as a program, for any number of clips and frames of any shape
    whose shorter side is `clip.short_side`. Raises `ExportError`, naming the encoder."""
    side = trained.clip.short_side
    batch = torch.export.Dim("batch", min=1)
    height, width = torch.export.Dim("height", min=side), torch.export.Dim("width", min=side)
    shapes = {name: {0: batch} for name in INPUTS}
    shapes["video"] |= {2: height, 3: width}
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(
                ExportableNetwork(trained).eval(), example(trained), dynamic_shapes=shapes
            )
    except Exception as error:  # tracing code of any library raises anything
        raise _blamed(trained, error) from error


def write_torch(program: torch.export.ExportedProgram, about: dict[str, Any], path: Path) -> None:
    """Write a file of torch.export; `about` is kept inside of it."""
    with _quiet(), path.open("wb") as file:
        torch.export.save(program, file, extra_files={KEY: strict_json.dumps(about)})


def write_onnx(
    trained: TrainedNetwork,
    program: torch.export.ExportedProgram,
    about: dict[str, Any],
    path: Path,
) -> None:
    """Write an ONNX file; `about` is kept in its metadata. Raises `ExportError` where the network
    has operations that ONNX lacks, where it is too large for one file, and without the extra."""
    imported("onnx")
    imported("onnxscript")
    size = sum(value.nbytes for value in program.state_dict.values())
    if size > _MOST_BYTES:
        raise ExportError(
            f"{path.name}: an ONNX file holds at most 2 GB; the network has {size / 1e9:.1f} GB of "
            "weights: --format torch"
        )
    try:
        with _quiet(), torch.no_grad():
            found = torch.onnx.export(
                program, dynamo=True, input_names=list(INPUTS), output_names=list(OUTPUTS),
                verbose=False,
            )  # fmt: skip
    except Exception as error:
        raise _blamed(trained, error, "onnx") from error
    assert found is not None
    _name_axes(found.model)
    found.model.metadata_props[KEY] = strict_json.dumps(about)
    found.model.producer_name = "avmix"
    with _quiet():
        found.save(str(path), external_data=False)


def torch_runner(path: Path) -> Runner:
    """Of a file that `write_torch` wrote. Only for files that are trusted: torch.export.load may
    unpickle."""
    with _quiet():
        module = torch.export.load(str(path)).module()

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            return [found.numpy() for found in module(*map(torch.from_numpy, inputs))]

    return run


def onnx_runner(path: Path, threads: int = 0) -> Runner:
    """Of an ONNX file, on the CPU; `threads` 0: one per core. Raises `ExportError` without the
    extra."""
    runtime = imported("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return session.run(list(OUTPUTS), dict(zip(INPUTS, inputs, strict=True)))

    return run


def description_of(path: Path) -> dict[str, Any]:
    """What an exported ONNX file says of itself."""
    model = imported("onnx").load(str(path), load_external_data=False)
    return json.loads({prop.key: prop.value for prop in model.metadata_props}[KEY])


def imported(module: str) -> Any:
    """A module of the extra; raises `ExportError` where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ExportError(
            f"{module.partition('.')[0]} is not installed ({error}): pip install '.[export]' "
            "in the checkout"
        ) from None


_AXES = {"video": ("batch", None, "height", "width"), "audio": ("batch",)}


def _name_axes(model: Any) -> None:
    """Names of axes that can be read, in place of those that tracing gave them."""
    shape = import_module("onnx_ir").Shape
    for value in (*model.graph.inputs, *model.graph.outputs):
        axes = list(value.shape)
        for number, name in enumerate(_AXES.get(value.name, ("batch",))):
            axes[number] = name or axes[number]
        value.shape = shape(axes)


def _blamed(trained: TrainedNetwork, error: Exception, form: str = "torch") -> ExportError:
    """The error, with the encoders that cannot be exported by themselves."""
    fused = f"model.fusion {trained.config.model.fusion}"
    parts = trained.config.model.encoders
    bad = [
        f"model.{name}.encoder {parts[name].encoder}"
        for name, encoder in trained.network.encoders.items()
        if not _can_be_traced(trained, encoder, name, form)
    ]
    what = " and ".join(bad) or f"the network (each encoder alone can be; {fused})"
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    way = "torch.export" if form == "torch" else "ONNX"
    return ExportError(f"{what} cannot be exported by {way}: {type(error).__name__}: {reason}")


def _can_be_traced(trained: TrainedNetwork, encoder: AnyEncoder, name: str, form: str) -> bool:
    given = _inputs_of_encoder(trained, name)
    shapes = tuple({0: torch.export.Dim("batch", min=1)} for _ in given)
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(_Alone(encoder), given, dynamic_shapes={"given": shapes})
            if form == "onnx":
                torch.onnx.export(program, dynamo=True, verbose=False)
    except Exception:  # whatever stops the exporter: the first error is reported, with this name
        return False
    return True


def _inputs_of_encoder(trained: TrainedNetwork, name: str) -> tuple[Tensor, ...]:
    front = ExportableNetwork(trained)
    video, audio, *has = example(trained)
    with torch.no_grad():
        frames, waves = front.frames(video), front.spectrograms(audio)
    return {"video": (frames,), "audio": (waves,)}.get(name, (frames, waves, *has))


class _Alone(nn.Module):
    """An encoder, whatever it takes."""

    def __init__(self, encoder: AnyEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        found = self.encoder(*given)
        return tuple(found) if isinstance(found, tuple) else (found,)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters warn of, log and print about their own code: what matters of it
    is in their errors."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
