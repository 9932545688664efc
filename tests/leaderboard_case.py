"""Records of a protocol of two splits, made from predictions that a test chooses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from avmix.evaluation.kept_predictions import KeptClip, KeptPredictions, Origin
from avmix.leaderboard.card import card_of
from avmix.leaderboard.cell_result import NO_FILE, finished_of
from avmix.leaderboard.collect import Row, add_runs, card_sha256
from avmix.leaderboard.result import Energy, Run

CARD = """\
id: mini
title: Two splits of three classes
version: 3
kind: train
about: For tests.
source: written here
dataset:
  name: mini
  classes: 3
  hub: somebody/mini
  task: MiniTask
  splits: {one: {}, two: {}}
methods: {plain: {}, mixed: {options: {mix.method: mixup}, about: with | and % in it}}
seeds: [0, 1]
selection: last epoch
variants: {default: {about: as it is}}
weights: [{name: lite0, modality: video, trained_on: ImageNet}]
published: published_mini.yaml
"""
PUBLISHED = """\
rows:
  - {method: plain, metric: top1, value: 0.61, source: a paper, checked: read in a file}
  - {method: other, metric: top1, value: 0.7, source: a thread, checked: in a thread}
  - {method: mixed, metric: top1, value: 0.99, source: hearsay, checked: from memory}
"""
ROWS = ("fused", "video head", "audio head", "audio missing", "video missing")


def write_cards(folder: Path) -> Path:
    """A folder with the card and its published rows."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mini.yaml").write_text(CARD)
    (folder / "published_mini.yaml").write_text(PUBLISHED)
    return folder


def predictions(
    seed: int, *, split: str = "one", clips: int = 36, sources: int = 9, skill: float = 1.0
) -> KeptPredictions:
    """Random ones: labels, sources and hash follow the split alone, the rest the seed."""
    of_split = np.random.default_rng(len(split) + clips)
    label = of_split.integers(3, size=clips)
    of_seed = np.random.default_rng(seed)
    probability = {}
    for row in ROWS:
        logits = of_seed.normal(size=(clips, 3))
        logits[np.arange(clips), label] += skill
        odds = np.exp(logits)
        probability[row] = (odds / odds.sum(1, keepdims=True)).astype(np.float32)
    origin = Origin(checkpoint="c" * 64, config="run: {out: /somewhere/private}\n", weights="last",
                    epochs_trained=2, chance=None, views={},
                    environment={"command": ["/somewhere/private/eval.py"]})  # fmt: skip
    return KeptPredictions(
        protocol=f"mini/{split}", split="test", split_sha256=("1" if split == "one" else "2") * 64,
        classes=("a", "b", "c"), missing=(), origin=origin, label=label,
        clips=tuple(
            KeptClip(row=i, clip_id=f"{split}{i}", path=f"{split}{i}.mp4", start_seconds=0.0,
                     end_seconds=1.0, source_id=f"{split}-s{i % sources}", audible=True)
            for i in range(clips)
        ),
        probability=probability, counted={row: np.ones(clips, bool) for row in ROWS},
    )  # fmt: skip


def write_row(
    cards: Path, out: Path, method: str, kept: Mapping[tuple[str, int], KeptPredictions]
) -> Path:
    """The record of a row with these runs, by split and seed; returns its path."""
    card = card_of("mini", cards)
    row = Row(card=card, card_sha256=card_sha256(cards / "mini.yaml"), variant="default",
              method=method, test_ids=frozenset())  # fmt: skip
    done = []
    for (split, seed), one in kept.items():
        run = Run(
            split=split, seed=seed, split_sha256={"train": "0" * 64, "test": one.split_sha256},
            avmix="0", dirty=False, code_sha256="e" * 64, environment={}, started="2026-01-01",
            train_seconds=1.0, eval_seconds=1.0, cpu_seconds=2.0, epochs=2,
            energy=Energy(watt_hours=0.1, cpu_watts=10.0), checkpoint=one.origin.checkpoint,
            num_clips=len(one.clips), figures={}, predictions=NO_FILE,
        )  # fmt: skip
        done.append(finished_of(method, run, one, file=f"{method}.{split}.seed{seed}"))
    return add_runs(row, done, out, cards)[0]


def two_rows(folder: Path, seeds: Sequence[int] = (0, 1)) -> tuple[Path, Path]:
    """Folders of cards and of results: `plain` and `mixed`, which is better, on both splits."""
    cards, out = write_cards(folder / "cards"), folder / "results"
    for method, skill, first in (("plain", 0.8, 0), ("mixed", 1.6, 100)):
        kept = {(split, seed): predictions(first + seed, split=split, skill=skill)
                for split in ("one", "two") for seed in seeds}  # fmt: skip
        write_row(cards, out, method, kept)
    return cards, out


def with_clips(kept: KeptPredictions, clips: Sequence[int]) -> KeptPredictions:
    """Only some of the clips, by their place."""
    places = np.array(clips)
    assert kept.label is not None
    return replace(
        kept, clips=tuple(kept.clips[i] for i in clips), label=kept.label[places],
        probability={row: p[places] for row, p in kept.probability.items()},
        counted={row: c[places] for row, c in kept.counted.items()},
    )  # fmt: skip
