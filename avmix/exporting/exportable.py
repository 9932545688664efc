"""A trained network with its front end, of operations that torch.export and ONNX can hold."""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from avmix.config import MEL_MEAN, MEL_STD
from avmix.exporting.dft_spectrogram import DftSpectrogram
from avmix.exporting.integer_resize import CentreSquare
from avmix.models.frontend import PIXEL_MEAN, PIXEL_STD
from avmix.models.spectrograms import normalised
from avmix.training.trained import TrainedNetwork

INPUTS = ("video", "audio", "has_video", "has_audio")
OUTPUTS = ("fused", "video_head", "audio_head")
"""Names in the exported files."""


class ExportableNetwork(nn.Module):
    """Decoded frames and waveforms to probabilities, as `avmix predict` computes them for a window.

    Its front end is not that of training: frames are resized in whole numbers, spectrograms are
    convolutions. `avmix.exporting.check` compares both.
    """

    def __init__(self, trained: TrainedNetwork) -> None:
        """In evaluation mode, on the CPU; the weights are shared with `trained`."""
        super().__init__()
        clip, config = trained.clip, trained.config
        self.network = trained.network
        self.square = CentreSquare(clip.short_side, clip.crop)
        pixels = trained.network.pixels
        mean = torch.tensor(pixels.mean if pixels and pixels.mean else PIXEL_MEAN)
        std = torch.tensor(pixels.std if pixels and pixels.std else PIXEL_STD)
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1, 1), persistent=False)
        self.log_mel = None
        if config.frontend.kind != "waveform":
            self.log_mel = DftSpectrogram(config.frontend, clip.sample_rate)
            self.frontend = config.frontend.with_log_mel(MEL_MEAN, MEL_STD)
        self._modalities = config.model.modalities
        self._of_logits = trained.probabilities
        self.eval()

    def forward(
        self,
        video: UInt8[Tensor, "b t h w 3"],
        audio: Float[Tensor, "b *c s"],
        has_video: Bool[Tensor, " b"],
        has_audio: Bool[Tensor, " b"],
    ) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"], Float[Tensor, "b k"]]:
        """Probabilities of the fused, the video and the audio head, in the order of `OUTPUTS`; nan
        where a clip lacks what the head needs.

        `video`: RGB frames whose shorter side is `clip.short_side`, as the decoder gives them.
        `audio`: waveforms of `clip.sample_rate`, (b s) or stereo (b 2 s). `has_audio`: false for a
        file without audio, or with nothing but digital silence. A network of one modality ignores
        the other one."""
        if self._modalities == "video":
            has_audio = torch.zeros_like(has_audio)
        if self._modalities == "audio":
            has_video = torch.zeros_like(has_video)
        frames = self.frames(video).masked_fill(~has_video.view(-1, 1, 1, 1, 1), 0)
        waves = self.spectrograms(audio)
        waves = waves.masked_fill(~has_audio.view(-1, *[1] * (waves.ndim - 1)), 0)
        heads = self.network(frames, waves, has_video, has_audio).logits
        return (
            self._probability(heads.fused, has_video | has_audio),
            self._probability(heads.video, has_video),
            self._probability(heads.audio, has_audio),
        )

    def frames(self, video: Tensor) -> Float[Tensor, "b c t h w"]:
        """Normalised, of the size that the video encoder takes."""
        frames = self.square(video).permute(0, 4, 1, 2, 3).to(torch.float32).contiguous()
        return frames * self.scale + self.shift

    def spectrograms(self, audio: Tensor) -> Float[Tensor, "b channels *rest"]:
        """Normalised; waveforms where the network takes those."""
        audio = audio if audio.ndim == 3 else audio.unsqueeze(1)
        if self.log_mel is None:
            return audio
        found = normalised(self.log_mel(audio.flatten(0, 1)), self.frontend)
        return found.unflatten(0, (-1, audio.shape[1]))

    def _probability(self, logits: Tensor, there: Tensor) -> Float[Tensor, "b k"]:
        return self._of_logits(logits).masked_fill(~there[:, None], torch.nan)
