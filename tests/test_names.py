"""Names are printed and drawn as they are, whatever is in them."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import eval as evaluation
import train
from avmix.config import EvalConfig, TrainConfig, load_config
from avmix.data.manifest import read_manifest, write_manifest
from avmix.figures import Strip, draw_confusion, draw_strips
from avmix.names import console_of, drawable, printable, say

ROOT = Path(__file__).parents[1]
HOSTILE = ("$5_or_$6^", "[bold]b[/]", "[/", ":smile:", "$", "\\frac{$", "tab\tx", "esc\x1b[31m")
# "[/x].mp4" closes a tag that was never opened: its folder is called "[".
FILES = {"train": "[/x].mp4", "val": "Clip [dQw4].mp4", "test": "a/:smile: esc\x1b[1m $x$.mp4"}


@pytest.mark.parametrize("name", [*HOSTILE, *FILES.values(), "ü 音"])
def test_a_name_is_printed_as_it_is(name, capsys):
    say(console_of(), f"before {name} after")
    escaped = name.replace("\t", "\\t").replace("\x1b", "\\x1b")
    assert capsys.readouterr().out == f"before {escaped} after\n"


def test_bytes_that_are_no_text_are_escaped():
    assert printable("a\udcffb") == "a\\xffb"
    assert printable("two\nlines") == "two\\nlines"


def test_what_is_between_dollars_is_no_formula():
    assert drawable("$5_or_$6^") == r"\$5_or_\$6^"
    assert drawable("a\nb") == "a\nb"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_drawn(name, tmp_path):
    strip = Strip(
        title=name, frames=np.zeros((2, 4, 4, 3), np.uint8), frame_seconds=np.array([0.25, 0.75]),
        log_mel=np.arange(6.0).reshape(2, 3), column_seconds=np.array([0.1, 0.5, 0.9]),
        labels=[(name, 1.0, "#2a6f97")],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion(torch.eye(2, dtype=torch.int64), [name, "b"], name, tmp_path / "c.png")
        draw_strips([strip], 0.0, 1.0, name, tmp_path / "s.png")
    assert (tmp_path / "c.png").stat().st_size > 1000
    assert (tmp_path / "s.png").stat().st_size > 1000


@pytest.fixture
def hostile(toy_set: Path, tmp_path: Path) -> Path:
    """The toy set, its classes and one damaged file of each split named like this."""
    data = tmp_path / "data"
    shutil.copytree(toy_set, data)
    old = read_manifest(toy_set, "train").classes
    new = dict(zip(old, [*HOSTILE, *old[len(HOSTILE) :]], strict=True))
    splits = {}
    for split, path in FILES.items():
        manifest = read_manifest(toy_set, split)
        entries = [replace(e, labels=(new[e.labels[0]],)) for e in manifest.entries]
        entries[1] = replace(entries[1], path=path)
        (data / path).parent.mkdir(exist_ok=True)
        (data / path).write_bytes(b"not a video")
        splits[split] = entries
    write_manifest(data / "hostile", classes=list(new.values()), protocol="[/] $p_p$ :smile:",
                   splits=splits)  # fmt: skip
    return data


def test_training_and_evaluation_name_what_is_called_like_markup(
    hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run [/]"
    arguments = ["--config", str(ROOT / "configs/smoke.yaml"), "--data.root", str(hostile),
                 "--data.manifest", str(hostile / "hostile"), "--run.out", str(out),
                 "--run.threads", "1", "--data.num_workers", "0", "--optim.epochs", "1",
                 "--data.max_bad_share", "0.1"]  # fmt: skip
    train.main(load_config(TrainConfig, arguments))
    said = capsys.readouterr().out
    assert f"{out}: [/] $p_p$ :smile:, 40 clips" in said
    assert "unreadable, in train: [/x].mp4: " in said
    assert "unreadable, in val: Clip [dQw4].mp4: " in said
    evaluation.main(EvalConfig(checkpoint=str(out), num_views=1, num_workers=0, threads=1))
    said = capsys.readouterr().out
    assert "[/] $p_p$ :smile:, test: 19 clips evaluated, 1 missing" in " ".join(said.split())
    assert "missing: a/:smile: esc\\x1b[1m $x$.mp4: " in said
    for name in HOSTILE:
        assert printable(name) in said
    assert "\x1b" not in said
    result = json.loads((out / "eval_test/result.json").read_text())
    assert [row["class"] for row in result["per_class"]][: len(HOSTILE)] == [*HOSTILE]
    assert result["missing"][0]["path"] == FILES["test"]
    assert (out / "eval_test/confusion.png").read_bytes().startswith(b"\x89PNG")
