"""Prepare VGGSounder: `avmix prepare vggsounder`.

The recipe is avmix/recipes/vggsounder.py.
"""

import sys

from avmix.commands.prepare import run

if __name__ == "__main__":
    sys.exit(run("vggsounder", prog="python datasets/vggsounder/prepare.py"))
