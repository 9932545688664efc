"""Device stage 1: uint8 pictures to normalised frames, waveforms to log-mel spectrograms."""

import warnings

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

from avmix.config import FrontendConfig
from avmix.types import Batch

PIXEL_MEAN = (0.45, 0.45, 0.45)
PIXEL_STD = (0.225, 0.225, 0.225)
"""Per colour, of pixels in [0, 1]: what the Kinetics recipes of the field use."""

LOG_FLOOR = 1e-6
"""Added to mel power before the logarithm: far below any sound worth hearing, and far above what
half precision would flush to zero."""

_CPU_CHUNK = 8
"""Waveforms per spectrogram call on a CPU: more leave its cache and cost page faults."""


class Frontend(nn.Module):
    """Normalises both modalities of a `Batch`; has no weights, and nothing in it is random."""

    def __init__(self, config: FrontendConfig, sample_rate: int) -> None:
        """Raises ValueError where a mel filter would be empty: its bin could never change."""
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of empty filters: an error here, see below
            self._mel = MelSpectrogram(
                sample_rate=sample_rate,
                n_fft=config.n_fft,
                hop_length=config.hop_length,
                n_mels=config.num_mels,
                # Column k then covers samples [k * hop, k * hop + n_fft) and nothing is invented
                # beyond the borders of the window.
                center=False,
            )
        empty = int((self._mel.mel_scale.get_buffer("fb").sum(0) <= 0).sum())
        if empty:
            raise ValueError(
                f"frontend.num_mels (={config.num_mels}): {empty} mel filters are empty with "
                f"frontend.n_fft (={config.n_fft}) at {sample_rate} Hz; fewer mels or a longer "
                "n_fft are needed"
            )
        self._mean, self._std = config.mel_mean, config.mel_std

    def forward(self, batch: Batch) -> tuple[Float[Tensor, "b c t h w"], Float[Tensor, "b 1 m f"]]:
        """Frames with mean 0 and deviation 1 (about), log-mel likewise; float32 always.

        A missing modality is zeros, the mean of the data set: what batch normalisation should see
        of it. (The log-mel of silence would be an outlier that shifts everybody's statistics.)
        """
        with torch.autocast(batch.video.device.type, enabled=False):
            frames, log_mel = normalise_frames(batch.video), self.log_mel(batch.audio)
            return (
                frames.masked_fill_(~batch.has_video.view(-1, 1, 1, 1, 1), 0),
                log_mel.masked_fill_(~batch.has_audio.view(-1, 1, 1, 1), 0),
            )

    def log_mel(self, audio: Float[Tensor, "b s"]) -> Float[Tensor, "b 1 m f"]:
        """(ln(mel power + LOG_FLOOR) - mean) / std, float32."""
        chunks = audio.float().split(_CPU_CHUNK) if audio.device.type == "cpu" else (audio.float(),)
        power = torch.cat([self._mel(chunk) for chunk in chunks])
        return (power + LOG_FLOOR).log_().sub_(self._mean).div_(self._std).unsqueeze(1)


def normalise_frames(video: UInt8[Tensor, "b t h w c"]) -> Float[Tensor, "b c t h w"]:
    """(pixel / 255 - PIXEL_MEAN) / PIXEL_STD, contiguous in the new order."""
    # One affine pass per colour: pixel * scale + shift.
    scale = torch.tensor([1 / (255 * s) for s in PIXEL_STD], device=video.device)
    shift = torch.tensor(
        [-m / s for m, s in zip(PIXEL_MEAN, PIXEL_STD, strict=True)], device=video.device
    )
    frames = video.permute(0, 4, 1, 2, 3).to(torch.float32, memory_format=torch.contiguous_format)
    return frames.mul_(scale.view(1, -1, 1, 1, 1)).add_(shift.view(1, -1, 1, 1, 1))
