"""Prepare AVE: `avmix prepare ave`.

The recipe is avmix/recipes/ave.py.
"""

import sys

from avmix.commands.prepare import run

if __name__ == "__main__":
    sys.exit(run("ave", prog="python datasets/ave/prepare.py"))
