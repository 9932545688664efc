"""Every value of every option trains a network, on the machine that most users have, and acts.

A run of a few steps on eight tiny files. It must end with finite losses, and with weights that are
not those of the same run without the option: an option that changes nothing is a fault as well. The
options that only say where and how a run happens must leave the weights alone, to the bit.
"""

import csv
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import av
import numpy as np
import pytest
import torch
from options import OPTIONS
from torch import Tensor, nn

from avmix.commands import evaluate as evaluation
from avmix.commands import train
from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    DataConfig,
    EvalConfig,
    FrontendConfig,
    JointEncoderConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
    VideoEncoderConfig,
    to_yaml,
)
from avmix.config.mix_method import BLENDS, METHODS
from avmix.config.unused_options import unused_options, value_at
from avmix.data.manifest import write_manifest
from avmix.evaluation.metrics import Scores
from avmix.media.judgement import entry_of
from avmix.models import build_model
from avmix.models.encoder import AudioSpec, Encoder, VideoSpec
from avmix.models.hidden import Joint
from avmix.models.joint_encoder import JointEncoder, JointSpec, Widths
from avmix.models.joint_names import joint_encoder
from avmix.training import checkpoint

ROOT = Path(__file__).parents[1]
FPS, SECONDS, RATE, WIDTH, HEIGHT = 12, 1.0, 8000, 48, 32
BASE = TrainConfig(
    data=DataConfig(num_workers=0, val_split=""),
    clip=ClipConfig(duration_seconds=0.5, num_frames=2, sample_rate=RATE, short_side=20, crop=16),
    frontend=FrontendConfig(num_mels=16, n_fft=256, hop_length=128),
    model=ModelConfig(
        video=VideoEncoderConfig(channels=[4, 4]), audio=AudioEncoderConfig(channels=[4, 4])
    ),
    optim=OptimConfig(epochs=2, batch_size=4),
    run=RunConfig(device="cpu", threads=1, log_every=1),
)

# In place of the value in the table of all options, which no run could use, or which chance would
# not let act on eight clips. {data}, {other} and {extra} are folders of the fixture, {video} and
# {audio} files with weights, {part_of_video} and {part_of_audio} with some of them.
CERTAIN = ("reverse", "flip", "brightness", "contrast", "saturation", "erase", "filter",
           "reverb", "noise", "background")  # fmt: skip
VALUES: dict[str, Any] = {
    **{f"augment.{key}": 1.0 for key in CERTAIN},
    "augment.invert": 0.5,  # of all clips would be the same as of none
    "data.root": "{other}",
    "data.manifest": "{other}",
    "data.table": "clips.csv",
    "data.table_label": "kind",
    "data.table_split": "part",
    "data.table_source": ["origin"],
    "data.train_split": "val",
    "data.val_split": "val",
    "data.holdout": 0.5,
    "data.holdout_seed": 1,
    "data.shots": 1,
    "data.extra": ["{extra}"],
    "clip.duration_seconds": 0.6,
    "clip.num_frames": 3,
    "clip.sample_rate": 6000,
    "clip.short_side": 24,
    "clip.crop": 12,
    "augment.hide_seconds": 0.4,
    "augment.jitter_seconds": 0.3,
    "augment.min_seconds": 0.2,
    "augment.never_flip": ["c1", "c2"],
    "frontend.num_mels": 12,
    "frontend.n_fft": 200,
    "frontend.hop_length": 100,
    "mix.drop_audio": 0.8,
    "mix.drop_video": 0.8,
    "mix.energy_limit_db": 0.0,
    "mix.probability": 0.25,
    "mix.switch": {"mixup": 0.5, "cutmix_temporal": 0.25, "none": 0.25},
    "model.video.channels": [6, 4],
    "model.video.options": {"width": 6},
    "model.video.weights": "{video}",
    "model.video.may_lack": ["stages.1"],
    "model.audio.channels": [6, 4],
    "model.audio.options": {"width": 6},
    "model.audio.weights": "{audio}",
    "model.audio.may_lack": ["stages.1"],
    "model.joint.options": {"width": 8, "depth": 1, "heads": 2, "patch": 8, "fusion_layer": 0},
    "model.joint.weights": "{joint}",
    "model.joint.may_lack": ["bottlenecks"],
    "optim.clip_norm": 0.01,
    "optim.epochs": 3,
    "optim.batch_size": 6,
    "run.device": "auto",
    "run.out": "{data}_run",
    "run.threads": 2,
}
SHARED = {"model.shared_width": 4}
USUAL = ModelConfig().video.channels
"""Which only the encoders of avmix have: of others the option must not be set."""
MBT = {
    "model.video.channels": USUAL,
    "model.audio.channels": USUAL,
    "model.joint.encoder": "avmix:mbt",
    "model.joint.options": {"width": 8, "depth": 2, "heads": 2, "patch": 8, "fusion_layer": 1},
}
ENABLES: dict[str, dict[str, Any]] = {
    "augment.background_label": {"augment.background": 1.0},
    "augment.background_snr_db": {"augment.background": 1.0},
    "augment.jitter_seconds": {"augment.binding": "window", "augment.jitter_seconds": 0.1},
    "augment.never_flip": {"augment.flip": 1.0},
    "augment.noise_snr_db": {"augment.noise": 1.0},
    "augment.speed_keeps_pitch": {"augment.speed": 1.5},
    "data.shots_by": {"data.table": "clips.csv", "data.table_source": ["origin"], "data.shots": 2},
    "frontend.kind": {"frontend.mel_mean": -4.3, "frontend.mel_std": 9.1},
    "loss.class_weights": {"loss.kind": "binary"},  # by class, there are equally many clips
    "model.missing": {"mix.method": "dropout"},
    "loss.translation": {"mix.method": "dropout", "model.missing": "translate"},
    "model.modalities": {"model.video.channels": USUAL, "model.audio.channels": USUAL},
    "model.video.encoder": {"model.video.channels": USUAL},
    "model.video.options": {
        "model.video.channels": USUAL,
        "model.video.encoder": f"python:{__name__}:Frames",
    },
    "model.video.may_lack": {"model.video.weights": "{part_of_video}"},
    "model.video.frozen": {"model.video.weights": "{video}"},
    "model.video.pooling": {
        "model.video.channels": USUAL,
        "model.video.encoder": "torchvision:mobilenet_v3_small",
    },
    "model.audio.encoder": {"model.audio.channels": USUAL},
    "model.audio.options": {
        "model.audio.channels": USUAL,
        "model.audio.encoder": f"python:{__name__}:Spectrograms",
    },
    "model.audio.may_lack": {"model.audio.weights": "{part_of_audio}"},
    "model.audio.frozen": {"model.audio.weights": "{audio}"},
    "model.video.frozen_norm": {"model.video.weights": "{video}"},
    "model.audio.frozen_norm": {"model.audio.weights": "{audio}"},
    **{
        # They have no mel filters, and nothing of them is measured.
        f"frontend.kind={kind}": {"frontend.num_mels": int(FrontendConfig().num_mels),
                                  "frontend.mel_mean": -4.3, "frontend.mel_std": 9.1}
        for kind in ("linear", "scipy")
    },
    "frontend.kind=waveform": {
        "mix.audio_domain": "waveform",
        "model.audio.channels": USUAL,
        "model.audio.encoder": f"python:{__name__}:Waves",
        **{f"frontend.{name}": int(getattr(FrontendConfig(), name))  # set
           for name in ("num_mels", "n_fft", "hop_length")},
    },
    **{
        f"model.joint.{name}": MBT
        for name in ("encoder", "options", "weights", "lr_scale", "layer_decay",
                     "gradient_checkpointing")
    },
    "model.joint.encoder": {k: v for k, v in MBT.items() if k != "model.joint.encoder"},
    "model.joint.may_lack": {**MBT, "model.joint.weights": "{part_of_joint}"},
    "model.joint.frozen": {**MBT, "model.joint.weights": "{joint}"},
    "model.joint.frozen_norm": {
        **MBT, "model.joint.encoder": f"python:{__name__}:Both", "model.joint.options": {},
    },
}  # fmt: skip
"""What lets an option act, where what the table of all options says is not enough."""
METHOD_NEEDS = {"energy": {"mix.audio_domain": "power"}, "cross": SHARED, "cross+dropout": SHARED}
METHOD_WORDS = [
    *(method for method in METHODS if method != "mixup"),
    *(f"{method}@{level}" for method in BLENDS for level in ("layer", "feature")),
    "dropout",
    "mixup+dropout",
    "mixup@layer+dropout",
    "cutmix_spatial+dropout",
    "cross+dropout",
]
LIBRARIES = ["torchvision:mobilenet_v3_small", "timm:mobilenetv3_small_050"]
MANY: dict[str, list[Any]] = {
    "mix.method": METHOD_WORDS,
    "model.video.encoder": [f"python:{__name__}:Frames", *LIBRARIES],
    "model.audio.encoder": [f"python:{__name__}:Spectrograms", *LIBRARIES],
}
"""Options that have no end of values: one of each kind."""
LEAVES_THE_RESULT = {
    "data.root", "data.manifest", "data.table", "data.val_split", "data.clip_seconds",
    "data.verify", "data.max_bad_share", "run.out", "run.log_every", "run.save_every",
    "run.save_plans", "run.check_input", "optim.ema_decay", "model.video.gradient_checkpointing",
    "model.audio.gradient_checkpointing", "model.joint.gradient_checkpointing",
}  # fmt: skip
"""The weights are the same to the bit (the average of `ema_decay` is kept beside them)."""
AS_THE_DEFAULT = [["loss.labels", "single"]]
"""On these data: that is what `auto` finds."""
MAY_CHANGE_DIGITS = {"frontend.kernel", "run.device", "run.threads"}
REFUSED_WITHOUT = {"model.video.may_lack": "weights are missing: stages",
                   "model.audio.may_lack": "weights are missing: stages",
                   "model.joint.may_lack": "weights are missing: bottlenecks",
                   "frontend.kind=waveform": "frontend.num_mels is of spectrograms"}  # fmt: skip
"""Without the option there is no run to compare with."""
REFUSED_HERE = {
    "frontend.kernel": r"^frontend\.kernel triton does not run on cpu",
    "loss.labels": r"^loss\.labels sets: .* has no label sets",
    "model.sync_norm": r"^model\.sync_norm cannot act without several processes",
}
"""By one process on a CPU, of clips of one label."""
ELSEWHERE = {"data.num_workers", "run.compile", "data.features", "loss.set_weights",
             "mix.neighbours",
             *(key for key in OPTIONS if key.startswith("balance."))}  # fmt: skip
"""With real processes, in test_train.py: the weights are the same to the bit. Compilation takes
minutes: test_a_compiled_network_trains_as_the_other_does. Features: test_on_features.py, and the
pairing of the nearest: test_knowing_mixes.py. Label sets: test_label_sets.py. Balance of
modalities: test_balance_runs.py."""


class Frames(Encoder):
    """What a user may write."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.stages, self.num_features = (
            nn.ModuleList([nn.Conv3d(3, width, 3, (1, 2, 2), 1)]),
            width,
        )
        self.spec = VideoSpec()

    def pool(self, x: Tensor) -> Tensor:
        return x.relu().mean((2, 3, 4))


class Spectrograms(Encoder):
    """The same for audio."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.stages, self.num_features = nn.ModuleList([nn.Conv2d(1, width, 3, 2)]), width
        self.spec = AudioSpec()

    def pool(self, x: Tensor) -> Tensor:
        return x.relu().mean((2, 3))


class Waves(Encoder):
    """Of waveforms."""

    def __init__(self) -> None:
        super().__init__()
        self.stages, self.num_features = nn.ModuleList([nn.Conv1d(1, 4, 64, 32)]), 4
        self.spec = AudioSpec(front_end="waveform")

    def pool(self, x: Tensor) -> Tensor:
        return x.relu().mean(2)


class Both(JointEncoder):
    """Of both modalities."""

    def __init__(self) -> None:
        super().__init__()
        self.of_video = nn.Sequential(nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4))
        self.of_audio = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.stages, self.num_features = [], Widths(4, 4)
        self.spec = JointSpec(video=VideoSpec(), audio=AudioSpec())

    def pool(self, x: Joint) -> Joint:
        video = self.of_video(nn.functional.pad(x.video, (1,) * 6)).relu().mean((2, 3, 4))
        audio = self.of_audio(x.audio).relu().mean((2, 3))
        return x._replace(video=video, audio=audio + video * x.has_video[:, None])


def choices_of(key: str) -> list[Any]:
    """Every value but the default of an option that has only so many."""
    where, _, name = key.rpartition(".")
    part = value_at(TrainConfig(), where)
    (of,) = [f.type for f in fields(part) if f.name == name]
    values = (False, True) if of is bool else get_args(of) if get_origin(of) is Literal else ()
    return [value for value in values if value != getattr(part, name)]


def cases() -> Iterator[Any]:
    """Option and value. Choices are always tried; numbers, and what has tests of its own (ways of
    mixing, encoders), by `make long`."""
    for key, (value, _, _) in OPTIONS.items():
        if key in ELSEWHERE:
            continue
        choices = choices_of(key)
        for one in MANY.get(key, choices or [VALUES.get(key, value)]):
            if (key, one) == ("mix.pairing", "nearest"):
                continue
            marks = [] if choices else [pytest.mark.long]
            if str(one).startswith("timm:"):
                marks += [pytest.mark.skipif(not find_spec("timm"), reason="timm is not here")]
            yield pytest.param(key, one, id=f"{key}={one}", marks=marks)
    for layers in ([0], [2]):
        yield pytest.param("mix.layers", layers, id=f"mix.layers={layers}", marks=pytest.mark.long)


def write_clip(path: Path, number: int) -> None:
    """Moving noise in colour, and in each channel another tone with noise, of another loudness."""
    draw = np.random.default_rng(number)
    with av.open(path, "w") as container:
        video = container.add_stream("mpeg4", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=RATE, layout="stereo")
        scene = draw.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
        for t in range(round(FPS * SECONDS)):
            image = np.roll(np.kron(scene, np.ones((8, 8, 1), np.uint8)), 2 * t, axis=1)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        time = np.arange(round(RATE * SECONDS)) / RATE
        wave = np.sin(2 * np.pi * np.array([[300 + 90 * number], [500 + 150 * number]]) * time)
        wave = (wave + 0.3 * draw.standard_normal(wave.shape)) * (2000 + 600 * number)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(wave.T.reshape(1, -1)).astype(np.int16), "s16", "stereo"
        )
        frame.sample_rate = RATE
        container.mux([*audio.encode(frame), *video.encode(), *audio.encode()])


def write_set(folder: Path, first: int, splits: dict[str, int]) -> Path:
    """So many clips of four classes in each split, with their events, and a table of them."""
    folder.mkdir()
    found: dict[str, list[Any]] = {}
    rows: list[dict[str, str]] = []
    numbers = iter(range(first, 1000))
    for split, count in splits.items():
        for i, number in enumerate(numbers):
            name = f"{number}.mkv"
            write_clip(folder / name, number)
            label = f"c{i % 4}"
            found.setdefault(split, []).append(
                entry_of(folder / name, folder, clip_id=name, labels=(label,), source_id=name)
            )
            rows.append({"path": name, "label": label, "split": split, "source": name,
                         "kind": f"k{i % 3}", "part": "train" if i % 2 else "val",
                         "origin": f"{split} {i % 2}"})  # fmt: skip
            if i == count - 1:
                break
    write_manifest(folder, classes=[f"c{i}" for i in range(4)], protocol="tiny", splits=found)
    with (folder / "clips.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, [*rows[0]])
        table.writeheader()
        table.writerows(rows)
    events = [{"clip_id": row["path"], "event_seconds": [0.7]} for row in rows]
    (folder / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    return folder


def write_weights(folder: Path) -> None:
    """Of both encoders of BASE, all of them and those without the last stage."""
    torch.manual_seed(1)
    model = build_model(BASE.model, 4)
    for name, encoder in (("video", model.video), ("audio", model.audio)):
        state = encoder.state_dict()
        torch.save(state, folder / f"{name}.pt")
        part = {key: value for key, value in state.items() if not key.startswith("stages.1.")}
        torch.save(part, folder / f"part_of_{name}.pt")
    joint = JointEncoderConfig(encoder="avmix:mbt", options=MBT["model.joint.options"])
    state = joint_encoder(joint, BASE.clip, BASE.frontend).state_dict()
    torch.save(state, folder / "joint.pt")
    del state["bottlenecks"]
    torch.save(state, folder / "part_of_joint.pt")


def with_options(part: Any, options: dict[str, Any], prefix: str = "") -> Any:
    """`part`, a configuration or a section of it, with options by their dotted paths."""
    changes: dict[str, Any] = {}
    for f in fields(part):
        key, value = prefix + f.name, getattr(part, f.name)
        if is_dataclass(value):
            changes[f.name] = with_options(value, options, f"{key}.")
        elif key in options:
            changes[f.name] = options[key]
    return replace(part, **changes)


class Runs:
    """Trains on the tiny set; what was trained once is not trained again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = write_set(folder / "data", 0, {"train": 8, "val": 4})
        write_set(folder / "extra", 100, {"train": 4})
        shutil.copytree(self.data, folder / "other")
        write_weights(folder)
        self.done: dict[str, tuple[Path, dict[str, torch.Tensor]]] = {}

    def config(self, options: dict[str, Any]) -> TrainConfig:
        """BASE with these options."""
        out = self.folder / f"run{len(self.done)}"
        places = {name: str(self.folder / name) for name in ("data", "other", "extra")}
        kinds = ("video", "audio", "joint")
        files = (*kinds, *(f"part_of_{kind}" for kind in kinds))
        places |= {name: str(self.folder / f"{name}.pt") for name in files}
        options = {"data.root": "{data}", "run.out": str(out), **options}
        if options.get("data.table"):
            options["data.manifest"] = str(out / "manifest")
        for key, value in options.items():
            if isinstance(value, str):
                options[key] = value.format(**places)
            elif value == ["{extra}"]:
                options[key] = [places["extra"]]
        return with_options(BASE, options)

    def train(self, options: dict[str, Any]) -> tuple[Path, dict[str, torch.Tensor]]:
        """Folder and weights of the run."""
        key = repr(sorted(options.items()))
        if key not in self.done:
            config = self.config(options)
            state = checkpoint.load(train.train(config).checkpoint)
            self.done[key] = Path(config.run.out), state.model
        return self.done[key]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("options"))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def losses(out: Path) -> list[float]:
    """Every loss that the run wrote."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["kind"] == "step"]
    return [value for row in steps for name, value in row.items() if name.startswith("loss")]


@pytest.mark.long
@pytest.mark.parametrize(("key", "value"), [*cases()])
def test_a_value_trains_and_acts(runs: Runs, key: str, value: Any) -> None:
    _, enables, _ = OPTIONS[key]
    needs = METHOD_NEEDS.get(value, {}) if key == "mix.method" else ENABLES.get(key, enables)
    if value == "weighted" or key == "model.guard":
        needs = {"data.val_split": "val"}
    needs = ENABLES.get(f"{key}={value}", needs)
    options = {**needs, key: value}
    assert unused_options(runs.config(options)) == {}
    if key in REFUSED_HERE and value in (True, "triton", "sets"):
        with pytest.raises(ValueError, match=REFUSED_HERE[key]):
            runs.train(options)
        return
    out, weights = runs.train(options)
    found = losses(out)
    assert found
    assert all(map(math.isfinite, found))
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    if says := REFUSED_WITHOUT.get(key) or REFUSED_WITHOUT.get(f"{key}={value}"):
        with pytest.raises(ValueError, match=says):
            runs.train(needs)
        return
    without = runs.train(needs)[1]
    if key not in MAY_CHANGE_DIGITS:
        leaves = key in LEAVES_THE_RESULT or [key, value] in AS_THE_DEFAULT
        assert same(weights, without) == leaves


EVAL = {"num_views": 1, "batch_size": 3, "clip_seconds": 9.0, "verify": "never", "device": "auto",
        "threads": 2, "root": "{other}", "manifest": "{other}", "out": "{data}_eval",
        "split": "train", "raw_weights": True, "alone": ["{data}_eval"], "resamples": 0,
        "seed": 1, "crops": "three", "flip": True, "average": "logits",
        "robustness": "clean"}  # fmt: skip
"""Another value of every option of evaluation, but for processes (test_train.py)."""
EVAL_CHANGES = {"num_views", "split", "raw_weights", "crops", "flip", "average"}


@pytest.mark.long
def test_every_option_of_evaluation_is_heeded(runs: Runs) -> None:
    known = {f.name for f in fields(EvalConfig)}
    assert known == {*EVAL, "checkpoint", "num_workers", "features", "predictions",
                     "mean_with"}  # fmt: skip
    checkpoint_of_run = str(runs.train({"optim.ema_decay": 0.5})[0] / "last.pt")
    usual: dict[str, Any] = {"checkpoint": checkpoint_of_run, "split": "val", "num_workers": 0,
                             "threads": 1, "device": "cpu"}  # fmt: skip
    places = {name: str(runs.folder / name) for name in ("data", "other")}
    scores = evaluation.evaluate(EvalConfig(**usual))
    for key, value in EVAL.items():
        value = value.format(**places) if isinstance(value, str) else value
        if key == "alone":  # what `out` has written
            value = [one.format(**places) for one in value]
        found = evaluation.evaluate(EvalConfig(**{**usual, key: value}))["fused"]
        before = scores["fused"]
        assert isinstance(found, Scores)
        assert isinstance(before, Scores)
        assert math.isfinite(found.nll)
        same_nll = found.nll == pytest.approx(before.nll, abs=1e-6)
        assert same_nll == (key not in EVAL_CHANGES), key
    assert (runs.folder / "data_eval/result.json").is_file()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["joint", "waveform"])
def test_a_run_is_evaluated_and_resumed(runs: Runs, kind: str) -> None:
    options = MBT if kind == "joint" else {**ENABLES["frontend.kind=waveform"],
                                           "frontend.kind": "waveform"}  # fmt: skip
    folder, weights = runs.train({**options, "mix.method": "mixup@layer", "mix.layers": [1]})
    scores = evaluation.evaluate(
        EvalConfig(checkpoint=str(folder / "last.pt"), split="val", num_views=1, num_workers=0,
                   threads=1, device="cpu")
    )  # fmt: skip
    assert all(isinstance(s, Scores) and math.isfinite(s.nll) for s in scores.values())
    config = checkpoint.load(folder / "last.pt").config
    longer = replace(config, optim=replace(config.optim, epochs=3))
    state = checkpoint.load(train.train(longer).checkpoint)
    assert (state.epoch, state.step) == (3, 0)
    assert not same(state.model, weights)


@pytest.mark.slow
def test_a_compiled_network_trains_as_the_other_does(runs: Runs) -> None:
    """In a process of its own: what compiles warns of parts of torch itself."""
    options = {"optim.precise_bn_batches": 2, "optim.ema_decay": 0.5, "mix.method": "none",
               "model.dropout": 0.0}  # fmt: skip
    config = runs.config({**options, "run.compile": True})
    config = replace(config, run=replace(config.run, out=str(runs.folder / "compiled")))
    (runs.folder / "compiled.yaml").write_text(to_yaml(config))
    train_it = [sys.executable, str(ROOT / "train.py"), "--config", "compiled.yaml"]
    done = subprocess.run(train_it, cwd=runs.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    out, theirs = runs.train(options)
    assert losses(runs.folder / "compiled") == pytest.approx(losses(out), rel=1e-3)
    ours = checkpoint.load(runs.folder / "compiled/last.pt").model
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        if name.endswith("num_batches_tracked"):
            assert ours[name].equal(value)  # and so the statistics were measured
    assert not same(ours, theirs)  # another order of sums: it was compiled
