"""Configuration section `model`."""

from dataclasses import dataclass, field
from typing import Any, Literal

from avmix.config.checks import validate, validate_numbers

FOREIGN_OPTIONS = frozenset({
    "trust_remote_code", "code_revision", "auto_map", "pretrained", "weights", "weights_backbone",
    "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "token", "proxies",
})  # fmt: skip
"""Arguments by which the builders of libraries run code of others, or read files and servers. A
configuration may come from another person's file of weights."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Options that all encoders share (docs/models.md)."""

    encoder: str = ""
    """LIBRARY:NAME."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the library's builder of the encoder, or overrides of its configuration:
    {drop_path_rate: 0.1}. For `python:`, arguments of the function."""
    weights: str = ""
    """Initial weights: a file (.safetensors, or of torch, never unpickled), a folder that has one,
    `pretrained` (those that the library names, from its cache or its server) or `lite0` (ImageNet,
    from the optional package of that name). Empty: random initialisation."""
    may_lack: list[str] = field(default_factory=list)
    """Names of weights, or prefixes of names up to a dot, that `weights` need not contain; any
    other missing weight is an error."""
    frozen: bool = False
    """Freeze the encoder: no gradients, and evaluation mode during training."""
    lr_scale: float = 1.0
    """Learning rate of the encoder, relative to optim.lr, > 0."""
    layer_decay: float = 1.0
    """Layer-wise decay of the learning rate, in (0, 1]: stage i of n, counted from 0, has the rate
    times layer_decay ** (n - i)."""
    frozen_norm: bool = False
    """Freeze the batch normalisation of the encoder: statistics and weights, in training too."""
    gradient_checkpointing: bool = False
    """Keep only the outputs of the stages of the encoder, and recompute the rest for the gradient:
    less memory, more time, the same result."""

    def check(self, key: str, encoder: str) -> None:
        """Raise ValueError for an option out of range; `key`: prefix of the section, with a dot."""
        library, colon, name = encoder.partition(":")
        validate(library in LIBRARIES and bool(colon and name), f"{key}encoder",
                 f"must be LIBRARY:NAME, LIBRARY one of {', '.join(LIBRARIES)}",
                 encoder)  # fmt: skip
        if library != "python":
            foreign = sorted(FOREIGN_OPTIONS & {*self.options})
            validate(not foreign, f"{key}options",
                     f"must not hold {', '.join(foreign)}: weights are named by {key}weights, and "
                     "code is run for python: encoders only", self.options)  # fmt: skip
        validate(not self.frozen or self.weights != "" or library == "python", f"{key}frozen",
                 f"needs {key}weights: random weights that stay as they are say nothing",
                 self.frozen)  # fmt: skip
        validate(self.lr_scale > 0, f"{key}lr_scale", "must be > 0", self.lr_scale)
        validate(0 < self.layer_decay <= 1, f"{key}layer_decay", "must be in (0, 1]",
                 self.layer_decay)  # fmt: skip
        validate(not self.frozen_norm or self.weights != "" or library == "python",
                 f"{key}frozen_norm", f"needs {key}weights: statistics that nothing was measured "
                 "for say nothing", self.frozen_norm)  # fmt: skip
        validate_numbers(self, key)


LIBRARIES = ("avmix", "torchvision", "timm", "transformers", "pytorchvideo", "python")
"""Where encoders come from."""


Pooling = Literal["mean", "max", "mean+max", "attention", "tsm"]
Fusion = Literal[
    "concat", "average", "weighted", "product", "sum", "gated", "film", "bilinear",
    "cross_attention", "bottleneck",
]  # fmt: skip
Missing = Literal["mask", "mean", "learned", "translate"]
ModalityHeads = Literal["own", "shared"]
Modalities = Literal["both", "video", "audio"]


@dataclass(frozen=True, kw_only=True)
class ModalityEncoderConfig(EncoderConfig):
    """Options that the encoders of one modality share."""

    channels: list[int] = field(default_factory=lambda: [16, 32, 64, 128])
    """Width of each stage; for avmix's own encoders."""

    def check(self, key: str, encoder: str) -> None:
        """As of any encoder."""
        validate(bool(self.channels) and min(self.channels) >= 1, f"{key}channels",
                 "needs at least one stage of width >= 1", self.channels)  # fmt: skip
        super().check(key, encoder)


@dataclass(frozen=True, kw_only=True)
class VideoEncoderConfig(ModalityEncoderConfig):
    """Video encoder: frames to one feature vector per clip."""

    encoder: str = "avmix:r2plus1d"
    """LIBRARY:NAME, as `avmix:r2plus1d`, `avmix:cav_mae`, `torchvision:mvit_v2_s`,
    `timm:tf_efficientnet_lite0`, `transformers:FOLDER_OR_ID`, `pytorchvideo:slowfast_r50`, or
    `python:MODULE:FUNCTION`."""
    pooling: Pooling = "mean"
    """How an image network's features of the frames become one of the clip: `mean`, `max`, both
    (`mean+max`), `attention` (a learned weight for each frame), or `tsm` (temporal shift: frames
    exchange channels inside the network; then the mean)."""

    def __post_init__(self) -> None:
        """Check ranges."""
        self.check("model.video.", self.encoder)


@dataclass(frozen=True, kw_only=True)
class AudioEncoderConfig(ModalityEncoderConfig):
    """Audio encoder: spectrograms, or waveforms, to one feature vector per clip."""

    encoder: str = "avmix:cnn"
    """LIBRARY:NAME, as `avmix:cnn`, `avmix:eat`, `avmix:sslam`, `avmix:cav_mae`, `avmix:beats`, any
    image network of `torchvision:` or `timm:`, `pytorchvideo:acoustic_resnet50`,
    `transformers:FOLDER_OR_ID`, or `python:MODULE:FUNCTION`."""

    def __post_init__(self) -> None:
        """Check ranges."""
        self.check("model.audio.", self.encoder)


@dataclass(frozen=True, kw_only=True)
class JointEncoderConfig(EncoderConfig):
    """One encoder of both modalities, in place of those of video and audio: frames and audio to a
    feature vector of each."""

    encoder: str = ""
    """LIBRARY:NAME, as `avmix:mbt`, `pytorchvideo:avslowfast_r50`, `transformers:FOLDER_OR_ID` or
    `python:MODULE:FUNCTION`; empty: there is none, model.video and model.audio say."""

    def __post_init__(self) -> None:
        """Check ranges."""
        self.check("model.joint.", self.encoder or "avmix:none")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Late fusion of one feature vector per modality."""

    modalities: Modalities = "both"
    """What the network is given: both modalities, or `video` or `audio` alone, as the network that
    fusion is compared with. What it is not given is not decoded; options of that encoder cannot
    act."""
    fusion: Fusion = "concat"
    """How the features of both modalities become the fused logits: `concat`, `sum`, `gated`,
    `film`, `bilinear`, `cross_attention` and `bottleneck` join the features; `average` (of
    probabilities), `weighted` (the same with weights that are fitted on the val split) and
    `product` (of experts) combine what the modality heads say (docs/models.md)."""
    guard: bool = False
    """Fit to validation clips after each epoch how far the fused prediction may leave the better
    modality head: only where it is surely better on them (docs/models.md)."""
    missing: Missing = "mask"
    """What stands in place of the feature of a missing modality: nothing (`mask`: it is left out),
    the `mean` over clips, a `learned` vector, or what a network that is trained beside predicts
    from the other feature (`translate`; loss.translation)."""
    heads: ModalityHeads = "own"
    """Of each modality alone: linear layers of their `own`, or the fused head, `shared`, on what
    the fusion makes of a clip without the other modality."""
    dropout: float = 0.2
    """Dropout probability before each head, in [0, 1)."""
    shared_width: int = 0
    """Width of a space into which both features are projected before fusion; 0: none. Mixing method
    `cross` and loss.contrastive, which compare the two, need it."""
    sync_norm: bool = False
    """Batch normalisation of the encoders over the clips of all processes that train together, in
    place of each over its own; on CUDA only."""
    video: VideoEncoderConfig = field(default_factory=VideoEncoderConfig)
    audio: AudioEncoderConfig = field(default_factory=AudioEncoderConfig)
    joint: JointEncoderConfig = field(default_factory=JointEncoderConfig)

    @property
    def encoders(self) -> dict[str, EncoderConfig]:
        """Those that are built, by their section."""
        if self.joint.encoder:
            return {"joint": self.joint}
        return {"video": self.video, "audio": self.audio}

    def __post_init__(self) -> None:
        """Check ranges."""
        validate(0 <= self.dropout < 1, "model.dropout", "must be in [0, 1)", self.dropout)
        validate(self.shared_width >= 0, "model.shared_width", "must be >= 0", self.shared_width)
        for key, only in (("fusion", "concat"), ("missing", "mask"), ("heads", "own"),
                          ("guard", False)):  # fmt: skip
            validate(self.modalities == "both" or getattr(self, key) == only, f"model.{key}",
                     f"must be {only} for model.modalities {self.modalities}: there is nothing to "
                     "fuse", getattr(self, key))  # fmt: skip
        validate(self.modalities == "both" or not self.joint.encoder, "model.joint.encoder",
                 f"needs both modalities: must be empty for model.modalities {self.modalities}",
                 self.joint.encoder)  # fmt: skip
        validate_numbers(self, "model.")
