"""What makes no sense whatever the file is refused by name before anything is read or allocated."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from avmix.decode import ClipRangeError, Limits
from tests.unchecked import unchecked

GOOD: dict[str, Any] = {
    "starts_seconds": (0.0,),
    "duration_seconds": 1.0,
    "num_frames": 2,
    "fps": None,
    "sample_rate": 16_000,
    "short_side": None,
    "audio": "require",
    "origin": "video",
    "max_held": None,
    "min_audio_valid": 0.0,
    "sha256": None,
    "limits": Limits(),
}
FPS: dict[str, Any] = {"num_frames": None}
checked_request = unchecked("avmix.decode.request").checked_request


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"num_frames": 3 * 10**8}, "num_frames is 300000000; .* at most 1000000"),
        ({"num_frames": 2.5}, "num_frames is 2.5; it must be a whole number, at least 1"),
        ({"num_frames": True}, "num_frames is True"),
        ({"num_frames": 0}, "num_frames is 0"),
        (FPS | {"fps": 1e9}, "fps is 1000000000.0; .* at most 1000000 frames in 1 s"),
        (FPS | {"fps": math.inf}, "fps is inf"),
        (FPS | {"fps": math.nan}, "fps is nan; it must be positive"),
        (FPS | {"fps": "25"}, "fps is '25'"),
        (FPS | {"fps": 0}, "fps is 0"),
        ({"fps": 25}, "give num_frames or fps"),
        (FPS, "give num_frames or fps"),
        ({"short_side": 0.5}, "short_side is 0.5; it must be a whole number, .* at most 8192"),
        ({"short_side": 0}, "short_side is 0"),
        ({"short_side": 10**400}, "short_side is 1000"),
        ({"sample_rate": 16_000.5}, "sample_rate is 16000.5"),
        ({"sample_rate": 0}, "sample_rate is 0"),
        ({"sample_rate": 10**10, "audio": "skip"}, "sample_rate is 10000000000; .* 6144000"),
        ({"min_audio_valid": math.nan}, "min_audio_valid is nan; it must be a share, 0 to 1"),
        ({"min_audio_valid": 1.5}, "min_audio_valid is 1.5"),
        ({"max_held": -1}, "max_held is -1"),
        ({"max_held": math.nan}, "max_held is nan"),
        ({"channels": 1.0}, "channels is 1.0"),
        ({"channels": 3}, "channels is 3"),
        ({"audio_shift_seconds": 1e18}, r"audio_shift_seconds is 1e\+18; .* -1e\+09 to 1e\+09"),
        ({"audio_shift_seconds": math.nan}, "audio_shift_seconds is nan"),
        ({"audio": "maybe"}, "audio is 'maybe'"),
        ({"origin": "start"}, "origin is 'start'"),
    ],
)
def test_an_argument_out_of_its_range_is_named(wrong: dict[str, Any], says: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=says):
            checked_request("x.mp4", **{**GOOD, **wrong})
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"starts_seconds": (0.0, 1e18)}, r"x.mp4: start_seconds is 1e\+18; .* 0, .* 1e\+09"),
        ({"starts_seconds": (10**400,)}, "x.mp4: start_seconds is 1000"),
        ({"starts_seconds": (-0.1,)}, "x.mp4: start_seconds is -0.1"),
        ({"starts_seconds": (math.nan,)}, "x.mp4: start_seconds is nan"),
        ({"starts_seconds": ("0",)}, "x.mp4: start_seconds is '0'"),
        ({"duration_seconds": 1e300, "audio": "skip"}, r"x.mp4: duration_seconds is 1e\+300"),
        ({"duration_seconds": 0}, "x.mp4: duration_seconds is 0; it must be positive"),
        ({"duration_seconds": math.nan}, "x.mp4: duration_seconds is nan"),
    ],
)
def test_an_impossible_window_is_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ClipRangeError, match=says):
        checked_request("x.mp4", **{**GOOD, **wrong})


def test_the_ends_of_the_ranges_and_numbers_of_numpy_are_taken() -> None:
    ends = {"starts_seconds": (0, 1e9), "num_frames": 10**6, "short_side": 8192, "max_held": 0}
    request = checked_request("x.mp4", **{**GOOD, **ends, "min_audio_valid": 1})
    assert (request.num_frames, request.short_side, request.starts_seconds) == (
        10**6, 8192, (0.0, 1e9),
    )  # fmt: skip
    numbers = {"num_frames": np.int64(3), "sample_rate": np.int32(8000)}
    request = checked_request("x.mp4", **{**GOOD, **numbers, "duration_seconds": np.float32(0.5)})
    assert (request.num_frames, request.sample_rate) == (3, 8000)
    assert (type(request.num_frames), type(request.sample_rate)) == (int, int)
    many = FPS | {"fps": 1e6}
    assert len(checked_request("x.mp4", **{**GOOD, **many}).times(0.0)) == 10**6
