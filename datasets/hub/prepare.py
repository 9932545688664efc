"""Prepare a copy of a dataset on the Hub: `avmix prepare hub`.

The recipe is avmix/recipes/hub.py.
"""

import sys

from avmix.commands.prepare import run

if __name__ == "__main__":
    sys.exit(run("hub", prog="python datasets/hub/prepare.py"))
