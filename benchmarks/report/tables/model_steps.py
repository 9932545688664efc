"""Table of benchmarks/models.py: a training step beside a plain loop's."""

from typing import Any

from report.tables.cells import machine_lines, span, table


def models_table(result: dict[str, Any]) -> str:
    """A line for each network; then what holds of all."""
    lines = _table(result["rows"], "CPU ms")
    within = [row["ratio"] <= 1 + result["limit_percent"] / 100 for row in result["rows"]]
    rows = result["rows"]
    lines += [
        "",
        f"CPU time of one thread, medians of {result['rounds']} rounds in which both took turns, "
        "with quartiles. avmix: everything that a step does, mixing, front end, three heads, norms "
        "of the gradient and the log. Plain loop: network, cross-entropy, gradient and update, on "
        "frames and spectrograms that are there, normalised; from bytes: it normalises frames and "
        "computes spectrograms, too, as timm's loader and torchaudio do. Input: mixing and front "
        "end alone. Memory is what a process grows by. "
        f"At most {result['limit_percent']:g} % above the plain loop: {sum(within)} of "
        f"{len(within)}; avmix takes {span([r['ratio'] for r in rows], 2)} of its time, and "
        f"{span([r['ratio_from_bytes'] for r in rows], 2)} of that from bytes.",
        "",
        " ".join([*machine_lines(result), *_absent(result)]),
    ]
    if (cuda := result.get("cuda")) is None:
        return "\n".join([*lines[:-1], f"{lines[-1]} On CUDA: not measured.", ""])
    lines += ["", f"On {cuda['gpu']}, wall time:", "", *_table(cuda["rows"], "ms"), ""]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]], unit: str) -> list[str]:
    headings = ["networks", "clips", f"plain loop, {unit} a step", "avmix / plain",
                "avmix / from bytes", "input, ms", "peak MB, plain", "avmix"]  # fmt: skip
    return table(headings, [_row(row) for row in rows])


def _row(row: dict[str, Any]) -> list[str]:
    clip, size = row["clip"], row["bytes"]
    how = [row.get("precision", ""), "compiled" if row.get("compile") else ""]
    return [
        ", ".join([row["label"], *filter(None, how)]),
        f"{row['batch']} of {clip['num_frames']} x {clip['crop']}²",
        f"{row['plain_ms']:.0f}",
        _ratio(row, "ratio"),
        _ratio(row, "ratio_from_bytes"),
        f"{row['input_ms']:.1f}",
        *(f"{size[arm] / 1e6:.0f}" for arm in ("plain", "avmix")),
    ]


def _ratio(row: dict[str, Any], key: str) -> str:
    low, high = row[f"{key}_quartiles"]
    return f"{row[key]:.2f} ({low:.2f} to {high:.2f})"


def _absent(result: dict[str, Any]) -> list[str]:
    return [f"Without {', '.join(lacks)}: no {name}." for name, lacks in result["absent"].items()]
