"""How often does a guarded fusion lose to the better head? Synthetic heads whose truth is known.

    python benchmarks/guard_simulation.py

A draw is some sources of four held-out clips with eight classes, what three heads say of them, the
guard that is fitted to them, and 2,000 fresh clips of 500 fresh sources on which the guarded
prediction is compared with the better head. The result is written again after each condition;
what is in it is not done again by the same code.
"""

import argparse
import json
from typing import Any, NamedTuple

import numpy as np
from shared import provenance, result_files
from shared.paths import RESULTS

from avmix.evaluation.guard_fit import GuardFit, fit_guard

RESULT = RESULTS / "guard_simulation.json"
CLASSES, CLIPS, FRESH = 8, 4, 500
SOURCES, DRAWS = (10, 20, 50), 100
WORSE_TOP1, WORSE_NLL = 0.01, 0.01
"""By more than that a draw counts as worse."""


class World(NamedTuple):
    """What the heads know."""

    video: float
    """Mean of the true class's logit in the video head."""
    audio: float
    """In the audio head."""
    noise: float
    """Deviation of what the fused head adds to the sum of both, which knows nothing."""
    shift: float = 0.0
    """By how much the audio head's logit of the true class is lower in fresh clips."""


WORLDS = {
    "audio says nothing": World(2.0, 0.0, 1.0),
    "audio says a little": World(2.0, 0.6, 1.0),
    "audio says as much": World(2.0, 2.0, 1.0),
    "audio is useful, but not in fresh clips": World(2.0, 1.5, 1.0, shift=1.5),
}


class Said(NamedTuple):
    """Of clips: what the heads say, the labels, the sources."""

    logits: dict[str, np.ndarray]
    label: np.ndarray
    source: np.ndarray


def drawn(world: World, sources: int, stream: np.random.Generator, shift: float = 0.0) -> Said:
    """Clips of a source have half of the variance of every logit in common."""
    n = sources * CLIPS
    source, label = np.repeat(np.arange(sources), CLIPS), stream.integers(CLASSES, size=n)
    right = np.eye(CLASSES)[label]

    def noise() -> np.ndarray:
        common = stream.standard_normal((sources, CLASSES))[source]
        return (common + stream.standard_normal((n, CLASSES))) / np.sqrt(2)

    video = world.video * right + noise()
    audio = (world.audio - shift) * right + noise()
    fused = video + audio + world.noise * noise()
    return Said({"fused": fused, "video": video, "audio": audio}, label, source)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over classes."""
    top = logits - logits.max(1, keepdims=True)
    return top - np.log(np.exp(top).sum(1, keepdims=True))


def judged(logits: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Top-1 and negative log-likelihood."""
    nll = -log_softmax(logits)[np.arange(len(label)), label].mean()
    return float((logits.argmax(1) == label).mean()), float(nll)


def guarded(fit: GuardFit, logits: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Logits of the guarded fusion, and of the modality heads at their scales."""
    pool = sum(p * logits[head] for p, head in zip(fit.pool, logits, strict=True))
    return {"guarded": np.asarray(pool), "video": fit.scale[0] * logits["video"],
            "audio": fit.scale[1] * logits["audio"]}  # fmt: skip


def one_draw(world: World, sources: int, seed: int) -> dict[str, float]:
    """Whether the guard fuses, and what it and the unguarded head lose to the better head."""
    stream = np.random.default_rng([seed, sources, *map(ord, repr(world))])
    held = drawn(world, sources, stream)
    everyone = np.ones(len(held.label), dtype=bool)
    fit = fit_guard({head: np.exp(log_softmax(x)) for head, x in held.logits.items()},
                    everyone, everyone, held.label, held.source)  # fmt: skip
    fresh = drawn(world, FRESH, stream, world.shift)
    said = {name: judged(x, fresh.label) for name, x in guarded(fit, fresh.logits).items()}
    better = min(("video", "audio"), key=lambda name: said[name][1])
    fused = judged(fresh.logits["fused"], fresh.label)
    return {
        "fuses": float(fit.fuses),
        "right_head": float(fit.better == better),
        "loss_top1": said[better][0] - said["guarded"][0],
        "loss_nll": said["guarded"][1] - said[better][1],
        "unguarded_loss_top1": said[better][0] - fused[0],
        "unguarded_loss_nll": fused[1] - said[better][1],
    }


def summary(draws: list[dict[str, float]]) -> dict[str, float]:
    """Means and shares over draws."""

    def mean(key: str) -> float:
        return float(np.mean([draw[key] for draw in draws]))

    def share(key: str, limit: float) -> float:
        return float(np.mean([draw[key] > limit for draw in draws]))

    return {
        "fuses": mean("fuses"),
        "right_head": mean("right_head"),
        "worse_top1": share("loss_top1", WORSE_TOP1),
        "worse_nll": share("loss_nll", WORSE_NLL),
        "gain_top1": -mean("loss_top1"),
        "most_lost_top1": max(draw["loss_top1"] for draw in draws),
        "unguarded_worse_top1": share("unguarded_loss_top1", WORSE_TOP1),
        "unguarded_worse_nll": share("unguarded_loss_nll", WORSE_NLL),
        "unguarded_gain_top1": -mean("unguarded_loss_top1"),
    }


def main() -> None:
    """Draw every condition."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    provenance.add_option(parser)
    origin = provenance.measured(parser.parse_args(), "guard_simulation")
    result: dict[str, Any] = {
        "kind": "guard_simulation", "command": "python benchmarks/guard_simulation.py",
        "measured": origin, "draws": DRAWS, "classes": CLASSES, "clips_of_a_source": CLIPS,
        "worse_top1": WORSE_TOP1, "worse_nll": WORSE_NLL, "conditions": [],
    }  # fmt: skip
    if RESULT.exists():
        old = json.loads(RESULT.read_text())
        same = old["measured"]["sources"] == origin["sources"] and old["draws"] == DRAWS
        result["conditions"] = old["conditions"] if same else []
    there = {(one["world"], one["sources"]) for one in result["conditions"]}
    for sources in SOURCES:
        for name, world in WORLDS.items():
            if (name, sources) in there:
                continue
            found = summary([one_draw(world, sources, seed) for seed in range(DRAWS)])
            result["conditions"].append({"world": name, **world._asdict(), "sources": sources,
                                         **found})  # fmt: skip
            result_files.write(RESULT, result)
            print(name, sources, {key: round(value, 3) for key, value in found.items()}, flush=True)


if __name__ == "__main__":
    main()
