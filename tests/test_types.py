"""The nouns: what they hold, and that wrong shapes do not get through."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from avmix.types import Batch, Clip, Heads


def batch_of(size: int) -> Batch:
    return Batch(
        video=torch.zeros(size, 2, 4, 4, 3, dtype=torch.uint8),
        audio=torch.zeros(size, 100),
        has_video=torch.ones(size, dtype=torch.bool),
        has_audio=torch.zeros(size, dtype=torch.bool),
        target=torch.eye(size),
        row=torch.arange(size),
        source=torch.arange(size),
    )


def test_size_is_the_number_of_clips():
    assert [batch_of(size).size for size in (1, 3, 64)] == [1, 3, 64]


def test_moving_a_batch_keeps_every_field_in_its_place():
    batch = replace(batch_of(3), audio=torch.rand(3, 100), row=torch.tensor([5, 9, 2]))
    moved = batch.to(torch.device("cpu"))
    assert moved.tensors().keys() == batch.tensors().keys()
    for name, tensor in batch.tensors().items():
        assert torch.equal(getattr(moved, name), tensor), name


def test_a_batch_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        batch_of(2).row = torch.zeros(2, dtype=torch.int64)  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong",
    [
        {"video": torch.zeros(2, 2, 4, 4, 3)},  # float instead of uint8
        {"audio": torch.zeros(3, 100)},  # another number of clips
        {"has_audio": torch.zeros(2)},  # float instead of bool
        {"target": torch.zeros(2, dtype=torch.int64)},  # class numbers instead of weights
        {"row": torch.zeros(2)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_batch_of_wrong_shape_or_type_is_refused(wrong):
    with pytest.raises(TypeCheckError):
        replace(batch_of(2), **wrong)


def test_frames_and_their_times_must_be_as_many():
    with pytest.raises(TypeCheckError):
        Clip(
            video=np.zeros((4, 8, 8, 3), np.uint8),
            audio=np.zeros(10, np.float32),
            pts_seconds=np.zeros(5),
            start_seconds=0.0,
            duration_seconds=1.0,
            sample_rate=10,
            audio_valid=1.0,
            num_held=0,
        )


def test_heads_are_in_one_order_everywhere():
    assert Heads._fields == ("fused", "video", "audio")
