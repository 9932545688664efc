"""Table of tests/fuzz.py."""

from typing import Any


def fuzz_table(result: dict[str, Any]) -> str:
    """A line per codec: what became of windows of damaged files."""
    lines = [
        "| codec | right, or nothing wrong in the window | refused | other times | overlooked |",
        "|---|--:|--:|--:|--:|",
    ]
    total: dict[str, int] = {}
    for codec, counts in [*result["codecs"].items(), ("all", total)]:
        for verdict, number in counts.items():
            if counts is not total:
                total[verdict] = total.get(verdict, 0) + number
        cells = [
            sum(counts.get(verdict, 0) for verdict in verdicts)
            for verdicts in (("right", "held"), ("refused",), ("gap", "shifted"), ("bad",))
        ]
        lines.append(f"| {codec} | {' | '.join(map(str, cells))} |")
    failed = {v: total.get(v, 0) for v in ("crash", "hang", "wrong_error", "memory")}
    with_hash, num_windows = result["with_hash"], sum(result["with_hash"].values())
    lines += [
        "",
        f"{result['num_files']:,} damaged files; {failed['crash']} crashes, "
        f"{failed['hang']} hangs, {failed['wrong_error']} errors of another class, "
        f"{failed['memory']} over the limit of memory; {result['num_clean']} clean files among "
        "them, all windows right: "
        f"{'yes' if set(result['clean']) == {'right'} else 'no'}. *Other times*: the frames are "
        "intact, but some before them were lost, or the pieces make another valid video. "
        f"With the hash of the clean file {with_hash.get('refused', 0):,} of {num_windows:,} "
        f"windows are refused, {with_hash.get('bad', 0)} overlooked. PyAV "
        f"{result['versions']['av']}, libavcodec {result['versions']['libavcodec']}.",
        "",
    ]
    return "\n".join(lines)
