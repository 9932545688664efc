"""Is a batch that was mixed what its label says? Measured, for any candidate of mixers.py.

One clip is made white and loud, all others black and still: the mean of what comes out is the
weight of that clip in every mixed clip. Done for one clip after the other, with the same random
numbers, this recovers all weights, of frames and of audio, whatever was drawn; the label has the
third opinion. Random clips then tell whether every pixel is where it should be, and whether the
inputs were left as they were.
"""

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixing.mixers import MEAN, STD, Inputs, Kind, Layout, Mixed, Mixer, make_inputs

TOLERANCE = 0.005
"""Of a weight."""
PIXEL_TOLERANCE = 0.01
"""Of a normalised pixel; a step of a byte is 0.017."""
_WITNESSES = ("label", "video", "audio", "video_label", "audio_label")
_NUM_CLIPS = 6
_NUM_DRAWS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Weight of every clip (column) in every mixed clip (row), by three witnesses."""

    video: Tensor
    audio: Tensor
    label: Tensor
    """In the label of the clip."""
    video_label: Tensor
    """In the label of its frames: the same, but where the candidate tells them apart."""
    audio_label: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found; weights are of the clip's own signal, in the clip that is furthest off."""

    right: bool
    audio_unmixed: bool = False
    """The label was mixed, the audio was not."""
    audio_wrong: bool = False
    """The audio is mixed by another weight than its label."""
    label_wrong: bool = False
    """The frames are mixed by another weight than their label."""
    pixels_wrong: bool = False
    """Some value is neither the clip's own nor the mix that the label tells of."""
    input_changed: tuple[str, ...] = ()
    """Of `frames`, `audio`, `target`: what was mixed in place."""
    own_label: float | None = None
    own_video: float | None = None
    own_audio: float | None = None
    own_video_label: float | None = None
    own_audio_label: float | None = None
    error: str = ""
    """What it said when it refused."""

    def as_json(self) -> dict[str, Any]:
        """Without what is not the case."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name == "right" or value not in (False, (), "", None)
        }


def set_seeds(seed: int) -> None:
    """Of every generator that a candidate may draw from."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  timm draws from it
    torch.manual_seed(seed)


def judge(
    make: Callable[[], Mixer], kind: Kind, layout: Layout = "decoded", num_draws: int = _NUM_DRAWS
) -> Verdict:
    """The verdict on `make()` over several draws, of which the worst counts."""
    found: list[tuple[float, Verdict]] = []
    try:
        # What is imported on the way may draw from the generators, at the first call only.
        make().stage(_inputs(layout, seed=0))
        for seed in range(num_draws):
            found.append(_judge_once(make, kind, layout, seed))
    except Exception as error:  # any library may raise anything
        return Verdict(right=False, error=said(error))
    worst = max(found, key=lambda pair: pair[0])[1]

    def ever(name: str) -> bool:
        return any(getattr(verdict, name) for _, verdict in found)

    changed = {what for _, verdict in found for what in verdict.input_changed}
    return replace(
        worst,
        right=all(verdict.right for _, verdict in found),
        audio_unmixed=ever("audio_unmixed"),
        audio_wrong=ever("audio_wrong") and not ever("audio_unmixed"),
        label_wrong=ever("label_wrong"),
        pixels_wrong=ever("pixels_wrong"),
        input_changed=tuple(what for what in ("frames", "audio", "target") if what in changed),
    )


def _inputs(layout: Layout, seed: int) -> Inputs:
    """Of odd sizes: a mix-up of axes cannot go unseen."""
    return make_inputs(_NUM_CLIPS, 5, 36, layout, num_classes=9, mels=20, columns=33, seed=seed)


def _judge_once(
    make: Callable[[], Mixer], kind: Kind, layout: Layout, seed: int
) -> tuple[float, Verdict]:
    inputs = _inputs(layout, seed)
    shares = recover(make, inputs, seed)
    set_seeds(seed)
    mixer = make()
    frames = mixer.normalise(inputs.video)
    before = {"frames": frames, "audio": inputs.audio, "target": inputs.target}
    copies = {name: tensor.clone() for name, tensor in before.items()}
    clips = normalised(inputs.video)
    mixed = mixer.mix(frames, inputs)
    changed = tuple(name for name in before if not torch.equal(before[name], copies[name]))
    off = pixels_off(mixed.video, clips, shares.video_label, kind)

    video_off = (shares.video - shares.video_label).abs().amax(1)
    audio_off = (shares.audio - shares.audio_label).abs().amax(1)
    label_off = (shares.label - (shares.video + shares.audio) / 2).abs().amax(1)
    total = video_off + audio_off + label_off
    worst = float(total.max())
    # Where all clips are right, one that is well mixed is shown.
    well = (shares.label.diagonal() - 0.6).abs()
    row = int(total.argmax() if worst > TOLERANCE else well.argmin())
    alone = (shares.audio - torch.eye(_NUM_CLIPS)).abs().max() <= TOLERANCE
    audio_wrong = bool(audio_off.max() > TOLERANCE)
    # A single label that is right for the frames is not wrong: then it is the audio that is.
    of_clip = video_off if shares.video_label is shares.label else video_off + label_off
    label_wrong = bool(of_clip.max() > TOLERANCE)
    pixels_wrong = not label_wrong and off > PIXEL_TOLERANCE
    own = {name: float(getattr(shares, name)[row, row]) for name in _WITNESSES}
    verdict = Verdict(
        right=not (label_wrong or audio_wrong or pixels_wrong),
        audio_unmixed=audio_wrong and bool(alone),
        audio_wrong=audio_wrong and not alone,
        label_wrong=label_wrong,
        pixels_wrong=pixels_wrong,
        input_changed=changed,
        own_label=round(own["label"], 4),
        own_video=round(own["video"], 4),
        own_audio=round(own["audio"], 4),
        own_video_label=round(own["video_label"], 4),
        own_audio_label=round(own["audio_label"], 4),
    )
    return worst, verdict


def recover(make: Callable[[], Mixer], inputs: Inputs, seed: int) -> Shares:
    """All weights that `make()` mixes `inputs` with when it draws from `seed`."""
    size = len(inputs.video)
    video, audio = torch.zeros(size, size), torch.zeros(size, size)
    label: Mixed | None = None
    for k in range(size):
        frames, wave = torch.zeros_like(inputs.video), torch.zeros_like(inputs.audio)
        frames[k], wave[k] = 255, 1
        set_seeds(seed)
        mixer = make()
        probe = replace(inputs, video=frames, audio=wave, target=inputs.target.clone())
        mixed = mixer.stage(probe)
        # Back to black = 0, white = 1.
        video[:, k] = (mixed.video.double().flatten(1).mean(1) * STD + MEAN).float()
        audio[:, k] = mixed.audio.double().flatten(1).mean(1).float()
        label = mixed
    assert label is not None

    columns = list(inputs.numbers)
    of_all = label.label[:, columns].float()

    def of_one(rows: Tensor | None) -> Tensor:
        return of_all if rows is None else rows[:, columns].float()

    return Shares(
        video=video,
        audio=audio,
        label=of_all,
        video_label=of_one(label.video_label),
        audio_label=of_one(label.audio_label),
    )


def normalised(video: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """uint8 (b t h w c) to (b c t h w), as every candidate should."""
    return video.permute(0, 4, 1, 2, 3).to(dtype).div_(255).sub_(MEAN).div_(STD)


def said(error: Exception) -> str:
    """Its class and first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"


def video_shares(mixed: Mixed, inputs: Inputs) -> Tensor:
    """Weight of each clip (column) in each mixed clip (row), by the label of the frames."""
    label = mixed.label if mixed.video_label is None else mixed.video_label
    return label[:, list(inputs.numbers)].float()


def pixels_off(mixed: Tensor, own: Tensor, shares: Tensor, kind: Kind) -> float:
    """The largest difference of a pixel of `mixed` from what it may be: the weighted mean of clips
    that `shares` (rows: mixed clips) tells of; CutMix: the clip's own or the partner's."""
    worst = 0.0
    for i, row in enumerate(shares.tolist()):
        found = mixed[i].to(own.dtype)
        sources = [k for k, share in enumerate(row) if share > 1e-6]
        if kind == "mixup":
            off = (found - sum(row[k] * own[k] for k in sources)).abs()
        else:
            off = (found - own[i]).abs()
            for k in sources:
                off = torch.minimum(off, (found - own[k]).abs())
        worst = max(worst, float(off.max()))
    return worst
