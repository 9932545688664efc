"""`avmix evaluate --robustness` from options to files, and the parts that read clips."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avmix.commands import robustness
from avmix.commands.evaluate import evaluate
from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    DataConfig,
    EvalConfig,
    FrontendConfig,
    ModelConfig,
    TrainConfig,
    VideoEncoderConfig,
    load_config,
)
from avmix.config.robustness_rows import ROBUSTNESS_ROWS, rows_asked_for
from avmix.data.eval_set import EvalSet
from avmix.data.manifest import Manifest, read_manifest
from avmix.evaluation.other_clips import audio_span
from avmix.evaluation.robustness_metrics import HEADS
from avmix.evaluation.robustness_table import BY_NAME, CONDITIONS
from avmix.media.judgement import entry_of
from avmix.models import build_model
from avmix.training import checkpoint
from avmix.training.checkpoint import Checkpoint
from avmix.training.condition_passes import (
    Subject,
    groups_of,
    mixup_plan,
    most_places,
    places_of,
)
from avmix.types import Entry
from tests.media import beep_times, write_flash_beep

ROOT = Path(__file__).parents[1]
CLIP = ClipConfig(num_frames=4, crop=32, short_side=36, duration_seconds=1.5, sample_rate=8000)


@pytest.fixture(scope="module")
def run(toy_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose network has random weights."""
    config = TrainConfig(
        data=DataConfig(root=str(toy_set)), clip=CLIP,
        frontend=FrontendConfig(num_mels=16, n_fft=256, hop_length=128, mel_mean=-1.5, mel_std=2.5),
        model=ModelConfig(video=VideoEncoderConfig(channels=[4, 6]),
                          audio=AudioEncoderConfig(channels=[4, 5])),
    )  # fmt: skip
    classes = list(read_manifest(toy_set, "val").classes)
    torch.manual_seed(0)
    model = build_model(config.model, len(classes), clip=CLIP, frontend=config.frontend)
    for name, value in model.state_dict().items():  # features that vary with the clip
        if name.endswith(("fused.weight", "fusion.video.weight", "fusion.audio.weight")):
            value.mul_(20)
    folder = tmp_path_factory.mktemp("run")
    checkpoint.save(folder / "last.pt", Checkpoint(
        config=config, classes=classes, split_sha256="", num_steps=2, epoch=1, step=0, best=-1.0,
        model=model.state_dict(), optimizer={},
    ))  # fmt: skip
    return folder


def options(run: Path, out: Path, rows: str = "all", **more: Any) -> EvalConfig:
    usual = {"split": "val", "num_views": 1, "num_workers": 0, "threads": 1, "batch_size": 4}
    return EvalConfig(checkpoint=str(run), out=str(out), robustness=rows, **{**usual, **more})


@pytest.fixture(scope="module")
def beeps(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    folder = tmp_path_factory.getbasetemp() / "beeps"
    folder.mkdir()
    path = write_flash_beep(folder / "a.mp4")
    return entry_of(path, folder, clip_id="a", labels=["x"], source_id="a")


@pytest.fixture(scope="module")
def measured(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where all rows of the ten val clips were measured, and what was printed."""
    out = tmp_path_factory.mktemp("all")
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr(robustness, "echo_on", lambda console, text: said.append(text))
        evaluate(options(run, out))
    return out, "\n".join(said)


@pytest.fixture(scope="module")
def report(measured: tuple[Path, str]) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads((measured[0] / "robustness.json").read_text(), parse_constant=refuse)


@pytest.mark.long
def test_every_row_is_measured_with_intervals(report: dict[str, Any]) -> None:
    assert tuple(report["rows"]) == ROBUSTNESS_ROWS
    for condition in CONDITIONS:
        row = report["rows"][condition.name]
        assert row["levels"] == list(condition.levels)
        assert row["num_missing"] == row["num_without_other"] == 0
        if condition.kind != "curve":
            continue
        for head in HEADS:
            assert len(row["heads"][head]) == len(condition.levels)
            for level in filter(None, row["heads"][head]):
                assert level["num_clips"] == 10
                for figure in (level["top1"], level["nll"], level["ece"]):
                    if figure["low"] is not None:
                        assert figure["low"] <= figure["value"] <= figure["high"]
    assert report["chance"] == 0.1
    assert "no combinations" in report["combinations"]
    assert report["rows"]["conflict"]["num_clips"] == 10
    assert report["rows"]["lambda_sweep"]["num_pairs"] == 10


@pytest.mark.long
def test_corruptions_act_on_their_modality_alone(report: dict[str, Any]) -> None:
    rows = report["rows"]
    clean = {head: rows["clean"]["heads"][head][0] for head in HEADS}
    for condition in CONDITIONS:
        if condition.kind != "curve" or condition.of == "both" or "missing" in condition.name:
            continue
        own, other = ("audio", "video") if condition.of == "audio" else ("video", "audio")
        found = rows[condition.name]["heads"]
        # To the last digits: with fewer windows in a batch sums are in another order.
        for level in found[other]:
            for key in ("top1", "nll", "ece"):
                value = clean[other][key]["value"]
                assert level[key]["value"] == pytest.approx(value, rel=1e-5), condition.name
        if condition.name not in ("shift_edges", "h264", "jpeg"):
            assert found[own][-1] != clean[own], condition.name
    for missing, other in (("audio", "video"), ("video", "audio")):
        heads = rows[f"{missing}_missing"]["heads"]
        assert heads[missing] == [None]
        assert heads[other] == [clean[other]]


@pytest.mark.long
def test_the_clean_row_is_the_evaluation(measured: tuple[Path, str], report) -> None:
    scores = json.loads((measured[0] / "result.json").read_text())["scores"]
    names = {"fused": ("clean", "fused"), "video head": ("clean", "video"),
             "audio head": ("clean", "audio"), "audio missing": ("audio_missing", "fused"),
             "video missing": ("video_missing", "fused")}  # fmt: skip
    for name, (row, head) in names.items():
        (found,) = report["rows"][row]["heads"][head]
        for key in ("top1", "nll", "ece"):
            assert found[key]["value"] == pytest.approx(scores[name][key], rel=1e-4), name


@pytest.mark.long
def test_no_shift_is_the_clean_clip_and_the_edges_are_stated(report: dict[str, Any]) -> None:
    rows = report["rows"]
    middle = rows["shift"]["levels"].index(0.0)
    for name in ("shift", "shift_edges"):
        for head in HEADS:
            assert rows[name]["heads"][head][middle] == rows["clean"]["heads"][head][0]
        shares = rows[name]["silent_share"]
        assert shares[middle] == 0
        assert shares[0] > 0  # a toy clip is hardly longer than its window
        assert shares[0] == pytest.approx(shares[-1], abs=0.01)  # the window is in its middle


@pytest.mark.long
def test_the_ends_of_the_sweep_are_the_clips(report: dict[str, Any]) -> None:
    sweep = report["rows"]["lambda_sweep"]
    for head in HEADS:
        assert sweep["bend"][head]["at"][0]["value"] == 0
        assert sweep["bend"][head]["at"][10]["value"] == 0
        inner = [at["value"] for at in sweep["bend"][head]["at"][1:10]]
        assert sweep["bend"][head]["mean"]["value"] == pytest.approx(np.mean(inner))
        assert max(inner) > 0
    own = sweep["off_label"]["fused"]["at"][10]["value"]  # one less the probability of the class
    assert own == pytest.approx(1 - sweep["own"]["fused"]["at"][10]["value"])


@pytest.mark.long
def test_its_cost_is_printed_first(measured: tuple[Path, str]) -> None:
    first, second = measured[1].splitlines()[:2]
    # Ten clips, one view, at 83 levels.
    assert re.fullmatch(
        r"robustness: 17 rows, [\d,]+ windows to decode, 830 to predict; about [\d.]+ minutes",
        first,
    )
    assert second.startswith("[1/17] clean: 1 levels, 0 clips missing, ")


@pytest.mark.long
def test_what_was_stopped_goes_on_with_the_same_bytes(
    measured: tuple[Path, str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    rows, names = "clean,reverb,conflict,frame_loss", ("clean", "reverb", "frame_loss", "conflict")
    with monkeypatch.context() as patch:
        patch.setattr(robustness, "conflict_pass", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate(options(run, tmp_path, rows))
    parts = {name: tmp_path / "robustness" / f"{name}.json" for name in names}
    assert not (tmp_path / "robustness.json").exists()
    assert [name for name, part in parts.items() if part.exists()] == list(names[:3])
    begun = {name: part.stat().st_mtime_ns for name, part in parts.items() if part.exists()}
    said: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(robustness, "echo_on", lambda console, text: said.append(text))
        evaluate(options(run, tmp_path, rows))
    assert said[0] == "robustness: 3 of 4 rows are done already"
    assert begun == {name: parts[name].stat().st_mtime_ns for name in begun}
    for name, part in parts.items():
        assert part.read_bytes() == (measured[0] / "robustness" / part.name).read_bytes(), name
    # Of another network nothing is kept.
    kept = robustness._kept(parts["clean"], "another key")
    assert kept is None
    parts["clean"].write_text("{")
    assert robustness._kept(parts["clean"], "") is None


def test_two_views_are_averaged_and_an_unreadable_clip_is_missing(
    run: Path, toy_set: Path, tmp_path: Path
) -> None:
    """So are clips that need it as the other one."""
    manifest = read_manifest(toy_set, "val")
    others = robustness._others(BY_NAME["conflict"], manifest, robustness._labels(manifest))
    broken = others[0][0]
    lost = [row for row in range(10) if broken in (row, *others[row])]
    data = tmp_path / "data"
    (data / "val").mkdir(parents=True)
    for name in ("dataset.json", "val.jsonl"):
        (data / name).write_bytes((toy_set / name).read_bytes())
    for row, entry in enumerate(manifest.entries):
        if row == broken:
            (data / entry.path).write_bytes(b"no video")
        else:
            (data / entry.path).symlink_to(toy_set / entry.path)
    more = {"root": str(data), "manifest": str(data), "num_views": 2, "verify": "never"}
    evaluate(options(run, tmp_path / "out", "clean,conflict", **more))
    found = json.loads((tmp_path / "out/robustness.json").read_text())["rows"]
    scores = json.loads((tmp_path / "out/result.json").read_text())["scores"]
    path = manifest.entries[broken].path
    assert [bad["path"] for bad in found["clean"]["missing"]] == [path]
    (clean,) = found["clean"]["heads"]["fused"]
    assert clean["num_clips"] == 9
    assert clean["nll"]["value"] == pytest.approx(scores["fused"]["nll"], rel=1e-4)
    missing = found["conflict"]["missing"]
    assert len(lost) > 1
    assert [bad["row"] for bad in missing] == lost
    assert all((bad["row"] == broken) != bad["reason"].startswith(f"{path}: ") for bad in missing)
    assert found["conflict"]["num_clips"] == 10 - len(lost)
    # The page: frames of the nine clips, also from what was kept.
    page = (tmp_path / "out/report.html").read_bytes()
    assert page.count(b'alt="Middle frame"') == 9
    assert page.count(b'src="../data/val/') == 9
    evaluate(EvalConfig(predictions=str(tmp_path / "out")))
    assert (tmp_path / "out/report.html").read_bytes() == page


@pytest.mark.parametrize("shift", [-0.9, -0.3, 0.0, 0.3, 1.5])
def test_a_shift_is_audio_of_another_time_of_the_file(
    beeps: Entry, tmp_path_factory, shift
) -> None:
    """The clip beeps at 0.4, 1.2, 2.0, 2.8 and 3.6 s; its only view is [1, 3)."""
    clip = ClipConfig(num_frames=4, crop=32, short_side=36, duration_seconds=2.0, sample_rate=8000)
    manifest = Manifest(classes=("x",), protocol="p", split="test", entries=(beeps,), sha256="")
    root = tmp_path_factory.getbasetemp() / "beeps"
    views = EvalSet(manifest=manifest, root=root, clip=clip, num_views=1)
    plain, shifted = (
        replace(views, audio_shift_seconds=by).samples([(0, 0)])[0].clip for by in (0.0, shift)
    )
    assert plain is not None
    assert shifted is not None
    assert (shifted.video == plain.video).all()
    in_file = 1 + shift + beep_times(shifted.audio, 8000)
    expected = [t for t in (0.4, 1.2, 2.0, 2.8, 3.6) if 1 + shift < t < 3 + shift]
    assert in_file == pytest.approx(expected, abs=0.03)
    first, stop = audio_span(beeps, 1 + shift, 2.0)
    assert (first, stop) == (0.0, pytest.approx(0.75 if shift == 1.5 else 1.0, abs=0.02))
    assert not shifted.audio[round(stop * 16_000) + 200 :].any()


def test_the_table_is_the_documented_one() -> None:
    assert tuple(condition.name for condition in CONDITIONS) == ROBUSTNESS_ROWS
    page = (ROOT / "docs/robustness.md").read_text()
    for condition in CONDITIONS:
        (line,) = re.findall(rf"^\| `{condition.name}` .*$", page, re.MULTILINE)
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1] == condition.definition
        levels = ", ".join(f"{level:g}" for level in condition.levels)
        expected = f"{levels} {condition.unit}".strip() if condition.unit else "-"
        assert cells[2] == expected
        assert cells[3] == condition.source


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        (["--robustness"], "all"),
        (["--robustness", "--num_views", "2"], "all"),
        (["--robustness", "jpeg,clean"], "jpeg,clean"),
        ([], ""),
    ],
)
def test_the_option_without_a_value_is_all(words: list[str], rows: str) -> None:
    assert load_config(EvalConfig, ["--checkpoint", "x", *words]).robustness == rows


def test_rows_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert rows_asked_for("jpeg, clean,jpeg") == ("clean", "jpeg")
    with pytest.raises(SystemExit) as ended:
        load_config(EvalConfig, ["--checkpoint", "x", "--robustness", "jpg"])
    assert ended.value.code == 2
    assert "robustness: no row 'jpg'; `all`, or some of clean, audio_missing" in (
        capsys.readouterr().err
    )


def test_all_that_a_clip_needs_is_read_with_it() -> None:
    others = {0: (5, 6, 7), 1: (5, 0, 2), 2: (1, 3, 4)}
    assert groups_of([0, 1, 2], others, 1, 8) == [[0, 1], [2]]
    assert groups_of([0, 1, 2], {}, 3, 8) == [[0, 1], [2]]
    assert groups_of([0, 1], {}, 9, 8) == [[0], [1]]
    assert places_of([0, 1], others, 1) == [(row, 0) for row in (0, 1, 5, 6, 7, 2)]
    assert places_of([2], {}, 3) == [(2, 0), (2, 1), (2, 2)]
    for views, batch in ((1, 8), (3, 8), (9, 8)):
        groups = groups_of([0, 1, 2], others, views, batch)
        assert all(
            len(places_of(group, others, views)) <= most_places(views, batch) for group in groups
        )


def test_the_plan_of_the_sweep_is_one_of_mixup() -> None:
    plan = mixup_plan(0.3, 2, "power")
    assert plan.lam == (0.3, 0.3)
    assert plan.partner == (2, 3)
    assert [part.domain for part in plan.parts] == ["pixels", "power"]


def test_clips_of_several_labels_are_refused(toy_set: Path) -> None:
    manifest = read_manifest(toy_set, "val")
    entry = manifest.entries[0]
    with_two: Manifest = replace(
        manifest, entries=(replace(entry, labels=(*entry.labels, manifest.classes[1])),)
    )

    views = EvalSet.__new__(EvalSet)  # which would refuse them, too
    object.__setattr__(views, "manifest", with_two)
    object.__setattr__(views, "num_views", 1)
    subject = Subject.__new__(Subject)
    object.__setattr__(subject, "views", views)
    with pytest.raises(ValueError, match="robustness is of clips of one label"):
        robustness.measure_robustness("clean", subject, Path("x"))
