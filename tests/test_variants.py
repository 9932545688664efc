"""Every way to mix and augment trains through train.py, is cut short, ends as if it had not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avmix.commands import train
from avmix.config import TrainConfig, load_config
from avmix.config.mix_method import BLENDS, METHODS
from avmix.data.manifest import read_manifest, write_manifest
from avmix.mix import MixPlan
from avmix.training import checkpoint
from avmix.training.runlog import RunLog

ROOT = Path(__file__).parents[1]

SHARED = ["--model.shared_width", "6"]
ENERGY = ["--mix.audio_domain", "waveform"]

VARIANTS: dict[str, list[str]] = {
    **{
        word: ["--mix.method", word]
        for word in ("mixup@input", "mixup@layer", "mixup@feature", "independent@layer",
                     "video@feature", "audio@input")
    },
    **{
        method: ["--mix.method", method]
        for method in METHODS
        if method not in (*BLENDS, "energy", "cross")
    },
    "energy": ["--mix.method", "energy", *ENERGY],
    "energy, power": ["--mix.method", "energy", "--mix.audio_domain", "power"],
    "cross, own": ["--mix.method", "cross", *SHARED],
    "cross, partner": ["--mix.method", "cross", "--mix.cross_with", "partner",
                       "--mix.cross_path", "linear", *SHARED],
    "dropout": ["--mix.method", "dropout", "--mix.drop_video", "0.4", "--mix.drop_audio", "0.4"],
    "waveform": [*ENERGY],
    "switch": ["--mix.switch", "{mixup@layer+dropout: 0.5, cutmix_temporal: 0.25, none: 0.25}"],
    "one lambda": ["--mix.per", "batch", "--mix.law", "uniform", "--mix.dominant", "true"],
    **{
        pairing: ["--mix.pairing", pairing]
        for pairing in ("permutation", "roll", "derangement", "second_batch", "different_class",
                        "same_class", "different_source")
    },
    "second_batch, inside": ["--mix.pairing", "second_batch", "--mix.method", "mixup@feature"],
    "agreement": ["--loss.agreement", "0.5"],
    "agreement, kl": ["--loss.agreement", "0.5", "--loss.agreement_kind", "symmetric_kl",
                      "--loss.agreement_confidence", "0.1", "--mix.method", "cutmix_temporal"],
    "interpolation": ["--loss.interpolation", "0.5", "--mix.method", "mixup@feature"],
    "contrastive": ["--loss.contrastive", "0.5", *SHARED],
    "everything": ["--loss.agreement", "0.5", "--loss.interpolation", "0.5",
                   "--loss.contrastive", "0.5", *SHARED,
                   "--mix.switch", "{cross+dropout: 0.5, cutmix_spatiotemporal: 0.5}"],
    "binary": ["--loss.kind", "binary", "--mix.labels", "max"],
    "torch": ["--frontend.kernel", "torch", "--mix.method", "cutmix_spatial"],
    **{
        path.name: ["--config", str(path)]
        for path in sorted((ROOT / "configs/augment").glob("*.yaml"))
        if path.stem != "avslowfast"  # the same options as slowfast
    },
    "uniform windows": ["--augment.window", "uniform", "--augment.repeats", "2"],
    "time": ["--augment.window", "event", "--augment.speed", "1.25", "--augment.reverse", "0.5",
             "--augment.min_seconds", "1", "--augment.hide_seconds", "0.5",
             "--augment.binding", "window", "--augment.jitter_seconds", "0.1"],
    "stretched": ["--augment.speed", "1.25", "--augment.speed_keeps_pitch", "true"],
    "sound": ["--augment.gain_db", "6", "--augment.invert", "0.5", "--augment.filter", "0.5",
              "--augment.reverb", "0.5", "--augment.noise", "0.5", "--clip.stereo", "true",
              *ENERGY],
    "background": ["--augment.background", "1", "--augment.background_label", "soften"],
    "background, kept": ["--augment.background", "1"],
    "hidden": ["--augment.hide_seconds", "1", "--augment.mel_masks", "2",
               "--mix.method", "mixup@layer"],
}  # fmt: skip
"""What differs from configs/smoke.yaml."""
EVERY_TIME = ("mixup@layer", "dropout", "cutmix_spatiotemporal", "energy", "cross, own",
              "one lambda", "second_batch, inside", "different_class", "everything", "binary",
              "torch", "time", "sound", "background", "hidden")  # fmt: skip
"""One of each kind; the others are `long`."""


@pytest.fixture(scope="module")
def eight(toy_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of eight clips of the toy set: four of each of two classes."""
    folder = tmp_path_factory.mktemp("eight")
    split = read_manifest(toy_set, "train")
    classes = split.classes[:2]
    clips = [[e for e in split.entries if e.labels == (name,)][:4] for name in classes]
    write_manifest(
        folder, classes=classes, protocol=split.protocol, splits={"train": [*clips[0], *clips[1]]}
    )
    (folder / "events.jsonl").write_text((toy_set / "events.jsonl").read_text())
    return folder


def config_of(toy_set: Path, eight: Path, out: Path, variant: list[str]) -> TrainConfig:
    """Two epochs of two steps (of one, where each takes two batches)."""
    # lambda in the middle, so that a mix is not nearly the clip itself; in a file, where variants
    # may switch it off.
    base = eight / "base.yaml"
    base.write_text("mix:\n  alpha: 4.0\n")
    arguments = ["--config", str(ROOT / "configs/smoke.yaml"), "--config", str(base),
                 "--data.root", str(toy_set),
                 "--data.manifest", str(eight), "--data.num_workers", "0", "--run.threads", "1",
                 "--optim.batch_size", "4", "--run.save_plans", "true",
                 "--run.out", str(out), *variant]  # fmt: skip
    return load_config(TrainConfig, arguments)


def lines(out: Path, name: str = "metrics.jsonl") -> list[dict]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def steps(out: Path) -> list[dict]:
    return [row for row in lines(out) if row["kind"] == "step"]


@pytest.fixture(scope="module")
def plain(
    toy_set: Path, eight: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[float]]:
    """Losses of the first epoch with plain mixup, and without mixing."""
    found = {}
    for name in ("mixup@input", "none"):
        out = tmp_path_factory.mktemp("plain")
        train.train(config_of(toy_set, eight, out, [*VARIANTS[name], "--optim.epochs", "1"]))
        found[name] = [row["loss"] for row in steps(out)]
    return found


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in EVERY_TIME else pytest.mark.long) for n in VARIANTS],
)
def test_it_trains_is_saved_and_goes_on_as_if_nothing_had_happened(
    name: str, toy_set: Path, eight: Path, plain: dict[str, list[float]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config = config_of(toy_set, eight, tmp_path / "whole", VARIANTS[name])
    train.train(config)
    whole = steps(tmp_path / "whole")
    per_epoch = 1 if config.mix.pairing == "second_batch" else 2 * config.augment.repeats
    assert len(whole) == 2 * per_epoch
    # No variant is quietly another one.
    first = [row["loss"] for row in whole[:2]]
    same = [other for other, losses in plain.items() if losses == first]
    assert same == ([name] if name in plain else [])

    cut = replace(config, run=replace(config.run, out=str(tmp_path / "cut")))

    def ended(log: RunLog, epoch: int, *more: int) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "epoch_started", ended)
        with pytest.raises(KeyboardInterrupt):
            train.train(cut)
    assert len(steps(tmp_path / "cut")) == per_epoch
    train.train(cut)
    assert steps(tmp_path / "cut") == whole
    plans = lines(tmp_path / "whole", "plans_rank0.jsonl")
    assert lines(tmp_path / "cut", "plans_rank0.jsonl") == plans
    ours, theirs = (checkpoint.load(tmp_path / x / "last.pt") for x in ("whole", "cut"))
    assert all(torch.equal(ours.model[name], theirs.model[name]) for name in theirs.model)

    for row in whole:
        for key in ("agreement", "interpolation", "contrastive"):
            assert (f"loss_{key}" in row) == (getattr(config.loss, key) > 0)
    made = [MixPlan.from_json(json.dumps(line)) for line in plans]
    assert {plan.size for plan in made} == {4}
    expected = {word.partition("@")[0].partition("+")[0] for word in config.mix.mix_methods}
    assert {plan.method for plan in made} <= (expected | {"none"} if "dropout" in expected
                                              else expected)  # fmt: skip
    if expected != {"none"} and config.mix.method != "dropout":
        assert any(plan.mixes for plan in made)
