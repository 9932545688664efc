"""What is held out for validation shares no source with what is trained on."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avmix.commands import train
from avmix.config import DataConfig, TrainConfig, load_config
from avmix.data.holdout import hold_out
from avmix.data.manifest import Manifest, ManifestError, read_manifest, write_manifest
from avmix.data.train_clips import train_clips
from avmix.types import Entry, Synthetic

ROOT = Path(__file__).parents[1]
Make = Callable[..., Entry]
CLASSES = ("x", "y", "z")


@pytest.fixture
def whole(make_entry: Make) -> Manifest:
    """Of class x ten sources of three clips, of y five of two, of z one of four."""
    entries = [
        make_entry(f"{label}{source}-{clip}", labels=(label,), source_id=f"{label}{source}")
        for label, sources, clips in (("x", 10, 3), ("y", 5, 2), ("z", 1, 4))
        for source in range(sources)
        for clip in range(clips)
    ]
    return Manifest(
        classes=CLASSES, protocol="tiny/1", split="train", entries=tuple(entries), sha256="00"
    )


def sources(manifest: Manifest) -> Counter[str]:
    """Number of sources of each class."""
    return Counter(label for label, _ in {(e.labels[0], e.source_id) for e in manifest.entries})


@pytest.mark.parametrize(("share", "x", "y"), [(0.2, 2, 1), (0.01, 1, 1), (0.9, 9, 4)])
def test_each_class_gives_its_share_of_its_sources(whole: Manifest, share, x, y) -> None:
    found = hold_out(whole, share, seed=0)
    assert sources(found.val) == {"x": x, "y": y}
    assert sources(found.train) == {"x": 10 - x, "y": 5 - y, "z": 1}
    assert not {e.source_id for e in found.val.entries} & {e.source_id for e in found.train.entries}
    both = {e.clip_id for part in (found.train, found.val) for e in part.entries}
    assert both == {e.clip_id for e in whole.entries}
    assert found.val.split == "val"
    assert found.notice == (
        f"held out for validation: {x + y} of 16 sources of the split 'train', {3 * x + 2 * y} of "
        f"44 clips (data.holdout {share}, data.holdout_seed 0); too few sources of: z"
    )


def test_the_choice_depends_on_the_seed_and_hardly_on_other_clips(
    whole: Manifest, make_entry: Make
) -> None:
    def held(manifest: Manifest, seed: int) -> set[str]:
        return {e.source_id for e in hold_out(manifest, 0.3, seed).val.entries}

    backwards = replace(whole, entries=whole.entries[::-1])
    assert held(whole, 1) == held(backwards, 1) != held(whole, 0)
    more = replace(whole, entries=(*whole.entries, make_entry("new", labels=("z",))))
    assert held(more, 1) - held(whole, 1) <= {"new", "z0"}
    assert held(more, 1) >= held(whole, 1)
    hashes = {part.sha256 for seed in (0, 1) for part in _parts(whole, seed)} | {whole.sha256}
    assert len(hashes) == 5


def _parts(whole: Manifest, seed: int) -> tuple[Manifest, Manifest]:
    found = hold_out(whole, 0.3, seed)
    return found.train, found.val


def test_a_source_of_several_classes_is_not_the_last_of_any(make_entry: Make) -> None:
    entries = [make_entry("a", labels=("x",)), make_entry("b", labels=("x", "y")),
               make_entry("c", labels=("x",))]  # fmt: skip
    whole = Manifest(classes=CLASSES, protocol="p", split="train", entries=tuple(entries),
                     sha256="00")  # fmt: skip
    for seed in range(8):
        found = hold_out(whole, 0.9, seed)
        assert {e.clip_id for e in found.val.entries} == {"a", "c"}


def test_what_cannot_be_held_out_is_an_error(whole: Manifest, make_entry: Make) -> None:
    alone = replace(whole, entries=whole.entries[-4:])
    with pytest.raises(ManifestError, match=r"'train' of tiny/1: no class has two sources"):
        hold_out(alone, 0.5, 0)
    made = Synthetic(method="repair", parents=("x0-0",), recipe="by hand", score=0.5)
    mixed = replace(whole, entries=(*whole.entries, make_entry("m", synthetic=made)))
    with pytest.raises(ManifestError, match=r"clip 'm' is synthetic"):
        hold_out(mixed, 0.5, 0)


@pytest.fixture
def main(whole: Manifest, tmp_path: Path) -> Path:
    """The dataset without a val split."""
    splits = {"train": whole.entries}
    write_manifest(tmp_path / "main", classes=CLASSES, protocol="tiny/1", splits=splits)
    return tmp_path / "main"


def test_a_made_clip_of_what_is_held_out_is_a_leak(
    main: Path, make_entry: Make, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"root": "media", "manifest": str(main), "holdout": 0.3}
    found = train_clips(DataConfig(**options))
    assert found.held_out is not None
    for part, ok in ((found.manifest, True), (found.held_out.val, False)):
        parent = part.entries[0]
        made = Synthetic(method="repair", parents=(parent.clip_id,), recipe="r", score=0.5)
        extra = tmp_path / f"extra{ok}"
        entry = make_entry("m", labels=parent.labels, synthetic=made)
        write_manifest(extra, classes=CLASSES, protocol="made/1", splits={"train": [entry]})
        data = DataConfig(**options, extra=[str(extra)])
        if ok:
            assert "m" in {e.clip_id for e in train_clips(data).manifest.entries}
        else:
            with pytest.raises(ManifestError, match=r"'data.holdout' of .*: a leak"):
                train_clips(data)


def test_few_shots_are_of_what_is_left(main: Path) -> None:
    data = DataConfig(root="media", manifest=str(main), holdout=0.3)
    few = train_clips(replace(data, shots=2))
    assert few.held_out == train_clips(data).held_out
    assert few.held_out is not None
    assert {e.clip_id for e in few.manifest.entries} <= {
        e.clip_id for e in few.held_out.train.entries
    }
    assert Counter(e.labels[0] for e in few.manifest.entries) == {"x": 2, "y": 2, "z": 2}


def smoke(data: Path, out: Path, *more: str) -> TrainConfig:
    return load_config(TrainConfig, [
        "--config", str(ROOT / "configs/smoke.yaml"), "--data.root", str(data), "--run.out",
        str(out), "--run.threads", "1", "--data.num_workers", "0", "--optim.epochs", "1", *more,
    ])  # fmt: skip


def test_a_run_validates_on_what_it_holds_out_and_says_so(
    toy_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    more = ("--data.holdout", "0.2", "--data.val_split", "")
    done = train.train(smoke(toy_set, out, *more))
    said = " ".join(capsys.readouterr().out.split())
    held = hold_out(read_manifest(toy_set, "train"), 0.2, 0)
    assert held.notice in said
    assert f"{len(held.train.entries)} clips, 10 classes" in said
    assert done.val is not None
    assert done.val["fused"] is not None
    assert done.val["fused"].num_clips == len(held.val.entries) == 16
    assert done.best == out / "best.pt"
    # Other clips are not the same run.
    with pytest.raises(ValueError, match=r"data\.holdout_seed 0 -> 1"):
        train.train(smoke(toy_set, out, *more, "--data.holdout_seed", "1"))


def test_two_splits_to_validate_on_are_one_too_many(toy_set: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"^data\.holdout cannot act: .* the split 'val'"):
        train.train(smoke(toy_set, tmp_path / "run", "--data.holdout", "0.2"))
