"""What pages say of results of training, and what paste.py refuses to say."""

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ROWS = ("fused", "video head", "audio head")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of benchmarks/, as the script that is run there does."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def run_of(seed: int, top1: float, **more: Any) -> dict[str, Any]:
    """A run whose video and audio heads are 10 and 20 points behind the fused one."""
    scores = {row: {"top1": top1 - 0.1 * k, "nll": 1.0 + seed, "ece": 0.1 * seed}
              for k, row in enumerate(ROWS)}  # fmt: skip
    return {
        "seed": seed, "at_a_time": 1, "scores": scores, "num_evaluated": 240, "num_missing": 0,
        "protocol": "toy/v1", "split": "test", "num_views": 3, "epochs": 12, "failed": False,
        "chance": 0.1, "train_minutes": 3.0 + seed, "waiting_share": 0.02,
        "environment": {"cores": 2, "gpu": None}, **more,
    }  # fmt: skip


def result_of(top1: list[float], **more: Any) -> dict[str, Any]:
    return {
        "kind": "training", "config": "configs/demo.yaml", "overrides": [], "hardware": "a cpu",
        "measured": {"commit": COMMIT}, "command": "python benchmarks/seeds.py --name demo",
        "table": "", "title": "", "ceilings": {},
        "runs": [run_of(seed, value) for seed, value in enumerate(top1)], **more,
    }  # fmt: skip


def test_few_seeds_have_a_median_a_range_and_each_value(load: Any) -> None:
    lines = load("paste").table(result_of([0.9, 0.5, 0.8])).splitlines()
    assert lines[
        0
    ] == "| | median top-1 % | min | max | each | NLL, median | ECE, median |".replace(
        "| |", "|  |"
    )
    assert lines[2] == "| fused | 80.0 | 50.0 | 90.0 | 90.0, 50.0, 80.0 | 2.00 | 0.10 |"
    assert lines[3] == "| video head | 70.0 | 40.0 | 80.0 | 80.0, 40.0, 70.0 | 2.00 | 0.10 |"
    assert "±" not in "".join(lines)
    assert lines[-1] == (
        "`toy/v1`, test split, 240 clips evaluated, 0 missing, 3 views, last epoch (nothing is "
        "selected); 3 seeds (0 to 2). Failures (a head whose training loss is no better than "
        "guessing by class frequencies for at least a third of the epochs): 0 of 3. "
        "`configs/demo.yaml`: 3.0 to 5.0 minutes of training per run (median epoch times epochs), "
        "2 % of it waiting for data; a cpu, 2 cores."
    )


def test_a_row_that_is_about_no_clip_has_a_dash(load: Any) -> None:
    result = result_of([0.9, 0.5])
    for run in result["runs"]:
        run["scores"]["audio head"] = None
    text = load("paste").table(result)
    assert "| audio head | - | - | - | - | - | - |" in text
    variant = {**result, "title": "no audio"}
    assert "| 50.0 | 90.0 | 60.0 | - |" in load("report.tables.training").variants_table(
        [result, variant]
    )


def test_five_seeds_have_a_deviation(load: Any) -> None:
    text = load("paste").table(result_of([0.5, 0.6, 0.7, 0.8, 0.4]))
    assert "| max | mean ± sd |" in text
    assert "| fused | 60.0 | 40.0 | 80.0 | 60.0 ± 15.8 |" in text  # sqrt(1000 / 4) points


def test_failures_are_counted_or_not_known(load: Any) -> None:
    result = result_of([0.5, 0.6])
    result["runs"][1]["failed"] = True
    assert ": 1 of 2." in load("paste").table(result)
    result["runs"][0]["failed"] = None
    assert "were not recorded." in load("paste").table(result)


def test_a_run_fails_from_a_third_of_its_epochs_on(load: Any) -> None:
    failed = load("training.train_run").failed
    assert not failed({"fused": 3, "video head": 3, "audio head": 0}, 12)
    assert failed({"fused": 0, "video head": 0, "audio head": 4}, 12)
    assert not failed({"fused": 2, "video head": None, "audio head": 0}, 6)  # too few to say
    assert failed(None, 12) is None


def test_variants_are_lines_of_one_table(load: Any) -> None:
    plain, none = result_of([0.9, 0.7]), result_of([0.5], title="no mixing")
    none["runs"][0]["failed"] = True
    lines = load("paste").table(plain, none).splitlines()
    assert lines[2:4] == [
        "| as configured | 2 | 0 | 80.0 | 70.0 | 90.0 | 70.0 | 60.0 |",
        "| no mixing | 1 | 1 | 50.0 | 50.0 | 50.0 | 40.0 | 30.0 |",
    ]
    assert "2 seeds (0, 1) or 1 seed (0)" in lines[-1]


def with_fusion(result: dict[str, Any], gains: list[tuple[float, float, float]]) -> dict[str, Any]:
    """The same with fusion gains (value, low, high) and a modality confusion of 4 % without an
    interval."""
    for run, (value, low, high) in zip(result["runs"], gains, strict=True):
        run["fusion"] = {
            "gain": {"value": value, "low": low, "high": high, "num_clips": 230},
            "mu": {"value": 0.04, "low": None, "high": None, "num_clips": 230},
        }
    return result


GAINS = [(0.02, -0.01, 0.05), (-0.031, -0.08, 0.02), (0.05, 0.03, 0.07)]


def test_what_fusion_is_worth_has_rows_with_intervals(load: Any) -> None:
    lines = load("paste").table(with_fusion(result_of([0.9, 0.5, 0.8]), GAINS)).splitlines()
    assert lines[5:7] == [
        "| fusion gain, points | +2.0 | -3.1 | +5.0 | 2.0, -3.1, 5.0 | - | - |",
        "| modality confusion, % | 4.0 | 4.0 | 4.0 | 4.0, 4.0, 4.0 | - | - |",
    ]
    assert lines[-1].endswith(
        "on the 230 clips with both modalities; modality confusion: clips of them that a modality "
        "head has right and the fused head wrong. Their 95 % intervals over sources, the median "
        "over seeds of each end: fusion gain -1.0 to 5.0."
    )


def test_a_variant_measured_before_there_was_fusion_gain_says_so(load: Any) -> None:
    new, old = with_fusion(result_of([0.9, 0.5, 0.8]), GAINS), result_of([0.5, 0.6], title="old")
    new["runs"][0]["evaluated"] = {"commit": COMMIT}
    lines = load("paste").table(new, old).splitlines()
    assert lines[0].endswith("| fusion gain, points: median | modality confusion, %: median |")
    assert lines[2].endswith("| +2.0 (-1.0 to 5.0) | 4.0 |")
    assert lines[3].endswith("| not measured | not measured |")
    assert lines[-1].endswith("trained networks were evaluated at commit 0123456.")
    assert "fusion" not in load("paste").table(old, {**old, "title": "older"})
    del new["runs"][1]["fusion"]  # not of every seed: not of the result
    assert "fusion gain" not in load("paste").table(new)


def worth_of(gain: float, low: float | None, **more: Any) -> dict[str, Any]:
    figure = {"value": gain, "low": low, "high": None if low is None else gain + 0.1}
    scores = {row: {"top1": 0.9 + gain if row == "fused" else 0.9, "nll": 1.0} for row in ROWS}
    fusion = dict.fromkeys(("gain", "gain_nll", "mu"), figure)
    return {"scores": scores, "fusion": fusion, "num_evaluated": 296, **more}


def test_what_audio_is_worth_is_a_line_for_each_way(load: Any) -> None:
    def network(seed: int, fuses: bool) -> dict[str, Any]:
        fit = {"fuses": fuses, "better": "video"}
        found = {"plain": worth_of(-0.04 - 0.02 * seed, -0.1),
                 "guarded": worth_of(0.0, None, fit=fit)}  # fmt: skip
        return {"setup": "features", "split": 1, "seed": seed, "trained_on": "held out",
                "found": found, "commit": "a" * 40}  # fmt: skip

    result = {"kind": "audio_worth", "configs": {"features": "configs/a.yaml"},
              "measured": {"commit": "b" * 40},
              "networks": [network(0, False), network(1, False)]}  # fmt: skip
    lines = load("report.tables").table(result).splitlines()
    assert lines[2:4] == [
        "| UCF101, features 1 | 80 % | - | 2 | 85.0 | 90.0 | 90.0 | -5.0 (-10.0 to 5.0) | -0.050 "
        "(-0.100 to 0.050) | -5.0 (-10.0 to 5.0) |",
        "| UCF101, features 1 | 80 %, guarded | video head | 2 | 90.0 | 90.0 | 90.0 | +0.0 | "
        "+0.000 | 0.0 |",
    ]
    result["networks"][1]["found"]["guarded"]["fit"]["fuses"] = True
    text = load("report.tables").table(result)
    assert "| video head (1), pool (1) | 2 |" in text
    assert "UCF101, features: at commit aaaaaaa" in text


def test_pairs_that_were_never_trained_on_are_a_line(load: Any) -> None:
    def split(value: float) -> dict[str, Any]:
        exact = {"value": value, "low": value - 0.1, "high": value + 0.1}
        return {row: {"exact": exact} for row in ROWS}

    found = [{"test": split(0.8 + x), "unseen": split(0.4 + x)} for x in (0.0, 0.1)]
    result = {"kind": "unseen_pairs", "options": {"mixup": [], "later": []}, "config": "a.yaml",
              "networks": [{"arm": "mixup", "found": one} for one in found]}  # fmt: skip
    lines = load("report.tables").table(result).splitlines()
    cell = "45.0 (35.0 to 55.0)"
    assert lines[3] == f"| mixup | never trained on | 2 | {cell} | {cell} | {cell} |"
    assert "later" not in "".join(lines)


def test_methods_of_balancing_are_compared_seed_by_seed(load: Any) -> None:
    """Of seeds that have all methods; the interval is of the differences, not of the accuracies."""
    arms = load("balancing.arms")
    scores = {row: 0.5 for row in ("video head", "audio head", "audio missing", "video missing")}

    def run(arm: str, seed: int, fused: float) -> dict[str, Any]:
        found = {**scores, "fused": fused, "gain": fused - 0.5, "mu": 0.25}
        return {"split": 1, "shots": 3, "mixing": "none", "arm": arm, "seed": seed,
                "scores": found, "ms_per_step": 6.0 if arm == "5 MMPareto" else 4.0}  # fmt: skip

    runs = [run(arm, seed, 0.8 + 0.1 * seed + 0.01 * (arm == "4 OGM-GE"))
            for seed in (0, 1) for arm in arms.PASSES]  # fmt: skip
    runs.append(run("1 joint loss", 2, 0.0))  # of a seed that is not done
    made = {name: {"options": {}, "tuned": arm.tuned, "grid": list(arm.grid)}
            for name, arm in arms.ARMS.items()}  # fmt: skip
    result = {"kind": "balance", "config": "c.yaml", "arms": made, "trained": runs,
              "fixed": {"shared_width": 8, "epochs": 20, "holdout": 0.2}}  # fmt: skip
    text = load("report.tables").table(result)
    lines = text.splitlines()
    assert lines[0].startswith("Of 7 comparisons with uniform losses (2), 1 are surely better, 0 ")
    # 12.706 * sd(0.81, 0.91) / sqrt(2) = 63.5 points; of the differences 0.
    assert (
        "| 3 | none | 4 OGM-GE | 86.0 ± 63.5 | +1.0 ± 0.0 | 50.0 | 50.0 | 50.0 | 50.0 | "
        "+36.0 ± 63.5 | 25.0 | 1 | 1.0 |" in lines
    )
    assert any("| 5 MMPareto | 85.0 ± 63.5 | +0.0 ± 0.0 |" in line and line.endswith("| 1.5 |")
               for line in lines)  # fmt: skip
    assert "2 uniform losses: `loss.video`, `loss.audio` 0.5, 0.25, 1" in text
    result["trained"] = runs[-1:]
    assert load("report.tables").table(result).startswith("Not measured yet")


def test_the_few_shot_table_has_cells_and_paired_differences(load: Any) -> None:
    def run(arm: str, seed: int, top1: float) -> dict[str, Any]:
        return {**run_of(seed, top1), "arm": arm, "shots": 5, "num_made": 80, "num_steps": 196,
                "num_clips": 120 if arm == "repair" else 40, "batch_size": 16}  # fmt: skip

    runs = [run("plain", 0, 0.4), run("repair", 0, 0.5), run("plain", 1, 0.6), run("plain", 2, 0.7)]
    result = {"kind": "fewshot", "config": "c.yaml", "runs": runs}
    text = load("paste").table(result)
    assert "| real clips per class | trained on | clips: real + synthetic | fused: median" in text
    assert "| 5 | these clips | 40 + 0 | 60.0 (40.0 to 70.0) | 50.0 (30.0 to 60.0) |" in text
    assert "| 5 | these and their re-pairings | 40 + 80 | 50.0" in text
    assert "| 5 | *difference* |  | 10.0 (10.0 to 10.0) |" in text
    assert text.splitlines()[4].endswith("| 1 |")  # only pairs of runs
    assert "196 steps of 16 clips in both arms; 80 clips added. 3.0 to 5.0 minutes" in text
    dots = load("report.tables").figure(result)
    assert dots.rows[0] == ("5 per class: these clips", (0.4, 0.6, 0.7), 0.6)


def test_summaries_have_a_row_per_library(load: Any) -> None:
    def truth(*counts: int) -> dict[str, int]:
        names = ("num_exact", "num_silently_wrong", "num_refused", "num_files")
        return dict(zip(names, counts, strict=True))

    names = {"avmix": "avmix", "decord": "decord A", "decord_av": "decord B", "plain_pyav": "PyAV"}
    ratios = {"a": {"avmix": 1.0, "decord": 0.25, "plain_pyav": 0.5},
              "b": {"avmix": 1.0, "decord": None, "plain_pyav": 0.75}}  # fmt: skip
    decode = {
        "kind": "decode",
        "candidates": {name: {"label": label} for name, label in names.items()},
        "speed": {load: {name: {"ratio_to_avmix": ratio} for name, ratio in by_name.items()}
                  for load, by_name in ratios.items()},
        "truth": {"avmix": truth(10, 0, 0, 10), "decord": truth(4, 5, 1, 10),
                  "decord_av": truth(4, 5, 1, 10), "plain_pyav": truth(3, 6, 1, 10)},
    }  # fmt: skip
    lines = load("report.tables").summary(decode).splitlines()
    assert lines[0] == "|  | speed, avmix = 1 | exact, of 10 files | silently wrong | refused |"
    assert lines[2:5] == [
        "| avmix | 1.00 | 10 | 0 | 0 |",
        "| decord A | 0.25 | 4 | 5 | 1 |",
        "| PyAV | 0.50 to 0.75 | 3 | 6 | 1 |",
    ]
    assert lines[-1] == "Speed: slowest to fastest of 2 workloads."

    right, wrong = {"right": True}, {"right": False, "label_wrong": True}
    mix = {
        "kind": "mix",
        "candidates": {"avmix": {"label": "avmix"}, "timm": {"label": "timm"}},
        "absent": {},
        "workloads": {"a": {"kind": "mixup"}, "b": {"kind": "mixup"}, "c": {"kind": "cutmix"}},
        "speed": {"keep": {"a": {"avmix": {"ratio_to_timm": 2.0}, "timm": {"ratio_to_timm": 1.0}},
                           "b": {"avmix": {"ratio_to_timm": 3.0}, "timm": {"ratio_to_timm": 1.0}},
                           "c": {"avmix": {"ratio_to_timm": 9.0}}}},
        "truth": {"mixup": {"avmix": right, "timm": right},
                  "cutmix": {"avmix": right, "timm": wrong}},
    }  # fmt: skip
    lines = load("report.tables").summary(mix).splitlines()
    assert lines[2:4] == [
        "| avmix | 2.0 to 3.0 | right | right |",
        "| timm | 1.0 | right | **label wrong for the frames** |",
    ]


@pytest.fixture
def site(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """paste.py with a page and results of its own."""
    paste = load("paste")
    (tmp_path / "results").mkdir()
    page = tmp_path / "docs/page.md"
    page.parent.mkdir()
    page.write_text("# A\n## The demo\n<!-- result demo -->\nold\n<!-- end -->\n"
                    "## Mixing\n<!-- result mixes -->\n<!-- end -->\n")  # fmt: skip
    monkeypatch.setattr(paste, "ROOT", tmp_path)
    monkeypatch.setattr(paste, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paste, "FIGURES", tmp_path / "docs/results")
    monkeypatch.setattr(paste, "PAGES", (page,))
    return paste


def put(site: Any, name: str, result: dict[str, Any]) -> Path:
    path = site.RESULTS / f"{name}.json"
    path.write_text(json.dumps(result))
    return path


def run(site: Any, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr("sys.argv", ["paste.py", *options])
    try:
        site.main()
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def test_pages_and_figures_follow_the_results(site: Any, load: Any, monkeypatch) -> None:
    path = put(site, "demo", result_of([0.9, 0.5, 0.8], table="mixes"))
    assert run(site, monkeypatch, "--check") == 1
    assert run(site, monkeypatch) == 0
    assert run(site, monkeypatch, "--check") == 0
    page = site.PAGES[0].read_text()
    assert (
        "a cpu, 2 cores. Measured at commit 0123456.\n\n![Each seed as a dot](results/demo.png)"
        in page
    )
    assert page.count("| fused |") == 1  # a table that compares needs two variants
    assert "Not measured yet." in page
    figure = site.FIGURES / "demo.png"
    drawn_from = load("report.dots").drawn_from
    assert drawn_from(figure) == hashlib.sha256(path.read_bytes()).hexdigest()

    put(site, "demo_none", result_of([0.3], table="mixes", title="no mixing"))
    assert run(site, monkeypatch, "--check") == 1
    assert run(site, monkeypatch) == 0
    assert "| no mixing | 1 | 0 | 30.0 |" in site.PAGES[0].read_text()
    assert drawn_from(site.FIGURES / "mixes.png") != drawn_from(figure)

    figure.write_bytes((site.FIGURES / "mixes.png").read_bytes())  # the figure of other results
    assert run(site, monkeypatch, "--check") == 1


@pytest.mark.parametrize("commit", [None, COMMIT + "+"])
def test_a_result_without_a_clean_commit_is_refused(
    site: Any, monkeypatch, capsys: pytest.CaptureFixture[str], commit: str | None
) -> None:
    put(site, "demo", result_of([0.9], measured={"commit": commit}))
    for options in ((), ("--check",)):
        assert run(site, monkeypatch, *options) == 1
        said = capsys.readouterr().err
        assert "benchmarks/results/demo.json is of" in said
        assert "measure it again: python benchmarks/seeds.py --name demo" in said
    assert "\nold\n" in site.PAGES[0].read_text()
    assert not site.FIGURES.exists()


def test_a_summary_is_not_where_the_table_is(site: Any) -> None:
    page = site.PAGES[0]
    page.write_text("# A\n<!-- result mix:summary -->\n<!-- end -->\n## B\n"
                    "<!-- result mix -->\n<!-- end -->\n")  # fmt: skip
    assert site.where("mix", {}) == 'docs/page.md, section "B"'
    assert site.pasted(page.read_text(), page).count("Not measured yet.\n") == 2


def test_a_page_says_which_measured_sources_changed(site: Any, load: Any) -> None:
    provenance = load("shared.provenance")
    now = provenance.source_hash(ROOT / "avmix/rng.py")
    result = {"measured": {"commit": COMMIT, "sources": {"avmix/rng.py": now}}}
    assert provenance.sentence(result) == "Measured at commit 0123456."
    result["measured"]["sources"] |= {"avmix/decode": "0", "avmix/gone": "1"}
    said = "Measured at commit 0123456; `avmix/decode`, `avmix/gone` have changed since."
    assert provenance.sentence(result) == said
    result["measured_cuda"] = {"commit": "f" * 40}
    assert provenance.sentence(result) == said + " On CUDA: measured at commit fffffff."


def test_where_a_table_is(site: Any) -> None:
    result = result_of([0.9], table="mixes")
    assert site.where("demo", result) == (
        'docs/page.md, section "The demo" and docs/page.md, section "Mixing"'
    )
    assert site.where("other", {}) == "other (on no page)"


SOURCE = '''
"""What it is."""
def f(x):
    """Doubles."""
    return 2 * x  # twice
class A:
    "About."
    b: int = 1
    """Of b."""
'''


def test_only_what_a_source_does_counts(load: Any, tmp_path: Path) -> None:
    hash_of = load("shared.provenance").hash_of
    same = SOURCE.replace('    """Doubles."""\n', "").replace("2 * x  # twice", "(2 *\n      x)")
    same = same.replace('    """Of b."""\n', "").replace("What it is", "Another")
    assert hash_of({"a.py": same}) == hash_of({"a.py": SOURCE})
    for old, new in (("2 * x", "x * 2"), ("b: int = 1", "b: int = 2"), ("def f", "def g")):
        assert hash_of({"a.py": SOURCE.replace(old, new)}) != hash_of({"a.py": SOURCE})
    assert hash_of({"b.py": SOURCE}) != hash_of({"a.py": SOURCE})
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/a.py").write_text(SOURCE)
    assert load("shared.provenance").source_hash(tmp_path) == hash_of({"inner/a.py": SOURCE})
