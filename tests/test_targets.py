"""Labels of mixed clips."""

from typing import Literal

import pytest
import torch
from torch import Tensor

from avmix.mix import MixPlan, Part, PlacedPlan, mixed_targets, unmixed_plan
from avmix.mix.targets import (
    IGNORED,
    check_labels,
    known_targets,
    mixed_target,
    one_hot,
    smoothed,
)
from avmix.types import Heads

SIZES = (1, 2, 3, 64)


def plan_of(video, audio, partner, num_inputs=None, has_audio=None) -> PlacedPlan:
    """These weights of whole tensors."""
    size = len(partner)
    parts = (
        Part(name="video", domain="pixels", weight=tuple(video), present=(True,) * size),
        Part(name="audio", domain="log_mel", weight=tuple(audio),
             present=tuple(has_audio or (True,) * size)),
    )  # fmt: skip
    plan = MixPlan(num_inputs=num_inputs or size, partner=tuple(partner), method="mixup",
                   level="input", parts=parts)  # fmt: skip
    return plan.to(torch.device("cpu"))


def pair(lam=(0.75, 0.5)) -> PlacedPlan:
    return plan_of(lam, lam, (1, 0))


def rows(size: int, classes: int = 5) -> Tensor:
    """Distributions over the classes."""
    return torch.rand(size, classes, generator=torch.Generator().manual_seed(size)).softmax(1)


def test_lambda_is_the_weight_of_the_own_label():
    for head in mixed_targets(pair(), torch.eye(2)):
        assert head.tolist() == [[0.75, 0.25], [0.5, 0.5]]


def test_each_head_has_the_label_of_what_it_sees():
    target = mixed_targets(plan_of((0.75, 1.0), (0.25, 0.5), (1, 0)), torch.eye(2))
    assert target.video.tolist() == [[0.75, 0.25], [0.0, 1.0]]
    assert target.audio.tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert target.fused.tolist() == [[0.5, 0.5], [0.25, 0.75]]


def test_the_fused_label_is_that_of_what_the_clip_has():
    plan = plan_of((0.5, 0.5), (1.0, 1.0), (1, 0), has_audio=(True, False))
    target = mixed_targets(plan, torch.eye(2))
    assert target.fused.tolist() == [[0.75, 0.25], [0.5, 0.5]]
    assert torch.equal(target.audio, torch.eye(2))


def test_the_fused_label_is_of_what_is_in_the_mix_where_each_modality_has_a_label_of_its_own():
    # Classes: a, b, and c and d, of which a fifth lies in the background of the audio of a and b.
    seen = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])
    heard = torch.tensor([[0.8, 0, 0.2, 0], [0, 0.8, 0, 0.2]])
    own = Heads(fused=(seen + heard) / 2, video=seen, audio=heard)
    # Only video is mixed: the background of the partner, d, is not in the mix of the first.
    target = mixed_targets(plan_of((0.5, 1.0), (1.0, 1.0), (1, 0)), own)
    torch.testing.assert_close(target.video[0], torch.tensor([0.5, 0.5, 0, 0]))
    torch.testing.assert_close(target.audio[0], torch.tensor([0.8, 0, 0.2, 0]))
    torch.testing.assert_close(target.fused[0], torch.tensor([0.65, 0.25, 0.1, 0]))
    # Only audio is mixed: half of both backgrounds, by half.
    target = mixed_targets(plan_of((1.0, 1.0), (0.5, 1.0), (1, 0)), own)
    torch.testing.assert_close(target.fused[0], torch.tensor([0.7, 0.2, 0.05, 0.05]))
    # The clip has no audio: nothing of any background.
    plan = plan_of((0.5, 1.0), (1.0, 1.0), (1, 0), has_audio=(False, True))
    torch.testing.assert_close(mixed_targets(plan, own).fused[0], torch.tensor([0.5, 0.5, 0, 0]))
    # Every class that is in either modality of the mix, and no other.
    target = mixed_targets(plan_of((0.5, 1.0), (1.0, 1.0), (1, 0)), own, "max")
    torch.testing.assert_close(target.fused[0], torch.tensor([1.0, 1.0, 0.2, 0]))


def test_one_label_for_each_head_is_as_one_for_all_where_they_are_equal():
    generator = torch.Generator().manual_seed(3)
    video, audio = (torch.rand(8, generator=generator).tolist() for _ in range(2))
    has = (True, False, True, True, True, False, True, True)
    plan = plan_of(video, [a if h else 1.0 for a, h in zip(audio, has, strict=True)],
                   range(7, -1, -1), has_audio=has)  # fmt: skip
    target = rows(8)
    for ours, theirs in zip(mixed_targets(plan, Heads(target, target, target)),
                            mixed_targets(plan, target), strict=True):  # fmt: skip
        torch.testing.assert_close(ours, theirs)


def test_a_class_that_both_share_keeps_its_whole_weight():
    labels = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    target = mixed_targets(pair((0.7, 0.2)), labels).fused
    torch.testing.assert_close(target, torch.tensor([[1.0, 0.7, 0.3], [1.0, 0.8, 0.2]]))
    assert target[:, 0].tolist() == [1.0, 1.0]


def test_the_larger_of_each_class():
    labels = torch.tensor([[1.0, 0.5, 0.0, 0.0], [0.0, 0.25, 1.0, 0.0]])
    target = mixed_targets(pair((0.9, 0.1)), labels, "max").fused
    assert target.tolist() == [[1.0, 0.5, 1.0, 0.0], [1.0, 0.5, 1.0, 0.0]]
    # A clip that is not in the mix has no say.
    target = mixed_targets(pair((1.0, 0.0)), labels, "max").fused
    assert target.tolist() == [[1.0, 0.5, 0.0, 0.0], [1.0, 0.5, 0.0, 0.0]]


@pytest.mark.parametrize("labels", ["sum", "max"])
@pytest.mark.parametrize("size", SIZES)
def test_inputs_are_left_as_they_are_and_ends_are_exact(size, labels):
    target = rows(size)
    partner = [size - 1 - i for i in range(size)]
    lam = [float(i % 2) for i in range(size)]
    for head in mixed_targets(plan_of(lam, lam, partner), target, labels):
        expected = torch.stack([target[i if i % 2 else partner[i]] for i in range(size)])
        assert torch.equal(head, expected)
    assert torch.equal(target, rows(size))
    unmixed = unmixed_plan({"video": [True] * size, "audio": [True] * size})
    placed = unmixed.to(torch.device("cpu"))
    assert all(torch.equal(head, target) for head in mixed_targets(placed, target, labels))


@pytest.mark.parametrize("size", SIZES)
def test_rows_still_add_up_to_one(size):
    lam = torch.linspace(0, 1, size).tolist()
    target = mixed_targets(plan_of(lam, lam[::-1], [0] * size), rows(size))
    for head in target:
        torch.testing.assert_close(head.sum(1), torch.ones(size))


@pytest.mark.parametrize("labels", ["sum", "max"])
def test_of_two_batches_only_the_first_comes_out(labels):
    target = torch.eye(4)
    plan = plan_of((0.75, 1.0), (0.75, 1.0), (3, 2), num_inputs=4)
    head = mixed_targets(plan, target, labels).video
    expected = {"sum": [0.75, 0.0, 0.0, 0.25], "max": [1.0, 0.0, 0.0, 1.0]}[labels]
    assert head.tolist() == [expected, [0.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_smoothing_before_and_after_mixing_is_the_same(share):
    lam = torch.linspace(0, 1, 8).tolist()
    target, plan = rows(8), plan_of(lam, lam, range(7, -1, -1))
    before = mixed_targets(plan, smoothed(target, share))
    after = mixed_targets(plan, target)
    for head, mixed in zip(before, after, strict=True):
        torch.testing.assert_close(head, smoothed(mixed, share))


def test_smoothing_by_hand():
    smooth = smoothed(torch.tensor([[1.0, 0, 0, 0]]), 0.2)
    torch.testing.assert_close(smooth, torch.tensor([[0.85, 0.05, 0.05, 0.05]]))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_class_numbers_as_rows(dtype):
    target, known = one_hot(torch.tensor([2, 0, IGNORED, 1], dtype=dtype), 3)
    assert target.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert target.dtype == torch.float32
    assert known.tolist() == [True, True, False, True]


def test_a_mix_is_known_where_all_that_is_in_it_is():
    known = torch.tensor([True, False, True, False])
    lam = torch.tensor([0.5, 0.5, 1.0, 0.0])
    # 0 with 1: half of it is not known; 1 with 0 likewise; 2 is all its own; 3 is all of 0
    plan = plan_of((0.5,) * 4, (0.5,) * 4, (1, 0, 3, 0))
    assert known_targets(plan, lam, known).tolist() == [False, False, True, True]
    own = torch.tensor([1.0, 1.0, 0.0, 0.7])
    # 0 and 1 are their own; 2 is all of 3; 3 is not known itself
    assert known_targets(plan, own, known).tolist() == [True, False, False, False]
    of_two = plan_of((0.5, 0.5), (0.5, 0.5), (2, 3), num_inputs=4)
    half = torch.tensor([0.5, 0.5])
    assert known_targets(of_two, half, known).tolist() == [True, False]


def test_class_numbers_are_checked():
    check_labels(torch.tensor([0, 2, IGNORED]), 3)
    check_labels({"verb": torch.tensor([1]), "noun": torch.tensor([2, IGNORED])}, 3)
    with pytest.raises(ValueError, match=r"in \[0, 3\) or -100 \(not known\), got \[-1, 3\]"):
        check_labels(torch.tensor([3, 0, -1, 3]), 3)
    with pytest.raises(ValueError, match=r"got \[4\]"):
        check_labels({"verb": torch.tensor([1]), "noun": torch.tensor([4])}, 3)


def test_targets_of_another_batch_are_refused():
    for labels in ("sum", "max"):
        with pytest.raises(ValueError, match="the plan is for 2 clips, there are 3"):
            mixed_targets(pair(), torch.eye(3), labels)
        with pytest.raises(ValueError, match="the plan is for 2 clips, there are 1"):
            mixed_target(pair(), torch.ones(2), torch.eye(1), labels)


NAN = float("nan")


def test_several_labels_that_differ_by_modality_by_hand():
    # Classes: of a, 0 is visible and audible, 1 visible, 2 audible; of b, 3 is visible and audible,
    # 2 visible (which a has in its audio), 1 audible (which a has in its video).
    seen = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])
    heard = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 1]])
    own = Heads(fused=torch.ones(2, 4), video=seen, audio=heard)

    def of_a(video, audio, labels: Literal["sum", "max"] = "sum", has_audio=(True, True)) -> Heads:
        plan = plan_of((video, 1.0), (audio, 1.0), (1, 0), has_audio=has_audio)
        return Heads(*(head[0] for head in mixed_targets(plan, own, labels, several=True)))

    # One lambda: the mix of both unions, which are {0, 1, 2} and {1, 2, 3}.
    mix = of_a(0.75, 0.75)
    assert mix.video.tolist() == [0.75, 0.75, 0.25, 0.25]
    assert mix.audio.tolist() == [0.75, 0.25, 0.75, 0.25]
    assert mix.fused.tolist() == [0.75, 1.0, 1.0, 0.25]
    # Only video is mixed: what is audible is that of a.
    mix = of_a(0.75, 1.0)
    assert mix.fused.tolist() == [0.875, 0.75, 1.0, 0.125]
    assert of_a(1.0, 1.0).fused.tolist() == [1.0, 1.0, 1.0, 0.0]  # unmixed: the union
    # The mix has no audio: what is only audible is not in it.
    assert of_a(0.75, 1.0, has_audio=(False, True)).fused.tolist() == [0.75, 0.75, 0.25, 0.25]
    # Union of what is in the mix at all.
    assert of_a(0.75, 1.0, "max").fused.tolist() == [1.0, 1.0, 1.0, 1.0]
    assert of_a(1.0, 1.0, "max").fused.tolist() == [1.0, 1.0, 1.0, 0.0]


def test_several_labels_of_both_modalities_are_mixed_as_one_target_is():
    labels = (torch.rand(8, 5, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    has = (True, False, True, True, True, False, True, True)
    video = torch.linspace(0, 1, 8).tolist()
    audio = [1 - w if h else 1.0 for w, h in zip(video, has, strict=True)]
    plan = plan_of(video, audio, range(7, -1, -1), has_audio=has)
    for way in ("sum", "max"):
        for ours, theirs in zip(
            mixed_targets(plan, Heads(labels, labels, labels), way, several=True),
            mixed_targets(plan, labels, way), strict=True,
        ):  # fmt: skip
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("each", [False, True])
def test_what_is_unknown_of_a_clip_is_unknown_of_every_mix_that_it_is_in(each):
    labels = torch.tensor([[1.0, 0, NAN, 1], [NAN, 1, NAN, NAN], [0, 0, 1, 1]])
    target = Heads(labels, labels, labels) if each else labels

    def mix(lam, way):
        plan = plan_of(lam, lam, (1, 2, 0))
        heads = mixed_targets(plan, target, way, several=True)
        assert all(torch.equal(head.isnan(), heads.fused.isnan()) for head in heads)
        return heads.fused.nan_to_num(-1).tolist()

    assert mix((0.75, 0.5, 1.0), "sum") == [
        [-1, 0.25, -1, -1],
        [-1, 0.5, -1, -1],
        [0, 0, 1, 1],  # its partner is not in the mix
    ]
    assert mix((0.0, 1.0, 0.5), "sum") == [[-1, 1, -1, -1], [-1, 1, -1, -1], [0.5, 0, -1, 1]]
    # A positive of the union is one, whatever the other clip may have.
    assert mix((0.75, 0.5, 1.0), "max") == [[1, 1, -1, 1], [-1, 1, 1, 1], [0, 0, 1, 1]]


def test_a_label_that_is_unknown_in_one_modality_is_unknown_of_both():
    nothing = torch.zeros(1, 2)
    own = Heads(fused=nothing, video=nothing, audio=torch.tensor([[NAN, 1.0]]))
    plan = plan_of((1.0,), (1.0,), (0,))
    assert mixed_targets(plan, own, several=True).fused.isnan().tolist() == [[True, False]]
    silent = plan_of((1.0,), (1.0,), (0,), has_audio=(False,))
    assert mixed_targets(silent, own, several=True).fused.tolist() == [[0.0, 0.0]]
