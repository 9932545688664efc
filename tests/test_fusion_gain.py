"""What fusion is worth, by hand on five clips and against sets of clips on many."""

import math

import numpy as np
import pytest

from avmix.evaluation.clip_statistics import Answers, single_label
from avmix.evaluation.fusion_gain import MEANINGS, fusion_statistics
from avmix.evaluation.resampling import Resampling, figures

# Of five clips of three classes, what each row of the table answers.
LABEL = np.array([0, 0, 1, 1, 2])
SAID = {
    "fused": [0, 0, 1, 2, 0],
    "video head": [0, 1, 1, 1, 0],
    "audio head": [0, 0, 2, 1, 2],
    "audio missing": [0, 1, 1, 0, 0],
    "video missing": [1, 0, 1, 0, 0],
}


def rows_of(said: dict[str, list[int]], label: np.ndarray, k: int) -> dict[str, Answers]:
    return {
        name: single_label(np.eye(k, dtype=np.float32)[one] * 0.8 + 0.2 / k, label)
        for name, one in said.items()
    }


def values(rows: dict[str, Answers], alone: list[Answers] | None = None) -> dict[str, float]:
    n = len(rows["fused"].probability)
    found = fusion_statistics(rows, alone or [])
    return {name: float(s.of(np.ones((1, n)))[0]) for name, s in found.items()}


def test_every_figure_by_hand():
    found = values(rows_of(SAID, LABEL, 3))
    assert found["gain"] == pytest.approx(3 / 5 - 4 / 5)  # the audio head has four right
    assert found["audio_adds"] == pytest.approx(3 / 5 - 2 / 5)
    assert found["video_adds"] == pytest.approx(3 / 5 - 2 / 5)
    # The last two clips are wrong: both heads have the first of them right, audio the second.
    assert found["mu"] == pytest.approx(2 / 5)
    assert (found["mu_video"], found["mu_audio"]) == pytest.approx((1 / 5, 2 / 5))
    assert found["mu_both"] == pytest.approx(1 / 5)
    assert found["mu_inputs"] == 0  # without a modality neither is right
    # The heads disagree on clips 2, 3 and 5: fused follows audio, video, video.
    assert found["dominance"] == pytest.approx(2 / 3)
    right, wrong = math.log(0.8 + 0.2 / 3), math.log(0.2 / 3)
    nll = {n: -(k * right + (5 - k) * wrong) / 5 for n, k in (("fused", 3), ("audio", 4))}
    assert found["gain_nll"] == pytest.approx(nll["audio"] - nll["fused"], rel=1e-5)
    assert "gain_alone" not in found
    assert list(found) == [name for name in MEANINGS if name in found]


def test_networks_trained_alone_by_hand():
    alone = rows_of({"video": [0, 1, 1, 0, 0], "audio": [0, 0, 1, 1, 2]}, LABEL, 3)
    found = values(rows_of(SAID, LABEL, 3), list(alone.values()))
    assert found["gain_alone"] == pytest.approx(3 / 5 - 1)


def test_the_better_head_is_chosen_in_every_resample():
    """Two heads that are each right on one half: the maximum is at least one half, always."""
    n = 40
    label, half = np.zeros(n, int), np.arange(n) % 2
    said = {"fused": [0] * n, "video head": list(half), "audio head": list(1 - half)}
    statistic = {"gain": fusion_statistics(rows_of(said, label, 2))["gain"]}
    found = figures(statistic, Resampling(source=np.arange(n)))["gain"]
    assert found.value == pytest.approx(0.5)
    assert found.high is not None
    assert found.high <= 0.5 + 1e-9


def test_confusions_are_those_of_sets():
    stream = np.random.default_rng(1)
    label = stream.integers(4, size=200)
    said = {name: list(np.where(stream.random(200) < 0.5, label, stream.integers(4, size=200)))
            for name in SAID}  # fmt: skip
    found = values(rows_of(said, label, 4))
    right = {name: {i for i in range(200) if said[name][i] == label[i]} for name in SAID}
    wrong = set(range(200)) - right["fused"]
    video, audio = right["video head"], right["audio head"]
    assert found["mu"] == len(wrong & (video | audio)) / 200
    assert found["mu_both"] == len(wrong & video & audio) / 200
    assert found["mu"] == pytest.approx(found["mu_video"] + found["mu_audio"] - found["mu_both"])
    assert (
        found["mu_inputs"] == len(wrong & (right["audio missing"] | right["video missing"])) / 200
    )
    gain = (len(right["fused"]) - max(len(video), len(audio))) / 200
    assert found["gain"] == pytest.approx(gain)


def test_of_several_labels_any_is_right_and_clips_without_one_do_not_count():
    target = np.array([[1, 1, 0], [0, 1, np.nan], [0, 0, 0]], np.float32)

    def answers(*best: int) -> Answers:
        return Answers(probability=np.eye(3, dtype=np.float32)[[*best]] * 0.8 + 0.05,
                       target=target, single=False)  # fmt: skip

    rows = {"fused": answers(0, 0, 0), "video head": answers(1, 1, 0),
            "audio head": answers(2, 2, 1)}  # fmt: skip
    found = values(rows)
    # The last clip has no label. Audio's favourite in the second is unknown: the next is not right.
    assert found["gain"] == pytest.approx(1 / 2 - 1)
    assert found["mu"] == found["mu_video"] == pytest.approx(1 / 2)
    assert found["mu_audio"] == 0
    assert "gain_map" in found
    assert "mu_inputs" not in found
