"""Checkpoints: whole or not at all, and no code in them ever runs."""

import pickle
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from avmix.config import RunConfig, TrainConfig
from avmix.system.atomic_files import replacing
from avmix.training import checkpoint
from avmix.training.chance_level import ChanceHistory
from avmix.training.checkpoint import Checkpoint, CheckpointError, load, save
from avmix.training.runtime import Rounding

ROOT = Path(__file__).parents[1]
MADE = Checkpoint(
    config=TrainConfig(run=RunConfig(seed=3)),
    classes=["ä", "b"],
    split_sha256="00ff",
    num_steps=11,
    epoch=3,
    step=7,
    best=0.625,
    model={"w": torch.arange(600.0).view(20, 30), "n": torch.tensor(5)},
    optimizer={"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
    chance=ChanceHistory(
        epochs=(2, 0, None), sums=torch.arange(12.0, dtype=torch.float64).view(3, 4)
    ),
    loss_sum=(1.5, 7),
    rounding=Rounding(device="cpu", threads=2, kernel="fused", cpu="AVX2", torch_version="2.11.0"),
)


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


class Unwritable:
    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("the disk is full")


def test_what_is_saved_is_loaded(tmp_path):
    save(tmp_path / "new/last.pt", MADE)
    found = load(tmp_path / "new/last.pt")
    rest = {"model": {}, "optimizer": {}, "chance": None, "digest": None}
    assert replace(found, **rest) == replace(MADE, **rest)
    assert found.chance is not None
    assert MADE.chance is not None
    assert found.chance.epochs == (2, 0, None)
    assert torch.equal(found.chance.sums, MADE.chance.sums)
    assert found.model.keys() == MADE.model.keys()
    assert all(torch.equal(found.model[name], MADE.model[name]) for name in MADE.model)
    assert torch.equal(found.optimizer["state"][0]["exp_avg"], torch.ones(3))
    assert found.optimizer["param_groups"] == [{"lr": 0.1}]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["last.pt"]


@pytest.mark.parametrize("since", ["chance", "loss_sum", "rounding", "average", "digest"])
def test_a_checkpoint_from_before_a_field_was_added_is_loaded(tmp_path, since):
    save(tmp_path / "last.pt", MADE)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    content.pop("digest")  # which is of all fields
    content.pop(since, None)
    torch.save(content, tmp_path / "old.pt")
    assert getattr(load(tmp_path / "old.pt"), since) is None
    save(tmp_path / "again.pt", load(tmp_path / "old.pt"))
    assert (getattr(load(tmp_path / "again.pt"), since) is None) == (since != "digest")


def test_the_digest_of_an_older_version_is_of_the_fields_it_had(tmp_path):
    save(tmp_path / "last.pt", MADE)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    del content["rounding"]
    content["digest"] = checkpoint.digest_of(content)
    torch.save(content, tmp_path / "old.pt")
    found = load(tmp_path / "old.pt")
    assert (found.rounding, found.digest) == (None, content["digest"])


def test_what_changes_last_digits_is_named_where_it_changed():
    before = MADE.rounding
    assert before is not None
    assert before.notice(before) == ""
    assert before.notice(None) == ""  # an older version did not say
    notice = replace(before, threads=1, kernel="torch").notice(before)
    assert "(threads 2 -> 1, kernel fused -> torch)" in notice


def test_saving_again_replaces(tmp_path):
    save(tmp_path / "last.pt", MADE)
    save(tmp_path / "last.pt", replace(MADE, step=8))
    assert load(tmp_path / "last.pt").step == 8


def test_the_old_file_survives_a_failure_in_the_middle_of_writing(tmp_path):
    path = tmp_path / "last.pt"
    save(path, MADE)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="the disk is full"):
        save(path, replace(MADE, step=8, optimizer={"state": Unwritable()}))
    assert path.read_bytes() == before
    assert load(path).step == 7
    save(path, replace(MADE, step=9))  # what was left of the failure is no obstacle
    assert load(path).step == 9


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path):
    # A process that may not write files of more than 2 KB meets what a full disk would tell it.
    path = tmp_path / "last.pt"
    save(path, MADE)
    code = """
import resource, sys
from pathlib import Path
from avmix.training.checkpoint import load, save
path = Path(sys.argv[1])
state = load(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
try:
    save(path, state)
except OSError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == f"[Errno 27] File too large: {str(path)!r}\n", done.stderr
    assert load(path).step == 7
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_two_writers_at_once_leave_the_whole_of_one(tmp_path):
    path = tmp_path / "last.pt"
    with replacing(path) as slow:
        slow.write(b"half of")
        save(path, MADE)
        assert load(path).step == 7
        slow.write(b" another")
    assert path.read_bytes() == b"half of another"
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.pt: no such checkpoint"):
        load(tmp_path / "nowhere.pt")


def test_a_folder_is_not_a_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_named(tmp_path, share):
    path = tmp_path / "last.pt"
    save(path, MADE)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"last\.pt: not a readable checkpoint"):
        load(path)


def test_garbage_is_named(tmp_path):
    # Beginnings that look like nothing, like a pickle and like the archive that torch writes.
    generator = random.Random(0)
    path = tmp_path / "last.pt"
    for _ in range(200):
        head = generator.choice([b"", b"\x80\x02", b"PK\x03\x04"])
        path.write_bytes(head + generator.randbytes(generator.randrange(60)))
        with pytest.raises(CheckpointError, match=r"last\.pt: not a readable checkpoint: \S"):
            load(path)


@pytest.mark.parametrize("content", [[1, 2], {"format": 2}, {"model": {}}, {"format": 1}])
def test_other_files_of_torch_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt: "):
        load(tmp_path / "other.pt")


@pytest.mark.parametrize("by_torch", [True, False])
def test_code_in_a_file_does_not_run(tmp_path, by_torch):
    path, mark = tmp_path / "evil.pt", tmp_path / "it_ran"
    content = {"format": 1, "model": Trap(mark)}
    if by_torch:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(CheckpointError, match=r"evil\.pt: not a readable checkpoint") as error:
        load(path)
    assert "weights_only" not in str(error.value)
    assert "it asks for " in str(error.value)
    assert not mark.exists()
    pickle.loads(pickle.dumps(content))  # but it would
    assert mark.exists()


def same(a: Checkpoint, b: Checkpoint) -> bool:
    """What tells two checkpoints apart that have the fields of `MADE`."""
    assert a.chance is not None
    assert b.chance is not None
    rest = {"model": {}, "optimizer": {}, "chance": None, "digest": None}
    return (
        replace(a, **rest) == replace(b, **rest)
        and a.model.keys() == b.model.keys()
        and all(a.model[name].equal(b.model[name]) for name in b.model)
        and a.chance.sums.equal(b.chance.sums)
        and a.chance.epochs == b.chance.epochs
        and a.optimizer["state"][0]["exp_avg"].equal(b.optimizer["state"][0]["exp_avg"])
        and a.optimizer["param_groups"] == b.optimizer["param_groups"]
    )


@pytest.mark.long
def test_no_flipped_bit_goes_unnoticed(tmp_path):
    path = tmp_path / "last.pt"
    save(path, MADE)
    content = path.read_bytes()
    weight = content.index(MADE.model["w"].numpy().tobytes())
    generator = random.Random(0)
    places = [weight, weight + 1201, *(generator.randrange(len(content)) for _ in range(400))]
    refused: dict[int, str] = {}
    for place in places:
        broken = bytearray(content)
        broken[place] ^= 1 << generator.randrange(8)
        path.write_bytes(broken)
        try:
            found = load(path)
        except CheckpointError as error:
            refused[place] = str(error)
            continue
        # What it touched is not read: padding, or what the archive says twice.
        assert found.digest is not None
        assert same(found, MADE), place
    damaged = f"{path}: damaged: its digest does not match"
    assert [refused.get(place) for place in places[:2]] == [damaged, damaged]
    assert len(refused) > 150


def test_a_checkpoint_without_digest_says_so(tmp_path):
    save(tmp_path / "last.pt", MADE)
    assert load(tmp_path / "last.pt").notice() == ""
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    del content["digest"]
    torch.save(content, tmp_path / "old.pt")
    found = load(tmp_path / "old.pt")
    assert same(found, MADE)
    assert found.notice().startswith("the checkpoint is of an older version and has no digest")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path, value):
    path, broken = tmp_path / "last.pt", MADE.model["w"].clone()
    broken[3, 4] = value
    message = r"\.pt: w of the network holds values that are not finite"
    with pytest.raises(CheckpointError, match=message):
        save(path, replace(MADE, model={**MADE.model, "w": broken}))
    assert not path.exists()
    with pytest.raises(CheckpointError, match=message):
        save(path, replace(MADE, average={"w": broken}))
    save(path, MADE)
    content = torch.load(path, weights_only=True)
    content["model"]["w"] = broken
    del content["digest"]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        load(path)
