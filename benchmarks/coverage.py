"""Do the intervals of the evaluation table hold what they promise?

`python benchmarks/coverage.py --features DIR` draws clips in sources whose true figures are known,
many times, and counts how often the 95 % interval over sources holds the truth, and how often the
naive one does, which takes every clip for a source of its own. `--features`: kept features of
UCF101-AV8 (`avmix features`); regressions on them give real predictions, in the groups of UCF101
(people and place), for which both intervals are given. Writes benchmarks/results/coverage.json.
"""

import argparse
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from shared import machine, provenance, result_files
from shared.paths import RESULTS

from avmix.evaluation.resampling import Resampling, Statistic, difference, figures, numbered, ratio

NUM_RESAMPLES = 1000
CLIPS_OF_SOURCE = (3, 7)
"""Fewest and most clips of a source, as in the groups of UCF101."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Clips in sources: how many, how alike, and the figure whose truth is known."""

    figure: str
    """`top1`, `nll`, or `gain` (top-1 of one head minus that of another)."""
    sources: int
    alike: float
    """Share of the variance of what makes a clip hard that is its source's."""
    level: float
    """True top-1; of `gain`, of the better head, and the other is 0.1 below; of `nll` the mean."""


CASES = (
    *(Case(figure="top1", sources=n, alike=a, level=0.75)
      for n in (10, 20, 56, 200) for a in (0.0, 0.4)),
    Case(figure="top1", sources=56, alike=0.4, level=0.95),
    *(Case(figure="gain", sources=n, alike=0.4, level=0.75) for n in (20, 56, 200)),
    *(Case(figure="nll", sources=n, alike=0.4, level=0.8) for n in (20, 56, 200)),
)  # fmt: skip


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--features", type=Path, help="kept features of UCF101-AV8")
    parser.add_argument("--draws", type=int, default=1000, help="datasets of each case (1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the datasets (0)")
    provenance.add_option(parser)
    args = parser.parse_args()
    origin, began = provenance.measured(args, "coverage"), time.process_time()
    cases = []
    for number, case in enumerate(CASES):
        cases.append({**asdict(case), **covered(case, args.draws, args.seed + number)})
        print(cases[-1], flush=True)
    result: dict[str, Any] = {
        "kind": "coverage",
        "command": f"python benchmarks/coverage.py --features DIR --draws {args.draws}",
        "measured": origin,
        "resamples": NUM_RESAMPLES, "draws": args.draws, "seed": args.seed,
        "clips_of_source": list(CLIPS_OF_SOURCE),
        "cases": cases,
        "ucf101": of_features(args.features) if args.features else None,
        "cpu_seconds": round(time.process_time() - began),
        "machine": machine.facts(["numpy"]),
    }  # fmt: skip
    result_files.write(RESULTS / "coverage.json", result)


def covered(case: Case, draws: int, seed: int) -> dict[str, float]:
    """Shares of datasets whose intervals hold the truth, and the mean width of both."""
    stream = np.random.default_rng(seed)
    held, naive_held, none, widths, naive_widths = 0, 0, 0, [], []
    for draw in range(draws):
        source, statistic = drawn(case, stream)
        found = figures(
            {"it": statistic},
            Resampling(source=source, num_resamples=NUM_RESAMPLES, seed=draw),
        )["it"]
        if found.width is None or found.naive_width is None:
            none += 1
            continue
        naive = replace(found, low=found.naive_low, high=found.naive_high)
        held += found.holds(truth(case))
        naive_held += naive.holds(truth(case))
        widths.append(found.width)
        naive_widths.append(found.naive_width)
    return {
        "truth": truth(case),
        "without_interval": none / draws,
        "coverage": held / (draws - none),
        "naive_coverage": naive_held / (draws - none),
        "width": float(np.mean(widths)),
        "naive_width": float(np.mean(naive_widths)),
    }


def truth(case: Case) -> float:
    """The figure of all clips that there could be."""
    return 0.1 if case.figure == "gain" else case.level


def drawn(case: Case, stream: np.random.Generator) -> tuple[np.ndarray, Statistic]:
    """Sources of clips, and the figure of one dataset.

    What makes a clip hard is normal: a part of its source and a part of its own. A head has a clip
    right where it is not harder than a threshold; two heads share half of that.
    """
    sizes = stream.integers(CLIPS_OF_SOURCE[0], CLIPS_OF_SOURCE[1] + 1, size=case.sources)
    source = np.repeat(np.arange(case.sources), sizes)

    def hardness() -> np.ndarray:
        of_source = stream.normal(size=case.sources)[source]
        return math.sqrt(case.alike) * of_source + math.sqrt(1 - case.alike) * stream.normal(
            size=len(source)
        )

    first = hardness()
    if case.figure == "nll":
        return source, ratio(np.exp(first + math.log(case.level) - 0.5))
    one = ratio((first < NormalDist().inv_cdf(case.level)).astype(float))
    if case.figure == "top1":
        return source, one
    second = math.sqrt(0.5) * (first + hardness())
    other = second < NormalDist().inv_cdf(case.level - 0.1)
    return source, difference(one, ratio(other.astype(float)))


def of_features(folder: Path) -> dict[str, Any]:
    """Both intervals for regressions on kept features of UCF101-AV8."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from avmix.data.kept_features import open_features
    from avmix.evaluation.clip_statistics import single_label, statistics
    from avmix.evaluation.fusion_gain import fusion_statistics

    train, test = open_features(folder, "train"), open_features(folder, "test")
    said = {}
    for modality in ("video", "audio"):
        fit = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
        fit.fit(np.asarray(train.features[modality].mean(1), dtype=np.float64), train.labels)
        features = np.asarray(test.features[modality].mean(1), dtype=np.float64)
        said[f"{modality} head"] = fit.predict_proba(features).astype(np.float32)
    said["fused"] = (said["video head"] + said["audio head"]) / 2
    answers = {row: single_label(p, test.labels) for row, p in said.items()}
    source = numbered([entry.source_id for entry in test.manifest.entries])
    found: dict[str, Mapping[str, Statistic]] = {
        **{row: _some(statistics(one), "top1", "nll") for row, one in answers.items()},
        "fusion": _some(fusion_statistics(answers), "gain", "gain_nll", "mu"),
    }
    resampling = Resampling(source=source, num_resamples=NUM_RESAMPLES)
    return {
        "protocol": test.manifest.protocol,
        "clips": len(source),
        "sources": resampling.num_sources,
        "figures": {row: {name: asdict(f) for name, f in figures(some, resampling).items()}
                    for row, some in found.items()},
    }  # fmt: skip


def _some(found: Mapping[str, Statistic], *names: str) -> dict[str, Statistic]:
    return {name: found[name] for name in names}


if __name__ == "__main__":
    main()
