"""Heads that learn nothing: the formula by hand, and what train.py and eval.py say of real runs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from avmix.commands import evaluate as evaluation
from avmix.commands import train
from avmix.config import EvalConfig, LossConfig, MixConfig, TrainConfig, load_config
from avmix.data.manifest import read_manifest, write_manifest
from avmix.training import chance_level, checkpoint
from avmix.training.chance_level import (
    HEADS,
    AtChance,
    ChanceMeter,
    HeadEpoch,
    guessing_loss,
    is_often_at_chance,
)
from avmix.training.losses import head_losses, where_known
from avmix.training.runlog import RunLog
from avmix.types import Heads

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")

# --- The formula -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frequency", "kind", "smoothing", "nats"),
    [
        # 1/2 ln 2 + 2 * 1/4 ln 4 = 1.5 ln 2
        ([0.5, 0.25, 0.25], "cross_entropy", 0.0, 1.0397),
        # p = 0.45, 0.275, 0.275: 0.3593 + 2 * 0.3550
        ([0.5, 0.25, 0.25], "cross_entropy", 0.3, 1.0694),
        # Entropies of (1/2, 1/2), (1/4, 3/4), (1/4, 3/4): (0.6931 + 2 * 0.5623) / 3
        ([0.5, 0.25, 0.25], "binary", 0.0, 0.6059),
        # p = 1/2, 3/8, 3/8: (0.6931 + 2 * 0.6616) / 3
        ([0.5, 0.25, 0.25], "binary", 0.5, 0.6721),
        ([0.1] * 10, "cross_entropy", 0.0, 2.3026),
        ([1.0, 0.0], "cross_entropy", 0.0, 0.0),
        ([1.0, 0.0], "binary", 0.0, 0.0),
        # Targets that add up to 1.6, as with mix.labels max: 1.6 * ln 2
        ([0.8, 0.8], "cross_entropy", 0.0, 1.1090),
    ],
)
def test_the_loss_of_guessing_by_hand(
    frequency: list[float], kind, smoothing: float, nats: float
) -> None:
    assert guessing_loss(torch.tensor(frequency), kind, smoothing) == pytest.approx(nats, abs=1e-4)


@pytest.mark.parametrize("kind", ["cross_entropy", "binary"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_no_constant_prediction_is_better(kind, smoothing: float) -> None:
    torch.manual_seed(0)
    target = torch.rand(50, 4).square()
    if kind == "cross_entropy":
        target = target / target.sum(1, keepdim=True)
    p = target.mean(0)
    smooth = p * (1 - smoothing) + smoothing / (4 if kind == "cross_entropy" else 2)
    best = smooth.log() if kind == "cross_entropy" else smooth.logit()

    def loss(logits: torch.Tensor) -> float:
        everywhere = logits.expand(50, 4)
        present = torch.ones(50, dtype=torch.bool)
        heads = Heads(*[everywhere] * 3), Heads(*[target] * 3), Heads(*[present] * 3)
        return head_losses(*heads, smoothing, kind).video.item()

    reference = guessing_loss(p, kind, smoothing)
    assert loss(best) == pytest.approx(reference, abs=1e-5)
    assert all(loss(best + 0.3 * torch.randn(4)) > reference for _ in range(20))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("labels", "kind"), [("multi", "binary"), ("auto", "cross_entropy")])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_no_constant_is_better_where_labels_are_unknown_and_classes_weigh_differently(
    labels, kind, weighted: bool, smoothing: float
) -> None:
    """Against the optimum that gradient descent finds."""
    draw = torch.Generator().manual_seed(0)
    target = (torch.rand(40, 3, generator=draw) < torch.tensor([0.2, 0.5, 0.7])).float()
    if labels == "multi":
        target = target.masked_fill(torch.rand(40, 3, generator=draw) < 0.4, torch.nan)
    else:
        target = torch.eye(3)[torch.multinomial(torch.rand(3), 40, True, generator=draw)]
    weight = torch.tensor([4.0, 1.0, 0.5]) if weighted else None
    everyone, heads = torch.ones(40, dtype=torch.bool), Heads(*[target] * 3)
    present = where_known(Heads(*[everyone] * 3), heads)
    logits = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def losses() -> Heads:
        said = Heads(*[logits.expand(40, 3)] * 3)
        return head_losses(said, heads, present, smoothing, kind, weight)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = losses().video
        loss.backward()
        return loss

    optimizer.step(closure)
    config = LossConfig(labels=labels, kind=kind, label_smoothing=smoothing)
    history = chance_level.initial_history(3, labels == "multi")
    meter = ChanceMeter(history, config, 3, CPU, weight)
    meter.begin_epoch()
    meter.add(losses(), heads, present)
    found = meter.heads()[1]
    assert found.guessing == pytest.approx(found.loss, abs=1e-5)
    assert found.at_chance


@pytest.mark.parametrize(
    ("loss", "guessing", "at_chance"),
    [(2.303, 2.303, True), (2.29, 2.303, True), (2.2, 2.303, False), (3.0, 2.303, True),
     (0.61, 0.606, True), (0.58, 0.606, False), (None, 2.303, None), (2.3, None, None)],
)  # fmt: skip
def test_when_a_head_is_at_chance(loss, guessing, at_chance) -> None:
    assert HeadEpoch(loss=loss, guessing=guessing).at_chance is at_chance


@pytest.mark.parametrize(
    ("epochs", "of", "expected"),
    [(3, 12, False), (4, 12, True), (12, 12, True), (3, 10, False), (4, 10, True), (2, 3, False),
     (3, 3, True), (2, 6, False), (3, 9, True), (2, 2, False), (0, 3, False), (0, 0, False),
     (None, 12, False)],
)  # fmt: skip
def test_a_third_of_the_epochs_is_too_many(epochs, of, expected) -> None:
    assert is_often_at_chance(epochs, of) is expected


# --- The meter ---------------------------------------------------------------------------------


def meter_of(config: LossConfig | None = None, num_classes: int = 2) -> ChanceMeter:
    return ChanceMeter(
        chance_level.initial_history(num_classes), config or LossConfig(), num_classes, CPU
    )


def step(meter: ChanceMeter, losses: Sequence[float], labels: list[int], audio: list[bool]) -> None:
    """One step of clips that all have video."""
    target = torch.eye(2)[labels]
    both, has = torch.ones(len(labels), dtype=torch.bool), torch.tensor(audio)
    meter.add(Heads(*map(torch.tensor, losses)), Heads(target, target, target),
              Heads(both, both, has))  # fmt: skip


def test_the_mean_of_an_epoch_is_over_the_clips_that_have_the_modality() -> None:
    meter = meter_of()
    step(meter, (0.75, 0.5, 0.25), [0, 0, 1, 1], [True, False, True, False])
    step(meter, (0.25, 0.5, 0.0), [0, 1, 0, 1], [False] * 4)  # without audio, the loss is 0
    step(meter, (0.5, 0.5, 1.0), [0, 1, 1, 1], [True, True, True, True])
    fused, video, audio = meter.heads()
    assert (fused.loss, video.loss) == (0.5, 0.5)
    assert audio.loss == (2 * 0.25 + 4 * 1.0) / 6
    # Labels: of all clips, 5 and 7 of 12; of those with audio, 2 and 4 of 6.
    assert video.guessing == pytest.approx(0.6792, abs=1e-4)
    assert audio.guessing == pytest.approx(0.6365, abs=1e-4)
    assert [head.at_chance for head in (fused, video, audio)] == [False, False, True]


def epoch(meter: ChanceMeter, losses: Sequence[float], labels: list[int] | None = None) -> None:
    meter.begin_epoch()
    step(meter, losses, labels or [0, 1, 0, 1], [True] * 4)
    meter.epoch_done()


def counts(meter: ChanceMeter) -> tuple[int | None, ...]:
    state = meter.state()
    assert state is not None
    return state.epochs


def test_epochs_at_chance_are_counted_and_named_from_a_third_on() -> None:
    meter = meter_of()
    assert counts(meter) == (None, None, None)
    epoch(meter, (0.3, 0.69, 0.5))  # guessing: 0.6931
    assert counts(meter) == (0, 1, 0)
    epoch(meter, (0.3, 0.69, 0.5))
    assert meter.at_chance(9) == ()
    epoch(meter, (0.3, 0.70, 0.5))
    (found,) = meter.at_chance(9)
    assert (found.head, found.epochs, found.of, found.is_new) == ("video", 3, 9, True)
    assert (found.loss, found.guessing) == pytest.approx((0.70, 0.6931), abs=1e-4)
    epoch(meter, (0.3, 0.70, 0.5))
    assert [(w.epochs, w.is_new) for w in meter.at_chance(9)] == [(4, False)]
    epoch(meter, (0.3, 0.2, 0.5))  # it has begun to learn: nothing to say, but not forgotten
    assert meter.at_chance(9) == ()
    assert counts(meter) == (0, 4, 0)


def test_heads_without_weight_or_without_a_choice_are_not_judged() -> None:
    meter = meter_of(LossConfig(video=0.0))
    epoch(meter, (0.69, 0.69, 0.69))
    assert counts(meter) == (1, None, 1)
    meter = meter_of(LossConfig(label_smoothing=0.1))
    epoch(meter, (0.69, 0.69, 0.69), labels=[1, 1, 1, 1])
    assert counts(meter) == (None, None, None)
    meter = meter_of()
    step(meter, (0.69, 0.69, 0.0), [0, 1, 0, 1], [False] * 4)
    assert meter.epoch_done()[2] == HeadEpoch(loss=None, guessing=None)
    assert counts(meter) == (1, 1, None)


def test_a_meter_goes_on_from_its_state() -> None:
    whole, first = meter_of(), meter_of()
    steps = [((0.1 * i, 0.7, 0.3), [i % 2, 1, 0, 1], [True, False, True, True]) for i in range(4)]
    for one in steps:
        step(whole, *one)
    for one in steps[:2]:
        step(first, *one)
    saved = first.state()
    for one in steps[2:]:
        step(first, *one)  # which changes nothing in what was saved before
    second = ChanceMeter(saved, LossConfig(), 2, CPU)
    for one in steps[2:]:
        step(second, *one)
    assert second.epoch_done() == first.epoch_done() == whole.epoch_done()
    assert counts(second) == counts(whole) == (0, 1, 0)


def test_what_an_older_version_did_not_count_stays_unknown() -> None:
    meter = ChanceMeter(None, LossConfig(), 2, CPU)
    epoch(meter, (0.7, 0.7, 0.7))
    assert meter.state() is None
    assert meter.at_chance(3) == ()
    assert [head.loss for head in meter.heads()] == pytest.approx([0.7] * 3)


def test_the_warning_names_the_head_the_numbers_and_the_options() -> None:
    config = TrainConfig()
    found = AtChance(head="video", epochs=4, of=12, loss=2.301, guessing=2.3026)
    text = found.warning(config)
    assert text.startswith(
        "warning: the video head is at chance: in 4 of 12 epochs its training loss was no better "
        "than guessing by class frequencies (now 2.301, guessing gives 2.303). Likely causes: "
    )
    for option in ("optim.lr", "optim.warmup_epochs", "mix.ramp_epochs", "avmix doctor"):
        assert option in text
    assert "mel_mean" not in text  # which does nothing to video
    for head in ("fused", "audio"):
        assert "frontend.mel_mean, frontend.mel_std" in chance_level.likely_causes(head, config)
    for mix in (MixConfig(method="none"), MixConfig(probability=0.0), MixConfig(ramp_epochs=2),
                MixConfig(switch={"none": 1.0, "mixup": 0.0})):  # fmt: skip
        assert "mixing" not in found.warning(replace(config, mix=mix))  # nothing is mixed at first


# --- Runs --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def subset(toy_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a manifest of some classes of the toy set, four train and two test clips of each."""

    def make(*classes: str) -> Path:
        folder = tmp_path_factory.mktemp("subset")
        splits = {
            name: [e for e in read_manifest(toy_set, name).entries if e.labels[0] in classes]
            for name in ("train", "test")
        }
        write_manifest(folder, classes=classes, protocol="subset", splits=splits)
        return folder

    return make


@pytest.fixture(scope="module")
def same_motion(subset: Callable[..., Path]) -> Path:
    """Three classes that video cannot tell: the same motion with three impacts."""
    return subset("bounce_thud", "bounce_ping", "bounce_clap")


def arguments(root: Path, manifest: Path, out: Path, *more: str) -> list[str]:
    """Nine epochs, so that three at chance are a third; three steps each, with twelve clips."""
    return ["--config", str(ROOT / "configs/smoke.yaml"), "--data.root", str(root),
            "--data.manifest", str(manifest), "--data.val_split", "", "--data.num_workers", "0",
            "--run.threads", "1", "--run.out", str(out), "--optim.epochs", "9",
            "--optim.batch_size", "4", "--optim.lr", "0.008", "--mix.method", "none",
            "--model.dropout", "0", "--run.seed", "4", *more]  # fmt: skip


def run_train(arguments: Sequence[str]) -> None:
    train.train(load_config(TrainConfig, arguments))


def run_eval(run: Path) -> dict:
    evaluation.evaluate(EvalConfig(checkpoint=str(run), num_views=1, num_workers=0, threads=1))
    return json.loads((run / "eval_test/result.json").read_text())


def rows(out: Path, kind: str) -> list[dict]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def head_means(out: Path) -> list[list[float]]:
    return [[row[f"loss_{head}"] for head in HEADS] for row in rows(out, "epoch")]


@pytest.fixture(scope="module")
def blind(toy_set: Path, same_motion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose video head has nothing to go by."""
    out = tmp_path_factory.mktemp("runs") / "blind"
    run_train(arguments(toy_set, same_motion, out))
    return out


@pytest.mark.long
def test_a_head_that_cannot_learn_is_named_and_the_others_are_not(blind: Path, capsys) -> None:
    (row,) = rows(blind, "at_chance")
    assert (row["head"], row["epochs"], row["of"]) == ("video", 3, 9)
    assert row["guessing"] == pytest.approx(1.0986, abs=1e-4)  # ln 3
    means = head_means(blind)
    assert row["loss"] == means[row["epoch"]][1] > 0.97 * 1.0986
    # The means are those of the steps, all of which have the same number of clips.
    for e, mean in enumerate(means):
        steps = [r for r in rows(blind, "step") if r["epoch"] == e]
        for head, value in zip(HEADS, mean, strict=True):
            assert value == pytest.approx(sum(r[f"loss_{head}"] for r in steps) / 3)

    curves = EventAccumulator(str(blind / "tensorboard")).Reload()
    video = [(e.step, e.value) for e in curves.Scalars("train/epoch_loss_video")]
    assert [at for at, _ in video] == [3 * (e + 1) for e in range(9)]
    assert [value for _, value in video] == pytest.approx([mean[1] for mean in means])

    result = run_eval(blind)
    expected = [sum(m[h] > 0.97 * 1.0986 for m in means) for h in range(3)]
    assert list(result["at_chance"].values()) == expected
    assert list(result["at_chance"]) == ["fused", "video head", "audio head"]
    assert expected[0] < 3 <= expected[1]
    printed = capsys.readouterr().out
    assert "│ video head * " in printed
    assert "│ fused   " in printed
    assert f"* the video head was at chance in {expected[1]} of 9 epochs of training" in printed
    assert printed.count("Likely causes: optim.lr") == 1


@pytest.mark.long
def test_all_heads_of_a_run_that_learns_nothing_are_named(
    toy_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = arguments(toy_set, toy_set, tmp_path, "--optim.epochs", "4", "--optim.lr", "1e-9",
                    "--mix.method", "mixup")  # fmt: skip
    run_train(run)
    said = [(row["epoch"], row["head"], row["epochs"]) for row in rows(tmp_path, "at_chance")]
    assert said == [(2, head, 3) for head in HEADS]  # two of four are a third, but too few
    printed = capsys.readouterr().out
    for head in HEADS:
        assert printed.count(f"warning: the {head} head is at chance: in 3 of 4 epochs") == 1
    # And again when the run ends, after its last epoch.
    end = printed[printed.index("epoch 4: ") :]
    for head in HEADS:
        assert end.count(f"warning: the {head} head is at chance: in 4 of 4 epochs") == 1
    assert printed.count("warning: ") == 6
    run_train(run)  # it is done: the last words again, and nothing is written
    assert capsys.readouterr().out.count("in 4 of 4 epochs") == 3
    assert len(rows(tmp_path, "at_chance")) == 3


@pytest.mark.long
def test_nothing_is_said_of_a_run_that_learns(
    toy_set: Path, subset: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = subset("bounce_thud", "pulse_ping")
    run_train(arguments(toy_set, manifest, tmp_path, "--optim.batch_size", "8"))
    assert rows(tmp_path, "at_chance") == []
    result = run_eval(tmp_path)
    assert all(n < 3 for n in result["at_chance"].values())
    printed = capsys.readouterr().out
    assert "at chance" not in printed
    assert "head *" not in printed


@pytest.mark.long
def test_nothing_is_said_of_two_epochs_nor_of_heads_without_weight(
    toy_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = ["--optim.lr", "1e-9"]
    run_train(arguments(toy_set, toy_set, tmp_path / "short", *lost, "--optim.epochs", "2"))
    assert run_eval(tmp_path / "short")["at_chance"] == {
        "fused": 2, "video head": 2, "audio head": 2}  # fmt: skip
    assert "at chance" not in capsys.readouterr().out
    run_train(arguments(toy_set, toy_set, tmp_path / "fused", *lost, "--optim.epochs", "3",
                        "--loss.video", "0", "--loss.audio", "0"))  # fmt: skip
    assert {row["head"] for row in rows(tmp_path / "fused", "at_chance")} == {"fused"}
    assert run_eval(tmp_path / "fused")["at_chance"] == {
        "fused": 3, "video head": None, "audio head": None}  # fmt: skip


class Stop(Exception):
    """Ends a run where a test wants it to."""


@pytest.mark.long
@pytest.mark.parametrize(
    ("save_every", "where", "stands"),
    [
        ("2", "step", (2, 2)),  # in the middle of the epoch that makes it a third
        ("3", "warning", (2, 3)),  # all of its steps are done, the epoch itself is not
        ("0", "warning", (2, 0)),  # all of the epoch is done again
    ],
)
def test_a_run_that_was_killed_says_what_an_undisturbed_one_says(
    toy_set: Path, same_motion: Path, blind: Path, tmp_path: Path, save_every: str, where: str,
    stands: tuple[int, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = arguments(toy_set, same_motion, tmp_path, "--run.save_every", save_every)
    warned = rows(blind, "at_chance")[0]["epoch"]
    assert warned == 2
    step_done, at_chance = RunLog.step_done, RunLog.at_chance

    def after_step(log: RunLog, record, watch) -> None:
        step_done(log, record, watch)
        if (record.epoch, record.step) == (2, 2):
            raise Stop

    def after_warning(log: RunLog, found, epoch: int, config) -> None:
        at_chance(log, found, epoch, config)
        if found:
            raise Stop

    with monkeypatch.context() as patch:
        if where == "step":
            patch.setattr(RunLog, "step_done", after_step)
        else:
            patch.setattr(RunLog, "at_chance", after_warning)
        with pytest.raises(Stop):
            run_train(run)
    state = checkpoint.load(tmp_path / "last.pt")
    assert (state.epoch, state.step) == stands
    capsys.readouterr()
    run_train(run)
    assert capsys.readouterr().out.count("in 3 of 9 epochs") == 1
    assert rows(tmp_path, "at_chance") == rows(blind, "at_chance")
    assert head_means(tmp_path) == head_means(blind)
    ours, theirs = (checkpoint.load(run / "last.pt").chance for run in (tmp_path, blind))
    assert ours is not None
    assert theirs is not None
    assert ours.epochs == theirs.epochs
    assert torch.equal(ours.sums, theirs.sums)


@pytest.mark.long
def test_of_an_older_checkpoint_it_is_unknown(
    toy_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = arguments(toy_set, toy_set, tmp_path, "--optim.epochs", "3", "--optim.lr", "1e-9")
    run_train(run)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    content |= {"epoch": 1, "step": 0}
    del content["chance"], content["digest"]  # as it was written before there were these
    torch.save(content, tmp_path / "last.pt")
    capsys.readouterr()
    run_train(run)
    assert checkpoint.load(tmp_path / "last.pt").chance is None
    assert all(value > 0.97 * 2.3026 for mean in head_means(tmp_path) for value in mean)
    result = run_eval(tmp_path)
    assert (result["epochs_trained"], result["at_chance"]) == (3, None)
    assert "at chance" not in capsys.readouterr().out
