"""Which code a number was measured with: commit, hash of the sources, command that repeats it.

Every script here that writes into benchmarks/results calls `add_option` and `measured`; every page
that shows a result says what `sentence` says, and `refusal` is why it may not be shown.
"""

import argparse
import ast
import hashlib
import sys
from pathlib import Path
from typing import Any

import avmix
from avmix.system.git_commit import commit_of, uncommitted
from shared.paths import ROOT

SOURCES = {
    "audio_worth": (
        "avmix/evaluation/fusion_gain.py",
        "avmix/evaluation/guard_fit.py",
        "avmix/mix",
        "avmix/models/fusion.py",
        "avmix/models/fusion_guard.py",
        "avmix/training/engine.py",
        "avmix/training/losses.py",
    ),
    "augment": (
        "avmix/augment",
        "avmix/data/clip_reader.py",
        "avmix/data/dataset.py",
        "avmix/data/sample.py",
        "avmix/decode",
        "avmix/models/frontend.py",
        "avmix/models/spectrograms.py",
    ),
    "balance": (
        "avmix/data/feature_loader.py",
        "avmix/data/few_shot.py",
        "avmix/data/holdout.py",
        "avmix/evaluation/separate_networks.py",
        "avmix/mix",
        "avmix/models/fusion.py",
        "avmix/models/on_features.py",
        "avmix/training/balance",
        "avmix/training/engine.py",
        "avmix/training/losses.py",
        "avmix/training/optimizer.py",
        "benchmarks/balance.py",
        "benchmarks/balancing",
        "benchmarks/training/feature_run.py",
    ),
    "coverage": (
        "avmix/evaluation/clip_statistics.py",
        "avmix/evaluation/fusion_gain.py",
        "avmix/evaluation/resampling.py",
    ),
    "cpp_mix": ("avmix/mix/cpu_kernels.py",),
    "decode": ("avmix/decode", "avmix/types.py", "tests/media.py", "tests/truth.py"),
    "export": (
        "avmix/exporting",
        "avmix/models/frontend.py",
        "avmix/models/spectrograms.py",
        "benchmarks/exporting",
    ),
    "extraction": (
        "avmix/data/clip_reader.py",
        "avmix/data/loader_pool.py",
        "avmix/data/loader_worker.py",
        "avmix/decode",
        "avmix/features/extraction.py",
        "avmix/features/keep.py",
    ),
    "feature_rows": (
        "avmix/data/clip_list.py",
        "avmix/data/feature_loader.py",
        "avmix/data/few_shot.py",
        "avmix/data/kept_features.py",
    ),
    "features": (
        "avmix/data/feature_loader.py",
        "avmix/mix",
        "avmix/models/fusion.py",
        "avmix/models/on_features.py",
        "avmix/training/engine.py",
        "avmix/training/runlog.py",
    ),
    "few_shot_features": (
        "avmix/data/feature_loader.py",
        "avmix/data/few_shot.py",
        "avmix/mix",
        "avmix/models/fusion.py",
        "avmix/models/on_features.py",
        "avmix/models/score_fusion.py",
        "avmix/training/engine.py",
        "avmix/training/losses.py",
        "avmix/training/optimizer.py",
    ),
    "few_shot_input": (
        "avmix/data/few_shot.py",
        "avmix/mix",
        "avmix/models/frontend.py",
        "avmix/models/fusion.py",
        "avmix/training/engine.py",
        "avmix/training/losses.py",
        "benchmarks/training/frozen_windows.py",
    ),
    "fewshot": ("avmix/synth",),
    "fuzz": ("avmix/decode", "avmix/types.py", "tests/fuzz_damage.py", "tests/fuzz_media.py"),
    "guard_simulation": (
        "avmix/evaluation/guard_fit.py",
        "avmix/evaluation/resampling.py",
        "benchmarks/guard_simulation.py",
    ),
    "learning": (
        "avmix/models",
        "benchmarks/training/network_look.py",
        "benchmarks/training/variants.py",
    ),
    "leaks": (
        "avmix/media/fingerprint.py",
        "avmix/tools/fingerprint_journal.py",
        "avmix/tools/leak_search.py",
        "avmix/tools/leaks.py",
    ),
    "mix": ("avmix/models/frontend.py", "avmix/models/spectrograms.py", "avmix/mix"),
    "mixing_that_knows": (
        "avmix/data/feature_loader.py",
        "avmix/mix",
        "avmix/models/fusion.py",
        "avmix/models/translation.py",
        "avmix/training/engine.py",
        "avmix/training/losses.py",
        "avmix/training/mix_knowledge.py",
        "benchmarks/mixing_that_knows.py",
    ),
    "models": (
        "avmix/mix",
        "avmix/models",
        "avmix/training/engine.py",
        "avmix/training/losses.py",
        "avmix/training/runlog.py",
        "benchmarks/training/model_cases.py",
        "benchmarks/training/model_steps.py",
    ),
    "ogm_ge": (
        "avmix/models/spectrograms.py",
        "avmix/models/torchvision.py",
        "avmix/training/engine.py",
        "tests/ogm_ge_double.py",
    ),
    "probe": (
        "avmix/data/few_shot.py",
        "avmix/features/frozen_encoders.py",
        "avmix/features/late_fusion.py",
        "avmix/features/probing.py",
        "avmix/features/regression.py",
    ),
    "prepare": (
        "avmix/decode",
        "avmix/media/frame_scan.py",
        "avmix/media/probe.py",
        "avmix/media/stream_tally.py",
        "avmix/tools/transcode.py",
        "avmix/tools/transcode_check.py",
        "avmix/tools/transcode_clip.py",
    ),
    "robustness": (
        "avmix/evaluation/corruptions.py",
        "avmix/evaluation/other_clips.py",
        "avmix/evaluation/retrieval.py",
        "avmix/evaluation/robustness_metrics.py",
        "avmix/evaluation/robustness_table.py",
        "avmix/training/condition_passes.py",
        "avmix/mix",
        "avmix/models",
    ),
    "trained_features": (
        "avmix/data/holdout.py",
        "avmix/models/fusion.py",
        "avmix/models/on_features.py",
        "avmix/training/engine.py",
        "avmix/training/losses.py",
        "avmix/training/optimizer.py",
    ),
    "unseen_pairs": (
        "avmix/evaluation/clip_statistics.py",
        "avmix/mix",
        "avmix/models",
        "avmix/recipes/toy.py",
        "avmix/synth/actions.py",
        "avmix/training/engine.py",
        "avmix/training/losses.py",
    ),
    "rows": (
        "avmix/prepare/annotation_rows.py",
        "avmix/prepare/annotation_values.py",
        "avmix/prepare/annotations.py",
        "avmix/prepare/inventory.py",
        "avmix/prepare/clip_status.py",
        "avmix/prepare/pipeline.py",
        "avmix/prepare/media_folder.py",
        "avmix/media/folder_walk.py",
    ),
}
"""What each kind of result measures: files and folders below the root. Training has a fingerprint
instead (benchmarks/fingerprint.py). Of few-shot training, that does not see re-pairing; of
`learning`, neither the edits of the network nor the looks into it."""


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add `--allow-uncommitted`, which `clean_commit` and `measured` heed."""
    parser.add_argument(
        "--allow-uncommitted", action="store_true",
        help="a trial: measure code that is not committed; pages refuse the result",
    )  # fmt: skip


def clean_commit(args: argparse.Namespace) -> str:
    """The commit that is measured. Exits where code or configuration is not committed, unless that
    is allowed: then `+` marks the commit, and pages refuse the result."""
    if not Path(avmix.__file__).is_relative_to(ROOT):
        sys.exit(f"error: avmix was imported from {avmix.__file__}, not from this checkout")
    commit = commit_of(ROOT)
    if commit is None or commit.endswith("+"):
        if args.allow_uncommitted:
            return commit or "unknown+"
        if commit is None:
            sys.exit(f"error: {ROOT.name} is not a git checkout: a result must name its commit")
        sys.exit(
            f"error: not committed: {', '.join(uncommitted(ROOT))}. A result must name the code it "
            "was measured with: commit first (or --allow-uncommitted for a trial)"
        )
    return commit


def measured(args: argparse.Namespace, kind: str) -> dict[str, Any]:
    """What a result of `kind` says of its origin: the commit, and the hash of each of `SOURCES`.

    Called before measuring; exits as `clean_commit` does.
    """
    sources = {source: source_hash(ROOT / source) for source in SOURCES[kind]}
    return {"commit": clean_commit(args), "sources": sources}


def _origins(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """`measured`, and `measured_cuda` where that part was measured by itself."""
    return {key: result[key] for key in ("measured", "measured_cuda") if key in result}


def refusal(name: str, result: dict[str, Any]) -> str | None:
    """Why the pages may not show a result; None where they may."""
    commits = [origin.get("commit") for origin in _origins(result).values()]
    if commits and all(commit and not commit.endswith("+") for commit in commits):
        return None
    known = [commit[:7] for commit in commits if commit]
    of = f"of {', '.join(known)} with uncommitted changes" if known else "of no known commit"
    return f"benchmarks/results/{name}.json is {of}; measure it again: {command_of(name, result)}"


def command_of(name: str, result: dict[str, Any]) -> str:
    """What measures a result again."""
    if "command" in result:
        return result["command"]
    script = {None: "seeds", "training": "seeds"}.get(result.get("kind"), result.get("kind"))
    config = f" --config {result['config']}" if "config" in result else ""
    return f"python benchmarks/{script}.py{config} --name {name}"


def sentence(result: dict[str, Any]) -> str:
    """Where a result comes from, for the page that shows it."""
    said = [_sentence(origin) for origin in _origins(result).values()]
    return " On CUDA: m".join([said[0], *(more[1:] for more in said[1:])])


def _sentence(origin: dict[str, Any]) -> str:
    changed = [
        f"`{source}`"
        for source, sha256 in origin.get("sources", {}).items()
        if source_hash(ROOT / source) != sha256
    ]
    since = f"; {', '.join(changed)} {'have' if len(changed) > 1 else 'has'} changed since"
    return f"Measured at commit {origin['commit'][:7]}{since if changed else ''}."


def source_hash(path: Path) -> str:
    """Of a Python file, or of all in a folder: of what they do, so that comments, docstrings and
    formatting do not count. Empty where there is nothing."""
    files = {path.name: path} if path.is_file() else {
        str(file.relative_to(path)): file for file in sorted(path.rglob("*.py"))
    }  # fmt: skip
    return hash_of({name: file.read_text() for name, file in files.items()})


def hash_of(sources: dict[str, str]) -> str:
    """The same of sources that are at hand, by name."""
    text = "\n".join(f"{name}: {_dump(ast.parse(code))}" for name, code in sorted(sources.items()))
    return hashlib.sha256(text.encode()).hexdigest() if sources else ""


def _dump(node: Any) -> str:
    """As `ast.dump`, without docstrings, and without what is empty: which fields a node may have
    differs between versions of Python."""
    if isinstance(node, list):
        return f"[{', '.join(map(_dump, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, documented):
        # Strings that stand alone document what is above them: attributes, too.
        fields["body"] = [part for part in fields["body"] if not _is_text(part)]
    said = [f"{name}={_dump(value)}" for name, value in fields.items() if value not in (None, [])]
    return f"{type(node).__name__}({', '.join(said)})"


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
