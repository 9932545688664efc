"""What augmentation adds to decoding: of every case, and of hiding in the front end."""

import gc
import time
from dataclasses import replace
from typing import Any

from shared.medians import median, quartiles
from shared.rounds import rounds_in_turn

from augmenting.cases import PLAIN, SIZES, Case
from augmenting.timed_reading import Load, read
from avmix.augment import TimePlan
from avmix.config import AugmentConfig, FrontendConfig
from avmix.models.frontend import Frontend
from avmix.preview.augment_gallery import EXAMPLES
from avmix.types import Batch

LIMIT_PERCENT = 15.0
"""Of decoding: what the default augmentation is claimed to stay below."""


def measure_cost(
    load: Load, wanted: dict[str, Case], num_rounds: int
) -> tuple[dict[str, Any], list[dict[str, list[float]]]]:
    """Summary by case, "plain" too, and the milliseconds [decode, around] of every round."""
    sets = {name: load.train_set(case) for name, case in wanted.items()}
    plain, none = (
        load.train_set(None),
        load.train_set(Case(augment=AugmentConfig(**PLAIN), label="")),
    )
    sets["plain"] = plain
    rounds: list[dict[str, list[float]]] = []
    reads_other: list[dict[str, bool]] = []
    applied = dict.fromkeys(sets, 0)
    for turn in rounds_in_turn(sets, num_rounds, warm_up=1):
        row, epoch = turn.number % len(load.entries), max(turn.number, 0)
        reference, bare = plain.read_row(epoch, row)[0], none.read_row(epoch, row)[0]
        assert reference.plan is not None
        gc.collect()
        line, other = {}, {}
        for name in turn.order:
            case = wanted.get(name)
            found = read(sets[name], epoch, row, apart=case is not None and case.apart)
            line[name] = [round(found.decode_ms, 4), round(found.around_ms, 4)]
            plans = [sample.plan for sample in found.samples if sample.plan is not None]
            stereo = case is not None and case.stereo
            other[name] = stereo or any(
                _decoded(plan.time) != _decoded(reference.plan.time) for plan in plans
            )
            # What was drawn differs from what the same numbers give without it.
            against = reference.plan if name == "preset_none" else bare.plan
            if turn.counts:
                applied[name] += sum(stereo or plan != against for plan in plans)
            del found
        if turn.counts:
            rounds.append(line)
            reads_other.append(other)
    summary = {
        name: _summary(name, rounds, reads_other)
        | {
            "num_windows": num_rounds * sets[name].augment.repeats,
            "num_applied": applied[name],
        }
        for name in sets
    }
    return summary, rounds


def _decoded(time: TimePlan) -> tuple[float, ...]:
    """What of a plan decoding depends on."""
    return (time.start_seconds, time.read_seconds, time.decoded_rate, time.audio_shift_seconds)


def _summary(
    name: str, rounds: list[dict[str, list[float]]], reads_other: list[dict[str, bool]]
) -> dict[str, Any]:
    work, decode, added, percent, share = [], [], [], [], []
    for line, other in zip(rounds, reads_other, strict=True):
        (plain_decode, plain_around), (own_decode, own_around) = line["plain"], line[name]
        work.append(own_around - plain_around)
        decode.append(own_decode - plain_decode if other[name] else 0.0)
        added.append(work[-1] + decode[-1])
        percent.append(100 * added[-1] / plain_decode)
        share.append(100 * own_around / own_decode)
    return {
        "added_ms": median(added),
        "added_quartiles": quartiles(added),
        "percent_of_decoding": median(percent, 2),
        "percent_quartiles": quartiles(percent, 2),
        "work_ms": median(work),
        "decode_ms_more": median(decode),
        "reads_otherwise": any(other[name] for other in reads_other),
        "around_percent": median(share, 2),
    }


def summarise_repeats(rounds: list[dict[str, list[float]]]) -> dict[str, Any]:
    """Four windows of one open file, beside the same four of a file opened four times."""
    pairs = [(sum(line["repeats_4"]), sum(line["repeats_4_apart"])) for line in rounds]
    return {
        "together_ms": median([a for a, _ in pairs]),
        "apart_ms": median([b for _, b in pairs]),
        "ratio": median([a / b for a, b in pairs]),
    }


def claim(costs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Whether the default augmentation stays below the limit: what it adds to plain decoding and
    the central crop, which evaluation does too; and all that is done beside decoding."""
    found: dict[str, Any] = {"limit_percent": LIMIT_PERCENT}
    for what, key in (("added", "percent_of_decoding"), ("with_the_crop", "around_percent")):
        percent = {load: cost["default"][key] for load, cost in costs.items()}
        holds = all(value < LIMIT_PERCENT for value in percent.values())
        found[what] = {"percent_of_decoding": percent, "holds": holds}
    return found


def measure_frontend(load: Load, batch_size: int, num_rounds: int) -> dict[str, Any]:
    """What hiding costs there, per clip: frames of an interval, and SpecAugment."""
    options = {**EXAMPLES["hide_seconds"], **EXAMPLES["specaugment"], **PLAIN}
    case = Case(augment=AugmentConfig(**options), label="")
    train = load.train_set(case)
    samples = [train.read_row(0, n % len(load.entries))[0] for n in range(batch_size)]
    batch = train.collate(samples).batch
    assert batch is not None
    assert batch.frame_visible is not None
    assert batch.column_visible is not None
    ways: dict[str, Batch] = {
        "nothing_hidden": replace(batch, frame_visible=None, column_visible=None, bin_visible=None),
        "specaugment": replace(batch, frame_visible=None),
        "hide_seconds": replace(batch, bin_visible=None),
    }
    stage = Frontend(FrontendConfig(), SIZES[load.size].sample_rate, reuse_output=True)
    ms: dict[str, list[float]] = {name: [] for name in ways}
    for turn in rounds_in_turn(ways, num_rounds, warm_up=2):
        for name in turn.order:
            began = time.process_time()
            stage(ways[name])
            spent = 1e3 * (time.process_time() - began) / batch_size
            if turn.counts:
                ms[name].append(spent)
    more = {
        name: [a - b for a, b in zip(ms[name], ms["nothing_hidden"], strict=True)] for name in ways
    }
    return {
        name: {"ms": median(ms[name]), "more_ms": median(more[name]),
               "more_quartiles": quartiles(more[name])}
        for name in ways
    }  # fmt: skip
