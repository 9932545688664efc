"""Tables of benchmarks/decode.py."""

from typing import Any

from report.tables.cells import machine_lines, span, table

_COLUMNS = {
    "gop250_16x4": "gop 250",
    "gop12_16x4": "gop 12",
    "gop12_8x8": "gop 12, 8x8",
    "long_16x4": "10 minutes",
}
"""What of the made files is shown; folders of other files all are."""

_SUMMARY = (
    "avmix", "torchcodec_exact", "torchcodec_blocks", "decord", "decord2", "pytorchvideo_pyav",
    "plain_pyav",
)  # fmt: skip
"""Of every library what its users write first."""


def decoding_summary(result: dict[str, Any]) -> str:
    """A row per library: its speed over the workloads, and how often it is silently wrong."""
    num_files = next(iter(result["truth"].values()))["num_files"]
    rows = []
    for name in _SUMMARY:
        if name not in result["truth"]:
            continue
        speeds = [by_name[name]["ratio_to_avmix"] for by_name in result["speed"].values()
                  if name in by_name and by_name[name]["ratio_to_avmix"] is not None]  # fmt: skip
        truth = result["truth"][name]
        counts = [str(truth[f"num_{what}"]) for what in ("exact", "silently_wrong", "refused")]
        rows.append([result["candidates"][name]["label"], span(speeds, 2), *counts])
    headings = ["", "speed, avmix = 1", f"exact, of {num_files} files", "silently wrong", "refused"]
    lines = table(headings, rows)
    return "\n".join(
        [*lines, "", f"Speed: slowest to fastest of {len(result['speed'])} workloads."]
    )


def decoding_tables(result: dict[str, Any]) -> str:
    """Two tables, speed and truth, a line per candidate; then what else was measured."""
    parts = []
    if "speed" in result:
        parts.append(_speed_table(result))
    if "truth" in result:
        parts.append(_truth_table(result))
    lines = _other_lines(result)
    return "\n\n".join([*parts, " ".join(lines)]) + "\n"


def _speed_table(result: dict[str, Any]) -> str:
    speed, first = result["speed"], ("floor", "avmix")
    made = {load: title for load, title in _COLUMNS.items() if load in speed}
    columns = made | {load: load for load in speed if load not in _made_loads(result)}
    lines = [
        "| speed, avmix = 1 | " + " | ".join(columns.values()) + " |",
        "|---|" + "--:|" * len(columns),
    ]
    names = [n for n in result["candidates"] if n not in result["absent"]]
    for name in sorted(names, key=lambda n: first.index(n) if n in first else len(first)):
        cells = [_speed_cell(name, speed[load].get(name)) for load in columns]
        lines.append(f"| {result['candidates'][name]['label']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _made_loads(result: dict[str, Any]) -> list[str]:
    """Names of the workloads that are made files."""
    return [name for name, what in result["workloads"].items() if "left_out" not in what]


def _speed_cell(name: str, entry: dict[str, Any] | None) -> str:
    if entry is None or entry["ratio_to_avmix"] is None:
        return "fails"
    cell = f"{entry['ratio_to_avmix']:.2f}"
    if name == "avmix":
        cell = f"**1** ({entry['clips_per_cpu_second']:.0f}/s)"
    if entry["num_failed"]:
        cell += f", {entry['num_failed']} of {entry['num_clips']} fail"
    return cell


def _truth_table(result: dict[str, Any]) -> str:
    num_files = next(iter(result["truth"].values()))["num_files"]
    lines = [
        f"| {num_files} files of known content | exact | small error | silently wrong | refused |"
        " crash, hang | with a wrong frame | median A/V error ms | worst |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, total in result["truth"].items():
        counts = [total[f"num_{what}"] for what in
                  ("exact", "small_error", "silently_wrong", "refused", "lost",
                   "with_wrong_pictures")]  # fmt: skip
        errors = [total[f"{what}_av_error_ms"] for what in ("median", "worst")]
        cells = [str(count) for count in counts]
        cells += ["" if e is None else f"{e:.1f}" if e < 100 else f"{e:.0f}" for e in errors]
        label = result["candidates"][name]["label"]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _other_lines(result: dict[str, Any]) -> list[str]:
    lines = []
    if "speed" in result:
        shares = [
            speed["avmix"]["ratio_to_floor"]
            for speed in result["speed"].values()
            if speed["avmix"]["ratio_to_floor"] is not None
        ]
        rounds = len({row["round"] for row in result["speed_rounds"]})
        lines.append(
            f"Clips per CPU second of all threads, medians of {rounds} rounds in which all took "
            f"turns; avmix does {span([100 * share for share in shares], 0)} % of what the floor "
            "does."
        )
    if "scaling" in result:
        scaling = result["scaling"]
        lines.append(
            f"Two processes of avmix decode {scaling['ratio']:.2f} times what one does (best round "
            f"{scaling['best_ratio']:.2f}); a clip then takes "
            f"{scaling['cpu_per_clip_beside_another']:.2f} times the CPU."
        )
    for memory in result.get("memory", []):
        label = result["candidates"][memory["candidate"]]["label"]
        if "lost" in memory:
            lines.append(f"Memory of {label}: {memory['lost']}.")
            continue
        decodes = memory["mib"][-1]["decodes"]
        lines.append(
            f"Memory of {label} over {decodes:,} decodes: "
            f"{memory['kib_per_1000_decodes']:+,.0f} KiB per 1,000."
        )
    if result["absent"]:
        labels = [result["candidates"][name]["label"] for name in result["absent"]]
        lines.append(f"Not installed, not measured: {', '.join(labels)}.")
    lines += machine_lines(result)
    lines += _other_versions(result)
    return lines


def _other_versions(result: dict[str, Any]) -> list[str]:
    """A sentence for each set of versions that only some candidates have."""
    labels: dict[str, list[str]] = {}
    for name, found in result["environment"].get("other_versions", {}).items():
        said = ", ".join(f"{package} {number}" for package, number in found.items() if number)
        labels.setdefault(said, []).append(result["candidates"][name]["label"])
    return [
        f"In another interpreter, with {said}: {', '.join(its)}." for said, its in labels.items()
    ]
