"""The card of a trained network: data, protocol, metrics with intervals, use, limits, licences; in
Markdown with the header of the Hub."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from avmix.evaluation.figure_columns import COLUMNS
from avmix.exporting.licences import NOT_STATED, of_data, of_weights
from avmix.system.printing import counted, printable
from avmix.training import checkpoint
from avmix.training.published_folder import PREFIX
from avmix.training.trained import TrainedNetwork

_MOST_BYTES = 100_000_000
"""Of a result.json."""
_ROWS = ("fused", "video head", "audio head", "audio missing", "video missing")
_METRICS: Mapping[str, tuple[str, str]] = {
    "top1": ("accuracy", "top-1 accuracy"),
    "map": ("map", "mean average precision"),
}
"""Metric types of the Hub."""
_MOST_CLASSES = 50
"""That are listed in full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the files beside a checkpoint say of it."""

    result: dict[str, Any] | None = None
    """result.json of an evaluation of this very checkpoint; None: there is none."""
    why_none: str = "the checkpoint has not been evaluated"
    split_sha256: str = ""
    epochs: int | None = None


def facts_of(path: Path) -> Facts:
    """Of a checkpoint, or of what `avmix.load` takes in its place: the evaluation in a folder
    `eval_*` beside it whose digest is its own, that of the test split first. Raises
    `CheckpointError`."""
    path = path / "last.pt" if (path / "last.pt").exists() else path
    if str(path).startswith(PREFIX) or path.is_dir() or path.suffix == ".safetensors":
        return Facts(why_none="a file of weights alone does not say which evaluation is of it")
    state = checkpoint.load(path)
    about = {"split_sha256": state.split_sha256, "epochs": state.epoch}
    others = 0
    folders = sorted(path.parent.glob("eval_*"), key=lambda one: (one.name != "eval_test", one))
    for file in (folder / "result.json" for folder in folders):
        found = _result(file)
        if found is None:
            continue
        which = (found.get("checkpoint_digest"), found.get("weights"))
        # `avmix.load` takes the average of the weights where there is one.
        if state.digest and which == (state.digest, "last" if state.average is None else "average"):
            return Facts(result=found, **about)
        others += 1
    if others:
        why = "the evaluations beside it are of another checkpoint, or of other weights of it"
        return Facts(why_none=why, **about)
    return Facts(**about)


def _result(file: Path) -> dict[str, Any] | None:
    try:
        if file.stat().st_size > _MOST_BYTES:
            return None
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def card(
    trained: TrainedNetwork,
    path: str | Path,
    *,
    files: Sequence[str],
    name: str = "",
    licence: str = "",
) -> str:
    """The card of the network of the checkpoint `path`, for `files` beside it; `licence`: under
    which it is published, as the Hub names it. Raises `CheckpointError`."""
    path = Path(path)
    facts = facts_of(path)
    protocol = str(facts.result["protocol"]) if facts.result else NOT_STATED
    name = name or _name_of(path)
    parts = [
        f"# {_plain(name)}",
        "A network for audio-visual action recognition with "
        f"{counted(len(trained.classes), 'class')}, trained with avmix {version('avmix')}. "
        "Frames and audio of the same seconds go in; the probabilities of a fused, a video and an "
        "audio head come out.",
        "## Data and protocol", *_data(trained, facts, protocol),
        "## Metrics", _metrics(facts),
        "## Use", *_use(trained, files),
        "## Limits", *_limits(trained),
        "## Licences", *_licences(trained, protocol, licence),
    ]  # fmt: skip
    return f"---\n{_header(facts, name, licence, protocol)}---\n\n" + "\n\n".join(parts) + "\n"


def _name_of(path: Path) -> str:
    if str(path).startswith(PREFIX):
        return path.name.partition("@")[0]
    return (path if path.is_dir() else path.parent).resolve().name or "network"


def _header(facts: Facts, name: str, licence: str, protocol: str) -> str:
    said: dict[str, Any] = {
        "library_name": "avmix",
        "pipeline_tag": "video-classification",
        "license": licence or "unknown",
        "tags": ["audio-visual", "action-recognition"],
    }
    if values := _header_metrics(facts):
        task = {"type": "video-classification", "name": "audio-visual action recognition"}
        assert facts.result is not None
        dataset = {"type": protocol.partition("/")[0], "name": protocol,
                   "split": str(facts.result["split"])}  # fmt: skip
        said["metrics"] = [one["type"] for one in values]
        found = {"task": task, "dataset": dataset, "metrics": values}
        said["model-index"] = [{"name": name, "results": [found]}]
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=100)


def _header_metrics(facts: Facts) -> list[dict[str, Any]]:
    rows = _figures(facts).get("fused") or {}
    return [
        {"type": kind, "name": f"{words}, fused", "value": round(rows[key]["value"], 4)}
        for key, (kind, words) in _METRICS.items()
        if key in rows
    ]


def _figures(facts: Facts) -> dict[str, Any]:
    return facts.result["intervals"]["rows"] if facts.result else {}


def _data(trained: TrainedNetwork, facts: Facts, protocol: str) -> list[str]:
    config, clip = trained.config, trained.clip
    lines = [f"* Protocol: `{_plain(protocol)}`"]
    if facts.split_sha256:
        lines.append(f"* Train split: SHA-256 of its manifest `{facts.split_sha256[:16]}`")
    lines += [
        f"* Clips: windows of {clip.duration_seconds:g} s, {counted(clip.num_frames, 'frame')} of "
        f"{clip.crop} x {clip.crop} pixels (the shorter side is scaled to {clip.short_side} "
        f"first), audio at {clip.sample_rate} Hz, {'stereo' if clip.stereo else 'mono'}",
        f"* Mixing: {_plain(', '.join(config.mix.mix_methods))}",
        *(f"* {name.capitalize()} encoder: `{_plain(part.encoder)}`"
          for name, part in config.model.encoders.items()),
        f"* Fusion: `{config.model.fusion}`; modalities: {config.model.modalities}",
    ]  # fmt: skip
    if facts.epochs is not None:
        lines.append(f"* Epochs: {facts.epochs}; seed: {config.run.seed}")
    names = [f"`{_plain(one)}`" for one in trained.classes[:_MOST_CLASSES]]
    more = len(trained.classes) - len(names)
    classes = "Classes: " + ", ".join(names) + (f" and {more} more" if more > 0 else "")
    return ["\n".join(lines), classes]


def _metrics(facts: Facts) -> str:
    if facts.result is None:
        return f"Not stated: {facts.why_none}."
    result = facts.result
    figures = {row: found for row in _ROWS if (found := _figures(facts).get(row))}
    shown = [key for key in COLUMNS if any(key in found for found in figures.values())]
    shown = [key for key in shown if key in ("top1", "map", "mean_class", "nll", "ece")]
    lines = [
        "|  | clips | " + " | ".join(f"{COLUMNS[key][0]} (95 %)" for key in shown) + " |",
        "|---|--:|" + "--:|" * len(shown),
    ]
    for row, found in figures.items():
        clips = next(iter(found.values()))["num_clips"]
        cells = [_cell(found.get(key), *COLUMNS[key][1]) for key in shown]
        lines.append(f"| {row} | {clips} | " + " | ".join(cells) + " |")
    said = (
        f"`{_plain(result['protocol'])}`, {_plain(result['split'])} split: "
        f"{counted(result['num_evaluated'], 'clip')} evaluated, {result['num_missing']} missing, "
        f"{counted(result['num_views'], 'view')}, {result['weights']} weights. "
        "Intervals: 95 %, by resampling sources. `audio missing` and `video missing`: the fused "
        "head, with that modality removed."
    )
    return "\n".join(lines) + "\n\n" + said


def _cell(found: Mapping[str, Any] | None, factor: int, digits: int) -> str:
    if found is None:
        return "-"
    value = f"{factor * found['value']:.{digits}f}"
    if found["low"] is None or found["high"] is None:
        return value
    ends = (f"{factor * found[end]:.{digits}f}" for end in ("low", "high"))
    return f"{value} ({' to '.join(ends)})"


def _use(trained: TrainedNetwork, files: Sequence[str]) -> list[str]:
    clip = trained.clip
    lines = [
        "For recognising the classes above in windows of "
        f"{clip.duration_seconds:g} s of video with audio that resemble the training data."
    ]
    if "model.safetensors" in files:
        code = (
            'import avmix\n\nnet = avmix.load("FOLDER")  # or "hub:USER/NAME"\n'
            'print(net.predict("clip.mp4").top(3))'
        )
        lines.append(f"```python\n{code}\n```")
    exported = [one for one in files if one.endswith((".onnx", ".pt2"))]
    if exported:
        lines.append(
            f"`{_plain(exported[0])}` holds the network with its front end: decoded frames (uint8) "
            "and a waveform (float32) in, probabilities out. The JSON beside it describes inputs "
            "and outputs."
        )
    return lines


def _limits(trained: TrainedNetwork) -> list[str]:
    several = trained.config.loss.several_labels
    lines = [
        "* Every window gets "
        + ("a probability for each of these classes" if several else "one of these classes")
        + "; there is no class for anything else.",
        "* Metrics are of the data above. On other cameras, places, people and microphones expect "
        "lower ones.",
        "* It has not been examined for bias, and is not meant to identify or judge people.",
    ]
    if trained.config.model.modalities == "both":
        lines.append("* A clip without audio, or without frames, is predicted from the other one.")
    return ["\n".join(lines)]


def _licences(trained: TrainedNetwork, protocol: str, licence: str) -> list[str]:
    lines = [f"* This network: {_plain(licence) or NOT_STATED}",
             f"* Training data: {of_data(protocol)}"]  # fmt: skip
    lines += [
        f"* {_plain(name)}: {_plain(said)}"
        for name, said in of_weights(trained.config.model).items()
    ]
    return ["\n".join(lines)]


def _plain(text: str) -> str:
    """Names as text: nothing in them ends a line, a cell or a code span."""
    return printable(text).replace("`", "'").replace("|", "/")
