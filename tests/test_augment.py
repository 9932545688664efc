"""Synchronized augmentation: one rectangle, the same for all pictures, always inside."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torchvision.transforms.v2 import functional as F

from avmix.config import AugmentConfig
from avmix.data.augment import CropFlip, apply_crop_flip, centre_crop, draw_crop_flip
from avmix.rng import rng

STRIPES = CropFlip(top=1, left=2, height=4, width=4, flip=False)


def pictures(frames: int = 3, height: int = 8, width: int = 10) -> np.ndarray:
    return rng(0, 0, "augment").integers(0, 256, (frames, height, width, 3), np.uint8)


def test_a_crop_of_the_wanted_size_is_a_slice_and_a_flip_its_mirror():
    video = pictures()
    cut = apply_crop_flip(video, STRIPES, 4)
    np.testing.assert_array_equal(cut, video[:, 1:5, 2:6])
    mirrored = apply_crop_flip(video, CropFlip(top=1, left=2, height=4, width=4, flip=True), 4)
    np.testing.assert_array_equal(mirrored, cut[:, :, ::-1])


def test_scaling_is_what_torchvision_makes_of_each_picture_alone():
    video = pictures(height=40, width=50)
    crop = CropFlip(top=3, left=5, height=30, width=24, flip=True)
    out = apply_crop_flip(video, crop, 16)
    for before, after in zip(video, out, strict=True):
        image = torch.from_numpy(before).permute(2, 0, 1)
        image = image[:, 3:33, 5:29]
        image = F.horizontal_flip(F.resize(image, [16, 16], antialias=True))
        np.testing.assert_array_equal(after, image.permute(1, 2, 0).numpy())


def test_all_pictures_of_a_clip_get_the_same_crop():
    still = np.repeat(pictures(1, 40, 50), 6, axis=0)
    crop = draw_crop_flip(AugmentConfig(), 40, 50, rng(0, 0, "augment", 1))
    out = apply_crop_flip(still, crop, 16)
    assert (out == out[:1]).all()
    assert out.std() > 0


def test_applying_leaves_the_input_as_it_was():
    video = pictures()
    before = video.copy()
    out = apply_crop_flip(video, centre_crop(8, 10), 8)
    out[:] = 0
    np.testing.assert_array_equal(video, before)


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(8, 10, (0, 1, 8, 8)), (10, 8, (1, 0, 8, 8)), (9, 12, (0, 1, 9, 9)), (5, 5, (0, 0, 5, 5))],
)
def test_the_central_square(height, width, box):
    top, left, h, w = box
    assert centre_crop(height, width) == CropFlip(top=top, left=left, height=h, width=w, flip=False)


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.floats(0.01, 1),
    st.floats(1, 4),
    st.integers(0, 1000),
)
def test_a_drawn_rectangle_is_inside_and_as_asked_for(height, width, area, aspect, seed):
    config = AugmentConfig(min_area=area, max_aspect=aspect)
    crop = draw_crop_flip(config, height, width, rng(seed, 0, "augment"))
    assert crop.height >= 1
    assert crop.width >= 1
    assert 0 <= crop.top <= height - crop.height
    assert 0 <= crop.left <= width - crop.width
    # Sides are rounded to whole pixels, so each may be half a pixel off.
    assert (crop.width - 0.5) / (crop.height + 0.5) <= aspect + 1e-9
    assert (crop.height - 0.5) / (crop.width + 0.5) <= aspect + 1e-9


def test_areas_and_positions_fill_their_range():
    config = AugmentConfig(min_area=0.25, max_aspect=1.33)
    crops = [draw_crop_flip(config, 100, 100, rng(0, 0, "augment", i)) for i in range(800)]
    areas = np.array([c.height * c.width for c in crops]) / 100**2
    assert areas.min() > 0.24
    assert areas.max() > 0.9
    # What fits is drawn uniformly, and large rectangles that are not square do not fit.
    assert 0.3 < np.median(areas) < 0.65
    assert min(c.top for c in crops) == 0
    assert max(c.left + c.width for c in crops) == 100


def test_where_nothing_fits_the_largest_allowed_rectangle_is_placed_at_random():
    # No rectangle of ratio 4/3 or less covers a picture of ratio 16/9.
    config = AugmentConfig(min_area=1.0, max_aspect=4 / 3)
    crops = [draw_crop_flip(config, 72, 128, rng(0, 0, "augment", i)) for i in range(50)]
    assert {(crop.height, crop.width, crop.top) for crop in crops} == {(72, 96, 0)}
    assert len({crop.left for crop in crops}) > 10
    assert all(0 <= crop.left <= 32 for crop in crops)


@pytest.mark.parametrize(("flip", "low", "high"), [(0.0, 0, 0), (0.3, 100, 140), (1.0, 400, 400)])
def test_flips_are_as_probable_as_configured(flip, low, high):
    config = AugmentConfig(flip=flip)
    crops = [draw_crop_flip(config, 72, 96, rng(0, 0, "augment", i)) for i in range(400)]
    assert low <= sum(c.flip for c in crops) <= high


def test_pictures_that_are_not_uint8_are_refused():
    with pytest.raises(TypeCheckError):
        apply_crop_flip(pictures().astype(np.float32), STRIPES, 4)
