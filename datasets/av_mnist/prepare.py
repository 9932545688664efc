"""Prepare AV-MNIST: `avmix prepare av_mnist`.

The recipe is avmix/recipes/av_mnist.py.
"""

import sys

from avmix.commands.prepare import run

if __name__ == "__main__":
    sys.exit(run("av_mnist", prog="python datasets/av_mnist/prepare.py"))
