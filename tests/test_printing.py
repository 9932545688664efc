"""Names are printed and drawn as they are, whatever is in them."""

import json
import os
import shutil
import struct
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avmix.cli import main
from avmix.commands import evaluate as evaluation
from avmix.commands import train
from avmix.config import EvalConfig, TrainConfig, load_config
from avmix.data.manifest import read_manifest, splits_of, write_manifest
from avmix.evaluation.figures import Strip, draw_confusion, draw_strips
from avmix.prepare.command import run_recipe
from avmix.system.printing import console_of, counted, drawable, echo_on, printable
from tests.media import write_flash_beep
from tests.recipes_media import load_recipe

ROOT = Path(__file__).parents[1]
HOSTILE = ("$5_or_$6^", "[bold]b[/]", "[/", ":smile:", "$", "\\frac{$", "tab\tx", "esc\x1b[31m")
# "[/x].mp4" closes a tag that was never opened: its folder is called "[".
FILES = {"train": "[/x].mp4", "val": "Clip [dQw4].mp4", "test": "a/:smile: esc\x1b[1m $x$.mp4"}


@pytest.mark.parametrize("name", [*HOSTILE, *FILES.values(), "ü 音"])
def test_a_name_is_printed_as_it_is(name, capsys):
    echo_on(console_of(), f"before {name} after")
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


@pytest.mark.long
def test_training_and_evaluation_name_what_is_called_like_markup(
    hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run [/]"
    arguments = ["--config", str(ROOT / "configs/smoke.yaml"), "--data.root", str(hostile),
                 "--data.manifest", str(hostile / "hostile"), "--run.out", str(out),
                 "--run.threads", "1", "--data.num_workers", "0", "--optim.epochs", "1",
                 "--data.max_bad_share", "0.1"]  # fmt: skip
    result = train.train(load_config(TrainConfig, arguments))
    assert (result.checkpoint, result.best) == (out / "last.pt", out / "best.pt")
    assert result.val is not None
    assert (result.epochs, result.val["fused"] and result.val["fused"].num_clips) == (1, 9)
    said = capsys.readouterr().out
    assert f"{out}: [/] $p_p$ :smile:, 40 clips" in said
    assert "unreadable, in train: [/x].mp4: " in said
    assert "unreadable, in val: Clip [dQw4].mp4: " in said
    evaluation.evaluate(EvalConfig(checkpoint=str(out), num_views=1, num_workers=0, threads=1))
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


ODD = ("Title [dQw4w9WgXcQ]", "[red]alert[bold]", "-dash", "new\nline", "tab\there", "bell\x07",
       "esc\x1b[31m", "rtl\u202e", "$5_or_$6^", "{a}", "%03d", "back\\slash",
       "emoji\U0001f600")  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes and thirteen clips of each, all called like this; only read it."""
    root = tmp_path_factory.mktemp("odd") / "media"
    made = write_flash_beep(
        root.parent / "a.mp4", seconds=1, fps=5, size=(64, 48), events_seconds=(0.4,)
    )
    data = made.read_bytes() + struct.pack(">I4s", 8, b"free")
    for label in ("esc\x1b[31m [/]", "$x$"):
        (root / label).mkdir(parents=True)
        for name in ODD:
            (root / label / f"{name}.mp4").write_bytes(data)
        (root / label / os.fsdecode(b"latin1-\xe9.mp4")).write_bytes(data)
    return root


@pytest.mark.long
def test_preparation_names_what_is_called_so(odd: Path, tmp_path: Path, capfd) -> None:
    out = tmp_path / "out"
    recipe = load_recipe("folder")
    argv = ["--media", str(odd), "--out", str(out), "--workers", "1", "--leaks", "report"]
    code = run_recipe("folder", "", recipe.protocols, arguments=recipe.arguments, argv=argv)
    said = capfd.readouterr()
    assert code == 0, said.err
    assert "latin1-" in said.out  # left out, and named
    entries = [e for split in splits_of(out) for e in read_manifest(out, split).entries]
    assert sorted(Path(e.path).stem for e in entries) == sorted([*ODD, *ODD])
    page = (out / "inventory.html").read_text()
    assert "<svg" in page
    assert "esc\x1b[31m" not in said.out + said.err

    (tmp_path / "list").write_text("http://127.0.0.1:9/x\tesc\x1b[1mname.mp4\n")
    for words in (
        ["leaks", "--root", str(odd), "--manifest", str(out)],
        ["shards", "--root", str(odd), "--manifest", str(out), "--out", str(tmp_path / "s")],
        ["doctor", str(odd / "$x$"), "--workers", "1", "--all"],
        [
            "download",
            "--list",
            str(tmp_path / "list"),
            "--out",
            str(tmp_path / "d"),
            "--pause",
            "0",
        ],
        ["transcode", "--root", str(odd / "esc\x1b[31m"), "--out", str(tmp_path / "t")],
        ["events", "--root", str(tmp_path / "esc\x1b[31m")],
    ):
        with pytest.raises(SystemExit):
            main(words)
        said = capfd.readouterr()
        text = said.out + said.err
        assert text
        assert not set(text) & set("\x1b\x07\t\u202e"), words[0]
        assert "Traceback" not in text


def test_what_is_counted_agrees_with_its_number():
    assert [counted(n, "clip") for n in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]
    assert [counted(n, "class") for n in (1, 8)] == ["1 class", "8 classes"]
    assert counted(2, "loader process") == "2 loader processes"
