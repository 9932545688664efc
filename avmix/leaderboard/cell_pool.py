"""Cells at work: some at a time on this machine, or on a Ray cluster; each outcome as it comes."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from avmix.leaderboard.card import CardError
from avmix.leaderboard.cell_result import Outcome
from avmix.leaderboard.child_command import Children
from avmix.leaderboard.probe_cell import ProbeJob, probe_cell
from avmix.leaderboard.train_cell import CellError, TrainJob, train_cell

Job = TrainJob | ProbeJob
_RETRIES = 5
"""How often a cell is given to another worker when the one that had it is lost."""


class Ended(NamedTuple):
    """A cell that has ended, one way or the other."""

    job: Job
    outcome: Outcome | None
    why: str
    """Where there is no outcome."""


def run_here(jobs: Sequence[Job], folders: Mapping[str, Path], at_once: int) -> Iterator[Ended]:
    """Run cells on this machine, `at_once` at a time, each in the folder of its name."""
    children = Children()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            waiting: dict[Future[Outcome], Job] = {
                pool.submit(_one, job, folders[job.cell.name], children): job for job in jobs
            }
            for future in as_completed(waiting):
                yield _ended(waiting[future], future)
        finally:  # interrupted, or the rest is not asked for
            children.stop()
            pool.shutdown(wait=True, cancel_futures=True)


def _one(job: Job, folder: Path, children: Children | None) -> Outcome:
    if isinstance(job, ProbeJob):
        return [*probe_cell(job)]
    return train_cell(job, folder, children)


def _ended(job: Job, future: Future[Outcome]) -> Ended:
    try:
        return Ended(job, future.result(), "")
    except (CellError, ValueError, OSError) as error:
        return Ended(job, None, _named(job, error))


def _named(job: Job, error: Exception) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    return said if said.startswith(job.cell.name) else f"{job.cell.name}: {said}"


def run_there(jobs: Sequence[Job], address: str, at_once: int) -> Iterator[Ended]:
    """Run cells on the Ray cluster at `address`; `local` starts one of `at_once` processors here.

    Every machine must have avmix, and the clips under the same path. A cell that was
    interrupted starts again: its folder is that of a worker. Raises `CardError` where Ray is not
    installed or does not answer.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]  # an extra
        from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise CardError("--ray needs Ray: pip install '.[ray]' in the checkout") from None
    try:
        if address == "local":
            ray.init(num_cpus=at_once, include_dashboard=False, log_to_driver=False)
        else:
            ray.init(address=address, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise CardError(f"--ray {address}: {error}") from None
    try:
        remote = ray.remote(max_retries=_RETRIES)(_there)
        running: dict[Any, Job] = {
            remote.options(num_cpus=max(1, getattr(job, "threads", 1))).remote(job): job
            for job in jobs
        }
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(done)
            try:
                outcome, why = ray.get(done)
            except RayError as error:
                outcome, why = None, _named(job, RuntimeError(str(error).strip().split("\n")[-1]))
            yield Ended(job, outcome, why)
    finally:
        ray.shutdown()


def _there(job: Job) -> tuple[Outcome | None, str]:
    """On the cluster, in a folder of its own. The reason comes back as a word: an exception would
    need its class there."""
    with tempfile.TemporaryDirectory(prefix="avmix-cell-") as folder:
        try:
            return _one(job, Path(folder) / "cell", None), ""
        except (CellError, ValueError, OSError) as error:
            return None, _named(job, error)
