"""What training minimises: soft cross-entropy of each head, where its modality is present."""

from jaxtyping import Bool, Float
from torch import Tensor

from avmix.config import LossConfig
from avmix.types import Heads


def presence(has_video: Bool[Tensor, " b"], has_audio: Bool[Tensor, " b"]) -> Heads:
    """Which clips each head can say something about; the fused head needs one modality."""
    return Heads(fused=has_video | has_audio, video=has_video, audio=has_audio)


def head_losses(
    logits: Heads,
    target: Heads,
    present: Heads,
    label_smoothing: float,
) -> Heads:
    """Soft cross-entropy of each head, mean over the clips that have its modality; float32."""

    def one(logits: Tensor, target: Tensor, present: Tensor) -> Tensor:
        smooth = target * (1 - label_smoothing) + label_smoothing / target.shape[1]
        loss = -(smooth * logits.float().log_softmax(1)).sum(1)
        # A head without any clip in this batch has loss zero, not 0 / 0.
        return loss.masked_fill(~present, 0).sum() / present.sum().clamp(min=1)

    return Heads(*(one(*head) for head in zip(logits, target, present, strict=True)))


def objective(config: LossConfig, losses: Heads) -> Float[Tensor, ""]:
    """Weighted sum over heads."""
    return config.fused * losses.fused + config.video * losses.video + config.audio * losses.audio
