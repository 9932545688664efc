"""Prepare Kinetics: `avmix prepare kinetics`.

The recipe is avmix/recipes/kinetics.py.
"""

import sys

from avmix.commands.prepare import run

if __name__ == "__main__":
    sys.exit(run("kinetics", prog="python datasets/kinetics/prepare.py"))
