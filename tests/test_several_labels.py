"""Clips with several labels, from files to the table of an evaluation."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import several_labels
import torch
from several_labels import CLASSES
from sklearn.metrics import average_precision_score, roc_auc_score

from avmix.commands import evaluate as evaluation
from avmix.commands import train
from avmix.config import EvalConfig, TrainConfig, load_config
from avmix.config.mix_method import METHODS
from avmix.data.dataset import TrainSet
from avmix.data.eval_set import EvalSet
from avmix.data.manifest import ManifestError, read_manifest, write_manifest
from avmix.evaluation.metrics import SetScores, SeveralScores
from avmix.evaluation.prediction_file import read_predictions
from avmix.prepare.command import run_recipe
from avmix.training import checkpoint
from avmix.training.runlog import RunLog
from tests.recipes_media import MAKERS, load_recipe, options

SHARES = {"val": 0.1, "test": 0.2, "source": None}

SMALL = """
data: {num_workers: 0, val_split: ""}
clip: {duration_seconds: 0.5, num_frames: 2, sample_rate: 8000, short_side: 20, crop: 16}
frontend: {num_mels: 16, n_fft: 256, hop_length: 128, mel_mean: -4.0, mel_std: 3.0}
model: {video: {channels: [4, 4]}, audio: {channels: [4, 4]}}
mix: {alpha: 4.0}
optim: {epochs: 2, batch_size: 8}
run: {device: cpu, threads: 1, log_every: 1}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips to train on, six to evaluate."""
    folder = tmp_path_factory.mktemp("several") / "set"
    return several_labels.write_set(folder, {"train": 8, "val": 6}, unknown=0.2)


def config_of(data: Path, out: Path, *options: str) -> TrainConfig:
    base = out.parent / "base.yaml"
    out.parent.mkdir(parents=True, exist_ok=True)
    base.write_text(SMALL)
    return load_config(TrainConfig, ["--config", str(base), "--data.root", str(data),
                                     "--run.out", str(out), *options])  # fmt: skip


def rows(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


NEEDS = {
    "energy": ["--mix.audio_domain", "waveform"],
    "cross": ["--model.shared_width", "6", "--mix.cross_with", "partner"],
}
WAYS: dict[str, list[str]] = {
    **{method: ["--mix.method", method, *NEEDS.get(method, [])] for method in METHODS},
    "mixup@layer": ["--mix.method", "mixup@layer"],
    "mixup@feature+dropout": ["--mix.method", "mixup@feature+dropout", "--mix.drop_audio", "0.4"],
    "different_class": ["--mix.pairing", "different_class"],
    "second_batch": ["--mix.pairing", "second_batch", "--optim.batch_size", "4"],
    "consistency": ["--loss.agreement", "0.5", "--loss.interpolation", "0.5",
                    "--loss.contrastive", "0.5", "--model.shared_width", "6"],
    "weights": ["--loss.class_weights", "counts", "--loss.label_smoothing", "0.1"],
    "average": ["--model.fusion", "average"],
    "background": ["--augment.background", "1", "--augment.background_label", "soften"],
}  # fmt: skip
EVERY_TIME = ("mixup", "video", "consistency", "weights", "background")


@pytest.mark.parametrize(
    ("way", "labels"),
    [
        pytest.param(way, labels, marks=() if way in EVERY_TIME else pytest.mark.long)
        for way in WAYS
        for labels in ("sum", "max")
        if not (labels == "max" and way in ("consistency", "none"))
    ],
)
def test_every_way_to_mix_trains_on_several_labels_and_goes_on_exactly(
    way: str, labels: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    union = ["--mix.labels", "max", "--loss.labels", "multi"] if labels == "max" else []
    config = config_of(tiny, tmp_path / "whole", *WAYS[way], *union)
    train.train(config)
    whole = rows(tmp_path / "whole", "step")
    assert len(whole) == 2
    assert all(0 < row[f"loss_{head}"] < 3 for row in whole for head in ("fused", "video", "audio"))

    cut = replace(config, run=replace(config.run, out=str(tmp_path / "cut")))

    def ended(log: RunLog, epoch: int, *more: int) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "epoch_started", ended)
        with pytest.raises(KeyboardInterrupt):
            train.train(cut)
    train.train(cut)
    assert rows(tmp_path / "cut", "step") == whole
    ours, theirs = (checkpoint.load(tmp_path / x / "last.pt") for x in ("whole", "cut"))
    assert all(torch.equal(ours.model[name], theirs.model[name]) for name in theirs.model)
    assert ours.chance is not None
    assert theirs.chance is not None
    assert torch.equal(ours.chance.sums, theirs.chance.sums)
    assert (ours.config.loss.labels, ours.config.loss.kind) == ("multi", "binary")


def read_all(folder: Path, *options: str) -> tuple[TrainSet, list[Any], Any]:
    """The train split: as a dataset, as samples of the first epoch, and as a batch."""
    config = config_of(folder, folder.parent / "out", *options)
    data = TrainSet(manifest=read_manifest(folder, "train"), root=folder, clip=config.clip, seed=0,
                    augment=config.augment, frontend=config.frontend,
                    several_labels=True)  # fmt: skip
    samples = [data.read_row(0, row)[0] for row in range(8)]
    return data, samples, data.collate(samples).batch


def test_a_batch_says_what_is_visible_audible_and_unknown(tiny: Path) -> None:
    manifest = read_manifest(tiny, "train")
    assert manifest.several_labels
    data, _, batch = read_all(tiny)
    assert batch.video_target is not None
    assert batch.audio_target is not None
    for i, entry in enumerate(manifest.entries):
        for target, names in (
            (batch.target, entry.labels),
            (batch.video_target, entry.video_labels),
            (batch.audio_target, entry.audio_labels),
        ):
            said = dict(zip(CLASSES, target[i].tolist(), strict=True))
            assert {n for n, value in said.items() if value == 1} == {*(names or ())}
            assert {n for n, v in said.items() if v != v} == {*entry.unknown_labels}
    assert any(entry.unknown_labels for entry in manifest.entries)
    assert sum(t[0].nbytes for t in batch.tensors().values()) == data.bytes_per_clip

    # With the audio of another clip as background, what is audible is partly its labels.
    data, samples, laid = read_all(tiny, "--augment.background", "1",
                                   "--augment.background_label", "soften")  # fmt: skip
    assert laid.audio_target is not None
    for i, sample in enumerate(samples):
        assert sample.background is not None
        row, share = sample.background
        other, own = batch.audio_target[row], batch.audio_target[i]
        expected = own + share * (other - own) if share > 0 else own
        torch.testing.assert_close(laid.audio_target[i], expected, equal_nan=True)
    assert any(sample.background[1] > 0 for sample in samples)
    assert sum(t[0].nbytes for t in laid.tensors().values()) == data.bytes_per_clip


def mean_precision(lines: list[dict[str, Any]], name: str, wanted: dict[str, set[str]]) -> float:
    """mAP of a row, by scikit-learn, over the classes that have a positive and a negative."""
    there = [line for line in lines if name in line["probability"]]
    found = []
    for k, label in enumerate(CLASSES):
        y = [label in wanted[line["clip_id"]] for line in there]
        if 0 < sum(y) < len(y):
            p = [line["probability"][name][k] for line in there]
            found.append(average_precision_score(y, p))
    return sum(found) / len(found)


def evaluated(run: Path, data: Path, split: str) -> tuple[Any, list[dict[str, Any]]]:
    """Scores of the last checkpoint, and what was predicted of every clip."""
    scores = evaluation.evaluate(
        EvalConfig(checkpoint=str(run), split=split, num_views=1, num_workers=0, threads=1)
    )
    manifest, kept = read_manifest(data, split), read_predictions(run / f"eval_{split}")
    found = [
        {"clip_id": clip.clip_id,
         "probability": {name: kept.probability[name][i].tolist() for name in kept.probability
                         if kept.counted[name][i]}}
        for i, clip in enumerate(kept.clips)
    ]  # fmt: skip
    assert [line["clip_id"] for line in found] == [entry.clip_id for entry in manifest.entries]
    for name, field in (("fused", "labels"), ("video head", "video_labels"),
                        ("audio missing", "video_labels"), ("audio head", "audio_labels"),
                        ("video missing", "audio_labels")):  # fmt: skip
        wanted = {e.clip_id: {*getattr(e, field)} for e in manifest.entries}
        score = scores[name]
        assert isinstance(score, SeveralScores)
        assert score.mean_ap == pytest.approx(mean_precision(found, name, wanted), abs=1e-4)
    return scores, found


def test_a_run_is_evaluated_by_what_is_visible_and_audible(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train.train(config_of(tiny, run, "--data.val_split", "val"))
    assert set(rows(run, "epoch")[0]["val"]["fused"]) == {"num_clips", "num_classes", "mean_ap",
                                                          "nll"}  # fmt: skip
    assert checkpoint.load(run / "best.pt").best > 0
    scores, found = evaluated(run, tiny, "val")
    assert scores["audio head"].num_clips == 5  # of six one has no audio
    with_audio = [line for line in found if "audio head" in line["probability"]]
    assert len(with_audio) == 5
    assert any(abs(sum(line["probability"]["fused"]) - 1) > 0.1 for line in found)  # no softmax
    result = json.loads((run / "eval_val/result.json").read_text())
    positives = [sum(name in e.labels for e in read_manifest(tiny, "val").entries)
                 for name in CLASSES]  # fmt: skip
    assert [row["clips"] for row in result["per_class"]] == positives
    assert "mAP" in capsys.readouterr().out


def test_what_does_not_go_with_several_labels_is_refused_by_name(
    tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(ManifestError, match=r"^loss\.labels single: clips of several have"):
        train.train(config_of(tiny, tmp_path / "a", "--loss.labels", "single"))
    manifest = read_manifest(tiny, "train")
    config = config_of(tiny, tmp_path / "a")
    with pytest.raises(ManifestError, match=r"one label is needed.*loss\.labels multi"):
        EvalSet(manifest=manifest, root=tiny, clip=config.clip, num_views=1)
    weights = tmp_path / "weights.json"
    for text, message in (
        ("{", "weights.json: Expecting"),
        ('{"red": 1}', r"must map every class to its weight, and only those: \['blue'\]"),
        ('{"red": 1, "green": 0, "blue": 1, "rise": 2}', "weight of 'green' must be above 0"),
        ('{"red": 1, "green": true, "blue": 1, "rise": 2}', "weight of 'green' must be above 0"),
        ('{"red": 1, "green": NaN, "blue": 1, "rise": 2}', "weight of 'green' must be above 0"),
        *(
            (f'{{"red": 1, "green": {huge}, "blue": 1, "rise": 2}}', "'green' .* float32 holds")
            for huge in ("1e400", "1e39", "1e-50", "1" + "0" * 400)
        ),
        ("[" * 100_000, "recursion"),
    ):
        weights.write_text(text)
        with pytest.raises(ValueError, match=rf"(?s)^loss\.class_weights: .*{message}"):
            train.train(config_of(tiny, tmp_path / "a", "--loss.class_weights", str(weights)))


@pytest.mark.long
def test_it_learns_what_is_visible_and_what_is_audible(tmp_path: Path) -> None:
    data = several_labels.write_set(tmp_path / "set", {"train": 96, "test": 48}, unknown=0.1)
    run = tmp_path / "run"
    train.train(config_of(
        data, run, "--model.video.channels", "[8, 16]", "--model.audio.channels", "[8, 16]",
        "--optim.epochs", "20", "--optim.lr", "0.01", "--optim.batch_size", "16",
        "--mix.alpha", "0.2", "--mix.ramp_epochs", "5", "--mix.off_epochs", "3",
        "--frontend.num_mels", "32",
    ))  # fmt: skip
    scores, _ = evaluated(run, data, "test")
    found = {name: round(s.mean_ap, 3) for name, s in scores.items()}
    assert min(found.values()) > 0.9, found  # of 1, which a perfect network has in every row


def test_a_manifest_of_several_labels_says_so_and_others_keep_their_bytes(
    tmp_path: Path, make_entry: Any
) -> None:
    several = make_entry("b", labels=("x", "y"), video_labels=("x",), audio_labels=("y", "x"),
                         unknown_labels=("z",))  # fmt: skip
    entries = {"train": [make_entry("a"), several], "test": [make_entry("c")]}
    write_manifest(tmp_path, classes=["x", "y", "z"], protocol="p", splits=entries)
    assert json.loads((tmp_path / "dataset.json").read_text())["labels"] == "multi"
    first, second = (tmp_path / "train.jsonl").read_text().splitlines()
    assert "_labels" not in first
    assert json.loads(second)["unknown_labels"] == ["z"]
    assert read_manifest(tmp_path, "train").entries == tuple(entries["train"])
    assert read_manifest(tmp_path, "test").several_labels  # though each of its clips has one
    for change, message in (
        ({"audio_labels": ("y",), "video_labels": ("y",)}, r"labels \['x', 'y'\] must be those of"),
        ({"audio_labels": None}, "given both or not at all"),
        ({"unknown_labels": ("x",)}, "'x' is in labels and in unknown_labels"),
        ({"unknown_labels": ("w",)}, "has label 'w', which is not a class"),
    ):
        wrong = {"train": [replace(several, **change)]}
        with pytest.raises(ManifestError, match=f"clip 'b'.*{message}"):
            write_manifest(tmp_path / "x", classes=["x", "y", "z"], protocol="p", splits=wrong)


def write_table(data: Path, path: Path) -> Path:
    """The clips of a set as a table for the recipe of own clips, in the shape of VGGSounder: what
    is visible, what is audible."""
    lines = ["path,label,video_label,audio_label,unknown_label,split,source"]
    for split in ("train", "val"):
        for e in read_manifest(data, split).entries:
            if not e.labels:  # which a table must have
                continue
            names = ("|".join(some or ()) for some in (e.labels, e.video_labels, e.audio_labels,
                                                       e.unknown_labels))  # fmt: skip
            lines.append(",".join([e.path, *names, split, e.source_id]))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_table_says_what_is_visible_audible_and_unknown(tiny: Path, tmp_path: Path) -> None:
    table = write_table(tiny, tmp_path / "clips.csv")
    (protocol,) = load_recipe("folder").protocols(options(table, tiny, **SHARES))
    assert protocol.problems == ()
    assert protocol.classes == tuple(sorted(CLASSES))
    entries = [e for s in ("train", "val") for e in read_manifest(tiny, s).entries if e.labels]
    for clip, entry in zip(protocol.expected, entries, strict=True):
        assert {*clip.labels} == {*entry.labels}
        for name in ("video_labels", "audio_labels", "unknown_labels"):
            assert getattr(clip, name) == getattr(entry, name)
    clip = protocol.expected[0].of_classes({"green", "rise"})
    assert {*clip.labels, *(clip.video_labels or ()), *clip.unknown_labels} <= {"green", "rise"}
    table.write_text("path,label,visible,audible\n0.mkv,a|b,a,c\n0.mkv,a|b,a,b\n")
    (protocol,) = load_recipe("folder").protocols(options(table, tiny, **SHARES))
    assert [p.reason for p in protocol.problems] == [
        "label a|b must be those of video_label and audio_label together: a|c"
    ]
    assert [clip.audio_labels for clip in protocol.expected] == [("b",)]


@pytest.mark.long
@pytest.mark.parametrize("name", ["audioset", "epic_kitchens_100", "folder"])
def test_prepared_by_a_recipe_it_trains_two_epochs_and_is_evaluated(
    name: str, tiny: Path, tmp_path: Path
) -> None:
    """As AudioSet, EPIC-KITCHENS (verb and noun) and VGGSounder have them."""
    if name == "folder":
        annotations, media = write_table(tiny, tmp_path / "clips.csv"), tiny
    else:
        annotations, media = MAKERS[name](tmp_path)
    protocol, split = {
        "audioset": ("audioset/balanced", "test"),
        "epic_kitchens_100": ("epic_kitchens_100/verb_noun", "val"),
        "folder": (f"folder/{tiny.name}", "val"),
    }[name]
    recipe, out, run = load_recipe(name), tmp_path / "prepared", tmp_path / "run"
    argv = ["--media", str(media), "--annotations", str(annotations), "--out", str(out),
            "--protocol", protocol, "--workers", "1"]  # fmt: skip
    arguments = getattr(recipe, "arguments", None)
    assert run_recipe(name, recipe.__doc__, recipe.protocols, arguments=arguments, argv=argv) == 0
    assert json.loads((out / "dataset.json").read_text())["labels"] == "multi"
    train.train(config_of(media, run, "--data.manifest", str(out), "--optim.batch_size", "2"))
    assert checkpoint.load(run / "last.pt").epoch == 2
    found = evaluation.evaluate(
        EvalConfig(checkpoint=str(run), split=split, num_views=2, num_workers=0, threads=1)
    )
    # Verb and noun are label sets, as its recipe says; the others have several labels.
    kind = SetScores if name == "epic_kitchens_100" else SeveralScores
    assert isinstance(found["fused"], kind)
    assert found["fused"].num_clips == len(read_manifest(out, split).entries)


def test_a_network_of_one_label_is_evaluated_on_clips_with_several(
    tiny: Path, tmp_path: Path
) -> None:
    """As one that was trained on VGGSound is on VGGSounder: its probabilities are a softmax, and
    each row is judged by the labels of its modality; mu as the package of VGGSounder counts it."""
    one = tmp_path / "one"
    splits = {"train": [
        replace(e, labels=e.labels[:1], video_labels=None, audio_labels=None, unknown_labels=())
        for e in read_manifest(tiny, "train").entries if e.labels
    ]}  # fmt: skip
    write_manifest(one, classes=CLASSES, protocol="one", splits=splits)
    run = tmp_path / "run"
    train.train(config_of(tiny, run, "--data.manifest", str(one), "--optim.batch_size", "4"))
    assert checkpoint.load(run / "last.pt").config.loss.labels == "auto"
    config = EvalConfig(checkpoint=str(run), split="val", manifest=str(tiny), num_views=1,
                        num_workers=0, threads=1, resamples=100)  # fmt: skip
    found = evaluation.evaluate(config)
    assert isinstance(found["fused"], SeveralScores)
    kept = read_predictions(run / "eval_val")
    for row, p in kept.probability.items():
        np.testing.assert_allclose(p[kept.counted[row]].sum(1), 1, atol=1e-5)
    result = json.loads((run / "eval_val/result.json").read_text())
    entries = {e.clip_id: e for e in read_manifest(tiny, "val").entries}
    both = [i for i, clip in enumerate(kept.clips) if entries[clip.clip_id].audio]
    labels = [{CLASSES.index(name) for name in entries[kept.clips[i].clip_id].labels}
              for i in both]  # fmt: skip
    hits = {row: np.array([int(p[i].argmax()) in own for i, own in zip(both, labels, strict=True)])
            for row, p in kept.probability.items()}  # fmt: skip
    fails = ~hits["fused"]
    for name, alone in (("audio", hits["video missing"]), ("video", hits["audio missing"]),
                        ("both", hits["video missing"] & hits["audio missing"])):  # fmt: skip
        wanted = (alone & fails).mean()
        assert result["fusion"][f"mu_inputs_{name}"]["value"] == pytest.approx(wanted)
    heard = [entries[kept.clips[i].clip_id].audio_labels or () for i in both]
    wanted = np.mean([CLASSES[kept.probability["audio head"][i].argmax()] in own
                      for i, own in zip(both, heard, strict=True) if own])  # fmt: skip
    rows = result["intervals"]["rows"]
    assert rows["audio head"]["top1"]["value"] == pytest.approx(wanted)
    assert {"hit_at_3", "f1_at_1", "f1_at_3"} <= rows["fused"].keys()
    with pytest.raises(ValueError, match="robustness is of clips of one label; several has"):
        evaluation.evaluate(replace(config, robustness="clean"))


MIDS = {name: f"/m/{name}" for name in CLASSES}


def write_audioset(root: Path, counts: dict[str, int]) -> tuple[Path, Path]:
    """Annotations in the form of AudioSet and files of several labels; every sixth has no audio,
    every seventh no video."""
    lists, media = root / "csv", root / "audioset"
    for folder in (lists, media):
        folder.mkdir(parents=True)
    names = "".join(f"{k},{mid},{name}\n" for k, (name, mid) in enumerate(MIDS.items()))
    (lists / "class_labels_indices.csv").write_text("index,mid,display_name\n" + names)
    first = 0
    for file, count in counts.items():
        lines = ["# YTID, start_seconds, end_seconds, positive_labels"]
        for number in range(first, first + count):
            entry = several_labels.entry_of_clip(media, number)
            stem = f"clip-{number:06d}"
            whole = media / f"{stem}_0.000_0.600.mkv"
            (media / f"{number}.mkv").rename(whole)
            labels = entry.labels
            if number % 7 == 6 and entry.audio_labels:
                labels = entry.audio_labels
                several_labels.write_clip(whole, None, list(labels), number)
            mids = ",".join(MIDS[name] for name in labels)
            lines.append(f'{stem}, 0.000, 0.600, "{mids}"')
        first += count
        (lists / file).write_text("\n".join(lines) + "\n")
    return lists, media


@pytest.mark.long
def test_a_miniature_of_audioset_is_learned(tmp_path: Path) -> None:
    """Prepared by the recipe with files that have only audio, sampled by class; mAP, AUC and d' of
    every row equal those of scikit-learn and scipy."""
    norm = pytest.importorskip("scipy.stats").norm
    lists, media = write_audioset(
        tmp_path, {"balanced_train_segments.csv": 112, "eval_segments.csv": 56}
    )
    recipe, out, run = load_recipe("audioset"), tmp_path / "prepared", tmp_path / "run"
    argv = ["--media", str(media), "--annotations", str(lists), "--out", str(out), "--protocol",
            "audioset/balanced", "--workers", "1", "--keep-audio-only"]  # fmt: skip
    assert run_recipe("audioset", recipe.__doc__, recipe.protocols, argv=argv) == 0
    manifest = read_manifest(out, "test")
    assert len(manifest.entries) == 56
    lacking = {name: sum(getattr(e, name) is None for e in manifest.entries)
               for name in ("video", "audio")}  # fmt: skip
    assert min(lacking.values()) > 3
    train.train(config_of(
        media, run, "--data.manifest", str(out), "--data.balance", "class",
        "--model.video.channels", "[8, 16]", "--model.audio.channels", "[8, 16]",
        "--optim.epochs", "20", "--optim.lr", "0.01", "--optim.batch_size", "16",
        "--mix.alpha", "0.2", "--mix.ramp_epochs", "5", "--mix.off_epochs", "3",
        "--frontend.num_mels", "32",
    ))  # fmt: skip
    scores = evaluation.evaluate(EvalConfig(checkpoint=str(run), split="test", num_views=1,
                                            num_workers=0, threads=1, resamples=100))  # fmt: skip
    kept = read_predictions(run / "eval_test")
    rows = json.loads((run / "eval_test/result.json").read_text())["intervals"]["rows"]
    wanted = {e.clip_id: {*e.labels} for e in manifest.entries}
    for row, p in kept.probability.items():
        here = kept.counted[row]
        assert here.sum() == {"fused": 56, "video head": 56 - lacking["video"],
                              "audio missing": 56 - lacking["video"]}.get(
                                  row, 56 - lacking["audio"])  # fmt: skip
        ids = [clip.clip_id for clip, counts in zip(kept.clips, here, strict=True) if counts]
        y = np.array([[name in wanted[i] for name in CLASSES] for i in ids])
        both = [k for k in range(4) if 0 < y[:, k].sum() < len(y)]
        precision = [average_precision_score(y[:, k], p[here][:, k]) for k in both]
        areas = [roc_auc_score(y[:, k], p[here][:, k]) for k in both]
        assert rows[row]["map"]["value"] == pytest.approx(np.mean(precision), abs=1e-6)
        assert rows[row]["auc"]["value"] == pytest.approx(np.mean(areas), abs=1e-6)
        d_prime = np.sqrt(2) * norm.ppf(np.mean(areas))
        assert rows[row]["d_prime"]["value"] == pytest.approx(d_prime, abs=1e-5)
    assert isinstance(scores["fused"], SeveralScores)
    assert scores["fused"].mean_ap > 0.8, scores
