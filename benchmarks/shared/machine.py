"""What a number was measured on: processor, versions of packages, other work on the machine."""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def cpu_name() -> str:
    """As the kernel names the first processor."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def versions_of(packages: Sequence[str], python: str = sys.executable) -> dict[str, str | None]:
    """Version of each package; None where the interpreter `python` does not have it."""
    if python != sys.executable:
        command = [python, __file__, *packages]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def facts(packages: Sequence[str]) -> dict[str, Any]:
    """Processor, cores, Python, versions of `packages` and the load average before measuring: the
    `environment` of a result."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions_of(packages),
        "load_average_at_the_start": load_average(),
    }


def load_average() -> float:
    """Of the last minute: processes that run or wait for a core, this one too."""
    return round(os.getloadavg()[0], 2)


if __name__ == "__main__":
    print(json.dumps(versions_of(sys.argv[1:])))  # noqa: TID251  may run where avmix is not installed
