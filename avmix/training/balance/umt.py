"""UMT: the features of each encoder are drawn to those of a network of its modality alone.

Du et al., "On uni-modal feature learning in supervised multi-modal learning" (ICML 2023):

    loss + distill * sum over m of mean |z_m - z_m of the teacher|^2

means over the elements and over the clips that have m. Teachers are frozen, in evaluation mode, and
see the same mixed clips: a forward pass of each encoder more, and both teachers' training before.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avmix.config import TrainConfig
from avmix.config.yaml_files import differences
from avmix.data.kept_features import KeptFeatures, changed_identity
from avmix.mix.hidden_mix import HiddenMix
from avmix.models import LateFusionClassifier, build_model
from avmix.models.classifier import Features
from avmix.models.on_features import build_on_features
from avmix.training import checkpoint
from avmix.training.checkpoint import Checkpoint, CheckpointError

_OF_WEIGHTS = ("weights", "may_lack", "frozen", "frozen_norm", "lr_scale", "layer_decay",
               "gradient_checkpointing")  # fmt: skip
"""Options of an encoder that say how it begins and learns, not what it computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Teachers:
    """Frozen networks of one modality each."""

    video: LateFusionClassifier
    audio: LateFusionClassifier
    digests: tuple[str, ...]
    """SHA-256 of both checkpoints."""

    @torch.no_grad()
    def features(self, video: Tensor, audio: Tensor, mix: HiddenMix | None) -> Features:
        """Of the same, equally mixed, input as the network has."""
        # Features of both are mixed together: `cross` mixes those of one with the other's.
        inside = mix if mix is not None and mix.stage is not None else None
        v = self.video.encode(video, audio, inside).video
        a = self.audio.encode(video, audio, inside).audio
        return Features(*mix.features(v, a)) if mix is not None else Features(v, a)


def distance(
    ours: Features,
    theirs: Features,
    has_video: Bool[Tensor, " b"],
    has_audio: Bool[Tensor, " b"],
) -> Float[Tensor, ""]:
    """Sum over modalities of the mean squared distance, over clips that have the modality."""

    def one(z: Tensor, wanted: Tensor, has: Tensor) -> Tensor:
        # Before the square: a feature of a missing modality may be nan.
        apart = (z.float() - wanted.float()).masked_fill(~has[:, None], 0)
        return apart.square().mean(1).sum() / has.sum().clamp(min=1)

    return one(ours.video, theirs.video, has_video) + one(ours.audio, theirs.audio, has_audio)


def load_teachers(
    config: TrainConfig, classes: list[str], kept: KeptFeatures | None, device: torch.device
) -> Teachers:
    """The networks that `balance.video_teacher` and `balance.audio_teacher` name.

    Raises `CheckpointError`, naming the file, where one is of both modalities or the other one, of
    another encoder, front end, clip or width, of other features, or of other classes.
    """
    found: dict[str, LateFusionClassifier] = {}
    digests = []
    for name in ("video", "audio"):
        path = Path(getattr(config.balance, f"{name}_teacher"))
        path = path / "last.pt" if path.is_dir() else path
        state = checkpoint.load(path)
        _check(name, path, state, config, classes, kept)
        found[name] = _network(path, state, kept).to(device)
        digests.append(state.digest or "")
    return Teachers(video=found["video"], audio=found["audio"], digests=tuple(digests))


def _check(
    name: str,
    path: Path,
    state: Checkpoint,
    config: TrainConfig,
    classes: list[str],
    kept: KeptFeatures | None,
) -> None:
    which, theirs = f"balance.{name}_teacher: {path}", state.config
    if theirs.model.modalities != name:
        raise CheckpointError(
            f"{which} is a network of model.modalities {theirs.model.modalities}, not {name}"
        )
    if state.classes != classes:
        raise CheckpointError(f"{which} was trained on other classes")
    if (state.features is None) != (kept is None):
        on = "clips" if state.features is None else "features"
        raise CheckpointError(f"{which} was trained on {on}, this run is not")
    if kept is not None and state.features is not None:
        changed = changed_identity(state.features, kept.header.identity_text)
    else:
        changed = [
            f"{key} {old!r} -> {new!r}"
            for key, (old, new) in differences(theirs, config).items()
            if (key.startswith(("clip.", "frontend.")) and key != "frontend.kernel"
            and not (name == "video" and key.startswith("frontend.")))
            or (key.startswith(f"model.{name}.") and key.rpartition(".")[2] not in _OF_WEIGHTS)
        ]  # fmt: skip
    if theirs.model.shared_width != config.model.shared_width:
        widths = theirs.model.shared_width, config.model.shared_width
        changed.append(f"model.shared_width {widths[0]} -> {widths[1]}")
    if changed:
        raise CheckpointError(
            f"{which} computes its features otherwise than this run ({', '.join(changed)})"
        )


def _network(path: Path, state: Checkpoint, kept: KeptFeatures | None) -> LateFusionClassifier:
    """With its weights, their average where there is one; nothing of it learns."""
    theirs, sets = state.config, state.config.loss.label_sets(state.classes)
    if kept is not None:
        widths = kept.widths
        model = build_on_features(
            theirs.model, widths.video, widths.audio, len(state.classes),
            binary=theirs.loss.binary, sets=sets,
        )  # fmt: skip
    else:
        model = build_model(
            theirs.model, len(state.classes), clip=theirs.clip, frontend=theirs.frontend,
            load_weights=False, binary=theirs.loss.binary, sets=sets,
        )  # fmt: skip
    checkpoint.load_weights(path, state, model, average=state.average is not None)
    model.requires_grad_(False)
    return model.eval()
