"""Made clips are trained on, never evaluated on, and never made from what is evaluated on."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avmix.commands import train
from avmix.config import DataConfig, TrainConfig, load_config
from avmix.data.few_shot import few_shot
from avmix.data.manifest import (
    ManifestError,
    parse_row,
    read_manifest,
    row_of,
    write_manifest,
)
from avmix.data.train_clips import train_clips
from avmix.media.judgement import entry_of
from avmix.synth.parent_clips import read_parents
from avmix.training import checkpoint
from avmix.types import Entry, Synthetic
from tests.media import write_flash_beep

ROOT = Path(__file__).parents[1]
CLASSES = ("x", "y")
MADE = Synthetic(method="repair", parents=("a", "b"), recipe="by hand", score=0.5)

Make = Callable[..., Entry]


@pytest.fixture
def main(tmp_path: Path, make_entry: Make) -> Path:
    """Clips a and b of class x, c and d of class y; v to choose by, t to test."""
    folder = tmp_path / "main"
    train = [make_entry("a"), make_entry("b"), make_entry("c", labels=("y",)),
             make_entry("d", labels=("y",))]  # fmt: skip
    write_manifest(
        folder,
        classes=CLASSES,
        protocol="made/1",
        splits={"train": train, "val": [make_entry("v")], "test": [make_entry("t")]},
    )
    return folder


def extra_set(folder: Path, entries: list[Entry], classes: tuple[str, ...] = CLASSES) -> Path:
    write_manifest(folder, classes=classes, protocol="made/extra", splits={"train": entries})
    return folder


def data_of(main: Path, *extra: Path, **options: Any) -> DataConfig:
    return DataConfig(root="media", manifest=str(main), extra=[str(e) for e in extra], **options)


def test_a_synthetic_row_says_how_it_was_made_and_a_real_one_nothing(make_entry: Make) -> None:
    real, made = make_entry("a"), make_entry("m", synthetic=MADE)
    assert "synthetic" not in json.loads(row_of(real))
    assert json.loads(row_of(made))["synthetic"] == {
        "method": "repair", "parents": ["a", "b"], "recipe": "by hand", "score": 0.5,
    }  # fmt: skip
    assert parse_row(row_of(real), "here") == real
    assert parse_row(row_of(made), "here") == made
    unscored = make_entry("m", synthetic=replace(MADE, score=None, parents=()))
    assert parse_row(row_of(unscored), "here") == unscored


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "magic"}, "method"),
        ({"parents": [1]}, "parents"),
        ({"score": True}, "score"),
        ({"score": "high"}, "score"),
        ({"recipe": 1}, "recipe"),
        ({"colour": "red"}, "colour"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_bad_synthetic_row_is_named(
    make_entry: Make, change: dict[str, object], message: str
) -> None:
    row = json.loads(row_of(make_entry("m", synthetic=MADE)))
    row["synthetic"] |= change
    with pytest.raises(Exception, match=message):
        parse_row(json.dumps(row), "here:1")


@pytest.mark.parametrize("split", ["val", "test", "holdout"])
def test_nothing_made_is_written_to_a_split_that_is_evaluated(
    tmp_path: Path, make_entry: Make, split: str
) -> None:
    splits = {"train": [make_entry("a")], split: [make_entry("m", synthetic=MADE)]}
    with pytest.raises(ManifestError, match=f"clip 'm' is synthetic and in split '{split}'"):
        write_manifest(tmp_path, classes=("x",), protocol="p", splits=splits)
    assert not (tmp_path / "dataset.json").exists()


def test_nothing_made_is_read_from_a_split_that_is_evaluated(
    tmp_path: Path, make_entry: Make
) -> None:
    # A header that calls a train split of synthetic clips a test split.
    extra_set(tmp_path, [make_entry("m", synthetic=MADE)])
    (tmp_path / "train.jsonl").rename(tmp_path / "test.jsonl")
    header = json.loads((tmp_path / "dataset.json").read_text())
    header["splits"]["test"] = header["splits"].pop("train")
    (tmp_path / "dataset.json").write_text(json.dumps(header))
    with pytest.raises(ManifestError, match="clip 'm' is synthetic and in split 'test'"):
        read_manifest(tmp_path, "test")


def test_a_set_of_made_clips_need_not_have_every_class(tmp_path: Path, make_entry: Make) -> None:
    extra_set(tmp_path / "made", [make_entry("m", synthetic=MADE)])
    assert len(read_manifest(tmp_path / "made", "train").entries) == 1
    assert train_clips(data_of(tmp_path / "made")).manifest.classes == ("x", "y")


def test_without_options_it_is_the_train_split(main: Path) -> None:
    clips = train_clips(data_of(main))
    assert clips.manifest == read_manifest(main, "train")
    assert clips.roots == {}


def test_further_sets_follow_the_split_each_below_its_own_folder(
    main: Path, tmp_path: Path, make_entry: Make
) -> None:
    one = extra_set(tmp_path / "one", [make_entry("m", source_id="a", synthetic=MADE)])
    two = extra_set(tmp_path / "two", [make_entry("n"), make_entry("o", labels=("y",))])
    clips = train_clips(data_of(main, one, two))
    assert [e.clip_id for e in clips.manifest.entries] == ["a", "b", "c", "d", "m", "n", "o"]
    assert clips.roots == {"m": one, "n": two, "o": two}
    assert clips.manifest.classes == CLASSES
    hashes = {train_clips(data_of(main, *e)).manifest.sha256 for e in ((), (one,), (one, two))}
    assert len(hashes) == 3


def test_the_hash_knows_what_is_in_a_further_set(
    main: Path, tmp_path: Path, make_entry: Make
) -> None:
    made = make_entry("m", source_id="a", synthetic=MADE)
    one = extra_set(tmp_path / "one", [made])
    before = train_clips(data_of(main, one)).manifest.sha256
    extra_set(one, [replace(made, synthetic=replace(MADE, score=0.25))])
    assert train_clips(data_of(main, one)).manifest.sha256 != before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_id": "t"}, "clip 'm' is of source 't', which is in 'test' of .*a leak"),
        ({"source_id": "v"}, "clip 'm' is of source 'v', which is in 'val' of .*a leak"),
        ({"parents": ("a", "t")}, "clip 'm' was made from 't', which is in 'test' of .*a leak"),
        ({"parents": ("v",)}, "clip 'm' was made from 'v', which is in 'val' of .*a leak"),
        ({"parents": ("a", "z")}, "clip 'm' was made from 'z', which is in no split of "),
        ({"parents": ("t",), "method": "compose"}, "clip 'm' was made from 't', .*a leak"),
    ],
)
def test_what_would_leak_is_refused(
    main: Path, tmp_path: Path, make_entry: Make, changes: dict, message: str
) -> None:
    source = changes.pop("source_id", "a")
    made = make_entry("m", source_id=source, synthetic=replace(MADE, **changes))
    one = extra_set(tmp_path / "one", [made])
    with pytest.raises(ManifestError, match=message):
        train_clips(data_of(main, one))


def test_a_real_clip_of_a_tested_source_is_a_leak_too(
    main: Path, tmp_path: Path, make_entry: Make
) -> None:
    leak = [make_entry("m", source_id="t"), make_entry("n", labels=("y",))]
    with pytest.raises(ManifestError, match=r"of source 't'.*a leak"):
        train_clips(data_of(main, extra_set(tmp_path / "one", leak)))


def test_backgrounds_may_be_of_another_data_set(
    main: Path, tmp_path: Path, make_entry: Make
) -> None:
    composed = Synthetic(method="compose", parents=("elsewhere",), recipe="", score=None)
    one = extra_set(tmp_path / "one", [make_entry("m", synthetic=composed)])
    assert train_clips(data_of(main, one)).roots == {"m": one}


@pytest.mark.parametrize("clip_id", ["a", "t"])
def test_an_id_that_is_there_already_is_refused(
    main: Path, tmp_path: Path, make_entry: Make, clip_id: str
) -> None:
    one = extra_set(tmp_path / "one", [make_entry(clip_id, source_id="a", synthetic=MADE)])
    with pytest.raises(ManifestError, match=f"one: clip_id '{clip_id}' is in .*main too"):
        train_clips(data_of(main, one))


@pytest.mark.parametrize(
    ("classes", "message"),
    [(("y", "x"), "in another order"), (("x", "y", "z"), "for example 'z'")],
)
def test_other_classes_are_refused(
    main: Path, tmp_path: Path, make_entry: Make, classes: tuple[str, ...], message: str
) -> None:
    one = extra_set(tmp_path / "one", [make_entry("m", synthetic=MADE)], classes)
    with pytest.raises(ManifestError, match=message):
        train_clips(data_of(main, one))


def test_few_shots_are_a_choice_of_each_class(main: Path, make_entry: Make) -> None:
    train = read_manifest(main, "train")
    many = tuple(make_entry(f"{c}{i}", labels=(c,)) for i in range(20) for c in CLASSES)
    many = replace(train, entries=(*many, make_entry("rest")))
    assert few_shot(many, 0, 0) is many
    five, ten = few_shot(many, 5, 0), few_shot(many, 10, 0)
    assert Counter(e.labels[0] for e in five.entries) == {"x": 5, "y": 5}
    assert set(five.entries) < set(ten.entries)
    order = [many.entries.index(e) for e in five.entries]
    assert order == sorted(order)
    assert few_shot(many, 5, 0) == five
    assert few_shot(many, 5, 1).entries != five.entries
    assert len({m.sha256 for m in (many, five, ten, few_shot(many, 5, 1))}) == 4
    assert few_shot(many, 100, 3).entries == many.entries  # at most: all there are
    chosen = [e.clip_id for s in range(40) for e in few_shot(many, 5, s).entries]
    assert len(set(chosen)) == 41  # every clip has its chance


def test_few_shots_of_different_sources_are_the_same_in_training_and_as_parents(
    tmp_path: Path, make_entry: Make
) -> None:
    clips = [
        make_entry(f"{name}{i}", labels=(name,), source_id=f"{name}-{i // 5}")
        for name in CLASSES
        for i in range(20)
    ]
    write_manifest(tmp_path, classes=CLASSES, protocol="p", splits={"train": clips})
    data = DataConfig(root=str(tmp_path), shots=3, shots_seed=1, shots_by="source")
    chosen = train_clips(data).manifest
    assert len({e.source_id for e in chosen.entries}) == len(chosen.entries) == 6
    parents = read_parents(tmp_path, None, 3, 1, "source")
    assert parents.manifest.entries == chosen.entries
    assert parents.arguments["shots_by"] == "source"
    assert "shots_by" not in read_parents(tmp_path, None, 3, 1).arguments  # as it always was
    any_clips = [replace(data, shots_by="clip", shots_seed=seed) for seed in range(10)]
    sources = [{e.source_id for e in train_clips(d).manifest.entries} for d in any_clips]
    assert min(map(len, sources)) < 6


def test_few_shots_stay_few_when_sets_are_added(
    main: Path, tmp_path: Path, make_entry: Make
) -> None:
    chosen = [e.clip_id for e in train_clips(data_of(main, shots=1)).manifest.entries]
    x, y = chosen
    assert (x in "ab", y in "cd") == (True, True)
    made = make_entry("m", source_id=x, synthetic=replace(MADE, parents=(x,)))
    one = extra_set(tmp_path / "one", [made])
    found = train_clips(data_of(main, one, shots=1)).manifest
    assert [e.clip_id for e in found.entries] == [x, y, "m"]
    other = ({"a", "b"} - {x}).pop()
    leak = replace(made, synthetic=replace(MADE, parents=(x, other)))
    two = extra_set(tmp_path / "two", [leak])
    with pytest.raises(ManifestError, match=f"made from '{other}', which data.shots did not"):
        train_clips(data_of(main, two, shots=1))


@pytest.mark.parametrize(
    ("option", "message"),
    [("data.shots=-1", "data.shots must be >= 0"), ("data.shots_seed=-1", "data.shots_seed must")],
)
def test_bad_options_are_one_line(
    option: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        load_config(TrainConfig, [f"--{option}"])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_run_trains_on_a_further_set_and_notices_when_it_changes(tmp_path: Path) -> None:
    """Real files, the real entry point: the clips of the other folder are read from there."""
    folder, one = tmp_path / "real", tmp_path / "one"
    folder.mkdir()
    (one / "clips").mkdir(parents=True)
    real, made = [], []
    for number in range(10):
        path = write_flash_beep(folder / f"{number}.mp4", seconds=2, events_seconds=(0.4,))
        label, name = CLASSES[number % 2], str(number)
        real.append(entry_of(path, folder, clip_id=name, labels=(label,), source_id=name))
        path = (one / f"clips/{number}.mp4").absolute()
        path.write_bytes((folder / f"{number}.mp4").read_bytes())
        how = Synthetic(method="repair", parents=(name,), recipe="a copy", score=None)
        changes = {"clip_id": f"m{name}", "path": f"clips/{number}.mp4", "synthetic": how}
        made.append(replace(real[-1], **changes))
    write_manifest(folder, classes=CLASSES, protocol="made/1", splits={"train": real})
    extra_set(one, made)
    arguments = [
        "--config", str(ROOT / "configs/smoke.yaml"), "--data.root", str(folder),
        "--run.out", str(tmp_path / "run"), "--data.extra", f'["{one}"]', "--data.shots", "2",
        "--optim.epochs", "1", "--data.max_bad_share", "0", "--data.num_workers", "0",
    ]  # fmt: skip
    with pytest.raises(ManifestError, match=r"data\.shots did not choose"):
        train.train(load_config(TrainConfig, arguments))
    arguments[arguments.index("2")] = "0"
    state = checkpoint.load(train.train(load_config(TrainConfig, arguments)).checkpoint)
    assert state.num_steps == 20 // 8
    extra_set(one, [replace(entry, labels=("x",)) for entry in made])
    with pytest.raises(checkpoint.CheckpointError, match="the clips of the train split"):
        train.train(load_config(TrainConfig, arguments))
