"""Prepare HMDB51: `avmix prepare hmdb51`.

The recipe is avmix/recipes/hmdb51.py.
"""

import sys

from avmix.commands.prepare import run

if __name__ == "__main__":
    sys.exit(run("hmdb51", prog="python datasets/hmdb51/prepare.py"))
