"""Which seconds are read: by hand, and always inside the labelled stretch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avmix.data.eval_windows import view_windows

stretch = st.tuples(st.floats(0, 1000), st.floats(0.01, 600))
length = st.floats(0.01, 60)


def test_a_short_stretch_is_read_from_its_start(make_entry):
    entry = make_entry(start_seconds=3.0, end_seconds=4.5)
    assert [w.start_seconds for w in view_windows(entry, 2.0, 3)] == [3.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("num_views", "starts"),
    [
        (1, [5.0]),  # centre 6, window 5 to 7
        (2, [3.0, 7.0]),  # centres 4 and 8
        (3, [2 + 8 / 6 - 1, 5.0, 2 + 5 * 8 / 6 - 1]),
        (8, [2.0, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.0]),  # first and last moved inwards
    ],
)
def test_views_are_centres_of_equal_shares(make_entry, num_views, starts):
    entry = make_entry(start_seconds=2.0, end_seconds=10.0)
    windows = view_windows(entry, 2.0, num_views)
    np.testing.assert_allclose([w.start_seconds for w in windows], starts, atol=1e-12)
    assert {w.duration_seconds for w in windows} == {2.0}


@given(stretch, length, st.integers(1, 9))
def test_a_window_never_leaves_the_stretch(make_entry, stretch, duration, num_views):
    start, seconds = stretch
    entry = make_entry(start_seconds=start, end_seconds=start + seconds)
    views = view_windows(entry, duration, num_views)
    last = max(entry.start_seconds, entry.end_seconds - duration)
    for window in views:
        assert entry.start_seconds <= window.start_seconds <= last + 1e-9
    starts = [w.start_seconds for w in views]
    assert starts == sorted(starts)
    # Symmetric: as far from the end as from the start.
    ends = [entry.end_seconds - max(duration, 0) - s for s in reversed(starts)]
    if seconds >= duration:
        np.testing.assert_allclose([s - start for s in starts], ends, atol=1e-6)
