"""Augmentation in time: what is drawn, and what is made of it, by hand."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avmix.augment import TimePlan, apply_time, draw_times, whole_window
from avmix.config import AugmentConfig, ClipConfig
from avmix.rng import rng
from avmix.types import Clip, Entry

CLIP = ClipConfig(duration_seconds=2.0, num_frames=8, sample_rate=16_000)
SMALL = ClipConfig(duration_seconds=1.0, num_frames=4, sample_rate=1_000)


def draw(
    entry: Entry, epoch: int = 0, events: tuple[float, ...] = (), row: int = 0, **options: Any
) -> tuple[TimePlan, ...]:
    config = AugmentConfig(**options)
    return draw_times(config, CLIP, entry, events, seed=1, epoch=epoch, row=row)


@pytest.fixture
def entry(make_entry: Callable[..., Entry]) -> Entry:
    """Eight labelled seconds: 6 s of slack."""
    return make_entry(start_seconds=3.0, end_seconds=11.0)


def test_without_options_a_window_of_the_clip_is_drawn_and_nothing_else(entry: Entry):
    (plan,) = draw(entry, epoch=4, row=7)
    assert plan == whole_window(CLIP, 3.0 + 6.0 * rng(1, 4, "window", 7).random())
    assert plan.read_seconds == 2.0
    assert plan.decoded_rate == 16_000
    assert (plan.speed, plan.num_audible_samples) == (1.0, 32_000)


@pytest.mark.long
def test_every_start_is_equally_likely(entry: Entry):
    starts = [draw(entry, row=row)[0].start_seconds for row in range(3000)]
    counts, _ = np.histogram(starts, bins=6, range=(3.0, 9.0))
    assert counts.sum() == 3000
    # 500 expected in each second; 5 standard deviations of a binomial are 102.
    assert np.abs(counts - 500).max() < 102


def test_what_else_is_drawn_does_not_move_the_window(entry: Entry):
    plain = [draw(entry, epoch)[0].start_seconds for epoch in range(20)]
    more = [
        draw(entry, epoch, reverse=0.5, hide_seconds=0.5)[0].start_seconds for epoch in range(20)
    ]
    assert plain == more


@given(st.floats(0, 1000), st.floats(0.01, 60), st.integers(0, 1000))
def test_windows_of_any_kind_lie_in_the_stretch(
    make_entry: Callable[..., Entry], start: float, seconds: float, row: int
):
    entry = make_entry(start_seconds=start, end_seconds=start + seconds)
    for window in ("random", "uniform", "event"):
        for plan in draw(entry, events=(start + 0.5 * seconds,), row=row, window=window,
                         speed=1.5, min_seconds=0.5, repeats=3):  # fmt: skip
            shown = plan.read_seconds * plan.num_visible_frames / 8
            last = max(entry.start_seconds, entry.end_seconds - shown)
            assert entry.start_seconds <= plan.start_seconds <= last + 1e-9


def test_uniform_windows_tile_the_clip_once_in_a_turn(entry: Entry):
    starts = [draw(entry, epoch, window="uniform")[0].start_seconds for epoch in range(40)]
    turns = [tuple(starts[i : i + 4]) for i in range(0, 40, 4)]
    assert {tuple(sorted(turn)) for turn in turns} == {(3.0, 5.0, 7.0, 9.0)}
    assert len(set(turns)) > 3  # in random order
    both = draw(entry, window="uniform", repeats=4)
    assert sorted(plan.start_seconds for plan in both) == [3.0, 5.0, 7.0, 9.0]


def test_a_uniform_window_of_a_clip_as_short_is_its_middle(make_entry: Callable[..., Entry]):
    entry = make_entry(start_seconds=3.0, end_seconds=5.5)
    assert draw(entry, window="uniform")[0].start_seconds == 3.25
    short = make_entry(start_seconds=3.0, end_seconds=4.0)
    assert draw(short, window="uniform")[0].start_seconds == 3.0


def test_an_event_lies_in_the_middle_half(entry: Entry):
    events = (1.0, 5.0, 9.0, 40.0)  # the first and the last are not in the clip
    near: Counter[float] = Counter()
    for row in range(300):
        start = draw(entry, events=events, row=row, window="event")[0].start_seconds
        event = min((5.0, 9.0), key=lambda e: abs(e - start - 1.0))
        assert 0.5 - 1e-9 <= event - start <= 1.5 + 1e-9
        near[event] += 1
    assert 100 < near[5.0] < 200
    edge = [draw(entry, events=(3.1,), row=row, window="event")[0] for row in range(50)]
    assert {plan.start_seconds for plan in edge} == {3.0}  # as far as the clip allows
    nothing = draw(entry, events=(), row=5, window="event")
    assert nothing == draw(entry, row=5)


def test_speeds_are_exact_ratios_with_a_uniform_logarithm(entry: Entry):
    plans = [draw(entry, row=row, speed=1.25)[0] for row in range(600)]
    for plan in plans:
        assert plan.read_rate % 50 == 0
        assert plan.speed == 16_000 / plan.read_rate
        assert round(plan.read_seconds * plan.read_rate) == 32_000
        assert plan.decoded_rate == plan.read_rate
    logs = np.log([plan.speed for plan in plans]) / np.log(1.25)
    assert np.abs(logs).max() < 1.01
    counts, _ = np.histogram(logs, bins=4, range=(-1.01, 1.01))
    assert np.abs(counts - 150).max() < 55
    kept = draw(entry, row=3, speed=1.25, speed_keeps_pitch=True)[0]
    assert kept == replace(plans[3], keep_pitch=True)
    assert kept.decoded_rate == 16_000


def test_windows_of_one_visit_share_speed_and_jitter_only(entry: Entry):
    plans = draw(entry, repeats=4, speed=1.25, binding="window", jitter_seconds=0.3, reverse=0.5,
                 min_seconds=0.5, hide_seconds=0.4)  # fmt: skip
    assert len({(plan.read_rate, plan.audio_shift_seconds) for plan in plans}) == 1
    assert len({plan.start_seconds for plan in plans}) == 4
    assert len({plan.hidden for plan in plans}) == 4
    assert abs(plans[0].audio_shift_seconds) <= 0.3
    shifts = {draw(entry, epoch, repeats=4, binding="window", jitter_seconds=0.3)[0]
              .audio_shift_seconds for epoch in range(40)}  # fmt: skip
    assert len(shifts) == 40
    assert min(shifts) < -0.2
    assert max(shifts) > 0.2


def test_repeated_windows_are_numbered_through_the_epochs(entry: Entry):
    """Two windows a visit are the windows that one a visit draws in twice as many epochs."""
    single = [draw(entry, epoch)[0] for epoch in range(6)]
    double = [plan for epoch in range(3) for plan in draw(entry, epoch, repeats=2)]
    assert single == double


def test_hidden_intervals_and_lengths_are_in_their_limits(entry: Entry):
    plans = [draw(entry, row=r, hide_seconds=0.5, min_seconds=0.6)[0] for r in range(400)]
    for plan in plans:
        ((start, stop),) = plan.hidden
        assert 0 <= start <= stop <= 2.0
        assert stop - start <= 0.5
    assert {plan.num_visible_frames for plan in plans} == {
        3,
        4,
        5,
        6,
        7,
        8,
    }  # 0.6 s are 3 of 0.25 s
    assert draw(entry, hide_seconds=0.0)[0].hidden == ()
    fewest = {draw(entry, row=row, min_seconds=0.5)[0].num_visible_frames for row in range(100)}
    assert min(fewest) == 2  # exactly two shares
    share = np.mean([draw(entry, row=row, reverse=0.3)[0].reverse for row in range(600)])
    assert abs(share - 0.3) < 0.1


def clip_of(num_held: int = 0, samples: int = 1000, channels: int = 0) -> Clip:
    """Frame k is of colour 10 k, sample i is i."""
    video = np.zeros((4, 2, 2, 3), np.uint8) + (10 * np.arange(4, dtype=np.uint8))[:, None, None,
                                                                                  None]  # fmt: skip
    audio = np.arange(samples, dtype=np.float32)
    return Clip(
        video=video,
        audio=np.stack([audio, -audio]) if channels else audio,
        pts_seconds=5 + 0.25 * np.arange(4),
        start_seconds=5.0,
        duration_seconds=1.0,
        sample_rate=1_000,
        audio_valid=1.0,
        num_held=num_held,
    )


def levels(clip: Clip) -> list[int]:
    return (clip.video[:, 0, 0, 0] // 10).tolist()


WHOLE = whole_window(SMALL, 5.0)


def test_a_whole_window_is_the_clip_itself():
    clip = clip_of()
    out = apply_time(clip, WHOLE)
    assert out.video is clip.video
    assert out.audio is clip.audio
    assert out.pts_seconds is clip.pts_seconds


def test_backwards_are_frames_audio_and_their_times():
    clip = clip_of()
    out = apply_time(clip, replace(WHOLE, reverse=True))
    assert levels(out) == [3, 2, 1, 0]
    assert out.audio.tolist() == list(range(999, -1, -1))
    assert out.pts_seconds.tolist() == [5.75, 5.5, 5.25, 5.0]
    assert levels(clip) == [0, 1, 2, 3]


def test_after_what_is_shown_the_last_frame_is_held_and_there_is_silence():
    out = apply_time(clip_of(), replace(WHOLE, num_visible_frames=3))
    assert levels(out) == [0, 1, 2, 2]
    assert out.audio[:750].tolist() == list(range(750))
    assert not out.audio[750:].any()
    assert out.pts_seconds.tolist() == [5.0, 5.25, 5.5, 5.5]
    back = apply_time(clip_of(), replace(WHOLE, num_visible_frames=3, reverse=True))
    assert levels(back) == [2, 1, 0, 0]
    assert back.audio[:750].tolist() == list(range(749, -1, -1))
    assert not back.audio[750:].any()


def test_backwards_the_padding_of_a_short_file_stays_at_the_end():
    out = apply_time(clip_of(num_held=2), replace(WHOLE, reverse=True))
    assert levels(out) == [1, 0, 0, 0]
    assert out.audio[:500].tolist() == list(range(499, -1, -1))
    assert not out.audio[500:].any()
    assert levels(apply_time(clip_of(num_held=4), replace(WHOLE, reverse=True))) == [0, 0, 0, 0]


def test_stereo_is_turned_and_cut_in_both_channels():
    out = apply_time(clip_of(channels=2), replace(WHOLE, num_visible_frames=2, reverse=True))
    assert out.audio.shape == (2, 1000)
    np.testing.assert_array_equal(out.audio[0], -out.audio[1])
    assert out.audio[0, :3].tolist() == [499, 498, 497]


def test_tape_audio_is_played_at_the_rate_of_the_window():
    plan = replace(WHOLE, read_rate=800)
    out = apply_time(replace(clip_of(), sample_rate=800), plan)
    assert out.sample_rate == 1_000
    assert out.audio.tolist() == list(range(1000))
    assert (plan.speed, plan.read_seconds) == (1.25, 1.25)


def test_a_clip_of_another_size_is_refused():
    with pytest.raises(ValueError, match="of 4 frames and 1000 samples, the clip of 4 and 900"):
        apply_time(clip_of(samples=900), WHOLE)
    with pytest.raises(ValueError, match="of 3 frames and 1000 samples, the clip of 4 and 1000"):
        apply_time(clip_of(), replace(WHOLE, num_frames=3, num_visible_frames=3))


def test_audio_that_is_cut_off_altogether_is_no_audio():
    late = clip_of()
    late.audio[:750] = 0
    late = replace(late, audio_valid=0.25)
    assert apply_time(late, WHOLE).audio_valid == 0.25
    assert apply_time(late, replace(WHOLE, num_visible_frames=3)).audio_valid == 0.0
    assert apply_time(clip_of(), replace(WHOLE, num_visible_frames=3)).audio_valid == 1.0


def test_uniform_windows_are_numbered_whatever_their_speed_and_length(entry: Entry):
    """4 windows of 2 s tile 8 s; the visits of a turn have one each, first to last."""
    visits = [draw(entry, epoch, window="uniform", speed=2.0, min_seconds=0.5)[0]
              for epoch in range(24)]  # fmt: skip
    for turn in range(0, 24, 4):
        shares = [(p.start_seconds - 3) / (8 - p.read_seconds * p.num_visible_frames / 8)
                  for p in visits[turn : turn + 4]]  # fmt: skip
        np.testing.assert_allclose(sorted(shares), [0, 1 / 3, 2 / 3, 1], atol=1e-9)


def test_what_is_not_shown_need_not_lie_in_the_stretch(entry: Entry):
    """Of 2 s as few as 0.5 s are shown, and those may begin 0.5 s before the end at 11 s."""
    plans = [draw(entry, row=row, min_seconds=0.5)[0] for row in range(400)]
    ends = [plan.start_seconds + 0.25 * plan.num_visible_frames for plan in plans]
    assert max(plan.start_seconds for plan in plans) > 9.5
    assert 10.9 < max(ends) <= 11.0


def test_half_of_the_speeds_are_slower(entry: Entry):
    speeds = [draw(entry, row=row, speed=4.0)[0].speed for row in range(400)]
    assert abs(np.mean(np.less(speeds, 1)) - 0.5) < 0.1  # uniform in the speed itself: 0.2
    assert abs(np.mean(np.less(speeds, 2)) - 0.75) < 0.1


def test_every_file_has_an_order_of_its_own_tiles(entry: Entry):
    orders = {
        tuple(draw(entry, epoch, window="uniform", row=row)[0].start_seconds for epoch in range(8))
        for row in range(6)
    }
    assert len(orders) == 6


def test_an_event_lies_anywhere_there_and_the_window_in_the_clip(entry: Entry):
    inside = [draw(entry, events=(7.0,), row=row, window="event")[0] for row in range(200)]
    places = [7.0 - plan.start_seconds for plan in inside]
    assert min(places) < 0.55
    assert max(places) > 1.45
    late = [draw(entry, events=(10.9,), row=row, window="event")[0] for row in range(50)]
    assert {plan.start_seconds for plan in late} == {9.0}


def test_a_short_clip_is_not_played_into_what_comes_after_it(make_entry: Callable[..., Entry]):
    entry = make_entry(start_seconds=3.0, end_seconds=5.2)  # 1.1 windows
    plans = [draw(entry, row=row, speed=1.5)[0] for row in range(200)]
    assert all(plan.start_seconds + plan.read_seconds <= 5.2 + 1e-9 for plan in plans)
    assert max(plan.speed for plan in plans) > 1.08
    assert min(plan.speed for plan in plans) < 0.75
    short = make_entry(start_seconds=3.0, end_seconds=4.0)
    assert max(draw(short, row=row, speed=1.5)[0].speed for row in range(100)) == 1.0


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 48_000])
@pytest.mark.parametrize("limit", [1.01, 1.25, 2.0])
def test_speeds_stay_in_their_range_at_any_sample_rate(entry: Entry, rate: int, limit: float):
    clip = replace(CLIP, sample_rate=rate)
    plans = [
        draw_times(AugmentConfig(speed=limit), clip, entry, seed=1, epoch=0, row=row)[0]
        for row in range(100)
    ]
    assert all(1 / limit - 1e-9 <= plan.speed <= limit + 1e-9 for plan in plans)
    assert all(plan.read_rate % 25 == 0 for plan in plans)
