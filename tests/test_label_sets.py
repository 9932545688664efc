"""Label sets (verb and noun), from annotations to the tables of an evaluation."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from epic_media import NOUNS, SEGMENT_SECONDS, VERBS, write_epic, write_video
from torch.nn import functional as F

import avmix
from avmix.cli import main
from avmix.commands import evaluate as evaluation
from avmix.commands import train
from avmix.config import EvalConfig, LossConfig, ModelConfig, TrainConfig, load_config
from avmix.data.eval_set import EvalSet
from avmix.data.few_shot import few_shot
from avmix.data.kept_features import FeaturesError, Header, KeptFeatures
from avmix.data.manifest import ManifestError, read_manifest, write_manifest
from avmix.decode import file_reader
from avmix.decode.container import open_media
from avmix.evaluation.kept_predictions import KeptPredictions, PredictionsError
from avmix.evaluation.metrics import SetScores
from avmix.evaluation.prediction_file import read_predictions, write_predictions
from avmix.explore.explored_mix import Explorer
from avmix.exporting.export_network import export
from avmix.features.probing import probe
from avmix.label_sets import LabelSet, label_sets
from avmix.media.judgement import entry_of
from avmix.mix.mix_plan import MixPlan, Part
from avmix.mix.targets import mixed_targets
from avmix.models.classifier import Features, Output
from avmix.models.fusion_names import build_fusion
from avmix.prepare.command import run_recipe
from avmix.prepare.pipeline import restricted
from avmix.training import checkpoint
from avmix.training.chance_level import guessing_loss
from avmix.training.checkpoint import CheckpointError
from avmix.training.label_setup import class_weights, with_labels
from avmix.training.losses import consistency_losses, head_losses
from avmix.training.runlog import RunLog
from avmix.types import Heads
from tests.recipes_media import load_recipe, options

CLASSES = tuple([f"verb:{v}" for v in VERBS] + [f"noun:{n}" for n in NOUNS])
SETS = (LabelSet("verb", 0, 3, 1.0), LabelSet("noun", 3, 6, 0.5))
SMALL = """
data: {num_workers: 0, val_split: val}
clip: {duration_seconds: 0.5, num_frames: 2, sample_rate: 8000, short_side: 20, crop: 16}
frontend: {num_mels: 16, n_fft: 256, hop_length: 128, mel_mean: -4.0, mel_std: 3.0}
model: {video: {channels: [4, 4]}, audio: {channels: [4, 4]}}
mix: {alpha: 4.0}
optim: {epochs: 2, batch_size: 4}
loss: {set_weights: {noun: 0.5}}
run: {device: cpu, threads: 1, log_every: 1}
"""


class Done(NamedTuple):
    data: Path
    run: Path
    scores: Any


def write_set(folder: Path) -> Path:
    """Two files of four segments to train on, two of three to evaluate, one of them unseen."""
    found: dict[str, list[Any]] = {"train": [], "val": []}
    draw = np.random.default_rng(0)
    for number, (split, person) in enumerate(
        [("train", "P01"), ("train", "P02"), ("val", "P01"), ("val", "P09")]
    ):
        said = [(int(draw.integers(3)), int(draw.integers(3)))
                for _ in range(4 if split == "train" else 3)]  # fmt: skip
        path = folder / f"{person}_{number}.mp4"
        folder.mkdir(exist_ok=True)
        write_video(path, said, number)
        whole = entry_of(path, folder, clip_id="x", labels=("x",), source_id=path.stem)
        found[split] += [
            replace(
                whole, clip_id=f"{path.stem}_{i}", start_seconds=i * SEGMENT_SECONDS,
                end_seconds=(i + 1) * SEGMENT_SECONDS - 0.01, labels=(CLASSES[v], CLASSES[3 + n]),
                subsets=("unseen",) if person == "P09" else (),
            )
            for i, (v, n) in enumerate(said)
        ]  # fmt: skip
    write_manifest(folder, classes=CLASSES, protocol="kitchen", splits=found,
                   label_sets=("verb", "noun"), tail_classes=("verb:rise", "noun:red"))  # fmt: skip
    return folder


def config_of(data: Path, out: Path, *more: str) -> TrainConfig:
    base = out.parent / "base.yaml"
    out.parent.mkdir(parents=True, exist_ok=True)
    base.write_text(SMALL)
    return load_config(TrainConfig, ["--config", str(base), "--data.root", str(data),
                                     "--run.out", str(out), *more])  # fmt: skip


def avmix_command(argv: list[str]) -> int:
    """Exit code of the command."""
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def evaluated(run: Path, **more: Any) -> Any:
    return evaluation.evaluate(EvalConfig(checkpoint=str(run), split="val", num_views=1,
                                          num_workers=0, threads=1, resamples=100,
                                          **more))  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("kitchen") / "set")


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """A trained and evaluated run."""
    run = tmp_path_factory.mktemp("done") / "run"
    train.train(config_of(data, run))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        yield Done(data, run, evaluated(run))


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (("verb", "noun"), ("verb:a", "verb:b", "c"), "class 'c' is in none of the label sets"),
        (("verb",), ("verb:a", "verb:b", "noun:a"), "class 'noun:a' is in none"),
        (("verb", "noun"), ("verb:a", "noun:a", "verb:b", "noun:b"), "'verb' do not follow each"),
        (("verb", "noun"), ("verb:a", "verb:b", "noun:a"), "'noun' needs at least two classes"),
        (("ve:rb",), ("ve:rb:a", "ve:rb:b"), "'ve:rb': the name must be of"),
        (("../up",), ("../up:a", "../up:b"), "'../up': the name must be of"),
        (("/tmp/up",), ("/tmp/up:a", "/tmp/up:b"), "it names a folder"),
        (("..",), ("..:a", "..:b"), "it names a folder"),
        (("a\0b",), ("a\0b:a", "a\0b:b"), "it names a folder"),
        (("v\nb",), ("v\nb:a", "v\nb:b"), "it names a folder"),
        (("",), (":a", ":b"), "it names a folder"),
        (("v" * 65,), (f"{'v' * 65}:a", f"{'v' * 65}:b"), "at most 64 letters"),
        (("result.json",), ("result.json:a", "result.json:b"), "it names a folder"),
    ],
)
def test_sets_that_are_none_are_refused(names: Any, classes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_sets(classes, names)


def test_sets_are_in_the_order_of_their_classes() -> None:
    assert label_sets(CLASSES, ("noun", "verb"), {"noun": 0.5}) == SETS
    assert SETS[1].classes(CLASSES) == NOUNS
    assert label_sets(("a:b", "c"), ()) == ()


def test_a_manifest_of_label_sets(data: Path, tmp_path: Path) -> None:
    manifest = read_manifest(data, "val")
    assert manifest.label_sets == ("verb", "noun")
    assert manifest.tail_classes == ("verb:rise", "noun:red")
    assert [e.subsets for e in manifest.entries] == [()] * 3 + [("unseen",)] * 3
    assert "subsets" not in (data / "train.jsonl").read_text()
    entry = manifest.entries[0]
    for change in (
        {"labels": ("verb:rise",)},
        {"labels": ("verb:rise", "verb:blue")},
        {"labels": ("verb:rise", "noun:red", "noun:blue")},
        {"unknown_labels": ("noun:green",), "labels": ("verb:rise", "noun:red")},
        {"labels": ("verb:rise", "noun:red"), "video_labels": ("noun:red",),
         "audio_labels": ("verb:rise",)},
    ):  # fmt: skip
        with pytest.raises(ManifestError, match=r"must have one label of each of the label sets"):
            write_manifest(tmp_path, classes=CLASSES, protocol="p", label_sets=("verb", "noun"),
                           splits={"train": [replace(entry, **change)]})  # fmt: skip
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"label_sets": ("verb",)}, "'noun:red' is in none of the label sets verb"),
        ({"tail_classes": ("x",)}, "tail_classes: 'x' is not a class"),
    ]
    for more, message in wrong:
        with pytest.raises(ManifestError, match=message):
            write_manifest(tmp_path, classes=CLASSES, protocol="p",
                           splits={"train": [entry]}, **more)  # fmt: skip
    assert not any(tmp_path.iterdir())


def test_of_few_shots_every_class_of_every_set_has_as_many(data: Path) -> None:
    whole = read_manifest(data, "train")
    few = few_shot(whole, 1, seed=0)
    for name in CLASSES:
        there = sum(name in e.labels for e in whole.entries)
        assert sum(name in e.labels for e in few.entries) >= min(1, there)
    assert len(few.entries) < len(whole.entries)


def test_the_loss_is_the_weighted_sum_of_a_cross_entropy_for_each_set() -> None:
    torch.manual_seed(0)
    logits = Heads(*(torch.randn(5, 6, requires_grad=True) for _ in range(3)))
    verb, noun = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([2, 2, 0, 1, 0])
    target = torch.cat([F.one_hot(verb, 3), F.one_hot(noun, 3)], 1).float()
    weight = torch.tensor([1.0, 2.0, 3.0, 1.0, 0.5, 2.0])
    here = torch.tensor([True, True, False, True, True])
    present = Heads(*(here for _ in range(3)))
    found = head_losses(logits, Heads(target, target, target), present, 0.0, sets=SETS)
    for one, loss in zip(logits, found, strict=True):
        expected = F.cross_entropy(one[here, :3], verb[here])
        expected = expected + 0.5 * F.cross_entropy(one[here, 3:], noun[here])
        torch.testing.assert_close(loss, expected)
    smooth = head_losses(logits, Heads(target, target, target), present, 0.1, "cross_entropy",
                         weight, SETS).fused  # fmt: skip
    expected = sum(
        share * (F.cross_entropy(logits.fused[here][:, at], y[here], weight=weight[at],
                                 label_smoothing=0.1, reduction="none")).mean()
        for share, at, y in ((1.0, slice(0, 3), verb), (0.5, slice(3, 6), noun))
    )  # fmt: skip
    torch.testing.assert_close(smooth, torch.as_tensor(expected))
    (gradient,) = torch.autograd.grad(found.fused, logits.fused)
    assert bool((gradient[2] == 0).all())
    torch.testing.assert_close(gradient[:, :3].sum(1), torch.zeros(5))  # a softmax of its own


def test_guessing_is_by_the_frequencies_of_each_set() -> None:
    frequency = torch.tensor([0.5, 0.25, 0.25, 0.9, 0.1, 0.0])
    of_verb = 0.5 * np.log(2) + 0.5 * np.log(4)
    of_noun = -0.9 * np.log(0.9) - 0.1 * np.log(0.1)
    assert guessing_loss(frequency, sets=SETS) == pytest.approx(of_verb + 0.5 * of_noun)


def test_every_set_is_mixed_with_the_same_lambda() -> None:
    target = torch.tensor([[1.0, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 1]])
    plan = MixPlan(
        num_inputs=2, partner=(1, 0), method="mixup", level="input",
        parts=(Part(name="video", domain="pixels", weight=(0.7, 0.4), present=(True, True)),
               Part(name="audio", domain="log_mel", weight=(0.7, 0.4), present=(True, True))),
    ).to(torch.device("cpu"))  # fmt: skip
    mixed = mixed_targets(plan, target).fused
    expected = torch.tensor([[0.7, 0.3, 0, 0, 0.7, 0.3], [0.6, 0.4, 0, 0, 0.6, 0.4]])
    torch.testing.assert_close(mixed, expected)
    assert (mixed[:, :3].sum(1) == 1).all()


def test_consistency_is_that_of_each_set() -> None:
    torch.manual_seed(1)
    plan = MixPlan(
        num_inputs=2, partner=(1, 0), method="mixup", level="input",
        parts=(Part(name="video", domain="pixels", weight=(0.7, 0.4), present=(True, True)),
               Part(name="audio", domain="log_mel", weight=(0.7, 0.4), present=(True, True))),
    ).to(torch.device("cpu"))  # fmt: skip
    both = torch.tensor([True, True])

    def losses(columns: slice, sets: tuple[LabelSet, ...] = ()) -> dict[str, torch.Tensor]:
        config = LossConfig(agreement=1.0, interpolation=1.0)
        mixed, clean = (_output(columns, seed) for seed in (1, 2))
        return consistency_losses(config, plan, mixed, clean, both, both, sets=sets)

    whole, verb, noun = losses(slice(0, 6), SETS), losses(slice(0, 3)), losses(slice(3, 6))
    for name, value in whole.items():
        torch.testing.assert_close(value, verb[name] + 0.5 * noun[name])


def _output(columns: slice, seed: int) -> Any:
    torch.manual_seed(seed)
    return Output(Heads(*(torch.randn(2, 6)[:, columns] for _ in range(3))),
                  Features(torch.zeros(2, 1), torch.zeros(2, 1)))  # fmt: skip


def test_an_average_fusion_is_that_of_each_set() -> None:
    torch.manual_seed(0)
    fusion = build_fusion(ModelConfig(fusion="average"), 4, 5, 6, sets=SETS).eval()
    has = (torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False]))
    heads = fusion(torch.randn(4, 4), torch.randn(4, 5), *has)
    for one in SETS:
        video, audio, fused = (
            head[:, one.columns].softmax(1) for head in (heads.video, heads.audio, heads.fused)
        )
        expected = torch.stack([(video[0] + audio[0]) / 2, video[1], audio[2],
                                torch.full((3,), 1 / 3)])  # fmt: skip
        torch.testing.assert_close(fused, expected)


def test_classes_are_weighed_within_their_set(data: Path) -> None:
    train_split = read_manifest(data, "train")
    config = with_labels(config_of(data, data.parent / "x", "--loss.class_weights", "counts"),
                         train_split)  # fmt: skip
    weight, _ = class_weights(config, train_split)
    assert weight is not None
    for k, name in enumerate(CLASSES):
        count = sum(name in e.labels for e in train_split.entries)
        assert weight[k] == (pytest.approx(8 / (3 * count)) if count else 1)


def test_it_trains_and_goes_on_exactly(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = checkpoint.load(done.run / "last.pt")
    assert state.config.loss.labels == "sets"
    assert state.config.loss.set_weights == {"verb": 1.0, "noun": 0.5}
    val = [json.loads(line) for line in (done.run / "metrics.jsonl").read_text().splitlines()
           if '"kind": "epoch"' in line][-1]["val"]["fused"]  # fmt: skip
    assert set(val) == {"num_clips", "top1", "top5", "sets"}
    assert set(val["sets"]) == {"verb", "noun"}
    assert (done.run / "best.pt").exists()
    cut = config_of(done.data, tmp_path / "cut")

    def ended(log: RunLog, epoch: int, *more: int) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "epoch_started", ended)
        with pytest.raises(KeyboardInterrupt):
            train.train(cut)
    train.train(cut)
    theirs = checkpoint.load(tmp_path / "cut/last.pt")
    assert all(torch.equal(state.model[name], theirs.model[name]) for name in theirs.model)


def test_predictions_are_kept_and_scored_again(
    done: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    folder = done.run / "eval_val"
    kept = read_predictions(folder)
    assert kept.set_names == ("verb", "noun")
    assert not kept.single
    assert kept.tail_classes == ("verb:rise", "noun:red")
    entries = read_manifest(done.data, "val").entries
    assert kept.label is not None
    for i, entry in enumerate(entries):
        assert (CLASSES[kept.label[i, 0]], CLASSES[3 + kept.label[i, 1]]) == entry.labels
    for p in kept.probability.values():
        np.testing.assert_allclose(p[:, :3].sum(1), 1, atol=1e-5)
        np.testing.assert_allclose(p[:, 3:].sum(1), 1, atol=1e-5)
    scores = done.scores["fused"]
    assert isinstance(scores, SetScores)
    right = [kept.probability["fused"][:, s.columns].argmax(1) == kept.label[:, i]
             for i, s in enumerate(SETS)]  # fmt: skip
    assert scores.top1 == pytest.approx((right[0] & right[1]).mean())
    assert scores.sets["noun"].top1 == pytest.approx(right[1].mean())
    result = json.loads((folder / "result.json").read_text())
    figures = result["intervals"]["rows"]["fused"]
    assert figures["action_top1"]["value"] == pytest.approx(scores.top1)
    unseen = np.array(["unseen" in e.subsets for e in entries])
    assert figures["verb_unseen"]["value"] == pytest.approx(right[0][unseen].mean())
    assert {"verb_tail", "noun_tail", "action_tail"} <= figures.keys()
    noun = json.loads((folder / "noun/result.json").read_text())
    assert noun["scores"]["fused"]["top1"] == pytest.approx(right[1].mean())
    assert [row["class"] for row in noun["per_class"]] == list(NOUNS)
    assert noun["fusion"]
    assert (folder / "verb/report.html").exists()

    monkeypatch.setenv("COLUMNS", "200")
    again = evaluation.evaluate(EvalConfig(predictions=str(folder), out=str(tmp_path / "again"),
                                           resamples=100))  # fmt: skip
    assert again == done.scores
    for name in ("result.json", "noun/result.json", "verb/confusion.png"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    for where in (folder, tmp_path / "again"):  # of the clips
        assert "data:image/jpeg" in (where / "noun/report.html").read_text()
    said = capsys.readouterr().out
    for word in ("action top-1 %", "noun top-5 %", "unseen", "tail"):
        assert word in said


def test_damaged_predictions_of_label_sets_are_refused(done: Done, tmp_path: Path) -> None:
    kept = read_predictions(done.run / "eval_val")
    assert kept.label is not None

    def written(changed: KeptPredictions) -> Path:
        write_predictions(tmp_path / "x.safetensors", changed)
        return tmp_path / "x.safetensors"

    assert read_predictions(written(kept)).clips == kept.clips
    for change, message in (
        ({"label": kept.label + 3}, "a label is no class"),
        ({"label": kept.label[:, :1]}, r"label is \(\(6, 1\), 'int64'\), not \(\(6, 2\)"),
        ({"set_names": ("verb",)}, "is in none of the label sets verb"),
        ({"tail_classes": ("x",)}, "tail_classes are not classes"),
    ):
        with pytest.raises(PredictionsError, match=message):
            read_predictions(written(replace(kept, **change)))


def test_runs_are_compared_by_one_set(
    done: Done, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    argv = ["compare", str(done.run), str(done.run), "--split", "val", "--resamples", "100"]
    assert avmix_command(argv) == 1
    assert "label of each of verb, noun: name one, --label-set" in capsys.readouterr().err
    assert avmix_command([*argv, "--label-set", "x"]) == 1
    assert "--label-set: no label set 'x'; there are: verb, noun" in capsys.readouterr().err
    out = tmp_path / "c.json"
    assert avmix_command([*argv, "--label-set", "noun", "--json", str(out)]) == 0
    found = json.loads(out.read_text())["values"]["top1"]
    assert all(
        one["value"] == pytest.approx(done.scores["fused"].sets["noun"].top1)
        for one in found.values()
    )


def test_files_are_predicted_by_one_set(
    done: Done, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = next(done.data.glob("*.mp4"))
    trained = avmix.load(done.run)
    assert [one.name for one in trained.label_sets] == ["verb", "noun"]
    whole = trained.predict(file)
    with pytest.raises(ValueError, match=r"within a label set: of_set\(NAME\) with verb, noun"):
        whole.top(1)
    noun = whole.of_set("noun")
    assert noun.classes == CLASSES[3:]
    assert noun.fused.sum() == pytest.approx(1, abs=1e-5)
    assert noun.decision.answer == noun.top(1)[0].name
    with pytest.raises(ValueError, match="no label set 'x'"):
        whole.of_set("x")
    saved = tmp_path / "net.safetensors"
    trained.save(saved)
    assert np.array_equal(avmix.load(saved).predict(file).fused, whole.fused)

    argv = ["predict", str(file), "--checkpoint", str(done.run), "--workers", "0", "--device",
            "cpu", "--threads", "1"]  # fmt: skip
    assert avmix_command(argv) == 1
    assert "label sets verb, noun: --label-set NAME reports" in capsys.readouterr().err
    out = tmp_path / "p.json"
    assert avmix_command([*argv, "--label-set", "noun", "--json", str(out)]) == 0
    (window,) = json.loads(out.read_text())["files"][0]["windows"]
    assert [c["name"] for c in window["classes"]] == [c.name for c in noun.top(5)]


def test_what_does_not_go_with_label_sets_is_refused_by_name(done: Done, tmp_path: Path) -> None:
    data = done.data
    for more, message in (
        (["--loss.labels", "single"], r"loss\.labels single: clips of kitchen"),
        (["--loss.kind", "binary"], r"loss\.kind must be cross_entropy for label sets"),
        (["--model.fusion", "weighted"], r"model\.fusion weighted is fitted to one set"),
        (["--loss.set_weights", "{x: 1}"], r"loss\.set_weights: kitchen has no label set 'x'"),
    ):
        with pytest.raises(ValueError, match=message):
            train.train(config_of(data, tmp_path / "a", *more))
    with pytest.raises(ValueError, match="robustness is of clips of one label"):
        evaluated(done.run, robustness="clean")
    plain = tmp_path / "plain"
    splits = {s: read_manifest(data, s).entries for s in ("train", "val")}
    write_manifest(plain, classes=CLASSES, protocol="kitchen", splits=splits)
    with pytest.raises(CheckpointError, match=r"the label sets noun, verb; .* has none"):
        evaluated(done.run, manifest=str(plain), root=str(data))
    for more in (["--loss.labels", "sets"], []):
        with pytest.raises(ManifestError, match=r"kitchen has no label sets"):
            train.train(config_of(data, tmp_path / "b", "--data.manifest", str(plain), *more))
    assert (
        avmix_command(["synth", "repair", "--root", str(data), "--out", str(tmp_path / "s")]) == 1
    )


def test_the_recipe_of_epic_kitchens_has_two_sets_a_tail_and_unseen_people(tmp_path: Path) -> None:
    lists, media = write_epic(tmp_path, {"P01_01": ("train", 2), "P09_01": ("val", 2),
                                         "P01_02": ("val", 1)})  # fmt: skip
    both, verb, noun = load_recipe("epic_kitchens_100").protocols(options(lists, media))
    assert both.label_sets == ("verb", "noun")
    assert verb.label_sets == noun.label_sets == ()
    assert both.tail_classes == ("verb:rise", "noun:red")
    assert (verb.tail_classes, noun.tail_classes) == (("verb:rise",), ("noun:red",))
    assert {c.clip_id: c.subsets for c in both.expected} == {
        "P01_01_0": (), "P01_01_1": (), "P01_02_0": (),
        "P09_01_0": ("unseen",), "P09_01_1": ("unseen",),
    }  # fmt: skip
    few = restricted(both, ["verb:rise", "verb:blue", "noun:red", "noun:green"])
    assert few.tail_classes == both.tail_classes
    assert all(len(clip.labels) == 2 for clip in few.expected)
    with pytest.raises(ManifestError, match="--classes: label set 'noun' needs at least two"):
        restricted(both, ["verb:rise", "verb:blue", "noun:red"])


@pytest.mark.long
def test_a_miniature_of_epic_kitchens_is_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prepared by the recipe: verbs are only audible and nouns only visible, so that no modality
    alone can tell an action, and both together can tell nearly all."""
    videos = {f"P{p:02}_{i:02}": ("train", 12) for p in range(1, 5) for i in (1, 2)}
    videos |= {"P01_09": ("val", 12), "P02_09": ("val", 12), "P09_01": ("val", 12)}
    lists, media = write_epic(tmp_path, videos)
    recipe, out, run = load_recipe("epic_kitchens_100"), tmp_path / "prepared", tmp_path / "run"
    argv = ["--media", str(media), "--annotations", str(lists), "--out", str(out), "--protocol",
            "epic_kitchens_100/verb_noun", "--workers", "1"]  # fmt: skip
    assert run_recipe("epic_kitchens_100", recipe.__doc__, recipe.protocols, argv=argv) == 0
    train.train(config_of(
        media, run, "--data.manifest", str(out), "--model.video.channels", "[8, 16]",
        "--model.audio.channels", "[8, 16]", "--optim.epochs", "20", "--optim.lr", "0.01",
        "--optim.batch_size", "16", "--mix.alpha", "0.2", "--mix.ramp_epochs", "5",
        "--mix.off_epochs", "3", "--frontend.num_mels", "32",
    ))  # fmt: skip
    monkeypatch.setenv("COLUMNS", "200")
    capsys.readouterr()
    scores = evaluated(run)
    said = capsys.readouterr().out
    assert "fused, top-1 %" in said
    assert "unseen" in said
    fused, video, audio = (scores[name] for name in ("fused", "video head", "audio head"))
    assert min(fused.top1, fused.sets["verb"].top1, fused.sets["noun"].top1) > 0.85, scores
    assert audio.sets["verb"].top1 > 0.85
    assert video.sets["noun"].top1 > 0.85
    assert max(video.sets["verb"].top1, audio.sets["noun"].top1) < 0.7  # a third by chance


def test_segments_of_one_file_are_evaluated_from_one_open_file(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each is what it is alone, to the bit."""
    manifest = read_manifest(data, "val")
    clip = config_of(data, data.parent / "x").clip
    views = EvalSet(manifest=manifest, root=data, clip=clip, num_views=2, several_labels=True)
    places = [(row, view) for row in range(6) for view in range(2)]
    alone = [sample for place in places for sample in views.samples([place])]
    opened: list[str] = []

    def counted(name: str, *args: Any, **more: Any) -> Any:
        opened.append(Path(name).name)
        return open_media(name, *args, **more)

    monkeypatch.setattr(file_reader, "open_media", counted)
    together = views.samples(places)
    assert opened == [manifest.entries[0].path, manifest.entries[3].path]
    for one, other in zip(alone, together, strict=True):
        assert one.row == other.row
        assert one.clip is not None
        assert other.clip is not None
        assert np.array_equal(one.clip.video, other.clip.video)
        assert np.array_equal(one.clip.audio, other.clip.audio)


def test_what_knows_no_label_sets_refuses_them_and_says_what_to_do(
    done: Done, tmp_path: Path
) -> None:
    trained = avmix.load(done.run)
    for refused in (
        trained.stream,
        lambda: Explorer(trained),
        lambda: export(done.run, tmp_path / "x.onnx"),
    ):
        with pytest.raises(ValueError, match=r"of label sets \(verb, noun\): use avmix predict"):
            refused()
    assert not (tmp_path / "x.onnx").exists()


def test_probes_of_one_label_refuse_clips_with_more(data: Path) -> None:
    """They took the first of the labels, and said nothing."""
    kept = KeptFeatures(
        manifest=read_manifest(data, "val"), features={"video": np.zeros((6, 1, 2), np.float32)},
        has_audio=np.ones((6, 1), bool), header=Header(identity={}, computed_with={}, splits={}),
    )  # fmt: skip
    with pytest.raises(FeaturesError, match=r"kitchen: clip 'P01_2_0' has not exactly one label"):
        probe(kept, kept)
