"""Prepare VGGSound: `avmix prepare vggsound`.

The recipe is avmix/recipes/vggsound.py.
"""

import sys

from avmix.commands.prepare import run

if __name__ == "__main__":
    sys.exit(run("vggsound", prog="python datasets/vggsound/prepare.py"))
