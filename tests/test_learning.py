"""benchmarks/learning.py: measuring changes no training, and what is kept of it."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avmix.commands import train

ROOT = Path(__file__).parents[1]
STEPS = 6
"""One epoch of 5 steps and the first step of another."""


@pytest.fixture(scope="module")
def load() -> Any:
    """Import a module of benchmarks/, as the script that is run there does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module


# --- Runs --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(toy_set: Path) -> tuple[str, ...]:
    """Options of a quick run: 5 steps of 8 clips an epoch, few pixels."""
    return ("--data.root", str(toy_set), "--optim.epochs", "3", "--optim.batch_size", "8",
            "--clip.num_frames", "4", "--clip.short_side", "36", "--clip.crop", "32")  # fmt: skip


@pytest.fixture(scope="module")
def runs(load: Any, small: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """What a run gives, and the rows of its steps; each run is done once."""
    done: dict[tuple[str, int], Any] = {}

    def run(variant: str, look_every: int) -> Any:
        if (variant, look_every) not in done:
            first_steps, out = load("training.first_steps"), tmp_path_factory.mktemp("learning")
            question = first_steps.Question(variant=variant, seed=1, steps=STEPS, overrides=small,
                                            look_every=look_every)  # fmt: skip
            done[variant, look_every] = first_steps.one_run(question, out), step_rows(out)
        return done[variant, look_every]

    return run


def step_rows(out: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [row for row in lines if row["kind"] == "step"]


@pytest.mark.long
def test_the_present_variant_is_what_train_trains(
    load: Any, runs: Any, small: Any, tmp_path: Path
) -> None:
    words = [*small, "--run.seed", "1", "--run.out", str(tmp_path), "--run.threads", "1",
             "--data.num_workers", "0"]  # fmt: skip
    train.train(load("fingerprint").configured("configs/demo.yaml", words))
    plain = step_rows(tmp_path)
    assert len(plain) == 15
    assert runs("present", 1)[1] == plain[:STEPS]


@pytest.mark.long
def test_looking_does_not_change_the_training(runs: Any) -> None:
    looked, not_looked = runs("former", 1), runs("former", 0)
    assert looked[1] == not_looked[1]
    assert looked[0]["looks"]["step"] == list(range(STEPS + 1))
    assert not_looked[0]["looks"] == {}
    assert looked[1] != runs("present", 1)[1]


def test_what_is_kept_of_a_run(runs: Any) -> None:
    found, rows = runs("former", 1)
    assert found["steps"]["loss_video"] == [float(f"{row['loss_video']:.4g}") for row in rows]
    assert len(found["steps"]["grad_norm_fusion"]) == STEPS
    assert [len(losses) for losses in found["epoch_losses"].values()] == [2, 2, 2]
    # The epoch that was cut has the mean of the steps it had.
    assert found["epoch_losses"]["video"][1] == pytest.approx(rows[5]["loss_video"])
    looks = found["looks"]
    assert all(len(values) == STEPS + 1 for values in looks.values())
    assert looks["video_update"][0] is None
    assert all(0 < update < 1 for update in looks["video_update"][1:])
    assert {f"{tower}_zero_share_{n}" for tower in ("video", "audio") for n in (1, 2, 3, 4)} <= set(
        looks
    )
    json.dumps(found, allow_nan=False)


def test_what_the_heads_get(runs: Any) -> None:
    former, present = (runs(name, 1)[0]["looks"] for name in ("former", "present"))
    # Part of a pooled feature is the same for all clips. Normalisation over clips leaves nothing of
    # it, layer normalisation some.
    assert all(0 < looks["video_clip_share_pooled"][0] < 0.9 for looks in (former, present))
    assert present["video_clip_share_normalised"][0] == pytest.approx(1, abs=1e-3)
    assert former["video_clip_share_normalised"][0] < 0.999
    assert max(present["common_gradient"]) < 1e-4
    assert min(former["common_gradient"]) > 1e-3
    assert all(-1 <= cosine <= 1 for cosine in former["gradient_agreement"])


# --- The result --------------------------------------------------------------------------------


def test_when_a_loss_is_below_for_the_first_time(load: Any) -> None:
    first_below = load("learning").first_below
    assert first_below([3.0, 2.0, 2.0, 9.0], 2.2, 2) == 3
    assert first_below([2.0], 2.2, 1) == 1
    assert first_below([3.0, 2.0], 2.2, 2) is None
    assert first_below([2.0], 2.2, 2) is None


def test_a_median_of_runs_of_which_half_never_learn_is_not_known(load: Any) -> None:
    def run(seed: int, losses: list[float]) -> dict[str, Any]:
        return {"seed": seed, "steps": {"loss_video": losses}, "video_at_chance": losses[-1] > 2.2,
                "epoch_losses": {"video": losses[-1:]}}  # fmt: skip

    learning = load("learning")
    soon, late, never = [2.0] * 30, [3.0] * 20 + [1.0] * 20, [2.3] * 40
    assert learning.summary_of([run(0, soon), run(1, never), run(2, late)]) == {
        "seeds": [0, 1, 2], "num_at_chance": 1, "first_below": [20, None, 29],
        "median_first_below": 29, "last_epoch_video": [2.0, 2.3, 1.0],
    }  # fmt: skip
    assert learning.summary_of([run(0, soon), run(1, never)])["median_first_below"] is None


def test_a_measurement_goes_on_where_it_stopped(
    load: Any, runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning, asked = load("learning"), []

    def run_one(args: Any, variant: str, seed: int, commit: str) -> dict[str, Any]:
        asked.append((variant, seed))
        return {**runs(variant, 1)[0], "seed": seed, "at_a_time": args.jobs}

    origin = {"commit": "0" * 40, "sources": {}}
    taken = load("fingerprint").Fingerprint(stand_in="", batch_size=16, steps=(), nll={})
    monkeypatch.setattr(learning, "RESULTS", tmp_path)
    monkeypatch.setattr(learning, "run_one", run_one)
    monkeypatch.setattr(learning.train_run, "same_code", lambda root, one, other: one == other)
    monkeypatch.setattr(learning.provenance, "measured", lambda args, kind: origin)
    monkeypatch.setattr(learning.fingerprint, "of_config", lambda config, overrides: taken)

    def measure(*words: str) -> dict[str, Any]:
        asked.clear()
        monkeypatch.setattr("sys.argv", ["learning.py", "--steps", str(STEPS), *words])
        learning.main()
        return json.loads((tmp_path / "learning.json").read_text())

    measure("--variants", "present", "--seeds", "0")
    result = measure("--variants", "present", "former", "--seeds", "0..1")
    assert asked == [("former", 0), ("present", 1), ("former", 1)]
    assert list(result["summary"]) == ["former", "present"]
    assert [(run["variant"], run["seed"]) for run in result["runs"]] == [
        ("former", 0), ("former", 1), ("present", 0), ("present", 1)]  # fmt: skip
    assert result["command"] == (
        f"python benchmarks/learning.py --name learning --steps {STEPS} --look-every 20 "
        "--seeds 0..1 --variants former present"
    )
    text = (tmp_path / "learning.json").read_text()
    assert max(line.count(",") for line in text.splitlines()) >= STEPS  # a series is a line
    origin["commit"] = "1" * 40
    assert len(measure("--variants", "present", "--seeds", "0")["runs"]) == 1

    draw_and_tell(load, result, tmp_path)


def draw_and_tell(load: Any, result: dict[str, Any], folder: Path) -> None:
    """The table and the figure of a result."""
    lines = load("report.tables").table(result).splitlines()
    assert lines[0].startswith(
        f"|  | seeds | video head at chance after {STEPS} steps | median step"
    )
    assert lines[2].startswith("| former | 2 | 2 | never | 2.")
    assert "train split, seeds 0, 1; `configs/demo.yaml`" in lines[-1]
    curves = load("report.tables").figure(result)
    assert curves.groups[0] == f"former, at chance after {STEPS} steps"
    assert [len(panel.lines) for panel in curves.panels] == [4] * 4
    assert [line.group for line in curves.panels[0].lines] == [0, 0, 2, 2]
    load("report.curves").draw_curves(curves, folder / "learning.png", "a hash")
    assert load("report.dots").drawn_from(folder / "learning.png") == "a hash"
