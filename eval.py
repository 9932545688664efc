"""Evaluate a checkpoint: fused prediction, each modality alone, each modality removed.

    python eval.py --checkpoint runs/demo                     the last checkpoint of a run
    python eval.py --checkpoint runs/demo/best.pt --split val --num_views 5

Prints tables; writes result.json, predictions.safetensors and figures into the folder `out`.
Installed, the command is `avmix evaluate`; in Python, `avmix.evaluate`.

`evaluate` is in avmix/commands/evaluate.py, its tables are in avmix/commands/evaluation_report.py.
"""

import sys

from avmix.commands.evaluate import evaluate
from avmix.commands.from_options import exit_code_of
from avmix.config import EvalConfig

if __name__ == "__main__":
    sys.exit(exit_code_of(evaluate, EvalConfig, sys.argv[1:]))
