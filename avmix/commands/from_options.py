"""Commands whose options are a configuration, train and evaluate: options in, exit code out.

Nothing here imports torch before the options are read: `--help` and a mistyped option answer at
once.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from avmix.config import EvalConfig, TrainConfig, load_config
from avmix.system.broken_pipe import readers_may_leave
from avmix.system.printing import echo

C = TypeVar("C", TrainConfig, EvalConfig)

_EPILOG: dict[Any, str] = {
    TrainConfig: """\
example:
  {command} --config configs/own.yaml --run.out runs/mine

exit:   0 trained   1 the run cannot start or go on; one line says why   2 wrong usage
        130 interrupted; the same command resumes from the last checkpoint
""",
    EvalConfig: """\
example:
  {command} --checkpoint runs/mine --split test
  {command} --from runs/mine/eval_test          the tables again, from the kept predictions
  {command} --from runs/video/eval_test --mean_with runs/audio/eval_test --out runs/both
  {command} --checkpoint runs/mine --robustness clean,noise_white,jpeg

exit:   0 evaluated   1 the checkpoint or the split cannot be evaluated; one line says why
        2 wrong usage   130 interrupted
""",
}
_INTERRUPTED: dict[Any, str] = {
    TrainConfig: "stopped; the same command resumes from the last checkpoint",
    EvalConfig: "stopped",
}


def train(argv: Sequence[str]) -> int:
    """`avmix train`; returns the exit code."""

    def run(config: TrainConfig) -> object:
        from avmix.commands.train import train

        return train(config)

    return exit_code_of(run, TrainConfig, argv, prog="avmix train")


def evaluate(argv: Sequence[str]) -> int:
    """`avmix evaluate`; returns the exit code."""

    def run(config: EvalConfig) -> object:
        from avmix.commands.evaluate import evaluate

        return evaluate(config)

    return exit_code_of(run, EvalConfig, argv, prog="avmix evaluate")


def exit_code_of(
    run: Callable[[C], object], options: type[C], argv: Sequence[str], *, prog: str | None = None
) -> int:
    """Read `argv` as `options` and run with them; returns the exit code.

    Wrong options, and `--help`, end the program (SystemExit). What files, options or the machine
    cause in `run` is one line on the standard error, and 1. `prog`: the name of the command in
    `--help`; that of the script without one.
    """
    epilog = _EPILOG[options].format(command=prog or f"python {Path(sys.argv[0]).name}")
    with readers_may_leave():
        config = load_config(options, argv, prog=prog, epilog=epilog)
        try:
            run(config)
        except _foreseen() as error:
            echo(f"error: {error}", error=True, keep="\n")
            return 1
        except KeyboardInterrupt:
            echo(_INTERRUPTED[options], error=True)
            return 130
    return 0


def _foreseen() -> tuple[type[Exception], ...]:
    """What files, options and machines cause. Asked for once something is raised: these modules
    bring torch, which has been imported by then."""
    from avmix.data.loader_pool import LoaderError
    from avmix.data.sample import TooManyBadClips
    from avmix.isolate.process_pool import CannotStart
    from avmix.training.runlog import NotFiniteError

    return ValueError, OSError, TooManyBadClips, LoaderError, CannotStart, NotFiniteError
