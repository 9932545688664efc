"""Prepare UCF101: `avmix prepare ucf101`.

The recipe is avmix/recipes/ucf101.py.
"""

import sys

from avmix.commands.prepare import run

if __name__ == "__main__":
    sys.exit(run("ucf101", prog="python datasets/ucf101/prepare.py"))
