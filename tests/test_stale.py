"""Committed results say what the code computes, and name the code they were measured with."""

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import avmix.models.frontend
import avmix.rng
import avmix.training.engine
from avmix.config import to_yaml

ROOT = Path(__file__).parents[1]
COMMITTED = {p.stem: json.loads(p.read_text())
             for p in sorted((ROOT / "benchmarks/results").glob("*.json"))}  # fmt: skip
TRAINED = [name for name, result in COMMITTED.items() if "runs" in result]
SMOKE = {"kind": "training", "config": "configs/smoke.yaml", "overrides": ["--data.root", "DIR"],
         "command": "python benchmarks/seeds.py --name smoke"}  # fmt: skip


@pytest.fixture(scope="module")
def load() -> Iterator[Callable[[str], Any]]:
    """Import a module of benchmarks/, as the script that is run there does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module


@pytest.fixture(scope="module")
def take(load: Any, toy_set: Path) -> Callable[..., Any]:
    """The fingerprint of a configuration; of those that differ in their data only, one."""
    fingerprint, taken = load("fingerprint"), {}

    def take(config: Any, *, anew: bool = False) -> Any:
        config = fingerprint.on_stand_in(config, toy_set)
        if anew:
            return fingerprint.take(config)
        key = to_yaml(config)
        if key not in taken:
            taken[key] = fingerprint.take(config)
        return taken[key]

    return take


@pytest.mark.parametrize("name", COMMITTED)
def test_a_committed_result_is_of_committed_code(name: str, load: Any) -> None:
    if said := load("shared.provenance").refusal(name, COMMITTED[name]):
        pytest.fail(said, pytrace=False)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "demo" else pytest.mark.long) for n in TRAINED]
)
def test_a_committed_table_is_what_the_code_computes(name: str, load: Any, take: Any) -> None:
    result = COMMITTED[name]
    where = load("paste").where(name, result)
    if said := load("stale").stale(name, result, where, take):
        pytest.fail(said, pytrace=False)


def test_the_smoke_training_is_the_golden_one(load: Any, take: Any) -> None:
    """Where a change of the numbers is meant, benchmarks/fingerprint.py prints the new ones."""
    fingerprint, golden = load("fingerprint"), ROOT / "tests/golden/smoke.json"
    expected = fingerprint.Fingerprint.of(json.loads(golden.read_text()))
    found = take(fingerprint.configured("configs/smoke.yaml", []))
    assert load("stale").difference(expected, found) is None


@pytest.fixture(scope="module")
def measured(load: Any, take: Any) -> dict[str, Any]:
    """A result of the smoke configuration, as JSON keeps it."""
    fingerprint = load("fingerprint")
    found = take(fingerprint.configured(SMOKE["config"], SMOKE["overrides"]))
    text = json.dumps({**SMOKE, "fingerprint": asdict(found)}, allow_nan=False)
    return json.loads(text)


@pytest.fixture
def check(load: Any, take: Any, measured: dict[str, Any]) -> Callable[[], str | None]:
    """Ask again whether that result is stale."""

    def check() -> str | None:
        where, again = 'README.md, section "Smoke"', partial(take, anew=True)
        return load("stale").stale("smoke", measured, where, again)

    return check


def test_code_that_computes_the_same_is_not_stale(check: Any, monkeypatch) -> None:
    drawn = avmix.training.engine.draw_plan

    def renamed(*args: Any, **options: Any) -> Any:
        return drawn(*args, **options)

    monkeypatch.setattr(avmix.training.engine, "draw_plan", renamed)
    assert check() is None


def test_other_draws_are_noticed(check: Any, monkeypatch) -> None:
    monkeypatch.setitem(avmix.rng._NUMBER, "mix", avmix.rng._NUMBER["mix"] + 100)
    said = check()
    assert said is not None
    assert said.startswith('README.md, section "Smoke": benchmarks/results/smoke.json no longer')
    assert "(epoch 1, step 1): expected " in said
    assert said.endswith("Measure it again: python benchmarks/seeds.py --name smoke")


@pytest.mark.long
def test_another_scaling_of_frames_is_noticed(check: Any, monkeypatch) -> None:
    """Batch normalisation hides it from the losses and from the gradients."""
    monkeypatch.setattr(avmix.models.frontend, "PIXEL_STD", (0.25, 0.25, 0.25))
    said = check()
    assert said is not None
    assert "smoke.json no longer says what the code computes: rms_video (epoch 1" in said


def test_an_option_that_is_gone_is_noticed(load: Any, measured: dict[str, Any], take: Any) -> None:
    result = {**measured, "overrides": ["--mix.alhpa", "1"]}
    said = load("stale").stale("smoke", result, "a page", take)
    assert "its configuration no longer trains (SystemExit" in said
    del result["fingerprint"]
    assert "it has no fingerprint" in load("stale").stale("smoke", result, "a page", take)


def test_the_first_difference_is_named(load: Any, measured: dict[str, Any]) -> None:
    stale, fingerprint = load("stale"), load("fingerprint")
    old = fingerprint.Fingerprint.of(measured["fingerprint"])
    assert [(row["epoch"], row["step"]) for row in old.steps] == [(0, 0), (0, 1), (1, 0), (1, 1)]

    def changed(number: int, name: str, factor: float) -> Any:
        steps = [dict(row) for row in old.steps]
        steps[number][name] *= factor
        return stale.difference(old, replace(old, steps=tuple(steps)))

    assert changed(0, "loss_video", 1.0009) is None
    assert changed(0, "grad_norm_audio", 1.009) is None
    assert "rms_audio (epoch 1, step 2)" in changed(1, "rms_audio", 1.002)
    assert changed(1, "loss_video", 1.009) is None  # an update multiplies what rounding does
    assert "loss_video (epoch 1, step 2): expected" in changed(1, "loss_video", 1.02)
    assert "2 % off where rounding explains 0.1 %" in changed(2, "loss_audio", 1.02)
    assert "grad_norm_fusion (epoch 2, step 1)" in changed(2, "grad_norm_fusion", 1.02)
    missing = stale.difference(old, replace(old, steps=old.steps[:3]))
    assert missing == "epoch (epoch 2, step 2): expected 1, found none"
    more = replace(old, steps=tuple({**row, "loss_new": 1.0} for row in old.steps))
    assert stale.difference(old, more) is None
    nll = {**old.nll, "audio missing": 1.01 * old.nll["audio missing"]}
    assert "NLL of audio missing (evaluation)" in stale.difference(old, replace(old, nll=nll))


def test_a_large_batch_is_cut_to_what_the_stand_in_has(load: Any, toy_set: Path) -> None:
    fingerprint = load("fingerprint")

    def batch_size(*overrides: str) -> int:
        config = fingerprint.configured("configs/demo.yaml", list(overrides))
        return fingerprint.on_stand_in(config, toy_set).optim.batch_size

    assert batch_size() == 16
    assert batch_size("--optim.batch_size", "64") == 20
    assert batch_size("--optim.batch_size", "64", "--mix.pairing", "second_batch") == 10
    assert batch_size("--optim.batch_size", "64", "--augment.repeats", "2") == 40
    assert batch_size("--optim.batch_size", "6", "--augment.repeats", "3") == 6


def test_the_stand_in_is_that_of_the_tests(load: Any, toy_set: Path) -> None:
    stand_in = load("fingerprint").STAND_IN
    splits = dict(zip(("train", "val", "test"), stand_in[1::2], strict=True))
    for split, number in splits.items():
        assert len((toy_set / f"{split}.jsonl").read_text().splitlines()) == int(number)
