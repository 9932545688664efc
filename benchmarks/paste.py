"""Put the numbers of benchmarks/results into README.md, between its markers.

python benchmarks/paste.py            write
python benchmarks/paste.py --check    exit code 1 when README.md does not say what was measured
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"

_MARKED = re.compile(r"(<!-- result (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(result: dict[str, Any]) -> str:
    """Markdown: one line per row of the evaluation, mean and deviation over seeds."""
    runs = result["runs"]
    first = runs[0]
    lines = [
        "| | top-1 % | top-5 % | mean class % | NLL | ECE |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row, metrics in result["summary"].items():
        cells = [_cell(metrics[name], 100, 1) for name in ("top1", "top5", "mean_class")]
        cells += [_cell(metrics[name], 1, 2) for name in ("nll", "ece")]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    minutes = [run["train_minutes"] for run in runs]
    waiting = [100 * run["waiting_share"] for run in runs]
    environment = first["environment"]
    seeds = ", ".join(str(seed) for seed in sorted(run["seed"] for run in runs))
    lines += [
        "",
        f"`{first['protocol']}`, {first['split']} split, {first['num_evaluated']} clips evaluated, "
        f"{first['num_missing']} missing, {first['num_views']} views, last epoch; mean ± standard "
        f"deviation of {len(runs)} seeds ({seeds}). "
        f"`{result['config']}` on {environment['cores']} CPU cores: {_span(minutes, 1)} minutes of "
        f"training a run (median epoch times epochs), {_span(waiting, 0)} % of it waiting for "
        "data.",
        "",
    ]
    return "\n".join(lines)


def _cell(value: dict[str, float], scale: float, digits: int) -> str:
    return f"{scale * value['mean']:.{digits}f} ± {scale * value['sd']:.{digits}f}"


def _span(values: list[float], digits: int) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def pasted(text: str) -> str:
    """`text` with every marked table made anew."""
    return _MARKED.sub(
        lambda m: m[1] + table(json.loads((RESULTS / f"{m[2]}.json").read_text())) + m[3], text
    )


def main() -> None:
    """Write README.md, or check it."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    if "--check" in sys.argv[1:]:
        if pasted(text) != text:
            sys.exit("error: README.md does not say what was measured; run benchmarks/paste.py")
        return
    readme.write_text(pasted(text))


if __name__ == "__main__":
    main()
