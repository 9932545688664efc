"""Table and figure of benchmarks/learning.py: the first steps of several recipes."""

import statistics
from collections.abc import Sequence
from typing import Any

from report.curves import Curves, Line, Panel
from report.tables.cells import numbers, span, table

SHOWN = ("former", "present")
"""Variants in the figure."""
STAGE = 4
"""The last video stage of `configs/demo.yaml`, counted from 1."""


def learning_table(result: dict[str, Any]) -> str:
    """A line for each variant, then what the numbers are of."""
    rows = []
    for name, found in result["summary"].items():
        median = found["median_first_below"]
        rows.append([name, str(len(found["seeds"])), str(found["num_at_chance"]),
                     "never" if median is None else f"{median:g}",
                     span(found["last_epoch_video"], 2)])  # fmt: skip
    steps, limit = result["steps"], result["learned_nats"]
    headings = ["", "seeds", f"video head at chance after {steps} steps",
                f"median step with a video loss below {limit:g}",
                "video loss in the last epoch, min to max"]  # fmt: skip
    return "\n".join([*table(headings, rows), "", _about(result), ""])


def _about(result: dict[str, Any]) -> str:
    runs = result["runs"]
    together = max(run["at_a_time"] for run in runs)
    return (
        f"`{runs[0]['protocol']}`, train split, seeds {numbers([run['seed'] for run in runs])}; "
        f"`{result['config']}` and what differs from it, the first {result['steps']} steps of its "
        "schedule. Losses in nats, of the clips as they are trained on: mixed clips have a higher "
        "loss than others where a head has learned, and the same where it guesses. *At chance*: "
        "the mean loss of the last epoch is no better than guessing by class frequencies. *Median "
        f"step*: over seeds, after which the mean of {result['mean_over_steps']} steps is below "
        "the limit for the first time; *never*: not so in half of the runs. "
        f"{span([run['seconds'] / 60 for run in runs], 1)} minutes per run with one thread"
        f"{f', up to {together} runs at a time' if together > 1 else ''}; {result['hardware']}."
    )


def curves(result: dict[str, Any]) -> Curves:
    """The figure: each seed of the former and of the present recipe."""
    runs = [run for run in result["runs"] if run["variant"] in SHOWN]
    over, steps = result["mean_over_steps"], result["steps"]
    return Curves(
        groups=(f"former, at chance after {steps} steps", "former, others", "present"),
        panels=(
            Panel(
                title=f"Loss of the video head, mean over {over} steps",
                unit="nats",
                lines=tuple(_smooth(run, over) for run in runs),
                level=("guessing", statistics.fmean(run["guessing_video"] for run in runs)),
            ),
            Panel(
                title="What the video head gets, mean over features",
                unit="variance over clips / mean square",
                lines=_looks(runs, "video_clip_share_normalised"),
            ),
            Panel(
                title="Zeros after the last ReLU of the video encoder",
                unit="share of 1",
                lines=_looks(runs, f"video_zero_share_{STAGE}"),
            ),
            Panel(
                title=f"Update of the video encoder, over {result['look_every']} steps",
                unit="||change|| / ||weights||, per step",
                lines=_looks(runs, "video_update"),
                logarithmic=True,
            ),
        ),
    )


def _group(run: dict[str, Any]) -> int:
    if run["variant"] == "former":
        return 0 if run["video_at_chance"] else 1
    return 2


def _smooth(run: dict[str, Any], over: int) -> Line:
    losses = run["steps"]["loss_video"]
    ends = range(min(over, len(losses)), len(losses) + 1)
    means = tuple(statistics.fmean(losses[max(0, n - over) : n]) for n in ends)
    return Line(group=_group(run), steps=tuple(ends), values=means)


def _looks(runs: Sequence[dict[str, Any]], name: str) -> tuple[Line, ...]:
    return tuple(
        Line(group=_group(run), steps=tuple(run["looks"]["step"]), values=tuple(run["looks"][name]))
        for run in runs
    )
