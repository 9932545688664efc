"""Prepare CREMA-D: `avmix prepare crema_d`.

The recipe is avmix/recipes/crema_d.py.
"""

import sys

from avmix.commands.prepare import run

if __name__ == "__main__":
    sys.exit(run("crema_d", prog="python datasets/crema_d/prepare.py"))
