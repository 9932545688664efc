"""Encoders of avmix by name: two small convolutional networks, which learn from scratch, and
transformers that no library has, for the weights that their authors published."""

from collections.abc import Mapping
from typing import Any

from avmix.config import AudioEncoderConfig, ClipConfig, FrontendConfig, VideoEncoderConfig
from avmix.mix.clip_grid import clip_grids
from avmix.models.audio_encoder import AudioEncoder
from avmix.models.beats import Beats
from avmix.models.encoder import AudioSpec, Colour, Encoder
from avmix.models.image_encoders import FrameEncoder, ImageNetwork
from avmix.models.library_encoder import LibraryEncoder, built
from avmix.models.patch_transformers import PATCH, CavMae, Eat
from avmix.models.video_encoder import VideoEncoder

VIDEO = ("r2plus1d", "cav_mae")
AUDIO = ("cnn", "eat", "sslam", "cav_mae", "beats")

FRAME_SIZE = 224
"""Height and width of CAV-MAE's frames, pixels."""
IMAGENET: tuple[Colour, Colour] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of their pixels."""

_ROWS = 128 // PATCH
"""Of patches in a spectrogram of 128 mel bins."""
_COLUMNS = 1024
"""That the encoders were trained with, but for BEATs; 10 ms each."""


def _filterbanks(mean: float, std: float, kind: Any = "kaldi", **others: Any) -> AudioSpec:
    seconds = (400 + (_COLUMNS - 1) * 160) / 16_000
    values = {"front_end": kind, "sample_rate": 16_000, "channels": 1, "num_mels": 128,
              "n_fft": 400, "hop_length": 160, "mel_mean": mean, "mel_std": std,
              "seconds": seconds}  # fmt: skip
    return AudioSpec(**values | others)


SPECTROGRAMS: Mapping[str, AudioSpec] = {
    "eat": _filterbanks(-4.268, 2 * 4.569),
    "sslam": _filterbanks(-4.268, 2 * 4.569),
    "cav_mae": _filterbanks(-5.081, 4.4849),
    "beats": _filterbanks(15.41663, 2 * 6.55582, "kaldi_povey", seconds=10.0),
}
"""What the published weights were trained on; EAT, SSLAM and BEATs divide by twice the deviation.
Any length is taken."""


def video(name: str, config: VideoEncoderConfig, clip: ClipConfig) -> Encoder:
    """`avmix:NAME` of `VIDEO`. Raises ValueError for another name and for options that the network
    does not take."""
    which = f"model.video.encoder avmix:{name}"
    match name:
        case "r2plus1d":
            return VideoEncoder(config.channels)
        case "cav_mae":
            side = FRAME_SIZE // PATCH
            net = built(CavMae, which, config.options, channels=3, grid=(side, side))
            mean, std = IMAGENET
            image = ImageNetwork(net=net, cut=net.cut(), size=(FRAME_SIZE, FRAME_SIZE), mean=mean,
                                 std=std)  # fmt: skip
            return FrameEncoder(image, config.pooling, clip.num_frames, which)
    raise ValueError(f"{which}: avmix has {' and '.join(VIDEO)}")


def audio(
    name: str, config: AudioEncoderConfig, clip: ClipConfig, frontend: FrontendConfig
) -> Encoder:
    """`avmix:NAME` of `AUDIO`, for spectrograms as described by `clip` and `frontend`. Raises
    ValueError as `video` does."""
    which = f"model.audio.encoder avmix:{name}"
    columns = max(clip_grids(clip, frontend, "log_mel")["audio"].shape[1] // PATCH, 1)
    match name:
        case "cnn":
            return AudioEncoder(config.channels, clip.audio_channels)
        case "eat" | "sslam":
            net = built(Eat, which, config.options, grid=(columns, _ROWS))
        case "cav_mae":
            net = built(CavMae, which, config.options, channels=1, grid=(_ROWS, columns))
        case "beats":
            net = built(Beats, which, config.options)
        case _:
            raise ValueError(f"{which}: avmix has {', '.join(AUDIO)}")
    return LibraryEncoder(net, net.cut(), SPECTROGRAMS[name])
