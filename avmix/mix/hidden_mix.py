"""Mixing of hidden representations: between encoder stages, or of the encoders' features."""

from typing import NamedTuple, TypeVar

from torch import Tensor

from avmix.mix.blend import blend, blend_crosswise, blend_several
from avmix.mix.mix_plan import CrossPath, PlacedPlan

Hidden = TypeVar("Hidden", Tensor, list[Tensor])
"""What an encoder has between two stages: of several pathways, a tensor of each."""


class HiddenMix(NamedTuple):
    """The part of a plan that the network carries out. Only `stage` and `path` decide which code
    runs, so a compiled network is compiled once for each of them, not for every plan."""

    stage: int | None
    """Stages of each encoder before the mix; None: the features are mixed."""
    path: CrossPath | None
    """Features of two modalities are mixed with each other; None: each with its own kind."""
    partner: Tensor
    """(n) int32"""
    video: Tensor
    """(n) float32 weights of the own signal."""
    audio: Tensor
    """(n) float32"""
    has: tuple[Tensor, Tensor] | None = None
    """(b) bool each: which clips have frames and audio before they are mixed, where the network
    must know."""

    partners: Tensor | None = None
    """(n p) int32, where clips have several partners."""
    shares: tuple[Tensor, Tensor] | None = None
    """(n p) float32 each: their weights in video and audio."""

    def blend(self, x: Hidden, weight: Tensor) -> Hidden:
        """(b ...) -> (n ...): mix whole tensors with their partners'."""
        if isinstance(x, list):
            return [blend(one, self.partner, weight) for one in x]
        return blend(x, self.partner, weight)

    def features(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """(b dv), (b da) -> (n dv), (n da): mix features, where the level is feature."""
        if self.stage is not None:
            return video, audio
        if self.partners is not None and self.shares is not None:
            of_video, of_audio = self.shares
            return (
                blend_several(video, self.partners, self.video, of_video),
                blend_several(audio, self.partners, self.audio, of_audio),
            )
        if self.path is None:
            return self.blend(video, self.video), self.blend(audio, self.audio)
        return blend_crosswise(video, audio, self.partner, self.video, self.path)


def hidden_mix(plan: PlacedPlan, has: tuple[Tensor, Tensor] | None = None) -> HiddenMix | None:
    """The mix that the network carries out; None where it was done before, or is not done at
    all. `has`: which of the clips that are read have frames, and which audio."""
    what = plan.plan
    if what.level == "input":
        return None
    video, audio = plan.part("video"), plan.part("audio")
    shares = None
    if video.shares is not None and audio.shares is not None:
        shares = video.shares, audio.shares
    return HiddenMix(
        stage=what.stage,
        path=what.path,
        partner=plan.partner,
        video=video.weight,
        audio=audio.weight,
        has=has,
        partners=plan.partners,
        shares=shares,
    )
