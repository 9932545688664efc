"""Encoder of a modality that the network does not have (`model.modalities`)."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from avmix.models.encoder import AudioSpec, Encoder, VideoSpec


class AbsentEncoder(Encoder):
    """Gives a feature of width 1 that is 0, and has nothing to learn."""

    def __init__(self, spec: VideoSpec | AudioSpec, num_stages: int) -> None:
        """As many stages as the other encoder, so that clips can be mixed after each of them."""
        super().__init__()
        self.spec, self.num_features = spec, 1
        self.stages = [_as_it_is] * num_stages

    def pool(self, x: Float[Tensor, "b *rest"]) -> Float[Tensor, "b 1"]:
        """Zeros."""
        return x.new_zeros(x.shape[0], 1)


def _as_it_is(x: Any) -> Any:
    return x
