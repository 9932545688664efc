"""`avmix probe` against scikit-learn called by hand, on the same features and draws."""

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avmix.cli import main
from avmix.data.few_shot import few_shot
from avmix.data.kept_features import Header, KeptFeatures, open_features, write_header
from avmix.data.manifest import read_manifest, write_manifest
from avmix.data.tensor_file import Shape, write_tensors
from avmix.features import probing
from avmix.features.late_fusion import fit_late_fusion
from avmix.features.probing import half_interval_over_sources, probe, summarise
from avmix.features.regression import Probability
from avmix.types import Entry

WHY = "the extra [probe] is not installed"
LogisticRegression: Any = pytest.importorskip("sklearn.linear_model", reason=WHY).LogisticRegression
StandardScaler: Any = pytest.importorskip("sklearn.preprocessing", reason=WHY).StandardScaler
StratifiedGroupKFold: Any = pytest.importorskip(
    "sklearn.model_selection", reason=WHY
).StratifiedGroupKFold

CLASSES = ("a", "b", "c")
WIDTHS = {"video": 6, "audio": 4}
VIEWS = 2


def write_features(folder: Path, make_entry: Callable[..., Entry]) -> Path:
    """36 clips of 12 sources to train on, 18 of 6 to test on, of three classes that overlap; every
    fifth clip has no audio, and every seventh lacks it in one of its two views."""
    draw = np.random.default_rng(0)
    centres = {name: draw.normal(size=(3, width)) for name, width in WIDTHS.items()}
    splits: dict[str, list[Entry]] = {}
    said: dict[str, Any] = {}
    for split, count in (("train", 36), ("test", 18)):
        splits[split] = [
            replace(make_entry(f"{split}{i}"), labels=(CLASSES[i % 3],),
                    source_id=f"{split} {i % 3} {i // 9}")
            for i in range(count)
        ]  # fmt: skip
        arrays: dict[str, np.ndarray] = {
            name: (centre[np.arange(count) % 3][:, None]
                   + 1.5 * draw.normal(size=(count, VIEWS, WIDTHS[name]))).astype("<f4")
            for name, centre in centres.items()
        }  # fmt: skip
        has_audio = np.ones((count, VIEWS), bool)
        has_audio[::5], has_audio[::7, 1] = False, False
        arrays["has_audio"] = has_audio
        shapes = {name: Shape(value.dtype, value.shape) for name, value in arrays.items()}
        sha256 = write_tensors(
            folder / f"{split}.safetensors", shapes, lambda name, all=arrays: [all[name]], {}
        )
        said[split] = {"complete": True, "sha256": sha256}
    write_manifest(folder, classes=CLASSES, protocol="toy", splits=splits)
    for split, about in said.items():
        about["rows_sha256"] = read_manifest(folder, split).sha256
    write_header(folder, Header(identity={"views": VIEWS}, computed_with={}, splits=said))
    return folder


@pytest.fixture(scope="module")
def folder(make_entry: Callable[..., Entry], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_features(tmp_path_factory.mktemp("probe"), make_entry)


@pytest.fixture(scope="module")
def kept(folder: Path) -> tuple[KeptFeatures, KeptFeatures]:
    return open_features(folder, "train"), open_features(folder, "test")


def by_hand(
    train: KeptFeatures, test: KeptFeatures, rows: list[int], name: str, c: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean probability of each test clip, and which of them have the modality."""
    x, y, z = [], [], []
    scalers = {}
    for modality in WIDTHS:
        values = [
            train.features[modality][row, view]
            for row in rows
            for view in range(VIEWS)
            if modality == "video" or train.has_audio[row, view]
        ]
        scalers[modality] = StandardScaler().fit(np.array(values, np.float64))

    def vector(kept: KeptFeatures, row: int, view: int) -> np.ndarray | None:
        parts = []
        for modality in WIDTHS:
            there = modality == "video" or kept.has_audio[row, view]
            if modality == name and not there:
                return None
            value = np.array([kept.features[modality][row, view]], np.float64)
            scaled = scalers[modality].transform(value)[0]
            parts += [scaled if there else 0 * scaled] if name in ("both", modality) else []
        return np.concatenate(parts)

    for row in rows:
        for view in range(VIEWS):
            if (found := vector(train, row, view)) is not None:
                x.append(found)
                y.append(train.labels[row])
    model = LogisticRegression(C=c, max_iter=2000).fit(np.array(x), np.array(y))
    counted = []
    for row in range(len(test.labels)):
        found = [vector(test, row, view) for view in range(test.has_audio.shape[1])]
        there = [one for one in found if one is not None]
        counted.append(bool(there))
        z.append(model.predict_proba(np.array(there)).mean(0) if there else np.zeros(3))
    return np.array(z), np.array(counted)


@pytest.mark.parametrize(
    ("shots", "seed", "by"),
    [(0, 0, "clip"), (4, 0, "clip"), (4, 1, "clip"), (3, 0, "source"), (3, 5, "source")],
)
def test_it_equals_scikit_learn_by_hand(
    shots: int, seed: int, by: Any, kept: tuple[KeptFeatures, KeptFeatures]
) -> None:
    train, test = kept
    chosen = {entry.clip_id for entry in few_shot(train.manifest, shots, seed, by).entries}
    rows = [i for i, entry in enumerate(train.manifest.entries) if entry.clip_id in chosen]
    assert len(rows) == (3 * shots or 36)
    results = {r.head: r for r in probe(train, test, shots=shots, seed=seed, by=by, grid=[0.1])}
    video, audio, both = (by_hand(train, test, rows, n, 0.1) for n in ("video", "audio", "both"))
    wanted = {"video": video, "audio": audio, "concatenated": both,
              "average": (video[0] + audio[0], video[1] | audio[1])}  # fmt: skip
    assert results.keys() == {*wanted, "fused"}
    for name, (probability, counted) in wanted.items():
        right = (probability.argmax(1) == test.labels)[counted]
        assert (results[name].top1, results[name].num_test) == (right.mean(), counted.sum())
        assert results[name].converged
    assert results["video"].num_test == 18
    assert results["audio"].num_test == 14
    tops = {result.top1 for result in results.values()}
    assert max(tops) > 1 / 3


def test_c_is_chosen_by_sources_of_the_train_split_alone(
    kept: tuple[KeptFeatures, KeptFeatures],
) -> None:
    train, test = kept
    grid = (0.001, 0.01, 0.1, 1.0, 10.0)
    held_out = {c: held_out_by_hand(train, "video", c) for c in grid}
    folds = folds_by_hand(train)
    assert all(not set(train.sources[a]) & set(train.sources[b]) for a, b in folds)
    right = {c: value.argmax(1) == train.labels for c, (value, _) in held_out.items()}
    means = [np.mean([right[c][b].mean() for _, b in folds]) for c in grid]
    assert len(set(means)) > 1
    best = grid[int(np.argmax(means))]
    results = {r.head: r for r in probe(train, test, grid=grid)}
    assert results["video"].c == best
    assert results["video"].cv_top1 == right[best].mean()
    mirrored = replace(test, features={n: -v for n, v in test.features.items()})
    for other in probe(train, mirrored, grid=grid):
        result = results[other.head]
        assert (other.c, other.cv_top1, other.fusion) == (result.c, result.cv_top1, result.fusion)
        assert other.top1 != result.top1


def folds_by_hand(train: KeptFeatures) -> list[tuple[np.ndarray, np.ndarray]]:
    y = train.labels
    return list(StratifiedGroupKFold(4).split(y, y, train.sources))


def first_view_of(kept: KeptFeatures) -> KeptFeatures:
    return replace(
        kept,
        features={n: v[:, :1] for n, v in kept.features.items()},
        has_audio=kept.has_audio[:, :1],
    )


def held_out_by_hand(
    train: KeptFeatures, name: str, c: float, *, first_view: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Mean probability of each clip by a fit without its source, and which have the modality."""
    value, counted = np.zeros((36, 3)), np.zeros(36, bool)
    for a, b in folds_by_hand(train):
        held = replace(
            train,
            manifest=replace(
                train.manifest, entries=tuple(train.manifest.entries[row] for row in b)
            ),
            features={n: v[b] for n, v in train.features.items()},
            has_audio=train.has_audio[b],
        )
        held = first_view_of(held) if first_view else held
        value[b], counted[b] = by_hand(train, held, a.tolist(), name, c)
    return value, counted


def test_augmented_views_are_examples_and_judge_nothing(
    kept: tuple[KeptFeatures, KeptFeatures],
) -> None:
    """One evaluation view, and one augmented of the clips to train on."""
    header = replace(kept[0].header, identity={"views": 1})
    train, test = replace(kept[0], header=header), replace(first_view_of(kept[1]), header=header)
    results = {r.head: r for r in probe(train, test, grid=[0.1])}
    others = {r.head: r for r in probe(*kept, grid=[0.1])}
    for name in ("video", "audio"):
        value, counted = by_hand(train, test, list(range(36)), name, 0.1)
        right = (value.argmax(1) == test.labels)[counted]
        assert results[name].top1 == right.mean()
        value, counted = held_out_by_hand(train, name, 0.1, first_view=True)
        right = (value.argmax(1) == train.labels)[counted]
        assert results[name].cv_top1 == right.mean()
    assert results["video"].cv_top1 != others["video"].cv_top1


def test_the_fused_head_is_fitted_to_held_out_clips(
    kept: tuple[KeptFeatures, KeptFeatures],
) -> None:
    """By hand: what the heads say of clips without whose source they were fitted, fused; its own
    score in the train split is of folds that its weights have not seen."""
    train, test = kept
    rows = list(range(36))
    names = ("video", "audio")
    held_out = [Probability(*held_out_by_hand(train, name, 0.1)) for name in names]
    fusion = fit_late_fusion(held_out, train.labels)
    said = fusion([Probability(*by_hand(train, test, rows, n, 0.1)) for n in names])
    result = {r.head: r for r in probe(train, test, grid=[0.1])}["fused"]
    pairs = zip(fusion.temperatures, fusion.weights, strict=True)
    assert result.fusion == dict(zip(names, pairs, strict=True))
    assert result.fusion is not None
    assert all(temperature != 1 for temperature, _ in result.fusion.values())
    assert result.top1 == (said.value.argmax(1) == test.labels).mean()
    right = np.zeros(36, bool)
    for a, b in folds_by_hand(train):
        part = fit_late_fusion([Probability(*(v[a] for v in h)) for h in held_out], train.labels[a])
        mine = part([Probability(*(v[b] for v in h)) for h in held_out])
        right[b] = mine.value.argmax(1) == train.labels[b]
    assert result.cv_top1 == right.mean()
    # The labels of a fold have no say in how it is fused.
    folds = folds_by_hand(train)
    one = folds[0][1]
    labels = train.labels.copy()
    labels[one] = (labels[one] + 1) % 3
    cross_fused = probing._cross_fused  # pyright: ignore
    before, after = (cross_fused(held_out, given, folds).value for given in (train.labels, labels))
    same = (before == after).all(1)
    assert same[one].all()
    assert not same.all()


def test_with_one_source_a_class_c_is_that_of_scikit_learn(
    kept: tuple[KeptFeatures, KeptFeatures],
) -> None:
    found = probe(*kept, shots=1, by="source")
    assert {r.c for r in found if r.head not in ("average", "fused")} == {1.0}
    assert {r.cv_top1 for r in found} == {None}
    assert found[-1].fusion == dict.fromkeys(("video", "audio"), (1.0, 1.0))


def test_few_shots_by_source_are_of_different_sources(
    kept: tuple[KeptFeatures, KeptFeatures],
) -> None:
    manifest = kept[0].manifest
    found = few_shot(manifest, 3, 7, "source").entries
    assert len({entry.source_id for entry in found}) == len(found) == 9
    more = {entry.clip_id for entry in few_shot(manifest, 9, 7, "source").entries}
    assert len(more) == 12  # all four sources of each class
    assert {entry.clip_id for entry in found} < more
    assert few_shot(manifest, 3, 8, "source").entries != found
    assert len({e.source_id for e in few_shot(manifest, 9, 7, "clip").entries}) == 12


def test_intervals_by_hand() -> None:
    """Two sources: of 3 clips 1 right, of 1 clip 1 right; share 1/2. Residuals 1 - 3/2 and
    1 - 1/2, variance 2/1 * (1/4 + 1/4) / 16 = 1/16; t of one degree of freedom 12.706."""
    found = half_interval_over_sources(np.array([True, False, False, True]), np.array([0, 0, 0, 1]))
    assert found == pytest.approx(12.7062 / 4, rel=1e-4)
    assert half_interval_over_sources(np.array([True, False]), np.array([3, 3])) is None
    # As evaluation: what does not differ from source to source, or draw to draw, has no interval.
    assert half_interval_over_sources(np.array([True] * 3), np.array([0, 0, 1])) is None
    some = np.array([True, False, False] * 11)  # 1/3 of each source, which no float is
    assert half_interval_over_sources(some, np.arange(33) // 3) is None
    result = probing.Result(head="video", top1=0.5, half_interval=0.1, cv_top1=0.3,
                            cv_half_interval=0.2, num_train=4, num_test=4, c=1.0, fusion=None,
                            converged=True)  # fmt: skip
    draws = [[result], [replace(result, top1=0.7, cv_top1=0.5, c=0.1, converged=False)]]
    (summary,) = summarise(draws)
    # Deviation 0.1 sqrt 2, over sqrt 2, times 12.706.
    assert summary.half_interval == pytest.approx(1.27062, rel=1e-4)
    assert (summary.cv_top1, summary.cv_half_interval) == pytest.approx((0.4, 1.27062), rel=1e-4)
    assert (summary.top1, summary.c, summary.num_not_converged) == (pytest.approx(0.6), (0.1, 1), 1)
    assert summarise(draws[:1])[0].half_interval == 0.1
    (same,) = summarise([[result], [replace(result, cv_top1=0.4)]])
    assert (same.half_interval, same.cv_half_interval) == (None, pytest.approx(0.63531, rel=1e-4))


def run(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["probe", *map(str, words)])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_the_command_prints_a_table_and_writes_json(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "probe.json"
    code = run(folder, "--shots", "2", "--draws", "3", "--by", "clip", "--c", "0.1", "--seed", "4",
               "--json", path)  # fmt: skip
    assert code == 0
    said = capsys.readouterr().out
    assert "2 clips a class of train, drawn by clip (any of them), 3 draws from seed 4" in (
        " ".join(said.split())
    )
    assert "intervals over draws; 18 clips in test" in said
    found = json.loads(path.read_text())
    assert (found["shots"], found["by"], found["seeds"]) == (2, "clip", [4, 5, 6])
    train, test = open_features(folder, "train"), open_features(folder, "test")
    wanted = [
        {r.head: r.top1 for r in probe(train, test, shots=2, seed=seed, by="clip", grid=[0.1])}
        for seed in (4, 5, 6)
    ]
    assert [{r["head"]: r["top1"] for r in draw} for draw in found["draws"]] == wanted
    for head in found["summary"]:
        mean = np.mean([draw[head["head"]] for draw in wanted])
        assert head["top1"] == pytest.approx(mean)
        line = next(line for line in said.splitlines() if f" {head['head']} " in line)
        assert f" {100 * mean:.1f} " in line


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--shots", "-1"], "--shots must be at least 0, got -1"),
        (["--shots", "2", "--draws", "0"], "--draws must be at least 1, got 0"),
        (["--c", "0"], "--c must be above 0, got [0.0]"),
        (["--test-split", "train"], "--test-split train is what is fitted on; name another"),
        (["--test-split", "val"], "no features of a split 'val'; it has: test, train"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], reason: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, *words) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.endswith(reason + "\n")


def test_draws_cannot_act_without_shots(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--draws", "5") == 2
    assert "--draws cannot act without --shots" in capsys.readouterr().err


def test_the_table_of_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    tables = importlib.import_module("report.tables")

    def arm(split: int, shots: int, grid: list[float], top1: float) -> dict[str, Any]:
        heads = [{"head": name, "top1": top1, "half_interval": interval, "cv_top1": 0.75,
                  "cv_half_interval": interval}
                 for name, interval in (("video", 0.0123), ("audio", None),
                                        ("concatenated", 0.1), ("average", 0.1),
                                        ("fused", None))]  # fmt: skip
        return {"window": "6 s", "split": split, "shots": shots, "by": "clip", "draws": 5,
                "grid": grid, "heads": heads}  # fmt: skip

    result = {
        "kind": "probe", "config": "c.yaml", "options": ["a=1"], "num_clips": 7,
        "bytes_per_clip": 15360, "half_difference": {"video": 2e-4},
        "arms": [arm(1, 0, [0.01], 0.9), arm(1, 8, [1.0, 2.0], 0.5), arm(2, 0, [0.01], 0.8)],
    }  # fmt: skip
    lines = tables.table(result).splitlines()
    assert lines[2:5] == [
        "| 6 s | all clips | 1 | 0.01 | 75.0 ± 1.2 | 75.0 | 90.0 ± 1.2 | 90.0 | 90.0 ± 10.0 "
        "| 90.0 ± 10.0 | 90.0 |",
        "| 6 s | all clips | 2 | 0.01 | 75.0 ± 1.2 | 75.0 | 80.0 ± 1.2 | 80.0 | 80.0 ± 10.0 "
        "| 80.0 ± 10.0 | 80.0 |",
        "| 6 s | 8 clips a class, by clip, 5 draws | 1 | chosen | 75.0 ± 1.2 | 75.0 | 50.0 ± 1.2 "
        "| 50.0 | 50.0 ± 10.0 | 50.0 ± 10.0 | 50.0 |",
    ]
    assert "15,360 bytes each; half precision would change features by 0.020 % (video)" in lines[-1]


def test_the_table_of_what_features_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    tables = importlib.import_module("report.tables")
    arm = {"window": "6 s", "clips_per_second": {"features": 20.04, "bare loop": 21.5},
           "ratio": 1.073, "ratio_quartiles": [1.06, 1.1], "batch_size": 32, "threads": 1,
           "num_workers": 2}  # fmt: skip
    result = {
        "kind": "extraction", "arms": [arm], "num_clips": 150, "num_rounds": 5,
        "environment": {"cpu": "a cpu", "cores": 2, "versions": {"torch": "2"},
                        "load_average_at_the_start": 0.5},
        "load_average_at_the_end": 1.5,
    }  # fmt: skip
    lines = tables.table(result).splitlines()
    assert lines[2] == "| 6 s | 20.0 | 21.5 | 1.07 (1.06 to 1.10) |"
    assert "150 clips a round, 5 rounds in turn, medians (quartiles); batches of 32" in lines[4]
    assert lines[-1] == "Load average: 0.5 before, 1.5 after."
