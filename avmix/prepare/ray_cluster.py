"""Probing on a Ray cluster: the same work per file, hence the same results."""

from collections.abc import Sequence
from typing import Any

from avmix.data.manifest import ManifestError
from avmix.prepare.probe_pool import ProbeTask, Results, probe_here

_FILES_PER_TASK = 16
_TASKS_PER_CPU = 2
"""As many are handed out at a time: enough to keep every processor busy."""
_RETRIES = 5
"""How often a task is given to another worker when the one that had it is lost."""


def probe_there(tasks: Sequence[ProbeTask], address: str, workers: int) -> Results:
    """Probe on the cluster at `address`; `local` starts one of `workers` processes here.

    Every machine must have avmix, and the media under the same path. Raises `ManifestError` where
    Ray is not installed, does not answer, or a task is lost again and again.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]  # an extra
        from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ManifestError("--ray needs Ray: pip install '.[ray]' in the checkout") from None
    try:
        if address == "local":
            ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
        else:
            ray.init(address=address, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ManifestError(f"--ray {address}: {error}") from None
    try:
        yield from _probe(ray, tasks)
    except RayError as error:
        raise ManifestError(f"--ray {address}: {str(error).strip().splitlines()[-1]}") from None
    finally:
        ray.shutdown()


def _probe(ray: Any, tasks: Sequence[ProbeTask]) -> Results:
    remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(_batch)
    batches = [tasks[at : at + _FILES_PER_TASK] for at in range(0, len(tasks), _FILES_PER_TASK)]
    batches.reverse()
    running: dict[Any, Sequence[ProbeTask]] = {}
    while batches or running:
        most = max(1, int(ray.cluster_resources().get("CPU", 1))) * _TASKS_PER_CPU
        while batches and len(running) < most:
            batch = batches.pop()
            running[remote.remote(batch)] = batch
        done, _ = ray.wait(list(running), num_returns=1)
        for reference in done:
            del running[reference]
            yield from ray.get(reference)


def _batch(looks: Sequence[ProbeTask]) -> list[Any]:
    """On the cluster: in a process of their own there, which a bad file may kill."""
    return list(probe_here(looks, workers=1))
