"""Plans: what they say, that they survive being written down, and what is no plan."""

import json
import math
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avmix.config import ClipConfig, FrontendConfig, MixConfig
from avmix.config.mix_method import parse_mix_method
from avmix.mix import (
    Clips,
    MixPlan,
    Part,
    clip_grids,
    draw_plan,
    mixed_targets,
    unmixed_plan,
)
from avmix.mix.mix_plan import volume, with_presence
from avmix.rng import rng

CPU = torch.device("cpu")
CLIP = ClipConfig(duration_seconds=1.0, num_frames=4, sample_rate=2000, short_side=8, crop=8)
FRONTEND = FrontendConfig(num_mels=8, n_fft=128, hop_length=64)

VIDEO = Part(
    name="video",
    domain="pixels",
    weight=(0.25, 0.0, 1.0),
    present=(True, True, False),
    box=((0, 2, 0, 4, 1, 3), (1, 1, 0, 4, 0, 4), (0, 2, 0, 4, 0, 4)),
    shape=(2, 4, 4),
)
AUDIO = Part(name="audio", domain="log_mel", weight=(0.5, 0.1, 1.0), present=(True, False, True))
WHOLE = (replace(VIDEO, box=None, shape=()), AUDIO)
PLAN = MixPlan(num_inputs=4, partner=(3, 0, 2), method="cutmix_spatial", level="input",
               parts=(VIDEO, AUDIO))  # fmt: skip


def test_own_shares_by_hand():
    # Half of the frame is cut, in which 0.25 is its own; nothing is; everything, of weight 1.
    assert VIDEO.lam == (1 - 0.75 * 16 / 32, 1.0, 1.0) == (0.625, 1.0, 1.0)
    assert AUDIO.lam == (0.5, 0.1, 1.0)
    assert volume((0, 2, 0, 4, 1, 3)) == 16
    assert volume((1, 1, 0, 4, 0, 4)) == 0


def test_the_fused_share_is_the_mean_over_what_the_clip_has():
    assert PLAN.lam == ((0.625 + 0.5) / 2, 1.0, 1.0)
    nothing = with_presence(PLAN, {"video": (False,) * 3, "audio": (False, True, False)})
    assert nothing.lam == (1.0, 0.1, 1.0)
    assert [part.present for part in nothing.parts] == [(False,) * 3, (False, True, False)]
    assert nothing.part("video").weight == VIDEO.weight


def test_equal_shares_have_themselves_for_a_mean_to_the_bit():
    lam = tuple(torch.rand(1000, dtype=torch.float64).tolist())
    for number in (1, 2):
        parts = tuple(
            Part(name=str(k), domain="features", weight=lam, present=(True,) * 1000)
            for k in range(number)
        )
        plan = MixPlan(num_inputs=1000, partner=(0,) * 1000, method="mixup", level="input",
                       parts=parts)  # fmt: skip
        assert plan.lam == lam


def test_whether_anything_is_mixed():
    assert VIDEO.mixes
    assert PLAN.mixes
    still = replace(VIDEO, weight=(1.0,) * 3)
    assert not still.mixes
    assert not replace(PLAN, parts=(still,)).mixes
    assert replace(PLAN, parts=(still, AUDIO)).mixes


def test_parts_are_found_by_name():
    assert PLAN.part("audio") is AUDIO
    placed = PLAN.to(CPU)
    assert placed.part("video").part is VIDEO
    for plan in (PLAN, placed):
        with pytest.raises(ValueError, match="happens to 'text', only to video, audio"):
            plan.part("text")


def test_an_unmixed_plan():
    plan = unmixed_plan({"video": [True, False], "audio": [False, True]}, {"video": "pixels"})
    assert plan.partner == (0, 1)
    assert (plan.size, plan.num_inputs) == (2, 2)
    assert not plan.mixes
    assert plan.lam == (1.0, 1.0)
    assert [part.present for part in plan.parts] == [(True, False), (False, True)]
    assert [part.domain for part in plan.parts] == ["pixels", "features"]


def test_one_clip_of_a_plan():
    one = PLAN.of_one(0)
    assert (one.num_inputs, one.partner) == (2, (1,))
    assert one.part("video").box == ((0, 2, 0, 4, 1, 3),)
    assert one.part("video").weight == (0.25,)
    assert one.part("video").present == (True,)
    assert one.part("audio").box is None
    assert one.lam == PLAN.lam[:1]
    assert PLAN.of_one(1).part("audio").present == (False,)
    assert PLAN.of_one(2).partner == (0,)  # its own partner
    for place in (-1, 3):
        with pytest.raises(ValueError, match=f"of 3 clips, there is no clip {place}"):
            PLAN.of_one(place)


def test_a_plan_for_another_number_of_clips_is_refused():
    assert PLAN.for_size(4) is PLAN
    with pytest.raises(ValueError, match="the plan is for 4 clips, there are 3"):
        PLAN.for_size(3)


def test_on_a_device_it_is_the_same_numbers():
    check_placed(PLAN)


def check_placed(plan: MixPlan) -> None:
    placed = plan.to(CPU)
    assert placed.plan is plan
    assert same(placed.partner, plan.partner, torch.int32)
    assert same(placed.lam, plan.lam, torch.float32)
    assert [part.part for part in placed.parts] == list(plan.parts)
    for part in placed.parts:
        assert same(part.partner, plan.partner, torch.int32)
        assert same(part.weight, part.part.weight, torch.float32)
        assert same(part.lam, part.part.lam, torch.float32)
        assert same(part.present, part.part.present, torch.bool)
        assert (part.box is None) == (part.part.box is None)
        if part.box is not None:
            assert part.part.box is not None
            assert same(part.box, part.part.box, torch.int32)


def same(tensor: torch.Tensor, values: Any, dtype: torch.dtype) -> bool:
    """Bit for bit, shape and type too."""
    expected = torch.tensor(values, dtype=dtype)
    return (
        tensor.dtype == dtype and tensor.shape == expected.shape and torch.equal(tensor, expected)
    )


# Written down -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        unmixed_plan({"video": [True], "audio": [False]}),
        replace(PLAN, method="mixup", level="layer", stage=2, parts=WHOLE),
        replace(PLAN, method="cross", level="feature", path="sphere", parts=WHOLE),
        replace(PLAN, method="energy", energy_limit_db=20.0),
    ],
)
def test_a_plan_survives_being_written_down(plan):
    text = plan.to_json()
    assert "\n" not in text
    assert MixPlan.from_json(text) == plan
    # And a line of plans_rankN.jsonl, which says where it was drawn.
    line = json.dumps({"epoch": 1, "step": 2, "rows": [4, 5, 6], "plan": asdict(plan)})
    assert MixPlan.from_json(line) == plan


def test_a_plan_written_by_others_may_have_whole_numbers():
    text = PLAN.to_json().replace("0.0", "0").replace("1.0", "1")
    assert text != PLAN.to_json()
    assert MixPlan.from_json(text) == PLAN


def edited(at: list, value: Any) -> str:
    """The plan as JSON with one value replaced (... : left out)."""
    found = json.loads(PLAN.to_json())
    place = found
    for key in at[:-1]:
        place = place[key]
    if value is ...:
        del place[at[-1]]
    else:
        place[at[-1]] = value
    return json.dumps(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a plan: Expecting value"),
        (PLAN.to_json()[:-1], "not a plan: Expecting"),
        ("[]", r"the plan cannot be \[\]"),
        ("3", "the plan cannot be 3"),
        ("null", "the plan cannot be None"),
        ("{}", "not a plan: .*missing.*num_inputs"),
        ('{"plan": 3}', "the plan cannot be 3"),
        ('{"plan": {}}', "not a plan: .*missing.*num_inputs"),
        (edited(["partner"], ...), "not a plan: .*missing.*'partner'"),
        (edited(["parts"], ...), "not a plan: .*missing.*'parts'"),
        (edited(["parts", 0, "weight"], ...), "not a plan: .*missing.*'weight'"),
        (edited(["lambda"], 1), "the plan has no field lambda"),
        (edited(["parts", 1, "lam"], [0.5]), "parts has no field lam"),
        (edited(["num_inputs"], [4]), r"num_inputs cannot be \[4\]"),
        (edited(["num_inputs"], 4.0), r"num_inputs cannot be 4\.0"),
        (edited(["num_inputs"], "4"), "num_inputs cannot be '4'"),
        (edited(["num_inputs"], True), "num_inputs cannot be True"),
        (edited(["partner"], 1), "partner cannot be 1"),
        (edited(["partner"], [[3], 0, 2]), r"partner cannot be \[3\]"),
        (edited(["partner"], [3.0, 0, 2]), r"partner cannot be 3\.0"),
        (edited(["partner"], "302"), "partner cannot be '302'"),
        (edited(["parts"], {}), "parts cannot be {}"),
        (edited(["parts", 0], 5), "parts cannot be 5"),
        (edited(["parts", 0, "name"], 5), "name cannot be 5"),
        (edited(["parts", 0, "weight"], 0.5), r"weight cannot be 0\.5"),
        (edited(["parts", 0, "weight", 1], [0.5]), r"weight cannot be \[0\.5\]"),
        (edited(["parts", 0, "weight", 1], None), "weight cannot be None"),
        (edited(["parts", 0, "weight", 1], True), "weight cannot be True"),
        (edited(["parts", 0, "present", 1], 1), "present cannot be 1"),
        (edited(["parts", 0, "box", 1], 1), "box cannot be 1"),
        (edited(["parts", 0, "box", 1, 0], 0.5), r"box cannot be 0\.5"),
        (edited(["parts", 0, "shape"], None), "shape cannot be None"),
        (edited(["method"], "mixupp"), "method cannot be 'mixupp'"),
        (edited(["method"], ["mixup"]), r"method cannot be \['mixup'\]"),
        (edited(["level"], "inputs"), "level cannot be 'inputs'"),
        (edited(["stage"], "1"), "stage cannot be '1'"),
        (edited(["path"], "straight"), "path cannot be 'straight'"),
        (edited(["energy_limit_db"], [20]), r"energy_limit_db cannot be \[20\]"),
        # What any plan is refused for.
        (edited(["partner", 0], 4), r"partner must be in \[0, 4\), got \(4, 0, 2\)"),
        (edited(["parts", 0, "weight", 1], 1.5), r"video: weights must be in \[0, 1\].*1\.5"),
    ],
)  # fmt: skip
def test_what_is_no_plan_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        MixPlan.from_json(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"partner": (3, 0, 4)}, r"partner must be in \[0, 4\), got \(3, 0, 4\)"),
        ({"partner": (-1, 0, 2)}, r"partner must be in \[0, 4\), got \(-1, 0, 2\)"),
        ({"num_inputs": 2, "partner": (1, 0, 1)}, "3 clips cannot come out of 2"),
        ({"partner": (3, 0)}, "video: 3 of weight for 2 partners"),
        ({"level": "layer"}, "level layer does not go with stage None"),
        ({"level": "layer", "stage": -1}, "level layer does not go with stage -1"),
        ({"stage": 1}, "level input does not go with stage 1"),
        ({"stage": -1}, "level input does not go with stage -1"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PLAN, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": (0.5,)}, "video: 1 of weight for 3 partners"),
        ({"present": (True,) * 4}, "video: 4 of present for 3 partners"),
        ({"box": ((0, 2, 0, 4, 0, 4),)}, "video: 1 of box for 3 partners"),
        ({"weight": (0.5, 1.5, 1.0)}, r"video: weights must be in \[0, 1\], got \(0\.5, 1\.5"),
        ({"weight": (0.5, -0.1, 1.0)}, r"video: weights must be in \[0, 1\], got \(0\.5, -0\.1"),
        ({"weight": (0.5, math.nan, 1.0)}, r"video: weights must be in \[0, 1\], got \(0\.5, nan"),
        ({"box": ((0, 2, 0, 4),) * 3}, r"video: no box of \(2, 4, 4\): \(0, 2, 0, 4\)"),
        ({"box": ((0, 3, 0, 4, 0, 4),) * 3}, r"no box of \(2, 4, 4\): \(0, 3, 0, 4, 0, 4\)"),
        ({"box": ((0, 2, 3, 2, 0, 4),) * 3}, r"no box of \(2, 4, 4\): \(0, 2, 3, 2, 0, 4\)"),
        ({"box": ((0, 2, 0, 4, -1, 4),) * 3}, r"no box of \(2, 4, 4\): \(0, 2, 0, 4, -1, 4\)"),
        ({"shape": (4, 4)}, r"video: no box of \(4, 4\)"),
    ],
)
def test_a_part_that_cannot_be_carried_out_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PLAN, parts=(replace(VIDEO, **change), AUDIO))


# Whatever is drawn --------------------------------------------------------------------------------

WORDS = ("none", "mixup", "independent", "video", "audio", "energy", "cross", "cutmix_temporal",
         "cutmix_spatial", "cutmix_spatiotemporal", "cutmix_frequency", "mixup@layer",
         "independent@feature", "video@layer", "audio@feature")  # fmt: skip


@st.composite
def drawings(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Options of `MixConfig`, fields of `Clips` and a seed."""
    pairing = draw(st.sampled_from(["involution", "permutation", "roll", "derangement",
                                    "second_batch", "different_class", "same_class",
                                    "different_source"]))  # fmt: skip
    size = draw(st.integers(1, 8)) * (2 if pairing == "second_batch" else 1)
    word = draw(st.sampled_from(WORDS))
    unfit = {"energy": "log_mel", "cutmix_frequency": "waveform"}.get(word)
    options = {
        "method": word + draw(st.sampled_from(["", "+dropout"])),
        "law": draw(st.sampled_from(["beta", "uniform", "fixed"])),
        "alpha": draw(st.sampled_from([0.01, 0.3, 1.0, 20.0])),
        "dominant": draw(st.booleans()),
        "per": draw(st.sampled_from(["sample", "batch"])),
        "pairing": pairing,
        "audio_domain": draw(
            st.sampled_from([d for d in ("log_mel", "power", "waveform") if d != unfit])
        ),
        "cross_with": draw(st.sampled_from(["own", "partner"])),
        "drop_video": 0.4,
        "drop_audio": 0.4,
    }

    if options["law"] == "fixed":
        options["lam"] = draw(st.sampled_from([0.0, 1e-6, 0.3, 0.5, 0.9999, 1.0]))

    def each(values: st.SearchStrategy) -> tuple:
        return tuple(draw(st.lists(values, min_size=size, max_size=size)))

    clips = {
        "present": (("video", each(st.booleans())), ("audio", each(st.booleans()))),
        "source": each(st.integers(0, 4)),
        "labels": each(st.frozensets(st.integers(0, 2), max_size=2)),
    }
    return options, clips, draw(st.integers(0, 1000))


def drawn(options: dict, fields: dict, seed: int) -> tuple[MixConfig, Clips, MixPlan]:
    config, clips = MixConfig(**options), Clips(**fields)
    grids = clip_grids(CLIP, FRONTEND, config.audio_domain)
    plan = draw_plan(config, clips, grids, shared=rng(seed, 0, "mix_shared"),
                     own=rng(seed, 0, "mix"))  # fmt: skip
    return config, clips, plan


@settings(max_examples=150, deadline=None)
@given(drawings())
def test_rules_that_hold_for_every_plan(drawing):
    config, clips, plan = drawn(*drawing)
    recipe = parse_mix_method(config.method)
    assert (plan.method, plan.level) == (recipe.method, recipe.level)
    assert plan.num_inputs == clips.size
    assert plan.size == clips.size // config.clips_per_mix
    assert [part.name for part in plan.parts] == ["video", "audio"]
    grids = clip_grids(CLIP, FRONTEND, config.audio_domain)
    has = dict(clips.present)
    for part in plan.parts:
        expected = grids[part.name].domain if plan.level == "input" else "features"
        assert part.domain == expected
        assert (part.box is None) == (part.shape == ())
        assert part.shape in ((), grids[part.name].shape)
        assert all(0 <= x <= 1 for x in (*part.weight, *part.lam))
        for i, j in enumerate(plan.partner):
            kept = untouched(config, clips, i, j, part.name)
            assert not kept or part.weight[i] == part.lam[i] == 1.0, (part.name, i)
            assert has[part.name][i] or not part.present[i]
    for i in range(plan.size):
        had = [values[i] for values in has.values()]
        left = [part.present[i] for part in plan.parts]
        assert left == had or (recipe.dropout and all(had) and any(left)), i
        shares = [part.lam[i] for part in plan.parts if part.present[i]]
        mean = sum(shares) / len(shares) if shares else 1.0
        assert plan.lam[i] == pytest.approx(mean, abs=1e-15)
    assert MixPlan.from_json(plan.to_json()) == plan
    check_placed(plan)
    target = torch.eye(clips.size)
    for head in mixed_targets(plan.to(CPU), target):
        assert head.shape == (plan.size, clips.size)
        torch.testing.assert_close(head.sum(1), torch.ones(plan.size))


def untouched(config: MixConfig, clips: Clips, i: int, j: int, name: str) -> bool:
    """Whether this modality of clip i, whose partner is j, must stay as it is."""
    has, method = dict(clips.present), parse_mix_method(config.method).method
    if method == "cross" and config.cross_with == "own":
        return not (has["video"][i] and has["audio"][i])
    names = has if method == "cross" else (name,)
    apart = clips.source[i] != clips.source[j]
    asked = method not in ("none", "video", "audio") or method == name
    return not (asked and apart and all(has[n][k] for n in names for k in (i, j)))


@settings(max_examples=60, deadline=None)
@given(drawings())
def test_what_may_be_mixed_is_mixed(drawing):
    """The other side of the rules: nothing stays unmixed without one of their reasons."""
    config, clips, plan = drawn(*drawing)
    if config.law == "beta" and config.alpha < 1:
        return  # which also gives lambdas of 1
    if plan.method.startswith("cutmix") or config.lam in (0, 1):
        return  # whose boxes may be empty; and dominant, both are 1
    for part in plan.parts:
        for i, j in enumerate(plan.partner):
            # A feature that lost its modality is not crossed with what was dropped.
            lost = plan.method == "cross" and not all(p.present[i] for p in plan.parts)
            if not lost and not untouched(config, clips, i, j, part.name):
                assert part.weight[i] < 1, (part.name, i)
