"""Preview of a mix: two clips and their mix on one time axis."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from avmix.augment import apply_video, centred
from avmix.config import ClipConfig, FrontendConfig, MixConfig
from avmix.data.eval_windows import Window
from avmix.decode import decode_clip
from avmix.decode.mono_track import channels_to_read, one_channel
from avmix.evaluation.figures import OWN, PARTNER, Strip, draw_strips
from avmix.media.probe import survey
from avmix.mix import MixPlan
from avmix.preview.mixed_pair import Look, looks_of, pair_plan, plan_title
from avmix.types import Batch, Clip

PREVIEW_CLIP = ClipConfig(crop=112, short_side=112)
"""Frames large enough to look at."""


def preview_mix(
    own: Path,
    partner: Path,
    *,
    out: Path,
    mixes: Sequence[MixConfig | MixPlan],
    seed: int = 0,
    start_seconds: float | tuple[float, float] = 0.0,
    labels: tuple[str, str] | None = None,
    clip: ClipConfig = PREVIEW_CLIP,
    frontend: FrontendConfig | None = None,
    tracks: tuple[int | None, int | None] = (None, None),
    until_seconds: tuple[float | None, float | None] = (None, None),
) -> list[MixPlan]:
    """Write a PNG of both clips and of each way of mixing them; returns how each was done.

    Everything goes the way of training: the same decoder, frontend and mix. A plan is carried out
    as it is (of one clip, with the partner as second input: `MixPlan.of_one`), for a configuration
    one is drawn. `start_seconds`: into both files, or into each. `labels` names the two classes;
    the file names stand in for them. `tracks`: of audio, where not those that players take.
    `until_seconds`: where reading of each has to end, as for `decode_clip`.
    Raises what `decode_clip` raises, and ValueError where a plan does not fit the clips or mixes
    inside the network, where there is nothing to see.
    """
    settings = (frontend or FrontendConfig()).drawn
    names = labels or (own.stem, partner.stem)
    starts = start_seconds if isinstance(start_seconds, tuple) else (start_seconds,) * 2
    clips = [
        _read(path, Window(start, clip.duration_seconds), clip, track, until)
        for path, start, track, until in zip(
            (own, partner), starts, tracks, until_seconds, strict=True
        )
    ]
    batch = Batch(
        video=torch.from_numpy(np.stack([c.video for c in clips])),
        audio=torch.from_numpy(np.stack([c.audio for c in clips])),
        has_video=torch.ones(2, dtype=torch.bool),
        has_audio=torch.tensor([c.audio_valid > 0 for c in clips]),
        target=torch.eye(2),
        row=torch.arange(2),
        source=torch.arange(2),
    )
    plans = [mix if isinstance(mix, MixPlan) else pair_plan(mix, batch, clip, settings, seed)
             for mix in mixes]  # fmt: skip
    own_look, partner_look, *mixed = looks_of(batch, plans, settings, clip.sample_rate)
    num_columns = own_look.log_mel.shape[1]
    seconds = (
        settings.first_column + settings.hop_length * np.arange(num_columns)
    ) / clip.sample_rate
    share = clip.duration_seconds / clip.num_frames
    rows: list[tuple[str, Look, list[tuple[str, float, str]]]] = [
        (f"own clip: {names[0]}", own_look, [(names[0], 1.0, OWN)]),
        (f"partner: {names[1]}", partner_look, [(names[1], 1.0, PARTNER)]),
    ]
    for plan, look in zip(plans, mixed, strict=True):
        ours, theirs = look.shares.fused.tolist()
        bar = [(names[0], ours, OWN), (names[1], theirs, PARTNER)]
        rows.append((plan_title(plan), look, bar))
    strips = [
        Strip(
            title=title,
            frames=look.frames,
            frame_seconds=(np.arange(clip.num_frames) + 0.5) * share,
            log_mel=look.log_mel,
            column_seconds=seconds,
            labels=bar,
        )
        for title, look, bar in rows
    ]
    draw_strips(strips, 0.0, clip.duration_seconds, f"{names[0]} and {names[1]}, mixed", out)
    return plans


def _read(
    path: Path,
    window: Window,
    config: ClipConfig,
    track: int | None = None,
    until_seconds: float | None = None,
) -> Clip:
    wanted, audio = config.audio_channels, None
    if wanted == 1:  # training knows it from the manifest
        audio = survey(str(path), audio_track=track).audio
    clip = decode_clip(
        path,
        start_seconds=window.start_seconds,
        duration_seconds=window.duration_seconds,
        num_frames=config.num_frames,
        sample_rate=config.sample_rate,
        channels=channels_to_read(audio, wanted),
        audio_track=track,
        until_seconds=until_seconds,
        short_side=config.short_side,
        audio="silence",
    )
    clip = replace(clip, audio=one_channel(audio, clip.audio, wanted))
    plan = centred(clip.video.shape[1], clip.video.shape[2])
    return replace(clip, video=apply_video(clip.video, plan, config.crop))
