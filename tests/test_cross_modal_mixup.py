"""Named tensors of any kind are mixed with one lambda, which is in each and in the label."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mix_reference import mix as reference

from avmix.config import MixConfig
from avmix.mix import Clips, Grid, MixPlan, draw_plan, unmixed_plan
from avmix.mix.cross_modal_mixup import CrossModalMixup, Mixed
from avmix.mix.plan_drawing import MAX_MODALITIES
from avmix.rng import rng

Kinds = dict[str, str]

SHAPES = {
    "image": (3, 6, 10),
    "photo": (1, 12, 20),
    "text": (7,),
    "video": (3, 4, 6, 10),
    "audio": (400,),
    "stereo": (2, 400),
    "mel": (8, 20),
    "mel_of_two": (2, 8, 20),
}
KINDS: Kinds = {
    "image": "image",
    "photo": "image",
    "text": "vector",
    "video": "video",
    "audio": "waveform",
    "stereo": "waveform",
    "mel": "spectrogram",
    "mel_of_two": "spectrogram",
}
SETS = [
    ("image", "text"),
    ("video", "mel"),
    ("video", "audio"),
    ("video", "stereo", "text"),
    ("mel_of_two", "photo", "image"),
]
BLENDS = ["mixup", "independent"]
CUTS = {
    "cutmix_temporal": {"video", "audio", "stereo", "mel", "mel_of_two"},
    "cutmix_spatial": {"image", "photo", "video"},
    "cutmix_spatiotemporal": {"video"},
    "cutmix_frequency": {"mel", "mel_of_two"},
}
POSSIBLE = [
    (names, method)
    for names in SETS
    for method in [*BLENDS, *CUTS]
    if method in BLENDS or CUTS[method] & set(names)
]


def mixer(names, **options) -> CrossModalMixup:
    options = {"alpha": 1.0, **options} if options.get("law", "beta") == "beta" else options
    return CrossModalMixup({name: KINDS[name] for name in names}, **options)  # pyright: ignore[reportArgumentType]


def noise(names, size, dtype=torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(size)
    return {n: torch.randn(size, *SHAPES[n], generator=generator).to(dtype) for n in names}


def flat(names, size) -> dict[str, torch.Tensor]:
    """Row i is i everywhere: the mean of a mix tells how much of each is in it."""
    return {n: torch.arange(size).float().view(-1, *[1] * len(SHAPES[n])).repeat(1, *SHAPES[n])
            for n in names}  # fmt: skip


def eye(size) -> torch.Tensor:
    """A class of its own for every row, so that the label's lambda can be read off."""
    return torch.eye(size)


def of_diagonal(target) -> list[float]:
    return target.diagonal().tolist()


def fitted(before, after, partner) -> list[float]:
    """Lambda of every row by least squares: after - b = lambda (a - b)."""
    own = before.double().flatten(1)
    other = own[list(partner)]
    change, mixed = own - other, after.double().flatten(1) - other
    return ((change * mixed).sum(1) / (change**2).sum(1)).tolist()


def same(a: Mixed, b: Mixed) -> bool:
    pairs = [(a.target, b.target), (a.known, b.known)]
    for x, y in ((a.tensors, b.tensors), (a.targets, b.targets), (a.present, b.present)):
        pairs += [(x[name], y[name]) for name in x.keys() | y.keys()]
    return a.plan == b.plan and all(torch.equal(x, y) for x, y in pairs)


# One lambda ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "within"),
    [
        (torch.float64, 1e-6),
        (torch.float32, 1e-5),
        (torch.bfloat16, 0.02),
        (torch.float16, 2e-3),
    ],
)
@pytest.mark.parametrize("size", [2, 3, 64])
@pytest.mark.parametrize("names", SETS)
def test_one_lambda_is_in_every_tensor_and_in_every_label(names, size, dtype, within):
    tensors = noise(names, size, dtype)
    mixed = mixer(names)(tensors, eye(size), step=size)
    plan = mixed.plan
    pairs = [i for i in range(size) if plan.partner[i] != i]
    assert len(pairs) == size - size % 2
    found = [of_diagonal(mixed.target), *map(of_diagonal, mixed.targets.values())]
    assert mixed.tensors.keys() == mixed.targets.keys() == set(names)
    for name in names:
        assert mixed.tensors[name].dtype == dtype
        found.append(fitted(tensors[name], mixed.tensors[name], plan.partner))
    for lam in found:
        for i in pairs:
            assert lam[i] == pytest.approx(plan.lam[i], abs=within)
    lams = [plan.lam[i] for i in pairs]
    assert len(set(lams)) == len(pairs)
    assert min(lams) < 0.5 + within
    assert mixed.target.dtype == torch.float32
    assert mixed.target.sum(1).tolist() == pytest.approx([1.0] * size)


@pytest.mark.parametrize(("names", "method"), POSSIBLE)
def test_labels_have_the_share_that_every_method_leaves_of_each_tensor(names, method):
    size, mix = 6, mixer(names, method=method)
    for step in range(8):
        mixed = mix(flat(names, size), eye(size), step=step)
        everywhere = []
        for name in names:
            means = mixed.tensors[name].double().flatten(1).mean(1).tolist()
            own = [(m - j) / (i - j) for i, (m, j) in
                   enumerate(zip(means, mixed.plan.partner, strict=True))]  # fmt: skip
            assert of_diagonal(mixed.targets[name]) == pytest.approx(own, abs=1e-5)
            everywhere.append(own)
        assert of_diagonal(mixed.target) == pytest.approx(np.mean(everywhere, 0), abs=1e-5)
        assert mixed.plan.method == method


@pytest.mark.parametrize(("names", "method"), POSSIBLE)
def test_values_are_those_of_the_reference(names, method):
    tensors = noise(names, 5)
    before = {name: x.clone() for name, x in tensors.items()}
    changed = set()
    for step in range(5):
        mixed = mixer(names, method=method, pairing="derangement")(tensors, eye(5), step=step)
        for part in mixed.plan.parts:
            x = tensors[part.name]
            expected = reference(x.numpy(), mixed.plan.partner, part.weight, part.box)
            np.testing.assert_allclose(mixed.tensors[part.name], expected, rtol=0, atol=1e-5)
            assert torch.equal(x, before[part.name])
            changed |= set() if torch.equal(mixed.tensors[part.name], x) else {part.name}
    assert changed == set(names)


@pytest.mark.parametrize("length", [20, 21])
def test_a_cut_in_time_is_the_same_share_of_the_window_in_every_tensor(length):
    # 4 frames, 400 samples, 20 or 21 columns: frame k is samples [100 k, 100 k + 100).
    names = ("video", "stereo", "mel", "text")
    tensors = flat(names, 2) | {"mel": torch.arange(2.0).view(2, 1, 1).repeat(1, 8, length)}
    mix, seen = mixer(names, method="cutmix_temporal"), set()
    for step in range(40):
        mixed = mix(tensors, eye(2), step=step).tensors
        frames = mixed["video"][0, 0, :, 0, 0].nonzero().flatten().tolist()  # the partner's
        samples = [100 * k + s for k in frames for s in range(100)]
        middles = [(f, (f + 0.5) / length * 4) for f in range(length)]
        columns = [f for f, place in middles if int(place) in frames]
        assert mixed["stereo"][0, 1].nonzero().flatten().tolist() == samples
        assert mixed["mel"][0, 3].nonzero().flatten().tolist() == columns
        assert mixed["text"][0].tolist() == pytest.approx([len(frames) / 4] * 7)
        seen.add(tuple(frames))
    assert len(seen) > 5


def test_a_rectangle_is_at_the_same_place_of_every_frame():
    # Of 6 x 10, of 12 x 20 (every pixel is two by two) and of every frame.
    mix = mixer(("image", "photo", "video"), method="cutmix_spatial")
    for step in range(20):
        mixed = mix(flat(("image", "photo", "video"), 2), eye(2), step=step).tensors
        small, large = mixed["image"][0, 2], mixed["photo"][0, 0]
        assert torch.equal(small.repeat_interleave(2, 0).repeat_interleave(2, 1), large)
        assert torch.equal(small.expand(3, 4, 6, 10), mixed["video"][0])


def test_eight_tensors_have_eight_lambdas_when_independent():
    names = [f"x{k}" for k in range(MAX_MODALITIES)]
    mix = CrossModalMixup(dict.fromkeys(names, "vector"), method="independent", alpha=1.0)
    mixed = mix({name: torch.randn(2, 3) for name in names}, eye(2), step=0)
    assert len({part.weight for part in mixed.plan.parts}) == 8
    with pytest.raises(ValueError, match="1 to 8 tensors, got 9"):
        CrossModalMixup(dict.fromkeys([*names, "one_more"], "vector"))
    with pytest.raises(ValueError, match="1 to 8 tensors, got 0"):
        CrossModalMixup({})


# Methods that are chosen --------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("image", "text"), ("text", "image", "audio")])
def test_the_name_of_a_tensor_mixes_that_one_alone(names):
    tensors = noise(names, 4)
    mixed = mixer(names, method="text", law="fixed", lam=0.25)(tensors, eye(4), step=0)
    assert fitted(tensors["text"], mixed.tensors["text"], mixed.plan.partner) == pytest.approx(
        [0.25] * 4
    )
    assert of_diagonal(mixed.targets["text"]) == [0.25] * 4
    for name in set(names) - {"text"}:
        assert torch.equal(mixed.tensors[name], tensors[name])
        assert of_diagonal(mixed.targets[name]) == [1.0] * 4
    fused = (0.25 + len(names) - 1) / len(names)
    assert of_diagonal(mixed.target) == pytest.approx([fused] * 4)


def test_video_alone_is_what_avmix_calls_so():
    tensors = noise(("video", "text"), 4)
    mixed = mixer(("text", "video"), method="video")(tensors, eye(4), step=0)
    assert mixed.plan.method == "video"
    assert torch.equal(mixed.tensors["text"], tensors["text"])
    assert not torch.equal(mixed.tensors["video"], tensors["video"])


def test_the_plan_is_the_one_that_avmix_draws_at_this_address():
    names, size = ("video", "mel"), 5
    for method in ("mixup", "independent", "cutmix_temporal", "cutmix_spatiotemporal"):
        mix = mixer(names, method=method, seed=3, rank=2, alpha=0.5, dominant=True)
        mixed = mix(noise(names, size), eye(size), step=7, epoch=1)
        grids = {
            "video": Grid(domain="pixels", shape=(4, 6, 10), time_axis=0, first_seconds=1 / 8,
                          step_seconds=1 / 4, frame_axes=(1, 2)),
            "mel": Grid(domain="log_mel", shape=(8, 20), time_axis=1, first_seconds=1 / 40,
                        step_seconds=1 / 20, band_axis=0),
        }  # fmt: skip
        clips = Clips(
            present=tuple((name, (True,) * size) for name in names),
            source=tuple(range(size)),
            labels=(frozenset(),) * size,
        )
        config = MixConfig(method=method, alpha=0.5, dominant=True)
        own = rng(3, 1, "mix", 7, 2)
        assert mixed.plan == draw_plan(config, clips, grids, shared=rng(0, 0, "order"), own=own)


def test_switch_and_probability_choose_by_their_shares():
    switch = {"mixup": 0.5, "cutmix_spatial": 0.3, "text": 0.2}
    mix = mixer(("image", "text"), switch=switch, probability=0.5)
    tensors, found = noise(("image", "text"), 2), dict.fromkeys([*switch, "none"], 0)
    for step in range(400):
        plan = mix(tensors, eye(2), step=step).plan
        alone = plan.method == "mixup" and not plan.part("image").mixes
        found["text" if alone else plan.method] += 1
        assert plan.mixes == (plan.method != "none")
    # Four standard deviations of 400 draws are 0.1.
    for word, share in {"mixup": 0.25, "cutmix_spatial": 0.15, "text": 0.1, "none": 0.5}.items():
        assert abs(found[word] / 400 - share) < 0.1, found
    never = mixer(("image", "text"), switch=switch, probability=0.0)
    assert not any(never(tensors, eye(2), step=step).plan.mixes for step in range(50))


def test_dropout_takes_one_tensor_of_rows_that_have_all():
    names = ("image", "text", "audio")
    mix = mixer(names, method="mixup+dropout", drop={"image": 0.5, "text": 0.0, "audio": 0.25})
    size = 400
    has = {"audio": [i % 2 == 0 for i in range(size)]}
    mixed = mix(noise(names, size), torch.zeros(size, 2), step=0, present=has)
    image, text, audio = (mixed.present[name] for name in names)
    whole = torch.tensor(has["audio"])
    assert text.all()
    assert image[~whole].all()
    assert not audio[~whole].any()
    assert (image | audio)[whole].all()
    # 200 rows have all: four standard deviations are 0.14 and 0.12.
    assert abs(float((~image[whole]).float().mean()) - 0.5) < 0.14
    assert abs(float((~audio[whole]).float().mean()) - 0.25) < 0.12
    # By mask alone, and with the label of what is left.
    plain = mixer(names)(noise(names, size), torch.zeros(size, 2), step=0, present=has)
    for name in names:
        assert torch.equal(plain.tensors[name], mixed.tensors[name])
    off = mixer(names, method="dropout", probability=0.0)
    assert off(noise(names, size), torch.zeros(size, 2), step=0).present["image"].all()
    default = mixer(names, method="text+dropout")(noise(names, size), torch.zeros(size, 2), step=0)
    for name in names:
        assert 10 <= int((~default.present[name]).sum()) <= 80  # of 400, 40 expected


def test_one_lambda_and_one_box_for_a_batch():
    tensors = noise(("video", "mel"), 6)
    for method in ("mixup", "cutmix_spatiotemporal"):
        mix = mixer(("video", "mel"), method=method, per="batch", pairing="derangement")
        plans = [mix(tensors, eye(6), step=step).plan for step in range(6)]
        assert all(len(set(plan.lam)) == 1 for plan in plans)
        assert len({plan.lam for plan in plans}) > 1
        assert all(len(set(part.box)) == 1 for plan in plans for part in plan.parts if part.box)


# What is known of the rows ------------------------------------------------------------------------


def test_a_tensor_that_one_of_a_pair_lacks_stays_as_it_is():
    tensors = noise(("image", "text"), 4)
    tensors["text"][1] = float("nan")
    tensors["text"][2] = float("inf")
    before = {name: x.clone() for name, x in tensors.items()}
    mix = mixer(("image", "text"), pairing="roll", law="fixed", lam=0.25, debug=True)
    mixed = mix(tensors, eye(4), step=0, present={"text": torch.tensor([True, False, False, True])})
    # Row i takes row i + 1: only row 3 and its partner 0 both have text.
    for i in range(3):
        np.testing.assert_array_equal(mixed.tensors["text"][i], before["text"][i])
    both = 0.25 * before["text"][3] + 0.75 * before["text"][0]
    torch.testing.assert_close(mixed.tensors["text"][3], both)
    assert of_diagonal(mixed.targets["text"]) == [1.0, 1.0, 1.0, 0.25]
    assert of_diagonal(mixed.targets["image"]) == [0.25] * 4
    # The mean over what the row has: rows 1 and 2 have the image only.
    assert of_diagonal(mixed.target) == pytest.approx([0.625, 0.25, 0.25, 0.25])
    assert mixed.present["text"].tolist() == [True, False, False, True]
    assert mixed.present["image"].tolist() == [True] * 4


def test_rows_of_one_recording_are_not_mixed():
    tensors = noise(("image", "text"), 4)
    mix = mixer(("image", "text"), pairing="roll", law="fixed", lam=0.0)
    mixed = mix(tensors, eye(4), step=0, source=["a", "a", "b", "c"])
    assert of_diagonal(mixed.target) == [1.0, 0.0, 0.0, 0.0]
    assert torch.equal(mixed.tensors["image"][0], tensors["image"][0])
    assert torch.equal(mixed.tensors["image"][1], tensors["image"][2])
    again = mix(tensors, eye(4), step=0, source=torch.tensor([5, 5, 9, 7]))
    assert same(mixed, again)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_a_mix_has_a_label_when_all_that_is_in_it_is_known(dtype):
    labels = torch.tensor([2, -100, 0, 1], dtype=dtype)
    for name in ("mixup", "text"):
        mix = mixer(("image", "text"), method=name, pairing="roll", law="fixed", lam=0.25)
        mixed = mix(noise(("image", "text"), 4), labels, step=0, num_classes=3,
                    source=[0, 1, 2, 2])  # fmt: skip
        assert mixed.known.tolist() == [False, False, True, True]  # row 2 keeps its own
        share = 0.25 if name == "mixup" else 0.625
        assert mixed.target[3].tolist() == pytest.approx([0.0, share, 1 - share])
        assert mixed.target[2].tolist() == [1.0, 0.0, 0.0]
    swapped = mixer(("image", "text"), pairing="roll", law="fixed", lam=0.0)
    mixed = swapped(noise(("image", "text"), 4), labels, step=0, num_classes=3)
    assert mixed.known.tolist() == [False, True, True, True]


def test_class_156_of_bytes_is_a_class():
    # -100, which is not known, is 156 when it is forced into a byte.
    labels = torch.tensor([156, 0], dtype=torch.uint8)
    mixed = mixer(("text",), num_classes=200)(noise(("text",), 2), labels, step=0)
    assert mixed.known.all()
    assert mixed.target.sum(1).tolist() == pytest.approx([1.0, 1.0])


def test_soft_and_multi_hot_labels_of_any_float_type():
    soft = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])
    tensors = noise(("image", "text"), 2)
    options = {"law": "fixed", "lam": 0.25, "label_smoothing": 0.3}
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        mixed = mixer(("image", "text"), **options)(tensors, soft.to(dtype), step=0)
        # 0.7 * (0.25 * own + 0.75 * other) + 0.3 / 3
        expected = [[0.1875, 0.31875, 0.49375], [0.3625, 0.40625, 0.23125]]
        torch.testing.assert_close(mixed.target, torch.tensor(expected))
        torch.testing.assert_close(mixed.targets["text"], torch.tensor(expected))
        assert mixed.known.all()
    either = mixer(("image", "text"), law="fixed", lam=0.25, labels="max")
    hot = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert either(tensors, hot, step=0).target.tolist() == [[1, 0, 1], [1, 0, 1]]


@pytest.mark.parametrize("soft", [False, True])
def test_pairings_by_class_know_the_classes(soft):
    labels = torch.tensor([0, 1, 0, 1, 2, -100, -100])
    given = torch.eye(4)[labels.clamp(min=0)] if soft else labels
    classes = labels.clamp(min=0) if soft else labels
    tensors = noise(("image", "text"), 7)
    for step in range(10):
        for pairing in ("different_class", "same_class"):
            mix = mixer(("image", "text"), pairing=pairing, num_classes=4)
            partner = mix(tensors, given, step=step).plan.partner
            alone = [i for i in range(7) if partner[i] == i]
            # Two whose class is not known have none in common.
            equal = [bool(classes[i] == classes[j] >= 0) for i, j in enumerate(partner) if i != j]
            if pairing == "same_class":
                assert all(equal)
                assert alone == ([4] if soft else [4, 5, 6])
            else:
                assert not any(equal)
                assert not alone


def test_one_row_alone_stays_as_it_is():
    tensors = noise(("image", "text"), 1)
    for method in ("mixup", "independent", "cutmix_spatial", "text"):
        mixed = mixer(("image", "text"), method=method)(tensors, torch.tensor([2]), step=0,
                                                        num_classes=3)  # fmt: skip
        assert mixed.target.tolist() == [[0.0, 0.0, 1.0]]
        for name, x in tensors.items():
            assert torch.equal(mixed.tensors[name], x)


def test_of_a_second_batch_only_partners_are_used():
    tensors = noise(("image", "text"), 6)
    mixed = mixer(("image", "text"), pairing="second_batch")(tensors, eye(6), step=0)
    assert {len(x) for x in mixed.tensors.values()} == {3}
    assert mixed.target.shape == (3, 6)
    assert {len(x) for x in (mixed.known, *mixed.present.values())} == {3}
    assert sorted(mixed.plan.partner) == [3, 4, 5]
    for name, x in tensors.items():
        lam = np.array(mixed.plan.lam).reshape(-1, *[1] * (x.ndim - 1))
        expected = lam * x[:3].numpy() + (1 - lam) * x[list(mixed.plan.partner)].numpy()
        np.testing.assert_allclose(mixed.tensors[name], expected, atol=1e-6)
    unmixed = mixer(("image", "text"), pairing="second_batch", method="none")
    assert torch.equal(unmixed(tensors, eye(6), step=0).tensors["text"], tensors["text"][:3])


# Addresses and plans ------------------------------------------------------------------------------


def test_only_the_address_decides():
    names = ("image", "text")
    tensors, switch = noise(names, 16), {"mixup": 0.5, "cutmix_spatial": 0.5}
    mix = mixer(names, switch=switch, seed=4)
    first = [mix(tensors, eye(16), step=step) for step in range(6)]
    resumed = mixer(names, switch=switch, seed=4)
    torch.manual_seed(99)
    for step in (5, 2, 3):
        assert same(resumed(tensors, eye(16), step=step), first[step])
    state = torch.get_rng_state()
    plans = [mix(tensors, eye(16), step=3).plan]
    plans += [mixer(names, switch=switch, seed=5)(tensors, eye(16), step=3).plan]
    plans += [mix(tensors, eye(16), step=3, epoch=1).plan, first[2].plan]
    assert len({plan.partner for plan in plans}) == len(plans)
    assert len({plan.lam for plan in plans}) == len(plans)
    assert torch.equal(torch.get_rng_state(), state)


def test_ranks_draw_their_own_numbers_and_the_same_method():
    names, switch = ("image", "text"), {"mixup": 0.4, "cutmix_spatial": 0.3, "none+dropout": 0.3}
    ranks = [mixer(names, switch=switch, probability=0.8, rank=rank) for rank in range(3)]
    tensors, methods = noise(names, 16), set()
    for step in range(30):
        plans = [mix(tensors, eye(16), step=step).plan for mix in ranks]
        assert len({plan.method for plan in plans}) == 1
        assert len({plan.partner for plan in plans}) == 3
        methods.add(plans[0].method)
    assert methods == {"mixup", "cutmix_spatial", "none"}


def test_the_rank_is_that_of_the_process_group():
    from torch.testing._internal.distributed.fake_pg import FakeStore

    tensors = noise(("image", "text"), 16)
    mix = mixer(("image", "text"))
    alone = mix(tensors, eye(16), step=0)
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=1, world_size=2)
    try:
        second = mix(tensors, eye(16), step=0)
    finally:
        torch.distributed.destroy_process_group()
    assert same(alone, mixer(("image", "text"), rank=0)(tensors, eye(16), step=0))
    assert same(second, mixer(("image", "text"), rank=1)(tensors, eye(16), step=0))


@pytest.mark.parametrize(
    ("names", "method"),
    [*POSSIBLE, (("image", "text"), "text"), (("image", "audio", "text"), "mixup+dropout")],
)
def test_a_plan_from_json_gives_the_same_mix(names, method):
    mix, tensors = mixer(names, method=method, labels="max", label_smoothing=0.1), noise(names, 8)
    tensors[names[0]][0] = float("nan")
    has = {names[0]: [False] + [True] * 7}
    mixed = mix(tensors, torch.arange(8), step=1, present=has, num_classes=8)
    line = mixed.plan.to_json()
    json.loads(line)
    plan = MixPlan.from_json(line)
    again = mix.replay(plan, tensors, torch.arange(8), num_classes=8)
    assert same(replace_nan(mixed), replace_nan(again))
    assert mixed.tensors[names[0]][1:].isfinite().all()


def replace_nan(mixed: Mixed) -> Mixed:
    """NaN is not equal to itself."""
    return replace(mixed, tensors={n: x.nan_to_num(nan=7e7) for n, x in mixed.tensors.items()})


def test_plans_of_others_are_refused():
    names = ("video", "audio")
    mix, tensors = mixer(names, method="cutmix_temporal"), noise(names, 4)
    plan = next(
        plan
        for plan in (mix(tensors, eye(4), step=step).plan for step in range(99))
        if all(part.box for part in plan.parts)
    )
    audio = plan.part("audio")
    with pytest.raises(ValueError, match="the plan is for 4 clips, there are 3"):
        mix.replay(plan, noise(names, 3), eye(3))
    with pytest.raises(ValueError, match="the plan is for video, the tensors are video, audio"):
        mix.replay(replace(plan, parts=plan.parts[:1]), tensors, eye(4))
    whole = tuple(replace(part, box=None, shape=()) for part in plan.parts)
    with pytest.raises(ValueError, match="mixup@feature is for the engine"):
        mix.replay(replace(plan, level="feature", method="mixup", parts=whole), tensors, eye(4))
    with pytest.raises(ValueError, match="energy@input is for the engine"):
        mix.replay(replace(plan, method="energy", energy_limit_db=20.0), tensors, eye(4))
    log_mel = replace(plan, parts=(plan.parts[0], replace(audio, domain="log_mel")))
    with pytest.raises(ValueError, match="the plan mixes log_mel of audio, which is waveform"):
        mix.replay(log_mel, tensors, eye(4))
    with pytest.raises(ValueError, match=r"audio: .* \(400,\), the tensor is \(4, 399\)"):
        mix.replay(plan, tensors | {"audio": torch.zeros(4, 399)}, eye(4))
    with pytest.raises(ValueError, match="the plan mixes features of video, which is pixels"):
        mix.replay(unmixed_plan({n: [True] * 4 for n in names}), tensors, eye(4))


# Gradients, types, devices ------------------------------------------------------------------------


def test_gradients_reach_both_of_a_pair():
    tensors = {name: x.requires_grad_() for name, x in noise(("image", "text"), 4).items()}
    mixed = mixer(("image", "text"), pairing="roll", law="fixed", lam=0.25)(tensors, eye(4), step=0)
    for name, x in tensors.items():
        (gradient,) = torch.autograd.grad(mixed.tensors[name][1].sum(), x)
        expected = torch.tensor([0.0, 0.25, 0.75, 0.0]).view(-1, *[1] * (x.ndim - 1))
        torch.testing.assert_close(gradient, expected.expand_as(gradient))


def test_autocast_changes_nothing():
    mix, tensors = mixer(("image", "text")), noise(("image", "text"), 8)
    with torch.autocast("cpu", torch.bfloat16):
        inside = mix(tensors, eye(8), step=0)
    assert same(inside, mix(tensors, eye(8), step=0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_lambdas_of_one_and_zero_are_exact(dtype):
    generator = torch.Generator().manual_seed(0)
    tensors = {n: torch.randn(4, *SHAPES[n], generator=generator, dtype=torch.float64).to(dtype)
               for n in ("image", "text")}  # fmt: skip
    for lam, rows in ((1.0, [0, 1, 2, 3]), (0.0, [1, 2, 3, 0])):
        mix = mixer(("image", "text"), pairing="roll", law="fixed", lam=lam)
        mixed = mix(tensors, eye(4), step=0)
        for name, x in tensors.items():
            assert torch.equal(mixed.tensors[name], x[rows])
        assert torch.equal(mixed.target, eye(4)[rows])


@pytest.mark.needs_cuda
@pytest.mark.parametrize("on", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "method", ["mixup", "cutmix_temporal", "cutmix_spatiotemporal", "text+dropout"]
)
def test_a_gpu_gives_the_same_and_is_not_waited_for(method, on):
    names = ("video", "mel", "text")
    mix, tensors = mixer(names, method=method, num_classes=8), noise(names, 8)
    here = mix(tensors, torch.arange(8), step=0)
    there = {name: x.cuda() for name, x in tensors.items()}
    labels = torch.arange(8, device=on)
    mix(there, labels, step=1)
    torch.cuda.synchronize()
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        mixed = mix(there, labels, step=0, present={"text": [True] * 8})
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    assert mixed.plan == here.plan
    torch.testing.assert_close(mixed.target.cpu(), here.target)
    for name in names:
        torch.testing.assert_close(mixed.tensors[name].cpu(), here.tensors[name])
        assert torch.equal(mixed.present[name].cpu(), here.present[name])


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, r"alpha must be > 0 and finite, got 0.0"),
        ({"alpha": float("nan")}, r"alpha must be > 0 and finite, got nan"),
        ({"law": "fixed", "lam": 1.5}, r"lam must be in \[0, 1\], got 1.5"),
        ({"lam": 0.3}, "lam=0.3 is for law 'fixed', but law is 'beta'"),
        ({"alpha": 0.3, "law": "uniform"}, "alpha=0.3 is for law 'beta', but law is 'uniform'"),
        ({"law": "gamma"}, "law must be one of beta, uniform, fixed, got 'gamma'"),
        ({"pairing": "best"}, "pairing must be one of involution, .*, got 'best'"),
        ({"per": "row"}, "per must be one of sample, batch, got 'row'"),
        ({"labels": "mean"}, "labels must be one of sum, max, got 'mean'"),
        ({"probability": 1.1}, r"probability must be in \[0, 1\], got 1.1"),
        (
            {"method": "mixdown"},
            "'mixdown' is not a mixing method; .*; or METHOD is one of image, t",
        ),
        ({"method": "audio"}, "'audio': no tensor is called so, only image, text"),
        ({"method": "energy"}, "'energy' is for the engine"),
        ({"switch": {"mixup": 0.5, "cross": 0.5}}, "'cross' is for the engine"),
        ({"method": "mixup@feature"}, "'mixup@feature' happens inside .* kind 'vector'"),
        ({"method": "mixup@layer"}, "'mixup@layer' happens inside a network"),
        ({"method": "cutmix_temporal"}, "'cutmix_temporal': no .* time axis to cut: image, text"),
        ({"switch": {"cutmix_frequency": 0.0, "mixup": 1.0}}, "no modality has a frequency axis"),
        ({"switch": {"mixup": 0.5}}, "add up to 1, got {'mixup': 0.5}"),
        ({"switch": {"mixup": 1.5, "text": -0.5}}, "probabilities >= 0"),
        ({"switch": {"mixup": 1.0}, "method": "text"}, "'text' and switch .*: give one of them"),
        ({"drop": {"text": 0.1}}, r"drop={'text': 0.1} is for methods with \+dropout"),
        ({"drop": {"audio": 0.1}, "method": "dropout"}, "drop: no tensor is called 'audio'"),
        ({"drop": {"text": 0.6, "image": 0.6}, "method": "dropout"}, "add up to at most 1"),
        ({"drop": {"text": -0.1}, "method": "dropout"}, "shares >= 0"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1.0"),
        ({"num_classes": 0}, "num_classes must be >= 1, got 0"),
        ({"seed": -1}, "seed must be in .*, got -1"),
        ({"rank": -1}, "rank must be in .*, got -1"),
    ],
)
def test_options_without_meaning_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CrossModalMixup({"image": "image", "text": "vector"}, **options)


def test_kinds_and_names_without_meaning_are_refused():
    # (Of a mapping, the type checker of the tests looks at the first item only.)
    kinds: Any = {"text": "vector", "image": "frame"}
    with pytest.raises(ValueError, match=r"image must be one of vector, .*, got 'frame'"):
        CrossModalMixup(kinds)
    with pytest.raises(ValueError, match="'mixup' is a method"):
        CrossModalMixup({"mixup": "vector"})
    with pytest.raises(ValueError, match="nothing of a row: it has text only"):
        CrossModalMixup({"text": "vector"}, method="text+dropout")


IMAGE, TEXT, LABELS = torch.zeros(4, 3, 6, 10), torch.zeros(4, 7), torch.arange(4)
BROKEN = TEXT.clone()
BROKEN[2, 1] = float("nan")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio": torch.zeros(4, 9)}, "was not told of audio, only of image, text"),
        ({"text": None}, "text missing: the tensors are image, text"),
        ({"text": torch.zeros(3, 7)}, "image has 4 rows, text has 3"),
        ({"text": torch.zeros(4, 7, 1)}, r"text is of kind vector, \(b d\), .* \(4, 7, 1\)"),
        ({"image": torch.zeros(4, 3, 6)}, r"image is of kind image, \(b c h w\), .* \(4, 3, 6\)"),
        ({"image": torch.zeros(())}, r"image is of kind image, \(b c h w\), but has shape \(\)"),
        ({"text": torch.zeros(4, 0)}, r"shape \(4, 0\)"),
        ({"image": IMAGE[:0], "text": TEXT[:0]}, r"shape \(0, 3, 6, 10\)"),
        ({"image": IMAGE.byte()}, "image is uint8: mixing would round; normalise it first"),
        ({"text": TEXT.long()}, "text is torch.int64, which cannot be mixed; embed it first"),
        ({"text": TEXT.to("meta")}, "image is on cpu, text on meta"),
        ({"text": BROKEN}, r"text is not finite in rows \[2\]"),
        ({"labels": LABELS[:3]}, "labels has 3 rows, image has 4"),
        ({"labels": LABELS + 3}, r"labels must be in \[0, 5\) or -100 .*, got \[5, 6\]"),
        ({"labels": LABELS - 3}, r"labels must be in \[0, 5\) or -100 .*, got \[-3, -2, -1\]"),
        ({"labels": torch.zeros(4)}, r"labels must be .*, got torch.float32 of shape \(4,\)"),
        ({"labels": torch.zeros(4, 5).long()}, r"labels must be .* torch.int64 of shape \(4, 5\)"),
        ({"labels": LABELS > 1}, "labels must be .* torch.bool"),
        ({"labels": torch.zeros(4, 3)}, "labels has 3 columns, num_classes is 5"),
        ({"labels": BROKEN[:, :5]}, r"labels is not finite in rows \[2\]"),
        ({"step": -1}, "step must be in .*, got -1"),
        ({"epoch": -1}, "epoch must be in .*, got -1"),
        ({"present": {"audio": [True] * 4}}, "present: no tensor is called 'audio', only image"),
        ({"present": {"text": [True] * 3}}, r"present\['text'\] must be 4 of True or False"),
        ({"present": {"text": torch.ones(4)}}, r"present\['text'\] must be 4 of True or False"),
        ({"source": [1, 2, 3]}, "source has 3 rows, the tensors have 4"),
    ],
)
def test_batches_that_do_not_fit_are_refused(changes, message):
    mix = mixer(("image", "text"), num_classes=5, debug=True)
    options = {"labels": LABELS, "step": 0, **changes}
    tensors = {"image": IMAGE, "text": TEXT}
    tensors |= {n: options.pop(n) for n in ("image", "text", "audio") if n in options}
    tensors = {name: x for name, x in tensors.items() if x is not None}
    with pytest.raises(ValueError, match=message):
        mix(tensors, options.pop("labels"), **options)


def test_class_numbers_need_their_number():
    mix, tensors = mixer(("image", "text")), {"image": IMAGE, "text": TEXT}
    with pytest.raises(ValueError, match="give num_classes, or one-hot rows"):
        mix(tensors, LABELS, step=0)
    assert mix(tensors, LABELS, step=0, num_classes=9).target.shape == (4, 9)
    with pytest.raises(ValueError, match="3 clips are not even"):
        mixer(("text",), pairing="second_batch")({"text": TEXT[:3]}, eye(3), step=0)


def test_labels_may_be_arrays_and_lists():
    mix, tensors = mixer(("image", "text"), num_classes=5), {"image": IMAGE, "text": TEXT}
    right = mix(tensors, LABELS, step=3).target
    soft = mix(tensors, eye(5)[LABELS], step=3).target
    assert torch.equal(right, soft)
    for same in (LABELS.tolist(), LABELS.numpy(), tuple(LABELS.tolist()), LABELS.numpy() + 0,
                 eye(5)[LABELS].tolist(), eye(5)[LABELS].double().numpy()):  # fmt: skip
        mixed = mix(tensors, same, step=3)
        assert torch.equal(mixed.target, right)
        assert torch.equal(mix.replay(mixed.plan, tensors, same).target, right)
    for wrong in (["a", "b", "c", "d"], [[1], [2, 3], [4], [5]], [None] * 4):
        with pytest.raises(ValueError, match=r"labels must be \(b\) integers or \(b k\) floats"):
            mix(tensors, wrong, step=3)


def test_what_is_not_finite_is_looked_for_in_debug_mode_only():
    tensors = {"image": IMAGE, "text": BROKEN}
    mixer(("image", "text"))(tensors, eye(4), step=0)
    mix = mixer(("image", "text"), debug=True)
    mix(tensors, eye(4), step=0, present={"text": [True, True, False, True]})


def test_the_example_of_the_documentation_runs():
    text = (Path(__file__).parents[1] / "docs/dropin.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "docs/dropin.md", "exec"), {})


def test_numbers_and_booleans_of_numpy_and_torch_are_as_good_as_those_of_python():
    mix = CrossModalMixup({"x": "vector"}, num_classes=2)
    tensors, labels = {"x": torch.randn(4, 3)}, torch.tensor([0, 1, 0, 1])
    has = [True, True, False, True]
    plain = mix(tensors, labels, step=7, present={"x": has}).plan
    for step in (np.int64(7), np.uint8(7), torch.tensor(7)):
        for present in (np.array(has), list(np.array(has)), torch.tensor(has)):
            assert mix(tensors, labels, step=step, present={"x": present}).plan == plain
    with pytest.raises(ValueError, match="step must be a whole number, got"):
        mix(tensors, labels, step=torch.tensor(7.5))


def test_deeply_nested_json_is_no_plan():
    with pytest.raises(ValueError, match="not a plan"):
        MixPlan.from_json("[" * 200_000)
