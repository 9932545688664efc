"""An exported ONNX file with weights and activations of 8 bits, by onnxruntime's static
quantization. The front end stays as it is: its convolution is a Fourier transform."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

KINDS = ["Conv", "MatMul", "Gemm"]
"""Nodes that are quantized."""
FRONT_END = "log_mel."
"""Beginning of the names of its weights."""


class Clips(CalibrationDataReader):
    """Clips by which the ranges of activations are chosen, one at a time."""

    def __init__(self, clips: Sequence[dict[str, np.ndarray]]) -> None:
        """Inputs by name."""
        self._clips = iter(clips)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next one; None after the last."""
        return next(self._clips, None)


def write_int8(path: Path, out: Path, clips: Sequence[dict[str, np.ndarray]]) -> None:
    """Quantize the file `path` into `out`, calibrated on `clips` of the train split."""
    logging.getLogger().setLevel(logging.ERROR)
    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    model: Any = onnx.load(str(prepared))
    ours = [node.name for node in model.graph.node if any(FRONT_END in n for n in node.input)]
    if not ours:
        raise ValueError(f"{path}: no node has weights of the front end ({FRONT_END})")
    quantize_static(
        str(prepared), str(out), Clips(clips), quant_format=QuantFormat.QDQ, per_channel=True,
        op_types_to_quantize=KINDS, nodes_to_exclude=ours, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )  # fmt: skip
    prepared.unlink()
