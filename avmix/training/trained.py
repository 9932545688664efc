"""A trained network from its file alone: `avmix.load`, and files of weights for others to load.

A checkpoint has all that a run needs to go on. What `TrainedNetwork.save` writes has only what the
network is: weights as safetensors, and in the metadata the configuration and the classes, as JSON.
Neither is ever unpickled.
"""

import json
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor, nn

from avmix.augment.video_transforms import apply_video, centred
from avmix.config import ClipConfig, TrainConfig, from_values
from avmix.decode import Limits, Source
from avmix.evaluation.file_prediction import FilePrediction
from avmix.label_sets import LabelSet
from avmix.models import LateFusionClassifier, build_model
from avmix.models.frontend import Frontend
from avmix.models.set_softmax import softmax
from avmix.system import strict_json
from avmix.system.atomic_files import replacing
from avmix.training import checkpoint
from avmix.training.checkpoint import CheckpointError, check_finite, digest_of
from avmix.training.file_predictions import predict_source
from avmix.training.published_folder import PREFIX, fetched, is_published, read_published
from avmix.training.stream_predictions import PredictionStream
from avmix.types import Batch, Clip, Heads

KEY, FORMAT = "avmix", 1
"""Of the metadata: where the description is, and which it is."""
_MOST_LETTERS = 4_000_000
"""Of a description; that of a thousand classes has some 20,000."""


class TrainedNetwork(nn.Module):
    """A network with all that it needs to be given frames and waveforms: front end, classes and
    configuration. In evaluation mode, as `load` returns it."""

    def __init__(
        self, config: TrainConfig, classes: list[str], network: LateFusionClassifier
    ) -> None:
        """`config` is resolved: it has the mean and the deviation of log-mels."""
        super().__init__()
        self.config = config
        self.classes = tuple(classes)
        self.network = network
        # The kernel that it was trained with may not run here; `auto` takes one that does.
        kernel = "torch" if config.frontend.kernel == "torch" else "auto"
        frontend = replace(config.frontend, kernel=kernel)
        self.frontend = Frontend(frontend, config.clip.sample_rate, network.pixels)

    @property
    def label_sets(self) -> tuple[LabelSet, ...]:
        """Sets of the classes of each of which a clip has one, for example verbs and nouns; none
        where there is one set of all."""
        return self.config.loss.label_sets(self.classes)

    @property
    def clip(self) -> ClipConfig:
        """What a clip must be: seconds, frames, pixels, sample rate, channels."""
        return self.config.clip

    @property
    def decoding(self) -> dict[str, Any]:
        """Options of `avmix.decode_clip` that give such a clip."""
        clip = self.clip
        return {"duration_seconds": clip.duration_seconds, "num_frames": clip.num_frames,
                "sample_rate": clip.sample_rate, "channels": clip.audio_channels,
                "short_side": clip.short_side, "audio": "silence"}  # fmt: skip

    def frames(self, clip: Clip) -> UInt8[Tensor, "1 t h w c"]:
        """Of a decoded clip, as a batch of one."""
        return torch.from_numpy(clip.video)[None]

    def waveform(self, clip: Clip) -> Float32[Tensor, "1 *c s"]:
        """Of a decoded clip, as a batch of one."""
        return torch.from_numpy(clip.audio)[None]

    def forward(
        self,
        video: Tensor | None,
        audio: Tensor | None,
        has_video: Bool[Tensor, " b"] | None = None,
        has_audio: Bool[Tensor, " b"] | None = None,
    ) -> Heads:
        """Logits (b k) of the fused, the video and the audio head, in the order of `classes`.

        `video`: RGB frames, uint8 (b t h w 3), of any size that holds a square of `clip.crop`
        pixels: their centre is taken, as in evaluation. `audio`: waveforms of `clip.sample_rate`,
        float (b s) mono or (b 2 s) stereo. None: all clips lack it. `has_*`: which clips have it;
        by default all have frames, and those have audio whose waveform is not all zeros. Raises
        ValueError for clips of another length or size.
        """
        clip = self.clip
        device = next(self.network.parameters()).device
        size = len(video) if video is not None else len(audio) if audio is not None else 0
        samples = round(clip.duration_seconds * clip.sample_rate)
        wave = (2, samples) if clip.stereo else (samples,)
        if size == 0:
            raise ValueError("video or audio must be given, of at least one clip")
        if video is None:
            shape = (size, clip.num_frames, clip.crop, clip.crop, 3)
            video, has_video = torch.zeros(shape, dtype=torch.uint8), _none(size)
        if audio is None:
            audio, has_audio = torch.zeros(size, *wave), _none(size)
        _check(video, audio, clip, wave)
        if has_video is None:
            has_video = torch.ones(size, dtype=torch.bool)
        if has_audio is None:
            has_audio = (audio != 0).flatten(1).any(1)
        match self.config.model.modalities:  # of a network of one modality the other is not there
            case "video":
                has_audio = _none(size)
            case "audio":
                has_video = _none(size)
        batch = Batch(
            video=_cropped(video, clip.crop),
            audio=audio,
            has_video=has_video,
            has_audio=has_audio,
            target=torch.zeros(size, len(self.classes)),
            row=torch.arange(size),
            source=torch.arange(size),
        ).to(device)
        return self.network(*self.frontend(batch), batch.has_video, batch.has_audio).logits

    def probabilities(self, logits: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """Of what a head says: of each class by itself for several labels, else of one
        distribution, or of one for each label set."""
        if self.config.loss.several_labels:
            return logits.sigmoid()
        return softmax(logits, self.label_sets)

    def predict(
        self, source: Source, *, num_views: int = 3, limits: Limits | None = None
    ) -> FilePrediction:
        """Prediction for a whole file: a path, its bytes, or a file object that can be sought.

        Averaged over `num_views` evenly spaced windows, as `avmix evaluate` does. It is decoded in
        this process; `avmix predict` reads files that may crash a decoder in others. Raises as
        `decode_clip` does, and `DecodeError` where the network reads nothing of what the file has.
        """
        return predict_source(self, source, num_views=num_views, limits=limits)

    def stream(
        self, *, step_seconds: float = 1.0, has_video: bool = True, has_audio: bool = True
    ) -> PredictionStream:
        """Predictions for a stream whose frames and audio are pushed as they come, a window every
        `step_seconds`; `has_*`: what will be pushed. Raises as `PredictionStream` does."""
        return PredictionStream(
            self, step_seconds=step_seconds, has_video=has_video, has_audio=has_audio
        )

    def save(self, path: str | Path) -> None:
        """Write a file `.safetensors` that `load` reads.

        Raises ValueError for another ending, where safetensors is not installed and where a weight
        is not finite; OSError that names the file.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            raise ValueError(f"{path}: the name of such a file ends with .safetensors")
        state = {
            name: value.detach().cpu().contiguous().clone()
            for name, value in self.network.state_dict().items()
        }
        check_finite(path, state)
        said = {"format": FORMAT, "config": asdict(self.config), "classes": list(self.classes)}
        said["digest"] = _digest(said, state)
        packed = _safetensors("torch", path).save(state, {KEY: strict_json.dumps(said)})
        with replacing(path) as file:
            file.write(packed)


def load(
    path: str | Path, *, device: str | torch.device = "cpu", own_code: bool = False
) -> TrainedNetwork:
    """A trained network, ready to be called: of a checkpoint, of the folder of a run (its last
    one), of a file that `avmix model --save` wrote, of a folder that `avmix push` wrote, or of the
    Hub, `hub:USER/NAME@REVISION`. It needs no data. Where the run keeps an average of its weights
    (`optim.ema_decay`), it is the network, as in evaluation.

    `own_code`: take an encoder of `python:MODULE:FUNCTION`, that is, import the module that the
    file names. Raises ValueError (`CheckpointError`), naming the file, where it is none of these,
    is damaged, or describes a network that it has not the weights of.
    """
    path = fetched(str(path)) if str(path).startswith(PREFIX) else Path(path)
    published = None
    if path.is_dir() and not (path / "last.pt").exists() and is_published(path):
        published = read_published(path)
    path = published.weights if published else path / "last.pt" if path.is_dir() else path
    if path.suffix == ".safetensors":
        config, classes, state = _read(path)
        if published and (published.config, published.classes) != (_plain(config), classes):
            raise CheckpointError(f"{path}: config.json beside it describes another network")
    else:
        found = checkpoint.load(path)
        if found.features is not None:
            raise CheckpointError(
                f"{path}: it was trained on features and has no encoders; avmix evaluate, which "
                "reads features, takes it, and avmix.features.network_for_clips joins it to its "
                "encoders"
            )
        config, classes = found.config, found.classes
        state = found.model if found.average is None else found.average
    for section, part in config.model.encoders.items():
        if part.encoder.startswith("python:") and not own_code:
            raise CheckpointError(
                f"{path}: its model.{section}.encoder is {part.encoder}, a module that would be "
                "imported; where you trust the file, load(path, own_code=True)"
            )
    try:
        network = build_model(
            config.model, len(classes), clip=config.clip, frontend=config.frontend,
            load_weights=False, binary=config.loss.binary,
            sets=config.loss.label_sets(classes),
        )  # fmt: skip
        trained = TrainedNetwork(config, classes, network)
    except (ValueError, RuntimeError, MemoryError, OSError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{path}: its network cannot be built: {reason}") from None
    own = network.state_dict()
    if other := [name for name in state if name in own and state[name].dtype != own[name].dtype]:
        raise CheckpointError(
            f"{path}: {other[0]} is {state[other[0]].dtype}; the network has {own[other[0]].dtype}"
        )
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: its weights are of another network: {reason}") from None
    return trained.to(device).eval()


def _read(path: Path) -> tuple[TrainConfig, list[str], dict[str, Tensor]]:
    """Configuration, classes and weights of what `save` wrote; raises `CheckpointError`."""
    try:
        with _safetensors("", path).safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (OSError, RuntimeError, ValueError, MemoryError, _error_of(path)) as error:
        raise CheckpointError(f"{path}: not a readable file of safetensors: {error}") from None
    if KEY not in metadata:
        raise CheckpointError(
            f"{path}: its metadata do not describe a network of avmix; as weights to begin with "
            "it may do (model.video.weights, model.audio.weights)"
        )
    said = _description(path, metadata[KEY])
    try:
        if said["digest"] != _digest(said, state):
            raise ValueError("damaged: its digest does not match")
        config = from_values(TrainConfig, said["config"])
    except (ValueError, OverflowError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    check_finite(path, state)
    return config, said["classes"], state


def _description(path: Path, text: str) -> dict[str, Any]:
    """The metadata, each of its parts of the kind that it must be."""
    try:
        said = json.loads(text) if len(text) <= _MOST_LETTERS else None
    except (ValueError, RecursionError):
        said = None
    kinds = {"format": int, "config": dict, "classes": list, "digest": str}
    if not isinstance(said, dict) or said.keys() != kinds.keys():
        raise CheckpointError(f"{path}: its metadata are not those of a network of avmix")
    for name, kind in kinds.items():
        if not isinstance(said[name], kind) or isinstance(said[name], bool):
            raise CheckpointError(f"{path}: {name} in its metadata must be {kind.__name__}")
    if said["format"] != FORMAT:
        raise CheckpointError(f"{path}: format {said['format']}; this version reads {FORMAT}")
    classes = said["classes"]
    named = bool(classes) and all(isinstance(name, str) for name in classes)
    if not named or len({*classes}) != len(classes):
        raise CheckpointError(f"{path}: classes in its metadata must be names, each once")
    return said


def _plain(config: TrainConfig) -> dict[str, Any]:
    """As JSON gives it."""
    return json.loads(strict_json.dumps(asdict(config)))


def _digest(said: dict[str, Any], state: dict[str, Tensor]) -> str:
    # Through text: the order of keys and the types are then those of what is read.
    config = strict_json.dumps(said["config"], sort_keys=True)
    weights = {name: state[name] for name in sorted(state)}
    return digest_of({"config": config, "classes": list(said["classes"]), "model": weights})


def _safetensors(module: str, path: Path) -> Any:
    try:
        return import_module(f"safetensors.{module}" if module else "safetensors")
    except ImportError:
        raise CheckpointError(
            f"{path}: safetensors is not installed: pip install '.[models]' in the checkout"
        ) from None


def _error_of(path: Path) -> Any:
    return _safetensors("", path).SafetensorError


def _none(size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.bool)


def _check(video: Tensor, audio: Tensor, clip: ClipConfig, wave: tuple[int, ...]) -> None:
    """Raises ValueError for what the network was not trained on."""
    for name, value in (("video", video), ("audio", audio)):
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    shape = tuple(video.shape)
    fits = len(shape) == 5 and shape[1] == clip.num_frames and shape[4] == 3
    if video.dtype != torch.uint8 or not fits or min(shape[2:4]) < clip.crop:
        raise ValueError(
            f"video must be uint8 (b, {clip.num_frames}, h, w, 3), h and w >= {clip.crop}; got "
            f"{str(video.dtype).removeprefix('torch.')} {shape}"
        )
    if not audio.is_floating_point() or tuple(audio.shape) != (len(video), *wave):
        raise ValueError(
            f"audio must be float ({', '.join(map(str, (len(video), *wave)))}): "
            f"{clip.duration_seconds} s at {clip.sample_rate} Hz; got "
            f"{str(audio.dtype).removeprefix('torch.')} {tuple(audio.shape)}"
        )


def _cropped(video: Tensor, size: int) -> Tensor:
    """The square in the centre of every frame, as evaluation takes it."""
    if tuple(video.shape[2:4]) == (size, size):
        return video
    plan = centred(video.shape[2], video.shape[3])
    clips = (apply_video(clip.cpu().numpy(), plan, size) for clip in video)
    return torch.stack([torch.from_numpy(clip) for clip in clips])
