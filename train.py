"""Train a late-fusion audio-visual network with Cross-Modal Mixup.

    python train.py --config configs/demo.yaml                       one process, CPU or one GPU
    python train.py --config configs/demo.yaml --mix.alpha 0.4       any option can be overridden
    torchrun --nproc_per_node 4 train.py --config configs/demo.yaml  one process per GPU

The same command resumes from the last checkpoint in `run.out`; a finished run resumes if
`optim.epochs` is larger. Installed, the command is `avmix train`; in Python, `avmix.train`.

`train` is the loop over epochs, avmix/commands/train.py; a step, with its loss, is in
avmix/training/engine.py.
"""

import sys

from avmix.commands.from_options import exit_code_of
from avmix.commands.train import train
from avmix.config import TrainConfig

if __name__ == "__main__":
    sys.exit(exit_code_of(train, TrainConfig, sys.argv[1:]))
