"""Every value of every option trains a network, on the machine that most users have, and acts.

A run of a few steps on eight tiny files. It must end with finite losses, and with weights that are
not those of the same run without the option: an option that changes nothing is a fault as well. The
options that only say where and how a run happens must leave the weights alone, to the bit.
"""

import csv
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import av
import numpy as np
import pytest
import torch
from options import OPTIONS

import eval as evaluation
import train
from avmix import checkpoint
from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    DataConfig,
    EvalConfig,
    FrontendConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
    VideoEncoderConfig,
)
from avmix.data.manifest import write_manifest
from avmix.idle import idle_options
from avmix.prepare.probe import entry_of
from avmix.recipe import BLENDS, METHODS

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
# not let act on eight clips. {data}, {other} and {extra} are folders of the fixture.
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
    "model.audio_channels": [6, 4],
    "model.video_channels": [6, 4],
    "optim.clip_norm": 0.01,
    "optim.epochs": 3,
    "optim.batch_size": 6,
    "run.device": "auto",
    "run.out": "{data}_run",
    "run.threads": 2,
}
SHARED = {"model.shared_width": 4}
ENABLES: dict[str, dict[str, Any]] = {
    "augment.background_label": {"augment.background": 1.0},
    "augment.background_snr_db": {"augment.background": 1.0},
    "augment.jitter_seconds": {"augment.binding": "window", "augment.jitter_seconds": 0.1},
    "augment.never_flip": {"augment.flip": 1.0},
    "augment.noise_snr_db": {"augment.noise": 1.0},
    "augment.speed_keeps_pitch": {"augment.speed": 1.5},
}
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
LEAVES_THE_RESULT = {
    "data.root", "data.manifest", "data.table", "data.val_split", "data.clip_seconds",
    "data.verify", "data.max_bad_share", "run.out", "run.log_every", "run.save_every",
    "run.save_plans", "run.check_input",
}  # fmt: skip
"""The weights are the same to the bit."""
MAY_CHANGE_DIGITS = {"frontend.kernel", "run.device", "run.threads"}
ELSEWHERE = {"data.num_workers"}
"""With real processes, in test_train.py: the weights are the same to the bit."""


def choices_of(key: str) -> list[Any]:
    """Every value but the default of an option that has only so many."""
    section, name = key.split(".")
    part = getattr(TrainConfig(), section)
    (of,) = [f.type for f in fields(part) if f.name == name]
    values = (False, True) if of is bool else get_args(of) if get_origin(of) is Literal else ()
    return [value for value in values if value != getattr(part, name)]


def cases() -> Iterator[Any]:
    """Option and value. Choices are always tried; numbers, and ways of mixing, which have tests of
    their own, by `make long`."""
    for key, (value, _, _) in OPTIONS.items():
        if key in ELSEWHERE:
            continue
        choices = METHOD_WORDS if key == "mix.method" else choices_of(key)
        marks = () if choices and key != "mix.method" else pytest.mark.long
        for one in choices or [VALUES.get(key, value)]:
            yield pytest.param(key, one, id=f"{key}={one}", marks=marks)
    for layers in ([0], [2]):
        yield pytest.param("mix.layers", layers, id=f"mix.layers={layers}", marks=pytest.mark.long)


def write_clip(path: Path, number: int) -> None:
    """Moving noise in colour, and in each channel another tone with noise, of another loudness."""
    draw = np.random.default_rng(number)
    with av.open(path, "w") as container:
        pictures = container.add_stream("mpeg4", rate=FPS)
        pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="stereo")
        scene = draw.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
        for t in range(round(FPS * SECONDS)):
            image = np.roll(np.kron(scene, np.ones((8, 8, 1), np.uint8)), 2 * t, axis=1)
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        time = np.arange(round(RATE * SECONDS)) / RATE
        wave = np.sin(2 * np.pi * np.array([[300 + 90 * number], [500 + 150 * number]]) * time)
        wave = (wave + 0.3 * draw.standard_normal(wave.shape)) * (2000 + 600 * number)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(wave.T.reshape(1, -1)).astype(np.int16), "s16", "stereo"
        )
        frame.sample_rate = RATE
        container.mux([*sound.encode(frame), *pictures.encode(), *sound.encode()])


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


class Runs:
    """Trains on the tiny set; what was trained once is not trained again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = write_set(folder / "data", 0, {"train": 8, "val": 4})
        write_set(folder / "extra", 100, {"train": 4})
        shutil.copytree(self.data, folder / "other")
        self.done: dict[str, tuple[Path, dict[str, torch.Tensor]]] = {}

    def config(self, options: dict[str, Any]) -> TrainConfig:
        """BASE with these options."""
        out = self.folder / f"run{len(self.done)}"
        places = {name: str(self.folder / name) for name in ("data", "other", "extra")}
        options = {"data.root": "{data}", "run.out": str(out), **options}
        if options.get("data.table"):
            options["data.manifest"] = str(out / "manifest")
        sections: dict[str, dict[str, Any]] = {}
        for key, value in options.items():
            section, name = key.split(".")
            if isinstance(value, str):
                value = value.format(**places)
            elif value == ["{extra}"]:
                value = [places["extra"]]
            sections.setdefault(section, {})[name] = value
        parts = {name: replace(getattr(BASE, name), **new) for name, new in sections.items()}
        return replace(BASE, **parts)

    def train(self, options: dict[str, Any]) -> tuple[Path, dict[str, torch.Tensor]]:
        """Folder and weights of the run."""
        key = repr(sorted(options.items()))
        if key not in self.done:
            config = self.config(options)
            state = checkpoint.load(train.main(config))
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


@pytest.mark.parametrize(("key", "value"), [*cases()])
def test_a_value_trains_and_acts(runs: Runs, key: str, value: Any) -> None:
    _, enables, _ = OPTIONS[key]
    needs = METHOD_NEEDS.get(value, {}) if key == "mix.method" else ENABLES.get(key, enables)
    options = {**needs, key: value}
    assert idle_options(runs.config(options)) == {}
    if (key, value) == ("frontend.kernel", "triton"):
        with pytest.raises(ValueError, match=r"^frontend\.kernel triton does not run on cpu"):
            runs.train(options)
        return
    out, weights = runs.train(options)
    found = losses(out)
    assert found
    assert all(map(math.isfinite, found))
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    without = runs.train(needs)[1]
    if key not in MAY_CHANGE_DIGITS:
        assert same(weights, without) == (key in LEAVES_THE_RESULT)


EVAL = {"num_views": 1, "batch_size": 3, "clip_seconds": 9.0, "verify": "never", "device": "auto",
        "threads": 2, "root": "{other}", "manifest": "{other}", "out": "{data}_eval",
        "split": "train"}  # fmt: skip
"""Another value of every option of evaluation, but for processes (test_train.py)."""
EVAL_CHANGES = {"num_views", "split"}


@pytest.mark.long
def test_every_option_of_evaluation_is_heeded(runs: Runs) -> None:
    known = {f.name for f in fields(EvalConfig)}
    assert known == {*EVAL, "checkpoint", "num_workers"}
    checkpoint_of_run = str(runs.train({})[0] / "last.pt")
    usual: dict[str, Any] = {"checkpoint": checkpoint_of_run, "split": "val", "num_workers": 0,
                             "threads": 1, "device": "cpu"}  # fmt: skip
    places = {name: str(runs.folder / name) for name in ("data", "other")}
    scores = evaluation.main(EvalConfig(**usual))
    for key, value in EVAL.items():
        value = value.format(**places) if isinstance(value, str) else value
        found = evaluation.main(EvalConfig(**{**usual, key: value}))["fused"]
        assert found is not None
        assert math.isfinite(found.nll)
        before = scores["fused"]
        assert before is not None
        same_nll = found.nll == pytest.approx(before.nll, abs=1e-6)
        assert same_nll == (key not in EVAL_CHANGES), key
    assert (runs.folder / "data_eval/result.json").is_file()
