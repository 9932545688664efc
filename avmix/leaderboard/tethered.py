"""A command of avmix that ends with the process that started it: `python -m
avmix.leaderboard.tethered train ...`.

Its standard input is a pipe that is never written to. The system closes it when the other process
ends, however that ends, and this one follows: what is killed leaves no process that trains on.
"""

import os
import runpy
import sys
import threading


def main() -> None:
    """Run the command of the words; ends when the standard input does."""
    threading.Thread(target=_follow, daemon=True).start()
    sys.argv[0] = "avmix"
    runpy.run_module("avmix", run_name="__main__")


def _follow() -> None:
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
