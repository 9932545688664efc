"""Folders of the checkout. After importing it, this process and its children find avmix there."""

import os
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1]
ROOT = BENCHMARKS.parent
RESULTS = BENCHMARKS / "results"
WORK = "avmix_benchmark"
"""Name of the folder of temporary files where `--work` names none."""

# The package beside the benchmarks is the one that is measured, in child processes too.
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
