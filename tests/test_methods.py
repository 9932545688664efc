"""Every method by hand, on the grids of the default configuration; and what is drawn for it.

8 frames of 64 x 64 in 2 s: frame k is the quarter of a second from k / 4. 62.5 hops a second at
16 kHz: column k of 124 has its middle at sample 256 k + 256.
"""

import math
from dataclasses import replace

import numpy as np
import pytest

from avmix.config import ClipConfig, FrontendConfig, MixConfig
from avmix.mix import Clips, Grid, MixPlan, clip_grids, draw_plan, pairs_of
from avmix.mix.boxes import box_of, draw_band, draw_interval, draw_rectangle
from avmix.mix.methods import (
    draw_cross,
    draw_cutmix_frequency,
    draw_cutmix_spatial,
    draw_cutmix_spatiotemporal,
    draw_cutmix_temporal,
    draw_dropout,
    draw_energy,
    draw_independent,
    draw_mixup,
    draw_none,
    draw_only,
)
from avmix.mix.plan_drawing import draw_lam
from avmix.rng import rng

CLIP, FRONTEND = ClipConfig(), FrontendConfig()
GRIDS = clip_grids(CLIP, FRONTEND, "log_mel")
WAVES = clip_grids(CLIP, FRONTEND, "waveform")
HALVES = np.full((2, 6), 0.5)


def clips(size=2, *, video=None, audio=None, source=None) -> Clips:
    return Clips(
        present=(
            ("video", tuple(video or (True,) * size)),
            ("audio", tuple(audio or (True,) * size)),
        ),
        source=tuple(source or range(size)),
        labels=tuple(frozenset({i}) for i in range(size)),
    )


PAIR = pairs_of((1, 0), clips())
ODD = pairs_of(  # 0: partner without audio; 1: without audio; 2: of the source of 0; 3: alone
    (1, 0, 0, 3), clips(4, audio=(True, False, True, True), source=(5, 6, 5, 7))
)


def lams(plan: MixPlan) -> tuple:
    """Own shares of video, audio and of the fused label."""
    return plan.part("video").lam, plan.part("audio").lam, plan.lam


# Grids --------------------------------------------------------------------------------------------


def test_the_grids_are_those_of_the_tensors():
    assert GRIDS["video"].shape == (8, 64, 64)
    assert GRIDS["audio"].shape == (64, 124)
    assert WAVES["audio"].shape == (32_000,)
    assert [GRIDS["video"].first_seconds, GRIDS["video"].step_seconds] == [0.125, 0.25]
    assert [GRIDS["audio"].first_seconds, GRIDS["audio"].step_seconds] == [0.016, 0.016]
    assert [WAVES["audio"].first_seconds, WAVES["audio"].step_seconds] == [0, 1 / 16_000]
    assert clip_grids(CLIP, FRONTEND, "power")["audio"] == replace(GRIDS["audio"], domain="power")
    wide = clip_grids(CLIP, FrontendConfig(n_fft=1024, hop_length=100, num_mels=10), "log_mel")
    assert wide["audio"].shape == (10, 310)  # 100 * 309 + 1024 = 31924 samples
    assert wide["audio"].first_seconds == 0.032  # half of the window, not of the hop
    assert wide["audio"].step_seconds == 0.00625


@pytest.mark.parametrize(
    ("seconds", "frames", "columns", "samples"),
    [
        ((0.5, 1.5), (2, 6), (31, 93), (8000, 24_000)),  # 256 k + 256 in [8000, 24000)
        ((0.0, 2.0), (0, 8), (0, 124), (0, 32_000)),
        ((-math.inf, 0.25), (0, 1), (0, 15), (0, 4000)),  # 256 * 15 + 256 = 4096 is not before 4000
        ((1.75, math.inf), (7, 8), (109, 124), (28_000, 32_000)),
        ((0.13, 0.37), (1, 1), (8, 23), (2080, 5920)),  # no middle of a frame
        ((0.125, 0.375), (0, 1), (7, 23), (2000, 6000)),  # a middle at the start, one at the stop
        ((0.0, 0.0), (0, 0), (0, 0), (0, 0)),
        ((1.0, 0.5), (4, 4), (62, 62), (16_000, 16_000)),
        ((7.0, 9.0), (8, 8), (124, 124), (32_000, 32_000)),
    ],
)
def test_seconds_as_indices(seconds, frames, columns, samples):
    assert GRIDS["video"].steps_within(*seconds) == frames
    assert GRIDS["audio"].steps_within(*seconds) == columns
    assert WAVES["audio"].steps_within(*seconds) == samples


def test_borders_are_half_a_step_before_the_middle():
    assert [GRIDS["video"].border_seconds(k) for k in (0, 2, 8)] == [0.0, 0.5, 2.0]
    assert Grid(domain="features", shape=(3,)).num_steps == 0
    assert GRIDS["audio"].num_steps == 124


@pytest.mark.parametrize("num_frames", [5, 10, 16, 20, 25, 40])
def test_every_frame_has_as_many_samples(num_frames):
    """Borders between frames are samples, too, and are hit although seconds are rounded."""
    grids = clip_grids(replace(CLIP, num_frames=num_frames), FRONTEND, "waveform")
    video, each = grids["video"], 32_000 // num_frames
    for k in range(num_frames):
        seconds = video.border_seconds(k), video.border_seconds(k + 1)
        assert grids["audio"].steps_within(*seconds) == (k * each, (k + 1) * each)


def test_what_is_not_there_cannot_be_cut():
    frames = {"video": Grid(domain="pixels", shape=(64, 64), frame_axes=(0, 1))}
    with pytest.raises(ValueError, match="no modality has a time axis to cut: video"):
        draw_interval(frames, 0.5, 0.5)
    with pytest.raises(ValueError, match="no modality has a frequency axis to cut: video"):
        draw_band(frames, 0.5, 0.5)
    with pytest.raises(ValueError, match="no modality is an image to cut: audio"):
        draw_rectangle({"audio": GRIDS["audio"]}, 0.5, HALVES[0])


def test_the_coarser_of_two_clocks_gives_the_borders():
    fine = clip_grids(replace(CLIP, num_frames=400), FRONTEND, "log_mel")
    seconds, share = draw_interval(fine, 0.25, 0.5)  # columns 46.5 to 77.5, to even: 46 to 78
    assert share == 32 / 124
    assert seconds == pytest.approx((0.008 + 46 * 0.016, 0.008 + 78 * 0.016))
    assert fine["audio"].steps_within(*seconds) == (46, 78)
    # The first and the last column have the frames before and after them, too.
    start, stop = (draw_interval(fine, 0.5, centre)[0] for centre in (0.0, 1.0))
    assert fine["audio"].steps_within(*start) == (0, 31)
    assert fine["video"].steps_within(*start) == (0, 101)  # 0.504 s of 0.005 s each
    assert fine["audio"].steps_within(*stop) == (93, 124)
    assert fine["video"].steps_within(*stop) == (299, 400)  # from 1.496 s


def test_a_place_is_the_same_share_of_every_frame():
    small = Grid(domain="pixels", shape=(3, 10, 20), time_axis=0, frame_axes=(1, 2))
    place = ((0.25, 0.5), (0.0, 0.75))
    assert box_of(small, place=place) == (0, 3, 2, 5, 0, 15)
    assert box_of(GRIDS["video"], place=place) == (0, 8, 16, 32, 0, 48)
    assert box_of(GRIDS["audio"], place=place) == (0, 64, 0, 124)
    assert box_of(GRIDS["audio"], band=(0.25, 0.5), time=(0.5, 1.5)) == (16, 32, 31, 93)


# Whole tensors ------------------------------------------------------------------------------------


def test_no_mixing():
    plan = draw_none(ODD, GRIDS)
    assert (plan.method, plan.level) == ("none", "input")
    assert not plan.mixes
    assert lams(plan) == ((1.0,) * 4,) * 3
    assert plan.part("audio").present == (True, False, True, True)


def test_mixup_has_one_lambda_for_all():
    plan = draw_mixup(PAIR, [0.3, 0.8], GRIDS)
    assert (plan.method, plan.level, plan.partner) == ("mixup", "input", (1, 0))
    assert lams(plan) == ((0.3, 0.8),) * 3
    assert [(p.name, p.domain, p.box) for p in plan.parts] == [
        ("video", "pixels", None), ("audio", "log_mel", None)]  # fmt: skip


def test_what_a_clip_or_its_partner_lacks_is_not_mixed():
    plan = draw_mixup(ODD, [0.3, 0.6, 0.5, 0.5], GRIDS)
    assert plan.part("video").lam == (0.3, 0.6, 1.0, 1.0)  # 2 is of one source with 0, 3 is alone
    assert plan.part("audio").lam == (1.0, 1.0, 1.0, 1.0)
    assert plan.lam == (0.65, 0.6, 1.0, 1.0)  # 0: mean of 0.3 and 1; 1 has video only


def test_independent_lambdas():
    plan = draw_independent(PAIR, {"video": [0.25, 0.5], "audio": [0.75, 1.0]}, GRIDS)
    assert plan.method == "independent"
    assert lams(plan) == ((0.25, 0.5), (0.75, 1.0), (0.5, 0.75))


def test_one_modality_only():
    plan = draw_only("video", PAIR, [0.25, 0.5], GRIDS)
    assert plan.method == "video"
    assert lams(plan) == ((0.25, 0.5), (1.0, 1.0), (0.625, 0.75))
    plan = draw_only("audio", PAIR, [0.25, 0.5], GRIDS)
    assert lams(plan) == ((1.0, 1.0), (0.25, 0.5), (0.625, 0.75))


def test_a_modality_that_there_is_not_is_refused():
    only_video = Clips(present=(("video", (True, True)),), source=(0, 1), labels=(frozenset(),) * 2)
    pairs, grids = pairs_of((1, 0), only_video), {"video": GRIDS["video"]}
    with pytest.raises(ValueError, match="audio mixes audio, the clips have video"):
        draw_only("audio", pairs, [0.5, 0.5], grids)
    with pytest.raises(ValueError, match="clips have video, grids are of video, audio"):
        draw_mixup(pairs, [0.5, 0.5], GRIDS)
    with pytest.raises(ValueError, match="clips have video, audio, grids are of video"):
        draw_cutmix_temporal(PAIR, [0.5, 0.5], HALVES, grids)


# Boxes --------------------------------------------------------------------------------------------


def test_temporal_cut_by_hand():
    numbers = np.array([[0.5] * 6, [0.01] * 6])
    plan = draw_cutmix_temporal(PAIR, [0.5, 0.8], numbers, GRIDS)
    video, audio = plan.parts
    # 0: [0.5, 1.5) s. 1: a fifth around 0.01, which is [0, 0.11): 0.88 frames, to the nearest 1.
    assert video.box == ((2, 6, 0, 64, 0, 64), (0, 1, 0, 64, 0, 64))
    assert audio.box == ((0, 64, 31, 93), (0, 64, 0, 15))
    assert video.weight == audio.weight == (0.0, 0.0)
    assert video.shape == (8, 64, 64)
    assert audio.shape == (64, 124)
    assert video.lam == (0.5, 0.875)
    assert audio.lam == (0.5, 1 - 15 / 124)
    assert plan.lam == (0.5, (0.875 + 1 - 15 / 124) / 2)
    waves = draw_cutmix_temporal(PAIR, [0.5, 0.8], numbers, WAVES).part("audio")
    assert waves.box == ((8000, 24_000), (0, 4000))
    assert waves.lam == (0.5, 0.875)


def test_the_same_seconds_are_cut_of_both():
    generator = np.random.default_rng(0)
    pairs = pairs_of((*range(1, 200), 0), clips(200))
    lam, numbers = generator.random(200), generator.random((200, 6))
    for grids in (GRIDS, WAVES):
        plan = draw_cutmix_temporal(pairs, lam.tolist(), numbers, grids)
        video, audio = plan.parts
        assert video.box is not None
        assert audio.box is not None
        for i, (v, a) in enumerate(zip(video.box, audio.box, strict=True)):
            low, high = max(0, numbers[i, 0] - (1 - lam[i]) / 2), numbers[i, 0] + (1 - lam[i]) / 2
            high = min(1, high)
            if v[0] == v[1]:
                assert round(8 * low) == round(8 * high), i
                continue
            assert abs(v[0] - 8 * low) <= 0.5, i
            assert abs(v[1] - 8 * high) <= 0.5, i
            # Every column (or sample) belongs to the frame that is shown in its middle.
            grid = grids["audio"]
            middle = grid.first_seconds + grid.step_seconds * np.arange(grid.num_steps)
            inside = (middle >= v[0] / 4 - 1e-9) & (middle < v[1] / 4 - 1e-9)
            assert inside.sum() == a[-1] - a[-2], i
            assert inside.argmax() == a[-2], i
            assert abs(video.lam[i] - audio.lam[i]) <= 1 / 8, i
            assert abs(video.lam[i] - audio.lam[i]) < 0.01, i  # rounding of columns


def test_a_temporal_cut_of_what_has_no_time_is_a_blend():
    grids = {**GRIDS, "audio": Grid(domain="features", shape=(10,))}
    plan = draw_cutmix_temporal(PAIR, [0.5, 0.8], np.array([[0.5] * 6, [0.01] * 6]), grids)
    assert plan.part("audio").box is None
    assert plan.part("audio").weight == plan.part("video").lam == (0.5, 0.875)


def test_spatial_cut_by_hand():
    # 0: in the middle: sides 0.5 around (0.5, 0.5). 1: in the upper right corner.
    numbers = np.array([[0.5, 0.5, 9, 9, 9, 9], [0.1, 0.9, 9, 9, 9, 9]])
    plan = draw_cutmix_spatial(PAIR, [0.75, 0.75], numbers, GRIDS)
    video, audio = plan.parts
    # 1: rows 0 to 0.35 * 64 = 22.4, columns 0.65 * 64 = 41.6 to 64
    assert video.box == ((0, 8, 16, 48, 16, 48), (0, 8, 0, 22, 42, 64))
    assert video.weight == (0.0, 0.0)
    assert lams(plan) == ((0.75, 1 - 22 * 22 / 64**2),) * 3
    assert audio.box is None
    assert audio.shape == ()


def test_a_rectangle_has_two_different_sides():
    grids = {**GRIDS, "video": replace(GRIDS["video"], shape=(8, 10, 100))}
    plan = draw_cutmix_spatial(
        PAIR, [0.75, 0.75], np.array([[0.2, 0.7] * 3, [0.7, 0.2] * 3]), grids
    )
    # 0: rows 0 to 0.45 * 10 = 4.5 (to even: 4), columns 45 to 95; 1: rows 4.5 to 9.5 (10), 0 to 45
    assert plan.part("video").box == ((0, 8, 0, 4, 45, 95), (0, 8, 4, 10, 0, 45))
    assert plan.part("audio").weight == (1 - 4 * 50 / 1000, 1 - 6 * 45 / 1000)


def test_spatiotemporal_cut_by_hand():
    # An eighth: every side is a half. Time around 0.5, rows around 0.25, columns around 0.5 and 1.
    numbers = np.array([[0.5, 0.25, 0.5, 9, 9, 9], [0.5, 0.25, 1.0, 9, 9, 9]])
    plan = draw_cutmix_spatiotemporal(PAIR, [0.875, 0.875], numbers, GRIDS)
    video, audio = plan.parts
    assert video.box == ((2, 6, 0, 32, 16, 48), (2, 6, 0, 32, 48, 64))
    assert video.weight == (0.0, 0.0)
    assert video.lam == (1 - 4 * 32 * 32 / (8 * 64 * 64), 1 - 4 * 32 * 16 / (8 * 64 * 64))
    # In the same seconds the audio is mixed by the rectangle's area.
    assert audio.box == ((0, 64, 31, 93),) * 2
    assert audio.weight == (0.75, 0.875)
    assert audio.lam == (0.875, 0.9375)
    assert lams(plan)[2] == (0.875, 0.9375)


def test_spatiotemporal_cut_of_what_has_no_time_or_no_place():
    numbers = np.array([[0.5, 0.25, 0.5, 9, 9, 9]] * 2)
    grids = {**GRIDS, "audio": Grid(domain="features", shape=(10,))}
    plan = draw_cutmix_spatiotemporal(PAIR, [0.875, 0.875], numbers, grids)
    assert plan.part("audio").box is None
    assert plan.part("audio").weight == (0.875, 0.875)
    frame = Grid(domain="pixels", shape=(64, 64), frame_axes=(0, 1))
    plan = draw_cutmix_spatiotemporal(PAIR, [0.875, 0.875], numbers, {**GRIDS, "video": frame})
    # 124 columns are the only clock: 31 to 93 of them are half of it.
    assert plan.part("video").box == ((0, 32, 16, 48),) * 2
    assert plan.part("video").weight == (0.5, 0.5)
    assert lams(plan) == ((0.875, 0.875),) * 3


def test_frequency_cut_by_hand():
    numbers = np.array([[0.5] * 6, [0.05] * 6])
    plan = draw_cutmix_frequency(PAIR, [0.75, 0.8], numbers, GRIDS)
    video, audio = plan.parts
    # 0: bins 0.375 * 64 to 0.625 * 64; 1: 0 to 0.15 * 64 = 9.6
    assert audio.box == ((24, 40, 0, 124), (0, 10, 0, 124))
    assert audio.weight == (0.0, 0.0)
    assert video.box is None
    assert lams(plan) == ((0.75, 1 - 10 / 64),) * 3
    with pytest.raises(ValueError, match="no modality has a frequency axis to cut"):
        draw_cutmix_frequency(PAIR, [0.75, 0.8], numbers, WAVES)


@pytest.mark.parametrize(
    "draw", [draw_cutmix_temporal, draw_cutmix_spatial, draw_cutmix_spatiotemporal,
             draw_cutmix_frequency],
)  # fmt: skip
def test_boxes_at_the_ends_of_lambda_and_of_what_is_not_mixed(draw):
    numbers = np.full((4, 6), 0.5)
    whole = draw(PAIR, [0.0, 0.0], numbers[:2], GRIDS)
    for part in whole.parts:  # everything is no box
        assert part.box is None
        assert part.shape == ()
        assert part.weight == part.lam == (0.0, 0.0)
    none = draw(PAIR, [1.0, 1.0], numbers[:2], GRIDS)
    assert lams(none) == ((1.0, 1.0),) * 3
    some = draw(ODD, [0.6, 0.6, 0.6, 0.6], numbers, GRIDS)
    assert some.part("video").lam[2:] == some.part("audio").lam[2:] == (1.0, 1.0)
    assert some.part("audio").weight == some.part("audio").lam == (1.0,) * 4
    assert some.part("video").lam[0] == some.part("video").lam[1] < 1
    assert some.lam[0] == (some.part("video").lam[0] + 1) / 2
    assert some.lam[1] == some.part("video").lam[1]


# Audio by loudness, features, dropout -------------------------------------------------------------


def test_energy_is_mixup_with_a_limit():
    plan = draw_energy(PAIR, [0.3, 0.8], 15.0, clip_grids(CLIP, FRONTEND, "power"))
    assert (plan.method, plan.energy_limit_db) == ("energy", 15.0)
    assert plan.part("audio").domain == "power"
    assert lams(plan) == ((0.3, 0.8),) * 3


def test_crosswise_with_oneself():
    of = clips(4, audio=(True, False, True, True), source=(5, 6, 5, 7))
    plan = draw_cross(pairs_of((1, 0, 3, 2), of), [0.3, 0.6, 0.5, 0.9], MixConfig())
    assert (plan.method, plan.level, plan.path) == ("cross", "feature", "sphere")
    assert plan.partner == (0, 1, 2, 3)
    # 1 has no audio that could be mixed in.
    assert plan.part("video").weight == plan.part("audio").weight == (0.3, 1.0, 0.5, 0.9)
    assert [part.domain for part in plan.parts] == ["features"] * 2
    assert plan.part("audio").present == (True, False, True, True)


def test_crosswise_with_the_partner():
    config = MixConfig(cross_with="partner", cross_path="linear")
    of = clips(5, audio=(True, False, True, True, True), source=(5, 6, 5, 7, 8))
    plan = draw_cross(pairs_of((1, 0, 0, 4, 3), of), [0.3, 0.6, 0.5, 0.9, 0.2], config)
    assert plan.path == "linear"
    assert plan.partner == (1, 0, 0, 4, 3)
    # 0 and 1 do not both have both; 2 and 0 are of one source
    assert plan.part("video").weight == plan.part("audio").weight == (1.0, 1.0, 1.0, 0.9, 0.2)


def test_dropout_by_hand():
    video, audio = [i % 5 != 3 for i in range(60)], [i % 5 != 4 for i in range(60)]
    plan = draw_mixup(pairs_of(range(59, -1, -1), clips(60, video=video, audio=audio)),
                      [0.5] * 60, GRIDS)  # fmt: skip
    numbers = rng(0, 0, "mix").random(60)
    # Under 0.3 frames are lost, then under 0.5 audio; who has but one keeps it.
    both = [v and a for v, a in zip(video, audio, strict=True)]
    no_video = [b and x < 0.3 for b, x in zip(both, numbers, strict=True)]
    no_audio = [b and 0.3 <= x < 0.5 for b, x in zip(both, numbers, strict=True)]
    assert 5 < sum(no_video) < 25
    assert 5 < sum(no_audio) < 20
    for given in (plan, replace(plan, parts=plan.parts[::-1])):  # found by name, not by place
        dropped = draw_dropout({"video": 0.3, "audio": 0.2}, given, rng(0, 0, "mix"))
        for name, has, lost in (("video", video, no_video), ("audio", audio, no_audio)):
            part = dropped.part(name)
            assert part.present == tuple(h and not x for h, x in zip(has, lost, strict=True))
            assert part.weight == plan.part(name).weight


def test_what_is_dropped_does_not_come_back_in_the_other_feature():
    plan = draw_cross(pairs_of(range(60), clips(60)), [0.3] * 60, MixConfig())
    assert plan.part("video").weight == plan.part("audio").weight == (0.3,) * 60
    dropped = draw_dropout({"video": 0.3, "audio": 0.2}, plan, rng(0, 0, "mix"))
    whole = [all(part.present[i] for part in dropped.parts) for i in range(60)]
    assert 5 < sum(whole) < 55
    for part in dropped.parts:
        assert part.weight == tuple(0.3 if both else 1.0 for both in whole)


def test_after_dropout_the_fused_label_is_that_of_what_is_left():
    plan = draw_independent(PAIR, {"video": [0.25, 0.5], "audio": [0.75, 1.0]}, GRIDS)
    lost = draw_dropout({"video": 1.0, "audio": 0.0}, plan, rng(0, 0, "mix"))
    assert lost.part("video").present == (False, False)
    assert lost.lam == (0.75, 1.0)
    lost = draw_dropout({"video": 0.0, "audio": 1.0}, plan, rng(0, 0, "mix"))
    assert lost.lam == (0.25, 0.5)


# Drawing ------------------------------------------------------------------------------------------


def drawn(config: MixConfig, size=6, seed=0, *, of: Clips | None = None, rank=0) -> MixPlan:
    grids = clip_grids(CLIP, FRONTEND, config.audio_domain)
    return draw_plan(config, of or clips(size), grids, shared=rng(seed, 0, "mix_shared"),
                     own=rng(seed, 0, "mix", rank))  # fmt: skip


WORDS = ["none", "mixup", "independent", "video", "audio", "mixup@layer", "video@feature", 
         "energy", "cutmix_temporal", "cutmix_spatial", "cutmix_spatiotemporal",
         "cutmix_frequency"]  # fmt: skip


def test_partners_and_lambdas_do_not_depend_on_the_method_or_the_probability():
    options = {"alpha": 1.0, "audio_domain": "power", "pairing": "derangement"}
    for seed in range(8):
        mixup = drawn(MixConfig(**options), seed=seed)
        lam = mixup.part("video").weight
        assert max(lam) < 1
        for word in [*WORDS, "cross"]:
            for dropout in ("", "+dropout"):
                config = MixConfig(method=word + dropout, cross_with="partner", **options)
                plan = drawn(config, seed=seed)
                assert plan.partner == mixup.partner, word
                method = word.split("@")[0]
                if method == "cross" and dropout:
                    continue  # who loses a modality is not crossed with it
                if method in ("mixup", "independent", "video", "energy", "cross"):
                    assert plan.part("video").weight == lam, word
                if method in ("mixup", "audio", "energy", "cross"):
                    assert plan.part("audio").weight == lam, word
        rare = drawn(MixConfig(probability=0.5, **options), seed=seed)
        assert rare.partner == mixup.partner
        assert rare in (mixup, drawn(MixConfig(method="none", **options), seed=seed))
        switched = drawn(MixConfig(switch={"mixup": 0.5, "energy": 0.5}, **options), seed=seed)
        assert switched.part("video").weight == lam


def test_the_words_are_carried_out():
    for word in WORDS:
        method, _, level = word.partition("@")
        plan = drawn(MixConfig(method=word, alpha=1.0, audio_domain="power", layers=[2]))
        assert (plan.method, plan.level) == (method, level or "input")
        assert plan.stage == (2 if level == "layer" else None)
        assert plan.mixes == (word != "none")
        domains = ["features", "features"] if level else ["pixels", "power"]
        assert [part.domain for part in plan.parts] == domains
    plan = drawn(MixConfig(method="energy", audio_domain="waveform", energy_limit_db=7.0))
    assert plan.energy_limit_db == 7.0
    assert plan.part("audio").domain == "waveform"
    config = MixConfig(method="cross", cross_with="partner", cross_path="linear", alpha=1.0)
    assert drawn(config).path == "linear"
    assert drawn(config).part("video").weight == drawn(MixConfig(alpha=1.0)).part("video").weight


def test_independent_lambdas_are_independent():
    plans = [drawn(MixConfig(method="independent", law="uniform"), 64, seed) for seed in range(20)]
    both = np.array([(p.part("video").lam, p.part("audio").lam) for p in plans]).swapaxes(0, 1)
    assert abs(np.corrcoef(both.reshape(2, -1))[0, 1]) < 5 / 1280**0.5
    batch = drawn(MixConfig(method="independent", law="uniform", per="batch", pairing="roll"), 64)
    video, audio = batch.part("video").weight, batch.part("audio").weight
    assert len(set(video)) == len(set(audio)) == 1
    assert video != audio


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_lambda_is_beta_distributed(alpha):
    lam = draw_lam(MixConfig(alpha=alpha), 25_600, rng(0, 0, "mix"))[:, 0]
    variance = 1 / (4 * (2 * alpha + 1))
    assert lam.mean() == pytest.approx(0.5, abs=5 * (variance / lam.size) ** 0.5)
    assert lam.var() == pytest.approx(variance, rel=0.03)
    # Neighbours have lambdas of their own: not one, nor one and its complement.
    assert abs(np.corrcoef(lam[0::2], lam[1::2])[0, 1]) < 0.05


def test_the_other_laws():
    lam = draw_lam(MixConfig(law="uniform", alpha=0.01), 10_000, rng(0, 0, "mix"))[:, 0]
    counts = np.histogram(lam, 10, (0, 1))[0]
    assert np.abs(counts - 1000).max() < 5 * 900**0.5
    fixed = draw_lam(MixConfig(law="fixed", lam=0.3), 5, rng(0, 0, "mix"))
    assert (fixed == 0.3).all()


@pytest.mark.parametrize("law", ["beta", "uniform", "fixed"])
def test_a_dominant_lambda_is_the_larger_one(law):
    lam = 0.3 if law == "fixed" else 0.5
    free = draw_lam(MixConfig(law=law, lam=lam, alpha=1.0), 100, rng(0, 0, "mix"))
    dominant = draw_lam(
        MixConfig(law=law, lam=lam, alpha=1.0, dominant=True), 100, rng(0, 0, "mix")
    )
    assert (dominant >= 0.5).all()
    assert ((dominant == free) | (dominant == 1 - free)).all()


def test_one_lambda_and_one_box_for_the_whole_batch():
    for word in ("mixup", "cutmix_temporal", "cutmix_spatial", "cutmix_spatiotemporal"):
        config = MixConfig(method=word, law="uniform", pairing="roll")
        one, each = drawn(replace(config, per="batch"), 64), drawn(config, 64)
        assert len(set(one.lam)) == 1, word
        assert len(set(each.lam)) > 8, word
        for part, own in zip(one.parts, each.parts, strict=True):
            assert part.box is None or len(set(part.box)) == 1, word
            assert own.box is None or len(set(own.box)) > 4, word


def test_an_interval_may_be_anywhere_and_a_rectangle_in_every_corner():
    plan = drawn(MixConfig(method="cutmix_spatiotemporal", law="fixed", lam=0.99), 500)
    box = np.array(plan.part("video").box)
    for axis, length in enumerate((8, 64, 64)):
        middle = box[:, 2 * axis : 2 * axis + 2].mean(1) / length
        # Uniform, but for what is cut off at the ends.
        assert middle.mean() == pytest.approx(0.5, abs=5 * (1 / 12 / 500) ** 0.5)
        assert np.abs(np.histogram(middle, 2, (0, 1))[0] - 250).max() < 5 * 125**0.5
        assert middle.min() < 0.1
        assert middle.max() > 0.9
    middles = (box[:, [0, 2, 4]] + box[:, [1, 3, 5]]) / 2
    assert np.abs(np.corrcoef(middles.T) - np.eye(3)).max() < 5 / 500**0.5


def test_the_share_of_mixed_batches_is_the_probability():
    config = MixConfig(probability=0.3, alpha=1.0)
    mixed = sum(drawn(config, 2, seed).mixes for seed in range(600))
    assert abs(mixed - 180) < 56  # five standard deviations of a binomial
    assert not any(drawn(replace(config, probability=0.0), 2, seed).mixes for seed in range(50))
    assert all(drawn(replace(config, probability=1.0), 2, seed).mixes for seed in range(50))


def test_unmixed_batches_lose_no_modality():
    config = MixConfig(method="mixup+dropout", probability=0.0, drop_video=0.5, drop_audio=0.5)
    plan = drawn(config, 64)
    assert plan.method == "none"
    assert all(all(part.present) for part in plan.parts)
    plan = drawn(replace(config, method="dropout", probability=1.0), 64)
    assert plan.method == "none"
    kept = [sum(has) for has in zip(*(part.present for part in plan.parts), strict=True)]
    assert kept == [1] * 64  # all lose one, none both


def test_methods_are_switched_as_often_as_they_should():
    switch = {"mixup@layer": 0.5, "cutmix_spatial": 0.3, "none": 0.2, "video": 0.0}
    config = MixConfig(switch=switch, layers=[0, 3])
    plans = [drawn(config, 2, seed) for seed in range(1000)]
    for word, share in switch.items():
        found = sum(plan.method == word.split("@")[0] for plan in plans)
        assert abs(found - 1000 * share) <= 5 * (1000 * share * (1 - share)) ** 0.5, word
    stages = [plan.stage for plan in plans if plan.level == "layer"]
    assert set(stages) == {0, 3}
    assert abs(stages.count(0) - len(stages) / 2) < 5 * (len(stages) / 4) ** 0.5


def test_processes_agree_on_the_method_and_the_layer_and_on_nothing_else():
    switch = {"mixup@layer+dropout": 0.4, "cutmix_spatial": 0.3, "mixup@feature": 0.3}
    config = MixConfig(switch=switch, law="uniform", probability=0.9)
    seen = set()
    for seed in range(40):
        one, two = (drawn(config, 8, seed, rank=rank) for rank in range(2))
        assert (one.method, one.level, one.stage) == (two.method, two.level, two.stage)
        assert one.partner != two.partner or one.lam != two.lam
        seen.add((one.method, one.level, one.stage))
    # Three layers, the feature, boxes, nothing.
    assert len(seen) == 6


def test_the_same_streams_give_the_same_plan_and_another_step_does_not():
    config = MixConfig(alpha=1.0)
    assert drawn(config, seed=1) == drawn(config, seed=1)
    assert drawn(config, seed=1) != drawn(config, seed=2)


def test_two_batches_are_halved():
    config = MixConfig(pairing="second_batch", alpha=1.0)
    plan = drawn(config, 8)
    assert (plan.size, plan.num_inputs) == (4, 8)
    assert sorted(plan.partner) == [4, 5, 6, 7]
    with pytest.raises(ValueError, match="second_batch halves a batch; 7 clips"):
        drawn(config, 7)


def test_one_clip_stays_as_it_is():
    for word in WORDS:
        plan = drawn(MixConfig(method=word, audio_domain="power", alpha=1.0), 1)
        assert plan.partner == (0,)
        assert lams(plan) == ((1.0,),) * 3
