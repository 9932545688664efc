"""Time, size and accuracy of exported networks: avmix itself, torch.export, ONNX, ONNX in 8 bits.

`python benchmarks/export.py` takes the network and the data of `make demo`, and networks of random
weights, and writes benchmarks/results/export.json: CPU time of one clip in one thread, decoding not
included, in turns; bytes; the largest difference of a probability; and, of the demo, top-1 accuracy
on its test split, of the middle window of each clip.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from exporting.int8 import write_int8
from shared import machine, medians, provenance, result_files
from shared.paths import RESULTS
from shared.progress import say
from shared.rounds import rounds_in_turn

from avmix.config import TrainConfig, load_config
from avmix.data.eval_windows import view_windows
from avmix.data.manifest import read_manifest
from avmix.decode import decode_clip
from avmix.exporting.check_clips import decoded_clips, largest_difference
from avmix.exporting.exportable import INPUTS
from avmix.exporting.file_formats import (
    Runner,
    onnx_runner,
    torch_runner,
    traced,
    write_onnx,
    write_torch,
)
from avmix.models import build_model
from avmix.models.input_options import with_expected_input
from avmix.training.trained import TrainedNetwork, load

RANDOM = {
    "lite0": ("`timm:tf_efficientnet_lite0` + cnn, 3 frames of 144 pixels",
              ["model.video.encoder=timm:tf_efficientnet_lite0", "model.video.pooling=mean+max",
               "clip.num_frames=3", "clip.short_side=160", "clip.crop=144",
               "clip.duration_seconds=6"]),
    "r2plus1d_18": ("`torchvision:r2plus1d_18` + cnn, 8 frames of 112 pixels",
                    ["model.video.encoder=torchvision:r2plus1d_18", "clip.num_frames=8",
                     "clip.short_side=128", "clip.crop=112"]),
}  # fmt: skip
"""Networks of random weights: label and options of training."""
CALIBRATION = 32
"""Clips of the train split."""


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--checkpoint", default="runs/demo", help="network of the demo (runs/demo)")
    parser.add_argument("--data", type=Path, default=Path("data/toy"), help="its data (data/toy)")
    parser.add_argument("--rounds", type=int, default=20, help="that count (20)")
    parser.add_argument("--trial", action="store_true", help="the demo alone; keep no result")
    provenance.add_option(parser)
    args = parser.parse_args()
    origin = {} if args.trial else provenance.measured(args, "export")
    torch.set_num_threads(1)
    started = machine.facts(["avmix", "torch", "onnx", "onnxruntime", "onnxscript", "timm"])
    networks = {"demo": ("the network of the demo", load(args.checkpoint))}
    if not args.trial:
        networks |= {name: (label, random_network(options))
                     for name, (label, options) in RANDOM.items()}  # fmt: skip
    found = []
    accuracy: list[dict[str, Any]] = []
    for name, (label, trained) in networks.items():
        with TemporaryDirectory() as work:
            calibration = (
                windows(trained, args.data, "train", CALIBRATION)
                if name == "demo"
                else [inputs_of(clip.video, clip.audio) for clip in decoded_clips(trained, [])]
            )
            runners, sizes = exported(trained, Path(work), calibration)
            found.append({"name": name, "label": label,
                          "forms": measured(trained, runners, sizes, args.rounds)})  # fmt: skip
            if name == "demo":
                accuracy = accuracies(trained, runners, args.data)
    result = {
        "measured": origin,
        "kind": "export",
        "command": "python benchmarks/export.py",
        "environment": started,
        "rounds": args.rounds,
        "calibration_clips": CALIBRATION,
        "networks": found,
        "accuracy": accuracy,
        "load_average_at_the_end": machine.load_average(),
    }
    print(result_files.text_of(result))
    if not args.trial:
        result_files.write(RESULTS / "export.json", result)


def random_network(options: Sequence[str]) -> TrainedNetwork:
    """Of ten classes, in evaluation mode."""
    torch.manual_seed(0)
    words = [f"--{word}" for word in (*options, "frontend.mel_mean=-2.4", "frontend.mel_std=2.2")]
    config = with_expected_input(load_config(TrainConfig, words))
    model = build_model(config.model, 10, clip=config.clip, frontend=config.frontend)
    return TrainedNetwork(config, [f"class {k}" for k in range(10)], model).eval()


def inputs_of(video: np.ndarray, audio: np.ndarray) -> dict[str, np.ndarray]:
    """Of one clip that has both modalities."""
    yes = np.ones(1, bool)
    return dict(zip(INPUTS, (video[None], audio[None], yes, yes), strict=True))


def windows(
    trained: TrainedNetwork, data: Path, split: str, most: int = 0
) -> list[dict[str, np.ndarray]]:
    """The middle window of each clip of a split, or of `most` clips spread over it."""
    manifest = read_manifest(data, split)
    entries = manifest.entries
    if most:
        entries = [entries[k] for k in np.linspace(0, len(entries) - 1, most).round().astype(int)]
    read = []
    for entry in entries:
        (window,) = view_windows(entry, trained.clip.duration_seconds, 1)
        clip = decode_clip(data / entry.path, start_seconds=window.start_seconds,
                           **trained.decoding)  # fmt: skip
        read.append(inputs_of(clip.video, clip.audio))
    return read


def exported(
    trained: TrainedNetwork, work: Path, calibration: Sequence[dict[str, np.ndarray]]
) -> tuple[dict[str, Runner], dict[str, int]]:
    """Every form of the network, and its bytes."""
    program = traced(trained)
    write_torch(program, {}, work / "net.pt2")
    write_onnx(trained, program, {}, work / "net.onnx")
    write_int8(work / "net.onnx", work / "int8.onnx", calibration)

    def own(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            heads = trained(*map(torch.from_numpy, inputs))
        return [logits.softmax(1).numpy() for logits in heads]

    runners = {
        "avmix": own,
        "torch.export": torch_runner(work / "net.pt2"),
        "ONNX": onnx_runner(work / "net.onnx", 1),
        "ONNX, 8 bits": onnx_runner(work / "int8.onnx", 1),
    }
    weights = sum(value.nbytes for value in trained.network.state_dict().values())
    files = {"torch.export": "net.pt2", "ONNX": "net.onnx", "ONNX, 8 bits": "int8.onnx"}
    sizes = {form: (work / file).stat().st_size for form, file in files.items()}
    return runners, {"avmix": weights, **sizes}


def measured(
    trained: TrainedNetwork, runners: dict[str, Runner], sizes: dict[str, int], rounds: int
) -> list[dict[str, Any]]:
    """Time, bytes and difference of each form."""
    clips = decoded_clips(trained, [])
    inputs = [*inputs_of(clips[0].video, clips[0].audio).values()]
    times: dict[str, list[float]] = {form: [] for form in runners}
    for turn in rounds_in_turn(runners, rounds, warm_up=2):
        for form in turn.order:
            spent = cpu_milliseconds(lambda run=runners[form]: run(inputs))
            if turn.counts:
                times[form].append(spent)
    say(f"{ {form: round(statistics.median(t), 1) for form, t in times.items()} } ms")
    return [
        {"form": form, "bytes": sizes[form], "milliseconds": medians.median(times[form]),
         "quartiles": medians.quartiles(times[form]),
         "difference": 0.0 if form == "avmix" else largest_difference(trained, run, clips)}
        for form, run in runners.items()
    ]  # fmt: skip


def cpu_milliseconds(call: Callable[[], object]) -> float:
    """Of this process, all of its threads."""
    began = time.process_time()
    call()
    return 1000 * (time.process_time() - began)


def accuracies(
    trained: TrainedNetwork, runners: dict[str, Runner], data: Path
) -> list[dict[str, Any]]:
    """Top-1 accuracy of each form and head on the test split, of the middle windows."""
    read = windows(trained, data, "test")
    manifest = read_manifest(data, "test")
    number = {name: k for k, name in enumerate(trained.classes)}
    label = np.array([number[entry.labels[0]] for entry in manifest.entries])
    found, reference = [], None
    for form, run in runners.items():
        said = [run([*inputs.values()]) for inputs in read]
        heads = [np.concatenate(part).argmax(1) for part in zip(*said, strict=True)]
        reference = heads[0] if reference is None else reference
        top1 = {head: round(float((best == label).mean()), 4)
                for head, best in zip(("fused", "video", "audio"), heads, strict=True)}  # fmt: skip
        found.append({"form": form, "num_clips": len(label), "top1": top1,
                      "same_answer": int((heads[0] == reference).sum())})  # fmt: skip
        say(f"{form}: {top1}")
    return found


if __name__ == "__main__":
    main()
