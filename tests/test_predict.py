"""`avmix predict` and `avmix.load(...).predict`: the numbers of evaluation, for files alone."""

import csv
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from media import write_flash_beep
from test_trained import CLASSES, CONFIG, write

import avmix
from avmix.config import EvalConfig, LossConfig, ModelConfig
from avmix.data.eval_set import EvalSet
from avmix.data.manifest import Manifest, write_manifest
from avmix.data.sample import Sample
from avmix.data.whole_files import entry_of_file, find_files, sliding
from avmix.decode import ClipError, DecodeError, Limits, MediaOpenError
from avmix.evaluation.file_prediction import FilePrediction
from avmix.evaluation.prediction_file import NAME, read_predictions
from avmix.evaluation.timeline_figure import output_names
from avmix.media.judgement import entry_of
from avmix.training import checkpoint
from avmix.types import Entry

HEADS = {"fused": "fused", "video": "video head", "audio": "audio head"}


class Setup(NamedTuple):
    """Files, and a network whose answers depend on them."""

    media: Path
    run: Path


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """Four good files, one of them mute and one without video, and one that is no media file."""
    folder = tmp_path_factory.mktemp("predict")
    media = folder / "media"
    (media / "more").mkdir(parents=True)
    for number, name in enumerate(("a.mp4", "b.mp4")):
        events = (0.2 + 0.1 * number, 0.6, 0.8)
        write_flash_beep(media / name, seconds=1 + 0.2 * number, events_seconds=events,
                         size=(48, 32))  # fmt: skip
    write_flash_beep(media / "more/mute.mp4", seconds=1, events_seconds=(0.4,), size=(48, 32),
                     audio_codec=None)  # fmt: skip
    write_flash_beep(media / "more/only.mp4", seconds=1, events_seconds=(0.4,), video_codec=None)
    (media / "more/text.mp4").write_text("this is no video")
    (media / "notes.txt").write_text("nothing")
    (folder / "run").mkdir()
    write(folder / "run")
    return Setup(media, folder / "run")


def predict(capsys: pytest.CaptureFixture[str], *words: object, workers: int = 0) -> Any:
    """Exit code, and the report as JSON."""
    with pytest.raises(SystemExit) as end:
        avmix_main("predict", *words, "--json", "-", "--workers", workers, "--threads", 1)
    return end.value.code, json.loads(capsys.readouterr().out)


def avmix_main(*words: object) -> None:
    from avmix import cli

    cli.main([str(word) for word in words])


def by_name(report: Any) -> dict[str, Any]:
    return {Path(file["path"]).name: file for file in report["files"]}


def probability(window: Any, head: str) -> list[float | None]:
    """In the order of the classes."""
    of = {ranked["name"]: ranked[head] for ranked in window["classes"]}
    return [of[name] for name in CLASSES]


def test_predictions_are_those_of_evaluation(setup, tmp_path, capsys) -> None:
    """Through the file that an evaluation of the same clips keeps."""
    names = ["a.mp4", "b.mp4", "more/mute.mp4", "more/only.mp4"]
    entries = [
        entry_of(setup.media / name, setup.media, clip_id=name, labels=["x"], source_id=name)
        for name in names
    ]
    write_manifest(tmp_path / "set", classes=CLASSES, protocol="p", splits={"test": entries})
    avmix.evaluate(EvalConfig(
        checkpoint=str(setup.run), root=str(setup.media), manifest=str(tmp_path / "set"),
        out=str(tmp_path / "eval"), num_views=2, num_workers=0, threads=1, resamples=0,
    ))  # fmt: skip
    kept = read_predictions(tmp_path / "eval" / NAME)
    capsys.readouterr()
    files = [setup.media / name for name in names]
    code, report = predict(capsys, *files, "--checkpoint", setup.run, "--views", 2, "--top", 0)
    assert code == 0
    assert len({round(value, 5) for value in kept.probability["fused"].flatten()}) > 9
    for i, (name, file) in enumerate(zip(names, report["files"], strict=True)):
        (window,) = file["windows"]
        for head, row in HEADS.items():
            found = probability(window, head)
            if kept.counted[row][i]:
                assert found == pytest.approx(kept.probability[row][i].tolist(), abs=1e-6)
            else:
                assert found == [None] * 3
        decision = window["decision"]
        best = CLASSES.index(decision["answer"])
        if name in ("a.mp4", "b.mp4"):
            for field, row in (("video", "video missing"), ("audio", "audio missing")):
                expected = kept.probability[row][i][best]
                assert decision[f"without_{field}"] == pytest.approx(expected, abs=1e-6)
        # In Python: from the path, the bytes and a file object.
        path = setup.media / name
        with path.open("rb") as opened:
            for source in (path, path.read_bytes(), opened):
                said = avmix.load(setup.run).predict(source, num_views=2)
                assert said.fused == pytest.approx(kept.probability["fused"][i], abs=1e-6)
                assert (said.audio is None) == (name == "more/mute.mp4")
                assert (said.video is None) == (name == "more/only.mp4")


def test_folders_name_what_cannot_be_read_and_the_exit_code_says_it(setup, capsys) -> None:
    missing = setup.media / "gone.mp4"
    code, report = predict(capsys, setup.media, missing, setup.media / "a.mp4",
                           "--checkpoint", setup.run, "--views", 1)  # fmt: skip
    assert code == 3
    files = by_name(report)
    assert [*files] == ["a.mp4", "b.mp4", "mute.mp4", "only.mp4", "text.mp4", "gone.mp4"]
    assert (report["num_predicted"], report["num_failed"]) == (4, 2)
    assert files["gone.mp4"]["problems"] == ["No such file or directory"]
    assert len(files["text.mp4"]["problems"]) == 1
    assert files["mute.mp4"]["windows"][0]["decision"]["decided"] == "video"
    assert files["only.mp4"]["windows"][0]["decision"]["decided"] == "audio"
    with pytest.raises(SystemExit) as end:
        avmix_main("predict", setup.media, "--checkpoint", setup.run, "--workers", 0, "--csv", "-")
    said = capsys.readouterr()
    assert end.value.code == 3
    assert "1 of 5 could not be predicted" in said.err
    assert f"{setup.media}/more/text.mp4: " in said.err
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [row["rank"] for row in rows] == [*"123123123123", ""]
    assert {row["audio"] for row in rows if row["path"].endswith("mute.mp4")} == {"-"}
    assert rows[-1]["problem"]


@pytest.mark.parametrize("what", ["text", "empty", "checkpoint"])
def test_nothing_predicted_is_exit_code_1(setup, tmp_path, capsys, what: str) -> None:
    checkpoint_of = tmp_path / "no.pt" if what == "checkpoint" else setup.run
    (tmp_path / "folder").mkdir()
    path = {"text": setup.media / "more/text.mp4", "empty": tmp_path / "folder",
            "checkpoint": setup.media / "a.mp4"}[what]  # fmt: skip
    with pytest.raises(SystemExit) as end:
        avmix_main("predict", path, "--checkpoint", checkpoint_of, "--workers", 0)
    assert end.value.code == 1
    says = {"text": "1 of 1 could not be predicted", "empty": "no media file in this folder",
            "checkpoint": f"error: {tmp_path}/no.pt"}[what]  # fmt: skip
    assert says in capsys.readouterr().err


def test_a_timeline_is_the_predictions_of_its_windows(setup, tmp_path, capsys) -> None:
    """Windows of 0.3 s every 0.25 s of 1.2 s: 0, 0.25, 0.5, 0.75, and one that ends with the
    file."""
    out = tmp_path / "figures"
    code, report = predict(
        capsys, setup.media / "b.mp4", setup.media / "more/mute.mp4", "--checkpoint", setup.run,
        "--along-time", "--step", 0.25, "--top", 0, "--figures", out,
    )  # fmt: skip
    assert code == 0
    windows = report["files"][0]["windows"]
    starts = [window["start_seconds"] for window in windows]
    assert starts == pytest.approx([0.0, 0.25, 0.5, 0.75, 0.9], abs=1e-9)
    assert windows[-1]["end_seconds"] == pytest.approx(1.2)
    net = avmix.load(setup.run)
    for window in windows:
        clip = avmix.decode_clip(setup.media / "b.mp4", start_seconds=window["start_seconds"],
                                 **net.decoding)  # fmt: skip
        has = torch.tensor([clip.audio_valid > 0])  # also of a window whose samples are all 0
        logits = net(net.frames(clip), net.waveform(clip), has_audio=has)
        expected = logits.fused.softmax(1)[0].tolist()
        assert probability(window, "fused") == pytest.approx(expected, abs=1e-6)
    assert all(window["decision"]["decided"] == "video"
               for window in report["files"][1]["windows"])  # fmt: skip
    assert sorted(path.name for path in out.iterdir()) == ["b.png", "mute.png"]
    assert (out / "b.png").read_bytes()[:4] == b"\x89PNG"


def test_the_windows_of_a_timeline_are_bounded(make_entry) -> None:
    short = make_entry(end_seconds=0.1)
    assert [e.end_seconds for e in sliding(short, 0.3, 1.0)] == [0.1]
    exact = make_entry(start_seconds=2.0, end_seconds=4.5)
    assert [e.start_seconds for e in sliding(exact, 0.5, 1.0)] == [2.0, 3.0, 4.0]
    with pytest.raises(ValueError, match="use a larger step"):
        sliding(make_entry(end_seconds=1e9), 1.0, 0.5)


def test_several_labels_are_those_above_the_threshold(setup, tmp_path, capsys) -> None:
    state = checkpoint.load(setup.run / "last.pt")
    config = replace(CONFIG, loss=LossConfig(labels="multi"))
    checkpoint.save(tmp_path / "last.pt", replace(state, config=config))
    file = setup.media / "a.mp4"
    net = avmix.load(tmp_path)
    prediction = net.predict(file, num_views=1)
    start = (1.0 - 0.3) / 2
    clip = avmix.decode_clip(file, start_seconds=start, **net.decoding)
    expected = net(net.frames(clip), net.waveform(clip)).fused.sigmoid()[0].detach().numpy()
    assert prediction.fused == pytest.approx(expected, abs=1e-6)
    threshold = float(np.sort(expected)[1])  # the second of three: it and the highest reach it
    code, report = predict(capsys, file, "--checkpoint", tmp_path, "--views", 1, "--threshold",
                           threshold - 1e-6)  # fmt: skip
    assert code == 0
    named = [ranked["name"] for ranked in report["files"][0]["windows"][0]["classes"]]
    assert named == [CLASSES[k] for k in np.argsort(-expected)[:2]]
    for words, where in ((["--top", "2"], tmp_path), (["--threshold", "0.5"], setup.run)):
        with pytest.raises(SystemExit) as end:
            avmix_main("predict", file, "--checkpoint", where, *words)
        assert end.value.code == 1
        assert f"error: {words[0]} cannot act" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        avmix_main("predict", file, "--checkpoint", tmp_path, "--threshold", "1", "--workers", 0)
    assert end.value.code == 0
    assert "none at 100 %; highest: " in capsys.readouterr().out


def test_windows_of_a_file_are_read_together_and_failures_one_by_one(setup) -> None:
    """Times a file is opened: once for five windows; where one fails, once more for each."""
    net = avmix.load(setup.run)
    path = str(setup.media / "b.mp4")
    entry, _ = entry_of_file(path, Limits())
    windows = sliding(entry, 0.3, 0.25)
    told: list[int] = []

    def read(entries: list[Entry], skip: dict[int, str]) -> list[Sample]:
        told.clear()
        manifest = Manifest(classes=net.classes, protocol="", split="", entries=tuple(entries),
                            sha256="", several_labels=True)  # fmt: skip
        reader = EvalSet(manifest=manifest, root=Path(), clip=net.clip, num_views=1,
                            several_labels=True)  # fmt: skip
        places = [(row, 0) for row in range(len(entries))]
        assert len(reader.groups(places)) == 1
        return reader.samples(places, skip, told.append)

    plain = read(windows, {1: "it crashed"})
    assert told == [0, 2, 3, 4]
    assert [sample.clip is None for sample in plain] == [False, True, False, False, False]
    together = read(windows, {})
    assert told == [0]
    for one, other in zip(together, plain, strict=True):
        assert one.clip is not None
        if other.clip is not None:
            assert np.array_equal(one.clip.video, other.clip.video)
            assert np.array_equal(one.clip.audio, other.clip.audio)
    beyond = replace(windows[-1], clip_id="z", start_seconds=50.0, end_seconds=50.3)
    some = read([*windows, beyond], {})
    assert told == [0, 0, 1, 2, 3, 4, 5]
    assert [sample.clip is None for sample in some] == [False] * 5 + [True]
    assert "ClipRangeError" in some[-1].bad[0].reason


@pytest.mark.long
def test_the_number_of_processes_does_not_show(setup, tmp_path, capsys) -> None:
    def said(workers: int) -> Any:
        return predict(capsys, setup.media, "--checkpoint", setup.run, workers=workers)

    assert said(2) == said(0)


def test_captions_lie_over_the_frames_and_the_audio_stays(setup, tmp_path, capsys) -> None:
    """48 x 32 pixels become 360 x 240; the upper half has no text."""
    out = tmp_path / "out"
    source = setup.media / "b.mp4"
    code, report = predict(
        capsys, source, setup.media / "more/only.mp4", "--checkpoint", setup.run,
        "--along-time", "--step", 0.3, "--video-out", out,
    )  # fmt: skip
    assert code == 0
    assert [path.name for path in out.iterdir()] == ["b.mp4"]
    video, audio = avmix_probe(out / "b.mp4")
    assert (video.width, video.height, video.num_frames) == (360, 240, 30)
    assert audio.duration_seconds == pytest.approx(1.2, abs=0.05)
    window = {"start_seconds": 0.0, "duration_seconds": 1.2, "num_frames": 30}
    copy = avmix.decode_clip(out / "b.mp4", **window).video.astype(float)
    plain = avmix.decode_clip(source, short_side=240, **window).video.astype(float)
    assert copy.shape == plain.shape
    assert np.abs(copy - plain)[:, :100].mean() < 8
    assert np.abs(copy - plain)[:, 180:].mean() > 20
    # Each window has a caption of its own, from half way to the next on.
    assert len(report["files"][0]["windows"]) == 4


def avmix_probe(path: Path) -> tuple[Any, Any]:
    from avmix.media.probe import probe

    return probe(path)


def prediction_of(fused: float, no_video: float | None, no_audio: float | None) -> FilePrediction:
    """Two classes; the first is the answer."""

    def both(value: float | None) -> np.ndarray | None:
        return None if value is None else np.array([value, 1 - value], np.float32)

    whole = both(fused)
    assert whole is not None
    return FilePrediction(
        path="x", classes=("a", "b"), start_seconds=0.0, end_seconds=1.0, num_views=1, fused=whole,
        video=None if no_audio is None else whole, audio=None if no_video is None else whole,
        without_video=both(no_video), without_audio=both(no_audio),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("no_video", "no_audio", "decided"),
    [
        (0.1, 0.8, "video"),
        (0.85, 0.3, "audio"),
        (0.4, 0.42, "both"),
        (0.88, 0.9, "either"),
        (1.0, 0.9, "either"),  # without video it is surer still: no drop
        (1.0, 0.5, "audio"),
        (None, 0.9, "video"),
        (0.9, None, "audio"),
    ],
)
def test_which_modality_decided(no_video, no_audio, decided: str) -> None:
    found = prediction_of(0.9, no_video, no_audio).decision
    assert (found.answer, found.decided) == ("a", decided)
    assert found.probability == pytest.approx(0.9)


def test_the_top_classes_are_in_order() -> None:
    prediction = replace(prediction_of(0.2, 0.2, 0.2), classes=("a", "b"))
    assert [ranked.name for ranked in prediction.top()] == ["b", "a"]
    assert [ranked.name for ranked in prediction.top(1)] == ["b"]
    assert [ranked.name for ranked in prediction.above(0.5)] == ["b"]
    with pytest.raises(ValueError, match="k must be at least 1"):
        prediction.top(0)


def test_python_raises_what_is_wrong_with_a_file(setup, tmp_path) -> None:
    net = avmix.load(setup.run)
    with pytest.raises(MediaOpenError, match=r"text\.mp4"):
        net.predict(setup.media / "more/text.mp4")
    with pytest.raises(FileNotFoundError):
        net.predict(tmp_path / "gone.mp4")
    with pytest.raises(ClipError, match=r"<16 bytes>"):
        net.predict(b"this is no video")
    with pytest.raises(ValueError, match="num_views must be at least 1"):
        net.predict(setup.media / "a.mp4", num_views=0)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaOpenError, match="not a regular file"):
        net.predict(tmp_path / "pipe.mp4")


def test_a_network_of_one_modality_says_what_it_cannot_read(setup, tmp_path) -> None:
    model = ModelConfig(modalities="audio", audio=CONFIG.model.audio)
    config = replace(CONFIG, model=model)
    write(tmp_path, config)
    net = avmix.load(tmp_path)
    said = net.predict(setup.media / "a.mp4")
    assert said.video is None
    assert said.decision.decided == "audio"
    with pytest.raises(DecodeError, match="reads only audio"):
        net.predict(setup.media / "more/mute.mp4")


def test_files_are_found_once(setup, tmp_path) -> None:
    (tmp_path / "link.mp4").symlink_to(setup.media / "a.mp4")
    names = [str(setup.media / "a.mp4"), str(setup.media), str(tmp_path / "link.mp4")]
    found = find_files(names)
    assert [Path(path).name for path in found.paths] == [
        "a.mp4", "b.mp4", "mute.mp4", "only.mp4", "text.mp4",
    ]  # fmt: skip
    assert found.num_others == 1


def test_outputs_have_names_of_their_own() -> None:
    assert output_names(["x/a.mp4", "y/a.mkv", "y/A.mp4", "..mp4", "a b/c:d.mp4"]) == [
        "a", "a_2", "A_3", "file", "c_d",
    ]  # fmt: skip


def test_the_lines_of_the_page_run(setup, tmp_path, monkeypatch, capsys) -> None:
    page = Path(__file__).parents[1] / "docs/predicting.md"
    streaming, code = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/demo").symlink_to(setup.run)
    (tmp_path / "clip.mp4").symlink_to(setup.media / "a.mp4")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    said = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in said[:3]} == {*CLASSES}
    assert said[3] in ("video", "audio", "both", "either")
    exec(streaming, {})  # four seconds, a window of 0.3 s every 0.5, and one that ends with them
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[:-1]] == [str(k / 2) for k in range(len(said) - 1)]
    assert said[-1] == f"{9 - (len(said) - 1)} more; 0 lost"
