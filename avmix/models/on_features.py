"""Networks on kept features: what comes after the encoders, and nothing before it."""

from jaxtyping import Float
from torch import Tensor, nn

from avmix.config import ModelConfig
from avmix.mix.mix_plan import PlacedPlan
from avmix.models.absent_encoder import AbsentEncoder
from avmix.models.classifier import LateFusionClassifier
from avmix.models.encoder import AudioSpec, Encoder, VideoSpec
from avmix.models.frontend import Frontend
from avmix.models.fusion_names import build_fusion
from avmix.types import Batch


class KeptEncoder(Encoder):
    """Encoder of features that were computed before: without stages, and the feature is its
    input."""

    def __init__(self, num_features: int, spec: VideoSpec | AudioSpec) -> None:
        """`spec`: of the modality; it requires nothing."""
        super().__init__()
        self.stages, self.num_features, self.spec = nn.ModuleList(), num_features, spec

    def pool(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The input."""
        return x


class KeptFrontend(nn.Module):
    """Front end of kept features: there is nothing to normalise. Has no weights."""

    def forward(
        self, batch: Batch, plan: PlacedPlan | None = None
    ) -> tuple[Float[Tensor, "n dv"], Float[Tensor, "n da"]]:
        """The features of the batch. Of more clips than the plan gives, the first are those that
        are not only partners, unless the network mixes them.

        Raises ValueError where the plan is for another number of clips, or mixes what features
        are not.
        """
        video, audio = batch.video.float(), batch.audio
        if plan is None:
            return video, audio
        what = plan.plan.for_size(batch.size)
        if what.level != "input":
            return video, audio
        if what.mixes:
            raise ValueError(f"the plan mixes {what.method}@input, features are mixed @feature")
        return video[: what.size], audio[: what.size]


AnyFrontend = Frontend | KeptFrontend
"""What makes inputs of a network of a `Batch`."""


def build_on_features(
    config: ModelConfig, num_video: int, num_audio: int, num_classes: int, *, binary: bool = False
) -> LateFusionClassifier:
    """Build the network of `config` for features of these widths: projection, fusion and heads,
    randomly initialised from torch's generator. `binary`: for the sigmoids of loss.kind binary."""
    video: Encoder = KeptEncoder(num_video, VideoSpec())
    audio: Encoder = KeptEncoder(num_audio, AudioSpec())
    if config.modalities == "audio":
        video = AbsentEncoder(VideoSpec(), 0)
    if config.modalities == "video":
        audio = AbsentEncoder(AudioSpec(), 0)
    widths = [config.shared_width or encoder.num_features for encoder in (video, audio)]
    fusion = build_fusion(config, widths[0], widths[1], num_classes, binary)
    return LateFusionClassifier(video, audio, fusion, config.shared_width, config.guard)
