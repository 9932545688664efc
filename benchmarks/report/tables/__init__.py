"""Markdown of what the benchmarks measure, a module for each kind of result."""

from typing import Any

from report.curves import Curves, LevelCurves
from report.dots import Dots
from report.tables import fewshot, learning, robustness, training
from report.tables.audio_worth import audio_worth_table
from report.tables.augmenting import augment_tables
from report.tables.balancing import balance_table
from report.tables.covering import coverage_table
from report.tables.decoding import decoding_summary, decoding_tables
from report.tables.exporting import export_table
from report.tables.feature_speed import feature_rows_table, feature_table
from report.tables.few_shot_training import (
    few_shot_training_summary,
    few_shot_training_table,
    trained_features_table,
)
from report.tables.fuzzing import fuzz_table
from report.tables.guard_simulation import guard_simulation_table
from report.tables.knowing_mixes import knowing_mixes_tables
from report.tables.mixing import mix_summary, mix_table
from report.tables.model_steps import models_table
from report.tables.preparing import leaks_table, prepare_table, rows_table
from report.tables.probing import extraction_table, probe_table
from report.tables.unseen_pairs import unseen_pairs_table

_BY_KIND = {
    "audio_worth": audio_worth_table,
    "balance": balance_table,
    "coverage": coverage_table,
    "decode": decoding_tables,
    "export": export_table,
    "extraction": extraction_table,
    "feature_rows": feature_rows_table,
    "features": feature_table,
    "few_shot_features": few_shot_training_table,
    "fuzz": fuzz_table,
    "mix": mix_table,
    "mixing_that_knows": knowing_mixes_tables,
    "fewshot": fewshot.fewshot_table,
    "augment": augment_tables,
    "guard_simulation": guard_simulation_table,
    "leaks": leaks_table,
    "learning": learning.learning_table,
    "models": models_table,
    "prepare": prepare_table,
    "probe": probe_table,
    "robustness": robustness.robustness_table,
    "rows": rows_table,
    "trained_features": trained_features_table,
    "training": training.scores_table,
    "unseen_pairs": unseen_pairs_table,
}

_SUMMARIES = {
    "decode": decoding_summary,
    "few_shot_features": few_shot_training_summary,
    "mix": mix_summary,
}


def table(*results: dict[str, Any]) -> str:
    """Of one result, or of several variants of one training."""
    if len(results) > 1:
        return training.variants_table(results)
    return _BY_KIND[results[0]["kind"]](results[0])


def summary(result: dict[str, Any]) -> str:
    """A few rows of a comparison with other libraries."""
    return _SUMMARIES[result["kind"]](result)


def figure(*results: dict[str, Any]) -> Dots | Curves | LevelCurves | None:
    """The figure beside it: of results of training only."""
    match results[0]["kind"]:
        case "training":
            return training.dots(results)
        case "fewshot":
            return fewshot.dots(results[0])
        case "learning":
            return learning.curves(results[0])
        case "robustness":
            return robustness.curves(results[0])
        case _:
            return None
