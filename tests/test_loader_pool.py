"""Loader processes that crash and hang: every batch arrives, in order, and the clip is named."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fragile import Fate, Numbers, Together, clip_of, tell_about_parent

import avmix
from avmix.data.loader_pool import LoaderError, Pool
from avmix.data.loader_worker import fork_server
from avmix.data.sample import Loaded, Place, Sample
from avmix.data.shared_memory import MAX_LENT, NOTHING, SharedBatches
from avmix.types import Batch

SECONDS = 3.0


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    """A pool that waits for ever is a failure, not a test that waits for ever."""

    def stop(*_: object) -> None:
        raise TimeoutError("nothing happens any more")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def steps(num_rows: int, size: int = 4, first: int = 0) -> list[list[Place]]:
    rows = range(first, num_rows)
    return [[(0, row) for row in rows[i : i + size]] for i in range(0, len(rows), size)]


def read_log(path: Path) -> list[tuple[int, int]]:
    """(row, process) of everything that was begun."""
    lines = path.read_text().splitlines()
    return [(int(row), int(pid)) for row, pid in map(str.split, lines)]


def rows_of(loaded: list[Loaded]) -> list[list[int]]:
    return [[] if batch is None else batch.row.tolist() for batch, _ in loaded]


def check_content(loaded: list[Loaded]) -> None:
    """Every batch holds what its rows say: no slot was written to while it was in use."""
    for batch, _ in loaded:
        for i, row in enumerate([] if batch is None else batch.row.tolist()):
            assert batch is not None
            assert (batch.video[i] == row % 256).all()
            assert torch.equal(batch.audio[i], torch.full((50,), row / 7))
            assert batch.target[i].argmax() == row % 3


def alive(pid: int) -> bool:
    """False when there is no such process, not even as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.long
@pytest.mark.parametrize("num_workers", [pytest.param(1, marks=pytest.mark.long), 3])
def test_whatever_reading_does_every_batch_arrives_in_order(
    tmp_path: Path, num_workers: int
) -> None:
    fates: dict[int, Fate] = {5: "crash", 6: "hang on", 19: "exit", 32: "exit", 33: "crash"}
    reader = Numbers(fates=fates, log=tmp_path / "log")
    pool = Pool(reader, num_workers=num_workers, batch_size=4, clip_seconds=1.0)
    lost: dict[int, str] = {}

    def note(row: int, reason: str) -> str:
        assert row not in lost
        lost[row] = reason
        return f"{reason}!"

    batches = [*steps(32), [(0, 32), (0, 33)], *steps(40, first=34)]
    loaded = list(pool.read(batches, {2: "known"}, note))
    gone = {2, *fates}
    assert rows_of(loaded) == [[r for _, r in places if r not in gone] for places in batches]
    assert rows_of(loaded)[8] == []  # a batch of which nothing is left is not lost either
    check_content(loaded)
    assert lost == {
        5: "the decoder crashed (signal 11, SIGSEGV)",
        6: "took longer than 1 s and was killed",
        19: "the decoder crashed (exit code 3)",
        32: "the decoder crashed (exit code 3)",
        33: "the decoder crashed (signal 11, SIGSEGV)",
    }
    bad = {b.row: b.reason for _, bad in loaded for b in bad}
    assert bad == {2: "known", **{row: f"{reason}!" for row, reason in lost.items()}}

    # A clip is lost once in company and twice alone, in new processes; then its batch is begun
    # again without it. No other batch is read twice.
    begun = Counter(row for row, _ in read_log(tmp_path / "log"))
    assert set(begun) == set(range(40)) - {2}
    assert {row: n for row, n in begun.items() if n > 1} == {
        4: 3, 5: 3, 6: 3, 16: 2, 17: 2, 18: 2, 19: 3, 32: 3, 33: 3,
    }  # fmt: skip

    pids = {pid for _, pid in read_log(tmp_path / "log")}
    running = {p.pid for p in multiprocessing.active_children()}
    assert len(running) == num_workers  # each dead one was replaced
    assert len(pids | running) == num_workers + 3 * len(fates)
    assert all(alive(pid) == (pid in running) for pid in pids)
    assert [len(places) for places in rows_of(list(pool.read(steps(8), {}, note)))] == [3, 2]
    assert {p.pid for p in multiprocessing.active_children()} == running  # kept for the next epoch
    pool.close()
    assert not multiprocessing.active_children()
    assert not any(alive(pid) for pid in running if pid)


@pytest.mark.long
@pytest.mark.parametrize("fate", ["crash", "hang on"])
def test_of_clips_that_are_read_together_the_right_one_is_to_blame(
    tmp_path: Path, fate: Fate
) -> None:
    """The first is told of; after a loss each is read by itself."""
    reader = Together(fates={2: fate}, log=tmp_path / "log")
    pool = Pool(reader, num_workers=1, batch_size=4, clip_seconds=1.0)
    lost: list[int] = []

    def note(row: int, reason: str) -> str:
        lost.append(row)
        return reason

    loaded = list(pool.read(steps(8), {}, note))
    assert lost == [2]
    assert rows_of(loaded) == [[0, 1, 3], [4, 5, 6, 7]]
    check_content(loaded)


@pytest.mark.long
def test_what_was_finished_before_a_hang_is_not_read_again(tmp_path: Path) -> None:
    log, waiter = tmp_path / "log", threading.Event()
    pool = Pool(Numbers(fates={5: "hang on"}, log=log), num_workers=2, batch_size=1,
                clip_seconds=1.5)  # fmt: skip
    lost: list[int] = []

    def note(row: int, reason: str) -> str:
        lost.append(row)
        return reason

    loop = pool.read(steps(9, size=1), {}, note)
    assert rows_of([next(loop)]) == [[0]]
    # While the loop is busy elsewhere one process finishes two batches and hangs in a third.
    assert any({1, 3, 5} <= {row for row, _ in read_log(log)} or waiter.wait(0.02)
               for _ in range(500))  # fmt: skip
    waiter.wait(2.0)
    assert rows_of(list(loop)) == [[1], [2], [3], [4], [], [6], [7], [8]]
    assert lost == [5]
    assert sorted(row for row, _ in read_log(log)) == sorted([*range(9), 5, 5])
    assert len({pid for _, pid in read_log(log)}) == 5


def no_loss(row: int, reason: str) -> str:
    pytest.fail(f"lost {row}: {reason}")


@pytest.mark.long
@pytest.mark.parametrize(("fate", "times"), [("killed", 4), ("stop", 2), ("crash", 2), ("hang", 1)])
def test_no_clip_pays_for_what_befalls_its_process(tmp_path: Path, fate: Fate, times: int) -> None:
    # Row 2 is read after others first: a crash then may be of their making. Killed or stopped from
    # outside it is never to blame.
    reader = Numbers(fates={2: fate}, times={2: times}, log=tmp_path / "log")
    pool = Pool(reader, num_workers=1, batch_size=4, clip_seconds=0.5)
    loaded = list(pool.read(steps(8), {}, no_loss))
    assert rows_of(loaded) == [[0, 1, 2, 3], [4, 5, 6, 7]]  # in their order, whichever came first
    check_content(loaded)
    begun = [row for row, _ in read_log(tmp_path / "log")]
    assert begun == [0, 1, *[2] * times, 2, 0, 1, 3, 4, 5, 6, 7]
    pool.close()


@pytest.mark.long
def test_a_clip_whose_process_is_always_killed_ends_the_run_and_is_not_blamed(
    tmp_path: Path,
) -> None:
    reader = Numbers(fates={2: "killed"}, log=tmp_path / "log")
    pool = Pool(reader, num_workers=1, batch_size=4, clip_seconds=SECONDS)
    with pytest.raises(LoaderError, match=r"lost again and again while they read 2\.mp4.*SIGKILL"):
        list(pool.read(steps(8), {}, no_loss))
    assert not multiprocessing.active_children()


def test_processes_that_die_before_they_read_end_the_run_with_a_reason(tmp_path: Path) -> None:
    reader = Numbers(fates={4: "die in between"}, log=tmp_path / "log")
    pool = Pool(reader, num_workers=1, batch_size=4, clip_seconds=SECONDS)
    with pytest.raises(LoaderError, match=r"3 loader processes in a row .* with exit code 7"):
        list(pool.read(steps(8), {}, no_loss))
    assert not multiprocessing.active_children()
    begun = Counter(row for row, _ in read_log(tmp_path / "log"))
    assert begun == dict.fromkeys(range(4), 1)


def test_a_mistake_in_the_program_is_no_bad_clip(tmp_path: Path) -> None:
    reader = Numbers(fates={4: "mistake"}, log=tmp_path / "log")
    pool = Pool(reader, num_workers=1, batch_size=4, clip_seconds=SECONDS)
    with pytest.raises(LoaderError, match=r"(?s)fragile\.py.*KeyError: 'a mistake of ours'"):
        list(pool.read(steps(8), {}, no_loss))
    assert not multiprocessing.active_children()
    # In this process it is what it is.
    with pytest.raises(KeyError, match="a mistake of ours"):
        list(
            Pool(reader, num_workers=0, batch_size=4, clip_seconds=1.0).read(steps(8), {}, no_loss)
        )


def test_a_loop_that_ends_early_ends_the_processes_and_the_next_begins_anew(tmp_path: Path) -> None:
    pool = Pool(Numbers(fates={}, log=tmp_path / "log"), num_workers=2, batch_size=4,
                clip_seconds=SECONDS)  # fmt: skip
    loop = pool.read(steps(400), {}, no_loss)
    next(loop)
    assert len(multiprocessing.active_children()) == 2
    with pytest.raises(RuntimeError, match="one loop at a time"):
        next(pool.read(steps(8), {}, no_loss))
    with pytest.raises(KeyboardInterrupt):
        loop.throw(KeyboardInterrupt())  # as Ctrl-C while it waits
    assert not multiprocessing.active_children()
    begun = len(read_log(tmp_path / "log"))
    assert begun < 4 * 20  # it reads a bounded number of batches ahead

    # Other places of another length: nothing is left of the first loop.
    loaded = list(pool.read(steps(23, size=3), {}, no_loss))
    assert rows_of(loaded) == [[row for _, row in places] for places in steps(23, size=3)]
    check_content(loaded)
    del pool, loop  # and without `close`
    assert not multiprocessing.active_children()


def test_a_caller_may_keep_every_batch(tmp_path: Path) -> None:
    # Large enough for frames to stay where they were put.
    reader = Numbers(fates={}, log=tmp_path / "log", side=150, bytes_per_clip=140_000)
    pool = Pool(reader, num_workers=1, batch_size=4, clip_seconds=SECONDS)
    kept = list(pool.read(steps(80), {}, no_loss))
    check_content(kept)
    kept += list(pool.read(steps(160, first=80), {}, no_loss))
    check_content(kept)
    assert [row for rows in rows_of(kept) for row in rows] == list(range(160))
    pool.close()
    check_content(kept)


@pytest.mark.long
def test_a_hanging_process_ends_even_when_nobody_is_left_to_kill_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = f"""
from pathlib import Path
from fragile import Numbers
from avmix.data.loader_pool import Pool
if __name__ == "__main__":
    pool = Pool(Numbers(fates={{0: "hang"}}, log=Path({str(log)!r})), num_workers=1, batch_size=1,
                clip_seconds=1.5)
    list(pool.read([[(0, 0)]], {{}}, lambda row, reason: input()))
"""
    (tmp_path / "program.py").write_text(program)
    # Where it is started, another avmix is first on the path: not for us, and not for processes.
    decoy = tmp_path / "elsewhere/avmix/__init__.py"
    decoy.parent.mkdir(parents=True)
    decoy.write_text("raise RuntimeError('another avmix')")
    path = os.pathsep.join([str(Path(avmix.__file__).parents[1]), str(Path(__file__).parent)])
    parent = subprocess.Popen([sys.executable, str(tmp_path / "program.py")],
                              cwd=tmp_path / "elsewhere",
                              env={**os.environ, "PYTHONPATH": path})  # fmt: skip
    waiter = threading.Event()
    assert any(log.exists() or waiter.wait(0.02) for _ in range(3000))
    parent.kill()
    parent.wait()
    assert any(log.read_text() or waiter.wait(0.02) for _ in range(100))
    ((_, pid),) = read_log(log)
    assert any(not alive(pid) or waiter.wait(0.02) for _ in range(1000))  # 20 s at most


def test_the_fork_server_has_no_threads_and_our_modules(tmp_path: Path) -> None:
    context = fork_server()
    ours, theirs = context.Pipe()
    process = context.Process(target=tell_about_parent, args=(theirs,))
    process.start()
    num_threads, loaded, path = ours.recv()
    process.join()
    assert num_threads == 1
    assert loaded
    assert path == avmix.__file__
    assert "PYTHONSAFEPATH" not in os.environ


@pytest.mark.needs_cuda
@pytest.mark.parametrize("num_workers", [0, 1])
def test_beside_a_gpu_batches_are_pinned(tmp_path: Path, num_workers: int) -> None:
    reader = Numbers(fates={}, log=tmp_path / "log", side=150, bytes_per_clip=140_000)
    pool = Pool(reader, num_workers=num_workers, batch_size=4, clip_seconds=SECONDS, pin=True)
    kept = list(pool.read(steps(80), {}, no_loss))
    check_content(kept)
    assert all(batch is not None and batch.video.is_pinned() for batch, _ in kept)
    assert all(batch is not None and batch.row.is_pinned() for batch, _ in kept)


def test_slots_are_lent_until_the_last_tensor_is_gone() -> None:
    clips = Numbers(fates={}, log=Path("unused"), side=150)
    batches = []
    for row in range(4):
        sample = Sample(row, clip_of(row, clips.side), ())
        batches.append(clips.collate([sample]).batch)
    shared = SharedBatches(num_workers=1, num_slots=5, slot_bytes=200_000)
    assert shared.free == [0, 1, 2, 3, 4]

    def pass_on(i: int) -> Batch:
        slot = shared.free.pop(0)
        return shared.take(slot, shared.write(slot, batches[i]), pin=False)

    first, second = pass_on(0), pass_on(1)
    assert shared.free == [2, 3, 4]
    third = pass_on(2)  # a copy: MAX_LENT are out
    assert (MAX_LENT, shared.free) == (2, [3, 4, 2])
    part, row = first.video[0, 1], first.row
    del first
    assert shared.free == [3, 4, 2]  # part of it is still looked at
    del part
    assert shared.free == [3, 4, 2, 0]
    assert row.item() == 0  # small ones never keep a slot
    for i, batch in ((1, second), (2, third)):
        for name, tensor in batches[i].tensors().items():
            assert torch.equal(getattr(batch, name), tensor), name
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        SharedBatches(num_workers=1, num_slots=1, slot_bytes=1000).write(0, batches[0])


def test_marks_are_each_of_one_process() -> None:
    shared = SharedBatches(num_workers=3, num_slots=1, slot_bytes=10)
    for worker, row in enumerate((7, NOTHING, 2**40)):
        shared.mark(worker, row, 1.5 * worker, group=worker)
    assert [shared.mark_of(worker) for worker in range(3)] == [
        (7, 0.0, 0), (-1, 1.5, 1), (2**40, 3.0, 2)
    ]  # fmt: skip
