"""Tables of benchmarks/coverage.py."""

from typing import Any

_NAMES = {"top1": "top-1", "gain": "difference of two heads", "nll": "NLL"}
_HEADS = {"top1": ("top-1", 100, "points"), "nll": ("NLL", 1, "nats"),
          "gain": ("gain", 100, "points"), "gain_nll": ("gain, NLL", 1, "nats"),
          "mu": ("modality confusion", 100, "points")}  # fmt: skip


def coverage_table(result: dict[str, Any]) -> str:
    """How often both intervals hold the truth, and how wide they are on UCF101."""
    lines = [
        "| figure | sources | likeness in a source | over sources holds | naive holds |",
        "|---|--:|--:|--:|--:|",
    ]
    for case in result["cases"]:
        name = _NAMES[case["figure"]]
        name += f" of {case['truth']:.2f}" if case["figure"] == "top1" else ""
        shares = [f"{100 * case[key]:.1f} %" for key in ("coverage", "naive_coverage")]
        lines.append(f"| {name} | {case['sources']} | {case['alike']:.1f} | {' | '.join(shares)} |")
    few, many = result["clips_of_source"]
    lines += [
        "",
        f"Of {result['draws']:,} drawn datasets each, how many 95 % intervals hold the truth; "
        f"sources of {few} to {many} clips, {result['resamples']:,} resamples. Likeness: share of "
        "the variance of what makes a clip hard that is its source's.",
        "",
    ]
    if (ucf101 := result["ucf101"]) is not None:
        lines += _of_ucf101(ucf101)
    return "\n".join(lines)


def _of_ucf101(found: dict[str, Any]) -> list[str]:
    lines = ["| real predictions | value | over groups | by clip |", "|---|--:|--:|--:|"]
    for row, figures in found["figures"].items():
        for name, f in figures.items():
            title, factor, unit = _HEADS[name]
            digits = 1 if factor == 100 else 3
            ends = [
                "-" if f[low] is None else
                f"{factor * f[low]:.{digits}f} to {factor * f[high]:.{digits}f}"
                for low, high in (("low", "high"), ("naive_low", "naive_high"))
            ]  # fmt: skip
            what = title if row == "fusion" else f"{row}, {title}"
            lines.append(
                f"| {what}, {unit} | {factor * f['value']:.{digits}f} | {ends[0]} | {ends[1]} |"
            )
    return [
        *lines,
        "",
        f"{found['protocol']}, test: {found['clips']} clips of {found['sources']} groups (people "
        "and place), regressions on features of an image network for each modality, the fused "
        "head their mean.",
        "",
    ]
