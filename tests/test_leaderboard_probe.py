"""Cells of a probe against scikit-learn by itself, with the draws of MTEB."""

import argparse
import warnings
from pathlib import Path

import numpy as np
import pytest
from kept_folder import write_kept
from sklearn.linear_model import LogisticRegression

from avmix.data.few_shot import reshuffled_rows
from avmix.data.kept_features import open_features
from avmix.leaderboard import leaderboard_command
from avmix.leaderboard.admission import admit
from avmix.leaderboard.result import result_files

pytestmark = pytest.mark.long

CARD = """\
id: probed
title: A probe of kept features
version: 1
kind: probe
about: For tests.
source: written here
dataset: {name: kept, classes: 4, splits: {only: {}}}
probe: {shots: 3, draws: 3, by: mteb, regression: plain}
methods:
  video: {head: video}
  video+audio: {head: concatenated}
  late: {head: average}
seeds: [0]
selection: last epoch
"""


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    leaderboard_command.add_arguments(parser)
    return leaderboard_command.run(parser.parse_args(words))


def test_draws_are_those_of_mteb() -> None:
    # AbsTaskClassification._undersample_data: one list of places, shuffled again for each
    # experiment by a generator with the same seed; the first clips of each class.
    labels = np.arange(40) % 4
    places = list(range(40))
    for draw in range(3):
        np.random.RandomState(42).shuffle(places)
        wanted = []
        for place in places:
            if sum(labels[one] == labels[place] for one in wanted) < 3:
                wanted.append(place)
        assert reshuffled_rows(labels, 3, draw).tolist() == wanted


def test_scores_are_those_of_scikit_learn_on_the_draws_of_mteb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_kept(tmp_path / "kept", {"train": 120, "test": 200}, signal=0.6, silent_every=0)
    cards, out = tmp_path / "cards", tmp_path / "results"
    cards.mkdir()
    (cards / "probed.yaml").write_text(CARD)
    words = ("--protocols", str(cards), "run", "probed", "--features", str(folder),
             "--work", str(tmp_path / "work"), "--out", str(out))  # fmt: skip
    assert run(*words) == 0, capsys.readouterr()
    assert "3 cells done, 0 before" in capsys.readouterr().out
    train, test = open_features(folder, "train"), open_features(folder, "test")
    inputs = {
        "video": [one.features["video"][:, 0] for one in (train, test)],
        "video+audio": [np.concatenate([one.features[m][:, 0] for m in ("video", "audio")], 1)
                        for one in (train, test)],
    }  # fmt: skip
    found = {path.stem: admit(path, cards).result for path in result_files(out)}
    assert {*found} == {"video", "video+audio", "late"}
    for method, (x, asked) in inputs.items():
        for one in found[method].runs:
            rows = reshuffled_rows(train.labels, 3, one.seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = LogisticRegression(max_iter=100).fit(x[rows], train.labels[rows])
            share = np.mean(model.predict(asked) == test.labels)
            assert one.figures["fused.top1"] == pytest.approx(share, abs=1e-6)
    assert 0.3 < found["video"].runs[0].figures["fused.top1"] < 0.99  # there was something to err
    assert "fusion.mu" in found["late"].runs[0].figures
    assert run(*words) == 0
    assert "0 cells done, 3 before" in capsys.readouterr().out
    # Other features under the same name: nothing of before is taken for theirs.
    write_kept(folder, {"train": 120, "test": 200}, silent_every=0, weights="b")
    assert run(*words) == 0
    assert "3 cells done, 0 before" in capsys.readouterr().out


def test_a_head_that_the_features_do_not_allow_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_kept(tmp_path / "kept", {"train": 8, "test": 8}, silent_every=1)
    (tmp_path / "probed.yaml").write_text(CARD)
    code = run("--protocols", str(tmp_path), "run", "probed", "--features", str(folder),
               "--work", str(tmp_path / "work"))  # fmt: skip
    said = capsys.readouterr()
    assert code == 1
    assert "failed: probed/default/all/only-seed0: " in said.err
    assert "average" in said.err


def test_what_is_missing_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, why in (
        (("show", "nothing"), "no protocol 'nothing'"),
        (("table", "--results", str(tmp_path / "none")), "no folder of results"),
        (("run", "ucf101_av8/scratch"), "needs --root DIR"),
        (("export", "toy", "mteb", "--to", str(tmp_path), "--results", str(tmp_path)), "not a"),
    ):
        assert run(*words) == 1
        said = capsys.readouterr().err
        assert why in said
        assert said.count("\n") == 1
