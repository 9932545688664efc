"""Kept predictions as tests need them: written down, or drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from avmix.config import TrainConfig, to_yaml
from avmix.data.sample import BadClip
from avmix.evaluation.kept_predictions import KeptClip, KeptPredictions, Origin
from avmix.evaluation.metrics import EVAL_ROWS

ORIGIN = Origin(
    checkpoint="0" * 64, config=to_yaml(TrainConfig()), weights="last", epochs_trained=4,
    chance=(0, None, 1), views={"num_views": 1}, environment={"python": "3", "gpu": None},
)  # fmt: skip


def clips_of(n: int, sources: Sequence[Any] | None = None) -> tuple[KeptClip, ...]:
    return tuple(
        KeptClip(
            row=2 * i, clip_id=f"clip {i}", path=f"{i}.mp4", start_seconds=0.5, end_seconds=2.0,
            source_id=str(i if sources is None else sources[i]), audible=True,
        )
        for i in range(n)
    )  # fmt: skip


def kept_of_arrays(
    probability: Mapping[str, np.ndarray],
    label: np.ndarray | None = None,
    target: Mapping[str, np.ndarray] | None = None,
    counted: Mapping[str, np.ndarray] | None = None,
    **others: Any,
) -> KeptPredictions:
    n, k = probability["fused"].shape
    everyone = np.ones(n, dtype=bool)
    values: dict[str, Any] = {
        "protocol": "p", "split": "test", "split_sha256": "f" * 64,
        "classes": tuple(f"class {c}" for c in range(k)), "clips": clips_of(n), "missing": (),
        "origin": ORIGIN,
    }  # fmt: skip
    return KeptPredictions(
        **{**values, **others},
        probability={name: p.astype(np.float32) for name, p in probability.items()},
        counted={name: (counted or {}).get(name, everyone) for name in probability},
        label=label,
        target=target,
    )


def drawn(
    seed: int = 0, n: int = 60, k: int = 4, skill: float = 1.0, **others: Any
) -> KeptPredictions:
    """Single-label clips in sources of three; every fifth has no audio."""
    stream = np.random.default_rng(seed)
    label = np.arange(n) % k
    audio = np.arange(n) % 5 > 0
    probability, counted = {}, {}
    for name in EVAL_ROWS:
        logits = 2 * stream.normal(size=(n, k))
        logits[np.arange(n), label] += 2 * skill
        exp = np.exp(logits)
        counted[name] = audio if name in ("audio head", "video missing") else np.ones(n, dtype=bool)
        probability[name] = np.where(counted[name][:, None], exp / exp.sum(1, keepdims=True), 0)
    values = {"clips": clips_of(n, [i // 3 for i in range(n)]),
              "missing": (BadClip(7, "é/7.mp4", "damaged"),)}  # fmt: skip
    return kept_of_arrays(probability, label, counted=counted, **{**values, **others})


def drawn_several(seed: int = 0, n: int = 50, k: int = 6, **others: Any) -> KeptPredictions:
    """Multi-label clips: some labels unknown, other ones audible than visible."""
    stream = np.random.default_rng(seed)
    target = {name: (stream.random((n, k)) < 0.3).astype(np.float32)
              for name in ("fused", "video", "audio")}  # fmt: skip
    for one in target.values():
        one[stream.random((n, k)) < 0.1] = np.nan
    probability = {name: stream.random((n, k)) for name in EVAL_ROWS}
    return kept_of_arrays(probability, target=target, **others)
