"""Prepare Kinetics-Sounds: `avmix prepare kinetics_sounds`.

The recipe is avmix/recipes/kinetics_sounds.py.
"""

import sys

from avmix.commands.prepare import run

if __name__ == "__main__":
    sys.exit(run("kinetics_sounds", prog="python datasets/kinetics_sounds/prepare.py"))
