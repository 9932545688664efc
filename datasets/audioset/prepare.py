"""Prepare AudioSet: `avmix prepare audioset`.

The recipe is avmix/recipes/audioset.py.
"""

import sys

from avmix.commands.prepare import run

if __name__ == "__main__":
    sys.exit(run("audioset", prog="python datasets/audioset/prepare.py"))
