"""The loop on made batches: schedule, accumulation, when it saves, and what evaluation averages."""

import copy
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    FrontendConfig,
    LossConfig,
    MixConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
    VideoEncoderConfig,
)
from avmix.data.loader import BadClips, EpochSampler, EvalLoader, TrainLoader
from avmix.data.sample import BadClip, Loaded, Place, TooManyBadClips
from avmix.evaluation.metrics import EVAL_ROWS
from avmix.mix import MixPlan, mixed_targets
from avmix.mix.hidden_mix import hidden_mix
from avmix.models import build_model
from avmix.models.classifier import Features, Output
from avmix.models.frontend import Frontend
from avmix.rng import rng
from avmix.training import chance_level
from avmix.training.chance_level import ChanceMeter
from avmix.training.engine import (
    check_input,
    clean_pass,
    clip_gradients,
    clips_of,
    mix_of_epoch,
    seed_torch,
    train_one_epoch,
)
from avmix.training.evaluation_loop import evaluate
from avmix.training.losses import consistency_losses, head_losses, needs_clean, objective, presence
from avmix.training.optimizer import build_optimizer, lr_at, towers_of
from avmix.training.runlog import NotFiniteError, RunLog
from avmix.training.runtime import Runtime
from avmix.types import Batch, Heads

HERE = Runtime(device=torch.device("cpu"), threads=1)
FRONTEND = Frontend(FrontendConfig(num_mels=4, n_fft=64, hop_length=64), 1000)
SMALL = ModelConfig(
    video=VideoEncoderConfig(channels=[4, 4]),
    audio=AudioEncoderConfig(channels=[4, 4]),
    dropout=0.0,
)


def batch_of(rows: list[int], *, broken: int | None = None) -> Batch:
    """Clips that depend on their row alone; the audio of row `broken` is not a number."""
    generators = [torch.Generator().manual_seed(row) for row in rows]
    audio = torch.stack([torch.randn(256, generator=g) for g in generators])
    video = [torch.randint(256, (2, 8, 8, 3), generator=g, dtype=torch.uint8) for g in generators]
    audio[[row == broken for row in rows]] = float("nan")
    return Batch(
        video=torch.stack(video),
        audio=audio,
        has_video=torch.ones(len(rows), dtype=torch.bool),
        has_audio=torch.tensor([row % 3 != 0 for row in rows]),
        target=torch.eye(3)[[row % 3 for row in rows]],
        row=torch.tensor(rows),
        source=torch.tensor(rows) + 100,
    )


@dataclass(frozen=True)
class Rows:
    """A source without files: the clip at a position is the row of that number."""

    broken: int | None

    def read(self, batches: Iterable[Sequence[Place]], epoch: int | None) -> Iterator[Loaded]:
        for places in batches:
            yield Loaded(batch_of([row for _, row in places], broken=self.broken), ())

    def close(self) -> None: ...


@dataclass(frozen=True)
class Prepared:
    """A source of batches that are there already."""

    loaded: list[Loaded]

    def read(self, batches: Iterable[Sequence[Place]], epoch: int | None) -> Iterator[Loaded]:
        return iter(self.loaded)

    def close(self) -> None: ...


class Averages(nn.Module):
    """Linear in the mean of each input: without statistics of the batch, so that sums add up."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.video, self.audio = nn.Linear(3, 3), nn.Linear(4, 3)

    def forward(self, video, audio, has_video, has_audio, mix=None) -> Output:
        v, a = self.video(video.mean((2, 3, 4))), self.audio(audio.mean((1, 3)))
        return Output(Heads(v + a * has_audio[:, None], v, a), Features(v, a))


def train(
    folder: Path,
    *,
    saved: list[int],
    accumulate: int = 1,
    broken: int | None = None,
    log_every: int = 10,
    save_every: int = 0,
) -> nn.Module:
    """One epoch of five steps of four clips; `saved` gets the steps at which it would save."""
    clips, batch_size = 20, 4
    config = TrainConfig(
        mix=MixConfig(method="none"),
        optim=OptimConfig(batch_size=batch_size, accumulate=accumulate, clip_norm=1e9),
        run=RunConfig(log_every=log_every, save_every=save_every),
    )
    loader = TrainLoader(
        source=Rows(broken),
        sampler=EpochSampler(clips, batch_size),
        bad=BadClips(clips, 0.0),
        paths=[f"{row}.mp4" for row in range(clips)],
    )
    network = Averages()
    log = RunLog(folder, HERE, config.run.log_every)
    log.begin("", epoch=0, step=0, steps_per_epoch=loader.num_steps)
    try:
        train_one_epoch(
            network, FRONTEND, build_optimizer(network, config.optim), loader, config, HERE, log,
            epoch=0, first_step=0, save=saved.append,
            meter=ChanceMeter(chance_level.initial_history(3), config.loss, 3, HERE.device),
        )  # fmt: skip
    finally:
        log.close()
    return network


@pytest.mark.parametrize(
    ("accumulate", "updates"),
    [(1, [[0], [1], [2], [3], [4]]), (2, [[0, 1], [2, 3], [4]]), (9, [[0, 1, 2, 3, 4]])],
)
def test_accumulated_steps_are_one_update_with_their_mean(tmp_path, accumulate, updates):
    network = train(tmp_path, saved=[], accumulate=accumulate)
    reference, optim = Averages(), OptimConfig()
    optimizer = build_optimizer(reference, optim)
    for steps in updates:
        optimizer.zero_grad()
        parts = [batch_of(list(range(4 * step, 4 * step + 4))) for step in steps]
        for batch in parts:
            logits = reference(*FRONTEND(batch), batch.has_video, batch.has_audio).logits
            present = presence(batch.has_video, batch.has_audio)
            losses = head_losses(logits, Heads(*[batch.target] * 3), present, 0.0)
            (objective(TrainConfig().loss, losses, {}) / len(parts)).backward()
        for group in optimizer.param_groups:
            group["lr"] = lr_at(optim, steps[-1], 5)
        optimizer.step()
    for ours, theirs in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    assert not torch.equal(next(network.parameters()), next(Averages().parameters()))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_gradient_norm_of_each_tower(prefix: str) -> None:
    # 3-4-12 and 13-84: triangles whose hypotenuses are whole numbers.
    model = nn.Module()
    model.video, model.audio, model.head = (nn.Linear(1, 1) for _ in range(3))
    for layer, weight, bias in ((model.video, 3.0, 4.0), (model.audio, 12.0, 0.0),
                                (model.head, 84.0, 0.0)):  # fmt: skip
        layer.weight.grad, layer.bias.grad = torch.tensor([[weight]]), torch.tensor([bias])
    network = model
    if prefix:  # as DistributedDataParallel names them
        network = nn.Module()
        network.module = model
    norms = clip_gradients(towers_of(network), max_norm=8.5)
    assert [norm.item() for norm in norms] == pytest.approx([85.0, 5.0, 12.0, 84.0])
    after = [p.grad.item() for p in model.parameters() if p.grad is not None]
    assert after == pytest.approx([0.3, 0.4, 1.2, 0.0, 8.4, 0.0])  # a tenth of each


@pytest.mark.parametrize("max_norm", [1e-3, 1.0, math.inf, 0.0])
@pytest.mark.parametrize("odd", [1.0, math.nan, math.inf, 0.0])
def test_gradients_are_clipped_as_by_torch(max_norm: float, odd: float) -> None:
    """To the bit, also where the factor is 1 and nothing has to be multiplied."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        model = nn.ModuleDict({name: nn.Linear(3, 2) for name in ("video", "audio", "head")})
        for parameter in model.parameters():
            parameter.grad = odd * torch.randn_like(parameter)
        models.append(model)
    mine, theirs = models
    norms = clip_gradients(towers_of(mine), max_norm)
    total = nn.utils.clip_grad_norm_(theirs.parameters(), max_norm)
    torch.testing.assert_close(norms.total, total, equal_nan=True)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=0, equal_nan=True)


def test_what_is_unknown_is_no_label_of_a_clip() -> None:
    """Of nan a plan knows nothing; of several labels it knows all."""
    batch = replace(batch_of([0, 1]), target=torch.tensor([[1.0, math.nan, 0.5], [0.0, 1.0, 0.0]]))
    assert clips_of(batch).labels == (frozenset({0, 2}), frozenset({1}))


def test_the_norms_that_are_written_are_those_of_each_tower(tmp_path) -> None:
    train(tmp_path, saved=[], log_every=1)
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    first = next(lines)
    network = Averages()
    batch = batch_of([0, 1, 2, 3])
    logits = network(*FRONTEND(batch), batch.has_video, batch.has_audio).logits
    present = presence(batch.has_video, batch.has_audio)
    losses = head_losses(logits, Heads(*[batch.target] * 3), present, 0.0)
    objective(TrainConfig().loss, losses, {}).backward()
    squares = {
        name: sum(p.grad.square().sum().item() for p in tower.parameters() if p.grad is not None)
        for name, tower in (("video", network.video), ("audio", network.audio))
    }
    assert first["grad_norm_video"] == pytest.approx(squares["video"] ** 0.5, rel=1e-5)
    assert first["grad_norm_audio"] == pytest.approx(squares["audio"] ** 0.5, rel=1e-5)
    assert first["grad_norm_fusion"] == 0.0  # it has no other parameters
    assert first["grad_norm"] == pytest.approx(sum(squares.values()) ** 0.5, rel=1e-5)


@pytest.mark.parametrize(
    ("save_every", "accumulate", "saved"),
    [(0, 1, []), (1, 1, [1, 2, 3, 4, 5]), (2, 1, [2, 4]), (2, 2, [2, 4]), (1, 2, [2, 4, 5])],
)
def test_it_saves_between_updates_only(tmp_path, save_every, accumulate, saved):
    found: list[int] = []
    train(tmp_path, saved=found, save_every=save_every, accumulate=accumulate)
    assert found == saved


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_clips(tmp_path):
    with pytest.raises(NotFiniteError, match=r"epoch 0, step 2; rows .*\[8, 9, 10, 11\]"):
        train(tmp_path, saved=[], broken=10, log_every=1)


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    saved: list[int] = []
    with pytest.raises(NotFiniteError):
        train(tmp_path, saved=saved, broken=10, log_every=5, save_every=1)
    assert saved == [1, 2]


@pytest.mark.parametrize(
    ("warmup_epochs", "expected"),
    [
        # 10 epochs of 4 steps at rate 1; step: rate.
        (1.0, {0: 0.2, 3: 0.8, 4: 1.0, 22: 0.5, 39: 0.5 * (1 + math.cos(math.pi * 35 / 36))}),
        (0.0, {0: 1.0, 20: 0.5, 10: 0.5 + 0.5**1.5}),
        (0.5, {0: 1 / 3, 1: 2 / 3, 2: 1.0, 21: 0.5}),
        (10.0, {0: 1 / 41, 39: 40 / 41}),
    ],
)
def test_the_learning_rate_by_hand(warmup_epochs, expected):
    optim = OptimConfig(epochs=10, lr=1.0, warmup_epochs=warmup_epochs)
    assert {s: lr_at(optim, s, 4) for s in expected} == pytest.approx(expected)


@pytest.mark.parametrize("warmup_epochs", [0.0, 0.3, 1.0, 2.9])
def test_the_learning_rate_rises_once_and_falls_to_nearly_nothing(warmup_epochs):
    optim = OptimConfig(epochs=3, lr=0.7, warmup_epochs=warmup_epochs)
    rates = [lr_at(optim, step, 100) for step in range(300)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert top == math.ceil(100 * warmup_epochs - 1e-9)
    assert min(rates) > 0
    assert max(rates) == pytest.approx(0.7, rel=1e-3)
    assert rates[-1] < (0.7 * 3e-3 if warmup_epochs < 2 else 0.7 * 0.1)


@pytest.mark.parametrize(
    ("off_epochs", "mixed"), [(0, [1, 1, 1, 1]), (1, [1, 1, 1, 0]), (3, [1, 0, 0, 0]), (9, [0] * 4)]
)
def test_the_last_epochs_can_be_left_unmixed(off_epochs, mixed):
    mix = MixConfig(off_epochs=off_epochs, alpha=0.7)
    found = [mix_of_epoch(mix, epoch, 4) for epoch in range(4)]
    assert [m.probability for m in found] == mixed
    assert all(replace(m, probability=1.0) == mix for m in found)


@pytest.mark.parametrize(
    ("ramp_epochs", "off_epochs", "mixed"),
    [(0, 0, [0.8] * 4), (1, 0, [0, 0.8, 0.8, 0.8]), (2, 0, [0, 0.4, 0.8, 0.8]),
     (4, 0, [0, 0.2, 0.4, 0.6]), (2, 1, [0, 0.4, 0.8, 0]), (3, 1, [0, 0.8 / 3, 1.6 / 3, 0])],
)  # fmt: skip
def test_mixing_begins_gradually(ramp_epochs, off_epochs, mixed):
    mix = MixConfig(ramp_epochs=ramp_epochs, off_epochs=off_epochs, probability=0.8, alpha=0.7)
    found = [mix_of_epoch(mix, epoch, 4) for epoch in range(4)]
    assert [m.probability for m in found] == pytest.approx(mixed)
    assert all(replace(m, probability=0.8) == mix for m in found)


def test_only_matrices_and_kernels_decay():
    model = build_model(SMALL, 3)
    decaying, others = build_optimizer(model, OptimConfig(weight_decay=0.25)).param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.25, 0.0)
    weights = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear)
    }
    assert {id(p) for p in decaying["params"]} == weights
    everyone = [id(p) for p in (*decaying["params"], *others["params"])]
    assert sorted(everyone) == sorted(id(p) for p in model.parameters())


def test_dropout_has_an_address():
    def draw(*address: int) -> list[float]:
        seed_torch(rng(address[0], address[1], "torch", *address[2:]))
        return torch.rand(3).tolist()

    addresses = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    assert [draw(*a) for a in addresses] == [draw(*a) for a in addresses]
    assert len({tuple(draw(*a)) for a in addresses}) == len(addresses)


def eval_loader_of(loaded: list[Loaded], num_views: int) -> EvalLoader:
    return EvalLoader(source=Prepared(loaded), batches=(), num_views=num_views, split="test",
                      sources=(), paths=[f"{row}.mp4" for row in range(10)])  # fmt: skip


def test_evaluation_averages_the_probabilities_of_views():
    torch.manual_seed(0)
    model = build_model(SMALL, 3)
    one, two = batch_of([4, 2, 8]), replace(batch_of([5, 7, 3]), row=torch.tensor([8, 4, 2]))
    # Views of a clip come in any order and in different batches; those of row 8 are split 1 : 1.
    two = replace(two, target=torch.eye(3)[[8 % 3, 4 % 3, 2 % 3]])
    found = evaluate(model, FRONTEND, eval_loader_of([Loaded(one, ()), Loaded(two, ())], 2), HERE)
    predictions = found.predictions
    assert not found.bad
    assert predictions.row.tolist() == [2, 4, 8]
    assert predictions.label.tolist() == [2, 1, 2]
    assert list(predictions.probability) == list(EVAL_ROWS)
    model.eval()
    for name, head in zip(EVAL_ROWS[:3], Heads._fields, strict=True):
        with torch.no_grad():
            both = [
                getattr(model(*FRONTEND(b), b.has_video, b.has_audio).logits, head).softmax(1)
                for b in (one, two)
            ]
        # The second window of row 2 has no audio, of which the audio head therefore says nothing.
        views = [[both[0][1], both[1][2]], [both[0][0], both[1][1]], [both[0][2], both[1][0]]]
        views[0] = views[0][:1] if head == "audio" else views[0]
        mean = torch.stack([torch.stack(some).mean(0) for some in views])
        torch.testing.assert_close(predictions.probability[name], mean)


def test_a_clip_without_audio_has_no_place_in_the_rows_of_audio():
    torch.manual_seed(0)
    model, batch = build_model(SMALL, 3), batch_of([1, 3, 4])  # row 3 has no audio
    found = evaluate(model, FRONTEND, eval_loader_of([Loaded(batch, ())], 1), HERE).predictions
    counted = {name: found.counted[name].tolist() for name in EVAL_ROWS}
    everyone, heard = [True, True, True], [True, False, True]
    assert counted == {"fused": everyone, "video head": everyone, "audio missing": everyone,
                       "audio head": heard, "video missing": heard}  # fmt: skip
    assert not found.probability["audio head"][1].any()


def test_taking_a_modality_away_is_evaluated_as_if_it_were_missing():
    torch.manual_seed(0)
    model, batch = build_model(SMALL, 3), batch_of([1, 2, 4])
    found = evaluate(model, FRONTEND, eval_loader_of([Loaded(batch, ())], 1), HERE)
    none = torch.zeros(3, dtype=torch.bool)
    inputs = FRONTEND(batch)
    with torch.no_grad():
        expected = {
            "audio missing": model(*inputs, batch.has_video, none).logits.fused.softmax(1),
            "video missing": model(*inputs, none, batch.has_audio).logits.fused.softmax(1),
        }
    for name, probability in expected.items():
        torch.testing.assert_close(found.predictions.probability[name], probability)
    rows = list(found.predictions.probability.values())
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(rows, 2))


def test_a_clip_without_all_its_views_is_reported_and_not_scored():
    bad = partial(BadClip, path="3.mp4", reason="damaged")
    loaded = [Loaded(batch_of([1, 1, 3]), (bad(3),)), Loaded(None, (bad(5), bad(5)))]
    found = evaluate(build_model(SMALL, 3), FRONTEND, eval_loader_of(loaded, 2), HERE)
    assert found.predictions.row.tolist() == [1]
    assert found.bad == (bad(3), bad(5))


def test_a_split_of_which_nothing_can_be_read_is_an_error():
    loader = eval_loader_of([Loaded(None, (BadClip(0, "a.mp4", "damaged"),))], 1)
    with pytest.raises(TooManyBadClips, match=r"none of the 1 clips of '\w+' .*a\.mp4: damaged"):
        evaluate(build_model(SMALL, 3), FRONTEND, loader, HERE)


def test_a_waveform_that_is_not_finite_costs_exactly_its_clip():
    torch.manual_seed(0)
    model = build_model(SMALL, 3)
    whole = evaluate(model, FRONTEND, eval_loader_of([Loaded(batch_of([1, 2, 4]), ())], 1), HERE)
    broken = Loaded(batch_of([1, 2, 4], broken=2), ())
    found = evaluate(model, FRONTEND, eval_loader_of([broken], 1), HERE)
    assert found.bad == (BadClip(2, "2.mp4", "audio that is not finite"),)
    assert found.predictions.row.tolist() == [1, 4]
    for name, probability in found.predictions.probability.items():
        torch.testing.assert_close(probability, whole.predictions.probability[name][[0, 2]])
    # One view of two is enough to lose it.
    both = [Loaded(batch_of([1, 2, 4]), ()), broken]
    assert evaluate(model, FRONTEND, eval_loader_of(both, 2), HERE).bad == found.bad


def test_a_network_that_says_nothing_finite_of_a_clip_costs_the_clip():
    torch.manual_seed(0)
    model = build_model(SMALL, 3)
    assert isinstance(model.fusion.video, torch.nn.Module)
    model.fusion.video.register_forward_hook(
        lambda _, inputs, logits: logits.index_fill(0, torch.tensor([1]), float("inf"))
    )
    loader = eval_loader_of([Loaded(batch_of([1, 2, 4]), ())], 1)
    found = evaluate(model, FRONTEND, loader, HERE)
    assert found.bad == (BadClip(2, "2.mp4", "logits that are not finite"),)
    with torch.no_grad():
        next(model.video.parameters()).fill_(float("nan"))
    with pytest.raises(TooManyBadClips, match=r"none of the 3 clips of 'test' .* not finite"):
        evaluate(model, FRONTEND, loader, HERE)


def test_input_that_is_not_finite_is_named_where_it_is_asked_for():
    check_input(batch_of([0, 1]), ["a.mp4", "b.mp4"])
    with pytest.raises(ValueError, match=r"audio that is not finite, in b\.mp4$"):
        check_input(batch_of([0, 1, 2], broken=1), ["a.mp4", "b.mp4", "c.mp4"])


def test_clips_as_they_are_leave_no_trace_in_the_network():
    torch.manual_seed(0)
    model = build_model(
        ModelConfig(
            video=VideoEncoderConfig(channels=[4, 4]),
            audio=AudioEncoderConfig(channels=[4, 4]),
            dropout=0.5,
        ),
        3,
    )
    model.train()
    batch = batch_of([1, 2, 4])
    model(*FRONTEND(batch), batch.has_video, batch.has_audio)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    first, second = clean_pass(model, FRONTEND, batch), clean_pass(model, FRONTEND, batch)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for ours, theirs in zip(first.logits, second.logits, strict=True):
        assert torch.equal(ours, theirs)  # no dropout
        assert not ours.requires_grad
    model.eval()
    expected = model(*FRONTEND(batch), batch.has_video, batch.has_audio)
    torch.testing.assert_close(first.logits.fused, expected.logits.fused)


def test_what_a_plan_must_know_of_a_batch():
    batch = replace(batch_of([0, 4, 5]), source=torch.tensor([7, 7, 9]))
    batch = replace(batch, target=torch.tensor([[1.0, 0, 0], [0.5, 0, 0.5], [0, 0, 0]]))
    clips = clips_of(batch)
    assert dict(clips.present) == {"video": (True,) * 3, "audio": (False, True, True)}
    assert clips.source == (7, 7, 9)
    assert clips.labels == (frozenset([0]), frozenset([0, 2]), frozenset())


CLIP = ClipConfig(duration_seconds=0.256, num_frames=2, sample_rate=1000, short_side=8, crop=8)
SPECTRA = FrontendConfig(num_mels=4, n_fft=64, hop_length=64)  # of FRONTEND
SHARED = ModelConfig(
    video=VideoEncoderConfig(channels=[4, 4]),
    audio=AudioEncoderConfig(channels=[4, 5]),
    dropout=0.0,
    shared_width=6,
)
STEPS: dict[str, tuple[MixConfig, LossConfig]] = {
    "dropout": (MixConfig(method="mixup+dropout", drop_video=0.4, drop_audio=0.4), LossConfig()),
    "binary, max": (MixConfig(law="uniform", labels="max"), LossConfig(kind="binary")),
    "smoothing": (MixConfig(law="uniform"), LossConfig(label_smoothing=0.3)),
    "waveform": (MixConfig(method="cutmix_temporal", audio_domain="waveform"), LossConfig()),
    "off": (MixConfig(off_epochs=1, law="uniform"), LossConfig()),
    "consistency": (
        MixConfig(method="mixup@feature+dropout", law="uniform", drop_video=0.4),
        LossConfig(agreement=0.5, interpolation=0.7, contrastive=0.3),
    ),
    "second_batch": (
        MixConfig(pairing="second_batch", law="uniform"),
        LossConfig(interpolation=0.5, contrastive=0.5),
    ),
}


def one_step(folder, mix, loss, broken=None, **run):
    """One epoch of one step of six clips: the network before, what was logged, the stopwatch."""
    config = TrainConfig(clip=CLIP, frontend=SPECTRA, model=SHARED, mix=mix, loss=loss,
                         optim=OptimConfig(batch_size=6, epochs=1),
                         run=RunConfig(seed=1, save_plans=True, **run))  # fmt: skip
    size = 6 * mix.clips_per_mix
    loader = TrainLoader(
        source=Rows(broken),
        sampler=EpochSampler(size, size),
        bad=BadClips(size, 0.0),
        paths=[f"{i}.mp4" for i in range(size)],
    )
    torch.manual_seed(0)
    network = build_model(SHARED, 3)
    before = copy.deepcopy(network)
    log = RunLog(folder, HERE, 1, save_plans=True)
    log.begin("", epoch=0, step=0, steps_per_epoch=1)
    try:
        watch = train_one_epoch(
            network, FRONTEND, build_optimizer(network, config.optim), loader, config, HERE, log,
            epoch=0, first_step=0, save=lambda step: None,
            meter=ChanceMeter(chance_level.initial_history(3), config.loss, 3, HERE.device),
        )  # fmt: skip
    finally:
        log.close()
    read = [json.loads((folder / n).read_text()) for n in ("metrics.jsonl", "plans_rank0.jsonl")]
    return before, read[0], read[1], watch


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_what_its_plan_and_the_options_say(name, tmp_path):
    mix, options = STEPS[name]
    network, row, line, watch = one_step(tmp_path, mix, options)
    assert watch.num_clips == 6
    assert line["rows"] == list(range(6 * mix.clips_per_mix))
    batch = batch_of(line["rows"])
    what = MixPlan.from_json(json.dumps(line))
    plan = what.to(torch.device("cpu"))
    assert what.mixes == (name != "off")
    classes = batch.target.argmax(1)
    assert name == "off" or (classes[: what.size] != classes[list(what.partner)]).any()
    if what.level == "input":
        assert what.part("audio").domain == mix.audio_domain
    has = (plan.part("video").present, plan.part("audio").present)
    if name in ("dropout", "consistency"):  # or nothing would be shown
        assert not torch.equal(torch.stack(has), torch.stack([batch.has_video, batch.has_audio]))
    network.train()
    mixed = network(*FRONTEND(batch, plan), *has, hidden_mix(plan))
    network.eval()
    clean = network(*FRONTEND(batch), batch.has_video, batch.has_audio)  # statistics are now others
    losses = head_losses(mixed.logits, mixed_targets(plan, batch.target, mix.labels),
                         presence(*has), options.label_smoothing, options.kind)  # fmt: skip
    more = consistency_losses(options, plan, mixed, clean if needs_clean(options) else None,
                              batch.has_video, batch.has_audio)  # fmt: skip
    for key, value in (*losses._asdict().items(), *more.items()):
        assert row[f"loss_{key}"] == pytest.approx(value.item(), rel=1e-4, abs=1e-6), key


def test_input_is_checked_where_the_run_asks_for_it(tmp_path):
    with pytest.raises(ValueError, match=r"audio that is not finite, in 4\.mp4$"):
        one_step(tmp_path, MixConfig(), LossConfig(), broken=4, check_input=True)


def test_clips_that_only_serve_as_partners_are_named_too(tmp_path):
    with pytest.raises(NotFiniteError, match=r"\[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11\]"):
        one_step(tmp_path, MixConfig(pairing="second_batch", law="uniform"), LossConfig(), broken=4)


def test_seeding_gives_the_draws_of_manual_seed():
    stream = rng(3, 1, "torch", 2, 0)
    torch.manual_seed(int(rng(3, 1, "torch", 2, 0).integers(2**63)))
    wanted = torch.rand(5)
    seed_torch(stream)
    assert torch.rand(5).equal(wanted)


def test_facts_of_a_batch_list_every_label_of_every_clip():
    batch = replace(batch_of([0, 1, 2]), target=torch.tensor([[0, 0.4, 0.6], [0, 0, 0], [1, 0, 1]]))
    assert clips_of(batch).labels == (frozenset({1, 2}), frozenset(), frozenset({0, 2}))
