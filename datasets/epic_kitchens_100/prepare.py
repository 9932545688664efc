"""Prepare EPIC-KITCHENS-100: `avmix prepare epic_kitchens_100`.

The recipe is avmix/recipes/epic_kitchens_100.py.
"""

import sys

from avmix.commands.prepare import run

if __name__ == "__main__":
    sys.exit(run("epic_kitchens_100", prog="python datasets/epic_kitchens_100/prepare.py"))
