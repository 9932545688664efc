"""Networks whose training step is timed, and each as its library runs it.

`Plain` is the same network with the library's own forward pass: no stages, no heads of modalities,
one linear layer on both features. Both arms give the same features, to the bit, in evaluation mode.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.compliance.kaldi import fbank
from torchaudio.transforms import MelSpectrogram

from avmix.config import MEL_MEAN, MEL_STD, TrainConfig, load_config
from avmix.media.log_mel_stats import LOG_FLOOR
from avmix.models import LateFusionClassifier
from avmix.models.encoder import Encoder, VideoSpec
from avmix.models.frontend import PIXEL_MEAN, PIXEL_STD
from avmix.models.image_encoders import FrameEncoder
from avmix.models.input_options import with_expected_input

CLASSES = 101


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network and its clips."""

    label: str
    """Video and audio network; cnn is `avmix:cnn`."""
    options: tuple[str, ...]
    """Of training, KEY=VALUE; {video} and {audio} are folders of `video` and `audio`."""
    batch: int
    """Clips of a step."""
    steps: int = 1
    """Of each arm in a round: about half a second."""
    quick: tuple[str, ...] = ()
    """Options of a trial, in place of large clips."""
    video: tuple[str, dict[str, Any]] | None = None
    """Configuration of transformers that is written first, and its options."""
    audio: tuple[str, dict[str, Any]] | None = None
    packages: tuple[str, ...] = field(default=())
    """That it needs beside those of avmix."""


def clip(num_frames: int, crop: int) -> tuple[str, ...]:
    """Options of clips of so many frames and pixels."""
    return (f"clip.num_frames={num_frames}", f"clip.short_side={crop}", f"clip.crop={crop}")


_SMALL = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
CASES = {
    "avmix": Case(label="`avmix:r2plus1d` + cnn", options=(), batch=16, steps=4, quick=clip(2, 32)),
    "lite0": Case(
        label="`timm:tf_efficientnet_lite0`, mean+max, + cnn",
        options=("model.video.encoder=timm:tf_efficientnet_lite0", "model.video.pooling=mean+max",
                 *clip(4, 144)),
        batch=8, quick=clip(2, 32), packages=("timm",),
    ),
    "tsm": Case(
        label="`torchvision:resnet18`, tsm, + cnn",
        options=("model.video.encoder=torchvision:resnet18", "model.video.pooling=tsm",
                 *clip(8, 112)),
        batch=4, quick=clip(2, 32),
    ),
    "r2plus1d": Case(
        label="`torchvision:r2plus1d_18` + cnn",
        options=("model.video.encoder=torchvision:r2plus1d_18", *clip(8, 64)),
        batch=4, quick=clip(2, 16),
    ),
    "swin": Case(
        label="`torchvision:swin3d_t` + cnn",
        options=("model.video.encoder=torchvision:swin3d_t", *clip(8, 96)),
        batch=4, quick=clip(2, 32),
    ),
    "x3d": Case(
        label="`pytorchvideo:x3d_xs` + cnn",
        options=("model.video.encoder=pytorchvideo:x3d_xs", *clip(4, 160)),
        batch=4, quick=clip(4, 129),
    ),
    "mvit": Case(
        label="`torchvision:mvit_v2_s` + cnn",
        options=("model.video.encoder=torchvision:mvit_v2_s", *clip(16, 224)),
        batch=2, quick=(),
    ),
    "videomae": Case(
        label="VideoMAE, 6 layers of width 192, + cnn",
        options=("model.video.encoder=transformers:{video}", *clip(8, 112)),
        video=("VideoMAEConfig", {"image_size": 112, "num_frames": 8, "num_hidden_layers": 6,
                                  **_SMALL}),
        batch=4, packages=("transformers",),
    ),
    "ast": Case(
        label="`avmix:r2plus1d` + AST, 6 layers of width 192",
        options=("model.audio.encoder=transformers:{audio}", "clip.duration_seconds=2"),
        audio=("ASTConfig", {"max_length": 198, "num_hidden_layers": 6, **_SMALL}),
        batch=4, steps=4, packages=("transformers",),
    ),
}  # fmt: skip
"""By name."""
USUAL = tuple(name for name in CASES if name != "mvit")
"""Without --only; the other takes half a minute a step on one core."""


def config_of(case: Case, folder: Path, *more: str) -> TrainConfig:
    """The configuration; `folder` is for those of transformers."""
    places = {}
    for modality in ("video", "audio"):
        if (found := getattr(case, modality)) is not None:
            kind, options = found
            places[modality] = str(folder / modality)
            getattr(import_module("transformers"), kind)(**options).save_pretrained(
                places[modality]
            )
    words = [f"--{word}".format(**places) for word in (*case.options, *more)]
    return with_expected_input(load_config(TrainConfig, words))


class Plain(nn.Module):
    """Both networks as their libraries run them, and a linear layer on both features."""

    def __init__(self, model: LateFusionClassifier) -> None:
        """Takes the encoders of `model`."""
        super().__init__()
        self.video, self.audio = model.video, model.audio
        self._of_video, self._of_audio = forward_of(self.video), forward_of(self.audio)
        self.head = nn.Linear(self.video.num_features + self.audio.num_features, CLASSES)

    def features(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Of frames and spectrograms."""
        return self._of_video(video), self._of_audio(audio)

    def forward(self, video: Tensor, audio: Tensor) -> Tensor:
        """Logits."""
        return self.head(torch.cat(self.features(video, audio), 1))


class Prepared(nn.Module):
    """Frames and waveforms to what the networks are given, as others do it: frames are normalised
    as timm's loader does, spectrograms are torchaudio's."""

    def __init__(self, config: TrainConfig, pixels: VideoSpec | None) -> None:
        """For clips of `config`; `pixels`: the mean and deviation that the network expects."""
        super().__init__()
        settings = config.frontend.with_log_mel(MEL_MEAN, MEL_STD)
        mean = pixels.mean if pixels and pixels.mean else PIXEL_MEAN
        std = pixels.std if pixels and pixels.std else PIXEL_STD
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        for name, values in (("pixel_mean", mean), ("pixel_std", std)):
            self.register_buffer(name, 255 * torch.tensor(values).view(1, 3, 1, 1, 1))
        self._mean, self._std = float(settings.mel_mean), float(settings.mel_std)
        self._rate, self._config = config.clip.sample_rate, settings
        self.mel = MelSpectrogram(
            self._rate, settings.n_fft, hop_length=settings.hop_length, n_mels=settings.num_mels,
            center=False,
        ) if settings.kind == "log_mel" else None  # fmt: skip

    def forward(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Of uint8 frames (b t h w c) and waveforms (b s)."""
        frames = video.permute(0, 4, 1, 2, 3).contiguous().float()
        frames = frames.sub_(self.pixel_mean).div_(self.pixel_std)
        if self.mel is not None:
            power = (self.mel(audio) + LOG_FLOOR).log()
        else:  # as ASTFeatureExtractor does: clip by clip
            settings, milliseconds = self._config, 1000 / self._rate
            power = torch.stack([
                fbank(one[None], sample_frequency=self._rate, num_mel_bins=settings.num_mels,
                      window_type="hanning", dither=0.0, frame_length=settings.n_fft * milliseconds,
                      frame_shift=settings.hop_length * milliseconds).T
                for one in audio
            ])  # fmt: skip
        return frames, ((power - self._mean) / self._std)[:, None]


def forward_of(encoder: Encoder) -> Callable[[Tensor], Tensor]:
    """The forward pass of the library's network, from what avmix gives its encoder."""
    net: Any = encoder.network
    if isinstance(encoder, FrameEncoder):
        return lambda x: _of_frames(net, x, encoder.num_features)
    match type(net).__module__.partition(".")[0], type(net).__name__:
        case "transformers", "ASTModel":
            return lambda x: net(x[:, 0].transpose(1, 2)).pooler_output
        case "transformers", _:
            return lambda x: net(x.transpose(1, 2)).logits
    return net


def _of_frames(net: nn.Module, x: Tensor, width: int) -> Tensor:
    """The mean over frames; their maximum, too, where the feature is wider than theirs."""
    frames = net(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1))
    mean = frames.mean(1)
    return mean if mean.shape[1] == width else torch.cat([mean, frames.amax(1)], 1)
