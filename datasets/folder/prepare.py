"""Prepare your own clips: `avmix prepare folder`.

The recipe is avmix/recipes/folder.py.
"""

import sys

from avmix.commands.prepare import run

if __name__ == "__main__":
    sys.exit(run("folder", prog="python datasets/folder/prepare.py"))
