"""Augmentation of frames: one draw for all of a clip, always inside, by hand where it counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torchvision.transforms.v2 import functional as F

from avmix.augment import VideoPlan, apply_video, centred, draw_video
from avmix.augment.video_transforms import Op, Operation, Rectangle
from avmix.config import AugmentConfig
from avmix.rng import rng

STRIPES = VideoPlan(crop=Rectangle(top=1, left=2, height=4, width=4))


def plans_of(
    config: AugmentConfig, height: int, width: int, count: int, **options: bool
) -> list[VideoPlan]:
    return [
        draw_video(config, height, width, 64, rng(0, 0, "augment", i), **options)
        for i in range(count)
    ]


def crops_of(config: AugmentConfig, height: int, width: int, count: int) -> list[Rectangle]:
    return [plan.crop for plan in plans_of(config, height, width, count)]


def frames(frames: int = 3, height: int = 8, width: int = 10) -> np.ndarray:
    return rng(0, 0, "augment").integers(0, 256, (frames, height, width, 3), np.uint8)


def test_a_crop_of_the_wanted_size_is_a_slice_and_a_flip_its_mirror():
    video = frames()
    cut = apply_video(video, STRIPES, 4)
    np.testing.assert_array_equal(cut, video[:, 1:5, 2:6])
    mirrored = apply_video(video, replace(STRIPES, flip=True), 4)
    np.testing.assert_array_equal(mirrored, cut[:, :, ::-1])


def test_scaling_is_what_torchvision_makes_of_each_frame_alone():
    video = frames(height=40, width=50)
    crop = VideoPlan(crop=Rectangle(top=3, left=5, height=30, width=24), flip=True)
    out = apply_video(video, crop, 16)
    for before, after in zip(video, out, strict=True):
        image = torch.from_numpy(before).permute(2, 0, 1)
        image = image[:, 3:33, 5:29]
        image = F.horizontal_flip(F.resize(image, [16, 16], antialias=True))
        np.testing.assert_array_equal(after, image.permute(1, 2, 0).numpy())


def test_all_frames_of_a_clip_get_the_same_crop():
    still = np.repeat(frames(1, 40, 50), 6, axis=0)
    crop = draw_video(AugmentConfig(), 40, 50, 16, rng(0, 0, "augment", 1))
    out = apply_video(still, crop, 16)
    assert (out == out[:1]).all()
    assert out.std() > 0


def test_applying_leaves_the_input_as_it_was():
    video = frames()
    before = video.copy()
    out = apply_video(video, centred(8, 10), 8)
    out[:] = 0
    np.testing.assert_array_equal(video, before)


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(8, 10, (0, 1, 8, 8)), (10, 8, (1, 0, 8, 8)), (9, 12, (0, 1, 9, 9)), (5, 5, (0, 0, 5, 5))],
)
def test_the_central_square(height, width, box):
    top, left, h, w = box
    assert centred(height, width) == VideoPlan(
        crop=Rectangle(top=top, left=left, height=h, width=w)
    )


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.floats(0.01, 1),
    st.floats(1, 4),
    st.integers(0, 1000),
)
def test_a_drawn_rectangle_is_inside_and_as_asked_for(height, width, area, aspect, seed):
    config = AugmentConfig(min_area=area, max_aspect=aspect)
    crop = draw_video(config, height, width, 16, rng(seed, 0, "augment")).crop
    assert crop.height >= 1
    assert crop.width >= 1
    assert 0 <= crop.top <= height - crop.height
    assert 0 <= crop.left <= width - crop.width
    # Sides are rounded to whole pixels, so each may be half a pixel off.
    assert (crop.width - 0.5) / (crop.height + 0.5) <= aspect + 1e-9
    assert (crop.height - 0.5) / (crop.width + 0.5) <= aspect + 1e-9


def test_areas_and_positions_fill_their_range():
    config = AugmentConfig(min_area=0.25, max_aspect=1.33)
    crops = crops_of(config, 100, 100, 800)
    areas = np.array([c.height * c.width for c in crops]) / 100**2
    assert areas.min() > 0.24
    assert areas.max() > 0.9
    # What fits is drawn uniformly, and large rectangles that are not square do not fit.
    assert 0.3 < np.median(areas) < 0.65
    assert min(c.top for c in crops) == 0
    assert max(c.left + c.width for c in crops) == 100


def test_where_nothing_fits_the_largest_allowed_rectangle_is_placed_at_random():
    # No rectangle of ratio 4/3 or less covers a frame of ratio 16/9.
    config = AugmentConfig(min_area=1.0, max_aspect=4 / 3)
    crops = crops_of(config, 72, 128, 50)
    assert {(crop.height, crop.width, crop.top) for crop in crops} == {(72, 96, 0)}
    assert len({crop.left for crop in crops}) > 10
    assert all(0 <= crop.left <= 32 for crop in crops)


@pytest.mark.parametrize(("flip", "low", "high"), [(0.0, 0, 0), (0.3, 100, 140), (1.0, 400, 400)])
def test_flips_are_as_probable_as_configured(flip, low, high):
    config = AugmentConfig(flip=flip)
    plans = plans_of(config, 72, 96, 400)
    assert low <= sum(plan.flip for plan in plans) <= high
    assert not any(plan.flip for plan in plans_of(config, 72, 96, 400, may_flip=False))


def test_frames_that_are_not_uint8_are_refused():
    with pytest.raises(TypeCheckError):
        apply_video(frames().astype(np.float32), STRIPES, 4)


def whole(size: int, **changes: object) -> VideoPlan:
    return replace(
        VideoPlan(crop=Rectangle(top=0, left=0, height=size, width=size)),
        **changes,  # type: ignore[arg-type]
    )


def after(op: Op, video: np.ndarray) -> np.ndarray:
    return apply_video(video, whole(video.shape[1], ops=(op,)), video.shape[1])


def test_multiscale_cuts_a_smaller_square_the_larger_the_frame_would_be():
    config = AugmentConfig(crop="multiscale", scales=[1.0, 2.0])
    crops = crops_of(config, 60, 90, 400)
    assert all(crop.height == crop.width for crop in crops)
    assert {30, 60} <= {crop.height for crop in crops} <= set(range(30, 61))
    # Uniform in the size of the frame, s: the square is 60 / s, its median that of s = 1.5.
    assert abs(np.median([crop.height for crop in crops]) - 40) <= 2
    assert max(crop.left + crop.width for crop in crops) == 90
    fixed = crops_of(AugmentConfig(crop="multiscale", scales=[1.5, 1.5]), 60, 90, 20)
    assert {(crop.height, crop.width) for crop in fixed} == {(40, 40)}


@pytest.mark.parametrize(
    ("op", "before", "expected"),
    [
        (Op("brightness", 0.5), (100, 40, 10), (150, 60, 15)),
        (Op("brightness", -1.0), (100, 40, 10), (0, 0, 0)),
        (Op("saturation", -1.0), (100, 100, 100), (100, 100, 100)),
        (Op("posterize", 4.0), (255, 100, 31), (240, 96, 16)),
        (Op("solarize", 0.5), (255, 100, 128), (0, 100, 127)),
        (Op("hue", 1 / 3), (200, 0, 0), (0, 200, 0)),
    ],
    ids=lambda value: value.name if isinstance(value, Op) else "",
)
def test_colours_by_hand(op: Op, before: tuple[int, ...], expected: tuple[int, ...]):
    video = np.full((2, 8, 8, 3), before, np.uint8)
    assert np.abs(after(op, video).astype(int) - expected).max() <= 1


def test_moves_by_hand():
    video = np.full((2, 20, 20, 3), 115, np.uint8)
    video[:, 8:12, 8:12] = 255
    right = after(Op("translate_x", 0.25), video)
    np.testing.assert_array_equal(right[:, 8:12, 13:17], 255)
    assert (right != 115).sum() == 2 * 16 * 3
    down = after(Op("translate_y", 0.25), video)
    np.testing.assert_array_equal(down[:, 13:17, 8:12], 255)
    # A quarter turn of a bar: what lay along the row stands in the column.
    bar = np.full((1, 21, 21, 3), 115, np.uint8)
    bar[:, 10, 4:17] = 255
    turned = after(Op("rotate", 90.0), bar)
    assert (turned[0, 5:16, 10] > 200).all()
    assert (turned[0, 10, :8] < 140).all()
    sheared = after(Op("shear_x", 0.5), np.ascontiguousarray(bar.transpose(0, 2, 1, 3)))
    rows, columns = np.nonzero(sheared[0, 5:16, :, 0] > 200)
    assert abs(abs(np.polyfit(rows, columns, 1)[0]) - 0.5) < 0.1


@pytest.mark.parametrize(
    "op",
    [Op("contrast", 0.5), Op("autocontrast"), Op("equalize"), Op("sharpness", 0.9),
     Op("brightness", 0.3), Op("saturation", 0.5), Op("hue", 0.2), Op("rotate", 20.0)],
    ids=lambda op: op.name,
)  # fmt: skip
def test_equal_frames_stay_equal_beside_a_flash(op: Op):
    """Measured frame by frame, a flash would change the others: they must not flicker."""
    video = np.repeat(frames(1, 24, 24) // 2 + 50, 5, 0)
    video[2] = 255
    out = after(op, video)
    np.testing.assert_array_equal(out[[1, 3, 4]], out[[0, 0, 0]])
    assert not np.array_equal(out[0], video[0])
    assert out.dtype == np.uint8


def test_contrast_is_about_the_mean_of_the_clip():
    dark, light = np.full((1, 8, 8, 3), 60, np.uint8), np.full((1, 8, 8, 3), 140, np.uint8)
    out = after(Op("contrast", 0.5), np.concatenate([dark, light]))
    # The mean of both is 100: each is moved half as far again from it.
    assert np.abs(out[0].astype(int) - 40).max() <= 1
    assert np.abs(out[1].astype(int) - 160).max() <= 1


def test_what_is_erased_is_the_same_noise_in_all_frames():
    video = frames(4, 32, 32)
    plan = whole(32, erased=Rectangle(top=4, left=6, height=10, width=8), noise_seed=3)
    out = apply_video(video, plan, 32)
    tube = out[:, 4:14, 6:14]
    assert (tube == tube[:1]).all()
    assert tube.std() > 30
    untouched = np.ones((32, 32), bool)
    untouched[4:14, 6:14] = False
    np.testing.assert_array_equal(out[:, untouched], video[:, untouched])
    other = apply_video(video, replace(plan, noise_seed=4), 32)
    assert not np.array_equal(other[:, 4:14, 6:14], tube)


def test_erased_rectangles_are_inside_and_of_the_stated_size():
    plans = plans_of(AugmentConfig(erase=1.0), 72, 96, 500)
    for plan in plans:
        e = plan.erased
        assert e is not None
        assert 0 <= e.top <= 64 - e.height
        assert 0 <= e.left <= 64 - e.width
        assert 0.015 < e.height * e.width / 64**2 < 0.36
    assert len({plan.noise_seed for plan in plans}) > 490
    shares = [plan.erased is not None for plan in plans_of(AugmentConfig(erase=0.25), 72, 96, 800)]
    assert abs(np.mean(shares) - 0.25) < 0.08


def test_colour_jitter_is_in_its_limits_and_in_any_order():
    config = AugmentConfig(brightness=0.4, contrast=0.3, hue=0.1)
    plans = plans_of(config, 40, 40, 300)
    limits = {"brightness": 0.4, "contrast": 0.3, "hue": 0.1}
    for plan in plans:
        assert sorted(op.name for op in plan.ops) == sorted(limits)
        assert all(abs(op.amount) <= limits[op.name] for op in plan.ops)
    assert len({tuple(op.name for op in plan.ops) for plan in plans}) == 6
    amounts = [op.amount for plan in plans for op in plan.ops if op.name == "brightness"]
    assert min(amounts) < -0.35
    assert max(amounts) > 0.35


def test_randaugment_draws_so_many_operations_of_that_strength():
    config = AugmentConfig(policy="randaugment", policy_ops=3, policy_strength=0.5)
    plans = plans_of(config, 40, 40, 400)
    amounts: dict[Operation, set[float]] = {}
    for plan in plans:
        assert len(plan.ops) == 3
        for op in plan.ops:
            amounts.setdefault(op.name, set()).add(round(op.amount, 6))
    assert len(amounts) == 13
    assert amounts["rotate"] == {15.0, -15.0}
    assert amounts["brightness"] == {0.45, -0.45}
    assert amounts["posterize"] == {2.0}
    assert amounts["solarize"] == {0.5}
    half = plans_of(replace(config, policy_probability=0.5), 40, 40, 400)
    assert abs(np.mean([len(plan.ops) for plan in half]) - 1.5) < 0.15


def test_trivialaugment_draws_one_operation_of_any_strength():
    plans = plans_of(AugmentConfig(policy="trivialaugment"), 40, 40, 1500)
    assert {len(plan.ops) for plan in plans} == {1}
    turns = [plan.ops[0].amount for plan in plans if plan.ops[0].name == "rotate"]
    assert min(turns) < -110
    assert max(turns) > 110
    assert np.abs(turns).min() < 15


def test_what_else_is_drawn_leaves_crop_and_flip_as_they_were():
    plain = plans_of(AugmentConfig(), 72, 96, 50)
    more = plans_of(AugmentConfig(brightness=0.4, policy="trivialaugment", erase=1.0), 72, 96, 50)
    assert [(p.crop, p.flip) for p in plain] == [(p.crop, p.flip) for p in more]


def test_operations_leave_the_input_as_it_was():
    video = frames(3, 32, 32)
    before = video.copy()
    ops = (Op("equalize"), Op("rotate", 10.0), Op("contrast", 0.5))
    plan = whole(32, ops=ops, erased=Rectangle(top=0, left=0, height=9, width=9))
    apply_video(video, plan, 32)
    np.testing.assert_array_equal(video, before)


def test_a_crop_reaches_every_border():
    crops = crops_of(AugmentConfig(crop="multiscale", scales=[1.5, 1.5]), 3, 3, 60)
    assert {(crop.height, crop.top, crop.left) for crop in crops} == {
        (2, top, left) for top in (0, 1) for left in (0, 1)
    }


@pytest.mark.parametrize("name", ["contrast", "autocontrast", "equalize"])
def test_equal_pixels_of_different_frames_stay_equal(name: Operation):
    """Frame 0 has the values 50 to 150, frame 1 those of 100 to 200."""
    ramp = np.linspace(50, 150, 32**2).round().astype(np.uint8).reshape(1, 32, 32, 1).repeat(3, 3)
    video = np.concatenate([ramp, ramp + 50])
    video[1, 0] = video[0, 0]
    out = after(Op(name, 0.5), video)
    np.testing.assert_array_equal(out[1, 0], out[0, 0])
    assert not np.array_equal(out, video)
    if name == "autocontrast":  # 50 is the darkest of both, 200 the brightest
        ends = [int(value) for value in (out[0, 0, 0, 0], out[0, -1, -1, 0], out[1, -1, -1, 0])]
        np.testing.assert_allclose(ends, [0, 170, 255], atol=1)


@pytest.mark.parametrize(
    ("op", "before", "expected"),
    [
        (Op("posterize", 5.0), (255, 100, 31), (224, 96, 0)),
        (Op("solarize", 0.25), (255, 200, 100), (0, 55, 100)),
        (Op("saturation", -1.0), (200, 200, 0), (177, 177, 177)),  # 0.2989 red + 0.587 green
    ],
)
def test_colours_by_hand_where_half_is_not_half(op: Op, before, expected):
    out = after(op, np.full((2, 8, 8, 3), before, np.uint8))
    assert np.abs(out.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("name", "axis"), [("shear_x", 1), ("shear_y", 0)])
def test_shears_by_hand(name: Operation, axis: int):
    """Of a line through the middle along `axis`: its places across it, by its places along it."""
    video = np.full((1, 41, 41, 3), 115, np.uint8)
    video[0, :, 20] = 255
    video = video if axis == 1 else np.ascontiguousarray(video.transpose(0, 2, 1, 3))
    out = after(Op(name, 0.5), video)[0, :, :, 0]
    out = out if axis == 1 else out.T
    along, across = np.nonzero(out > 190)
    assert abs(abs(np.polyfit(along, across, 1)[0]) - 0.5) < 0.05


def test_no_sharpness_is_the_frame_and_less_is_smoother():
    video = frames(2, 16, 16)
    np.testing.assert_array_equal(after(Op("sharpness", 0.0), video), video)
    assert after(Op("sharpness", -0.9), video).std() < 0.8 * video.std()
    assert after(Op("sharpness", 0.9), video).std() > video.std()


def test_moves_to_the_left_and_up_are_those_of_the_sign():
    video = np.full((1, 20, 20, 3), 115, np.uint8)
    video[:, 8:12, 8:12] = 255
    np.testing.assert_array_equal(after(Op("translate_x", -0.25), video)[:, 8:12, 3:7], 255)
    np.testing.assert_array_equal(after(Op("translate_y", -0.25), video)[:, 3:7, 8:12], 255)


def test_erased_rectangles_are_as_often_upright_as_lying():
    found = [plan.erased for plan in plans_of(AugmentConfig(erase=1.0), 72, 96, 300)]
    upright = [e.height > e.width for e in found if e is not None]
    assert abs(np.mean(upright) - 0.5) < 0.12
