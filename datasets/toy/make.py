"""Generate the toy dataset: `avmix prepare toy`.

The recipe is avmix/recipes/toy.py.
"""

import sys

from avmix.commands.prepare import run

if __name__ == "__main__":
    sys.exit(run("toy", prog="python datasets/toy/make.py"))
