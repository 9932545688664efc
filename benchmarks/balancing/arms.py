"""The methods that are compared, and what each may be tuned over: as many values for each."""

from typing import Any, NamedTuple


class Arm(NamedTuple):
    """A method: options, and the one that is tuned."""

    options: dict[str, Any]
    tuned: str
    """The option; several with commas between them have the same value."""
    grid: tuple[float, ...]
    """In the order of preference where they are equally good."""
    trains: str = "one network"
    """What is trained for it, for the table."""


_GAMMA = "loss.video,loss.audio"
_LR = (2e-3, 1e-3, 4e-3)
ALONE: dict[str, Arm] = {
    "video alone": Arm({"model.modalities": "video"}, "optim.lr", _LR),
    "audio alone": Arm({"model.modalities": "audio"}, "optim.lr", _LR),
}
"""Networks of one modality: what `separate, averaged` averages and umt learns from."""
BASELINE = "2 uniform losses"
AVERAGED = "3 separate, averaged"
ARMS: dict[str, Arm] = {
    "1 joint loss": Arm({"loss.video": 0.0, "loss.audio": 0.0}, "optim.lr", _LR),
    BASELINE: Arm({}, _GAMMA, (0.5, 0.25, 1.0)),
    "4 OGM-GE": Arm({"balance.method": "ogm_ge"}, "balance.alpha", (0.3, 0.1, 0.8)),
    "5 MMPareto": Arm({"balance.method": "mmpareto"}, _GAMMA, (0.5, 0.25, 1.0)),
    "6 OPM": Arm({"balance.method": "opm"}, "balance.drop", (0.5, 0.3, 0.65),),
    "7 UMT": Arm({"balance.method": "umt"}, "balance.distill", (10.0, 1.0, 0.1),
                 "three networks"),
    "8 G-Blend": Arm({"balance.method": "g_blend"}, "balance.super_epoch", (5, 2, 10)),
}  # fmt: skip
PASSES = {
    "1 joint loss": "1", BASELINE: "1", AVERAGED: "1 + 1, half a network each", "4 OGM-GE": "1",
    "5 MMPareto": "1, backward twice", "6 OPM": "1", "7 UMT": "1, forward of the encoders twice",
    "8 G-Blend": "1, validation after each epoch",
}  # fmt: skip
"""Passes over a batch, in the order of the table."""


def options_of(arm: Arm, value: float) -> dict[str, Any]:
    """All options of an arm with this value of the tuned one."""
    return {**arm.options, **dict.fromkeys(arm.tuned.split(","), value)}
