"""Tables of benchmarks/augment.py."""

from typing import Any

from report.tables.cells import machine_lines, span

_CLIPS = {"small": "8 x 64²", "kinetics": "16 x 224²"}
"""Sizes of clips, as the tables name them."""


def augment_tables(result: dict[str, Any]) -> str:
    """What each augmentation adds to decoding, beside whom; then what else was measured."""
    parts = []
    if "costs" in result:
        parts.append(_augment_costs(result))
    parts.append(" ".join(_augment_lines(result)))
    if "peers" in result:
        parts.append(_augment_peers(result["peers"]))
    parts.append(" ".join(machine_lines(result)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _files(load: dict[str, Any]) -> str:
    """Which files a workload reads; results call synthetic ones made."""
    return "synthetic" if load["files"] == "made" else load["files"]


def _augment_costs(result: dict[str, Any]) -> str:
    loads, costs = result["loads"], result["costs"]
    titles = [f"{_CLIPS[load['size']]}, {_files(load)}" for load in loads.values()]
    lines = [
        "| ms per clip, quartiles; % of decoding | " + " | ".join(titles) + " |",
        "|---|" + "--:|" * len(loads),
    ]
    plain = [
        f"{load['decode_ms']:.1f} ({_quartiles(load['decode_quartiles'], 1)})"
        for load in loads.values()
    ]
    crop = [
        f"{load['crop_ms']:+.2f}; {100 * load['crop_ms'] / load['decode_ms']:.1f} %"
        for load in loads.values()
    ]
    lines.append(f"| decoding | {' | '.join(plain)} |")
    lines.append(f"| drawing, and the central crop | {' | '.join(crop)} |")
    for name, case in result["cases"].items():
        found = [costs[load][name] for load in loads]
        mark = " *" if any(cost["reads_otherwise"] for cost in found) else ""
        lines.append(f"| {case['label']}{mark} | {' | '.join(map(_augment_cell, found))} |")
    return "\n".join(lines)


def _augment_cell(cost: dict[str, Any]) -> str:
    added = f"{cost['added_ms']:+.2f}"
    if cost["reads_otherwise"]:
        # What another window costs differs by more than what is done with it.
        added = f"{cost['work_ms']:+.2f}, decoding {cost['decode_ms_more']:+.1f}"
    quartiles = _quartiles(cost["added_quartiles"], 1)
    return f"{added} ({quartiles}); {cost['percent_of_decoding']:+.1f} %"


def _quartiles(values: list[float], digits: int) -> str:
    return f"{values[0]:.{digits}f} to {values[1]:.{digits}f}"


def _augment_lines(result: dict[str, Any]) -> list[str]:
    lines = []
    if "costs" in result:
        rounds = len(next(iter(result["rounds"].values())))
        lines.append(
            "CPU time of one thread over plain decoding and the central crop, medians of "
            f"{rounds} rounds in which all took turns on the same file. *: other seconds, or audio "
            "of another rate, are decoded, and decoding takes more or less, by chance or by design:"
            " quartiles and % are of both together. Where windows share an open file, per window."
        )
    if "claim" in result:
        limit = result["claim"]["limit_percent"]
        added, whole = (result["claim"][what] for what in ("added", "with_the_crop"))
        spans = [span(list(x["percent_of_decoding"].values()), 1) for x in (added, whole)]
        signs = ["below" if x["holds"] else "not below" for x in (added, whole)]
        lines.append(
            f"The default adds {spans[0]} % to decoding: {signs[0]} {limit:.0f} % everywhere. All "
            f"that is done beside decoding, the crop included, takes {spans[1]} % of it: "
            f"{signs[1]} {limit:.0f} % everywhere."
        )
    if "repeats" in result:
        ratios = [100 * (1 - found["ratio"]) for found in result["repeats"].values()]
        lines.append(f"Four windows of one open file save {span(ratios, 0)} % of four visits.")
    for size, found in result.get("frontend", {}).get("sizes", {}).items():
        lines.append(
            f"Hiding in the frontend, {_CLIPS[size]}: {found['hide_seconds']['more_ms']:+.2f} ms a "
            f"clip for an interval, {found['specaugment']['more_ms']:+.2f} ms for SpecAugment, of "
            f"{found['nothing_hidden']['ms']:.1f} ms."
        )
    for device, sizes in result.get("device", {}).items():
        if sizes is None:
            lines.append(f"On {device.upper()} instead of in the worker: not measured.")
            continue
        for size, found in sizes.items():
            ways = {name: f"{way[found['by']]:.1f}" for name, way in found["ways"].items()}
            lines.append(
                f"Crop, flip and colours of {found['batch']} clips of {_CLIPS[size]} on "
                f"{found['device']}, ms a clip: {ways['worker']} one by one as the workers do, "
                f"{ways['batch_grid']} batched (not antialiased), {ways['batch_antialias']} "
                "batched but for antialiased scaling. "
                f"{'Faster: one by one' if found['faster'] == 'worker' else 'Faster: batched'}."
            )
    return lines


def _augment_peers(peers: dict[str, Any]) -> str:
    lines = [
        "| compared with | clip | avmix ms | peer's time, avmix = 1 |"
        " one draw for all frames: avmix, peer |"
        " equal pixels stay equal: avmix, peer | a click moves, ms: avmix, peer |",
        "|---|---|--:|--:|---|---|--:|",
    ]
    for size, rows in peers.items():
        for row in rows.values():
            frames = row["of"] == "pictures"
            if not frames and size != next(iter(peers)):
                continue  # audio is of the same length in clips of all sizes
            said = [
                ", ".join("yes" if row[f"{who}_{what}"] else "no" for who in ("ours", "theirs"))
                if frames else ""
                for what in ("one_draw", "steady")
            ]  # fmt: skip
            moves = ""
            if "ours_moves_ms" in row:
                moves = ", ".join(f"{row[f'{who}_moves_ms']:.1f}" for who in ("ours", "theirs"))
            cells = [row["peer"], _CLIPS[size] if frames else "audio", f"{row['ours_ms']:.2f}",
                     f"{row['ratio']:.2f} ({_quartiles(row['ratio_quartiles'], 2)})",
                     *said, moves]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "torchvision's transforms do not touch the audio: after a flip left is still left. Its "
        "policies have the operation Identity, and leave black outside the frame where avmix "
        "leaves grey.",
    ]
    return "\n".join(lines)
