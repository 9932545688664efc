"""Processes that are measured: what they import, their threads and their CPU time."""

import os
import resource

from shared.paths import BENCHMARKS

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Environment of a process whose libraries start no further threads."""

IMPORTS = {"PYTHONPATH": os.pathsep.join([str(BENCHMARKS), os.environ["PYTHONPATH"]])}
"""Environment of a process that runs a module of this folder by `python -m`."""


def cpu_seconds() -> float:
    """User and system time of this process, all of its threads and its finished children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
