"""PE-AV of transformers: frames and waveform to embeddings of video, of audio and of both.

Perception encoder audiovisual (`PeAudioVideoModel`). The feature of a modality is its own embedding
beside that of both together, which is zeros where the clip lacks one; the text tower is taken away.
"""

from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from avmix.config import ClipConfig, EncoderConfig, FrontendConfig, JointEncoderConfig
from avmix.models.encoder import AudioSpec, VideoSpec
from avmix.models.hidden import Joint
from avmix.models.joint_encoder import JointEncoder, JointSpec, Widths
from avmix.models.library_encoder import built, colour, imported
from avmix.models.transformers_config import pixels_of, place_of, processor_of, settings_of

_TYPE, _CLASS = "pe_audio_video", "PeAudioVideoModel"
_OF_TEXT = ("text_model", "text_audio_video_head", "audio_plus_text_head", "video_plus_text_head",
            "audio_model.text_model", "audio_model.text_audio_head", "video_model.text_model",
            "video_model.text_video_head")  # fmt: skip
_TWICE = {"audio_model.audio_encoder.": "audio_video_encoder.embedder.audio_encoder.",
          "video_model.video_encoder.": "audio_video_encoder.embedder.video_encoder."}  # fmt: skip
"""Networks that it has under two names; a file may have either."""
_RATE = 48_000
"""Samples a second, where no processor says."""


def joint(
    name: str, config: JointEncoderConfig, clip: ClipConfig, frontend: FrontendConfig
) -> JointEncoder:
    """`transformers:FOLDER_OR_ID` of the kind `pe_audio_video`."""
    which = f"model.joint.encoder transformers:{name}"
    settings = settings_of(name, config.options, which)
    if settings.model_type != _TYPE:
        raise ValueError(f"{which} is of the kind {settings.model_type!r}; there is {_TYPE}")
    build = getattr(imported("transformers", which), _CLASS)
    with redirect_stdout(StringIO()):  # the library prints an error about its own documentation
        net = built(lambda: build(settings), which, {})
    vision = net.audio_video_encoder.embedder.video_encoder.embedder.vision_model.timm_model
    usual = colour(vision.pretrained_cfg["mean"]), colour(vision.pretrained_cfg["std"])
    mean, std = pixels_of(name, usual, "video_preprocessor_config.json")
    rate = int(processor_of(name, "preprocessor_config.json").get("sampling_rate", _RATE))
    video = VideoSpec(size=int(vision.patch_embed.img_size[0]), mean=mean, std=std)
    audio = AudioSpec(front_end="waveform", sample_rate=rate, channels=1)
    return PerceptionEncoder(net, JointSpec(video=video, audio=audio))


def pretrained(name: str, config: EncoderConfig, channels: int) -> dict[str, Tensor]:
    """The weights of the folder or of the Hub; those that it would make up are left out."""
    which = f"transformers:{name}"
    net, said = getattr(imported("transformers", which), _CLASS).from_pretrained(
        place_of(name), output_loading_info=True, weights_only=True
    )
    made_up = {*said["missing_keys"]}
    return {key: value for key, value in net.state_dict().items() if key not in made_up}


class PerceptionEncoder(JointEncoder):
    """Not cut: its parts hand on masks beside tokens."""

    def __init__(self, net: Any, spec: JointSpec) -> None:
        """`net`: a `PeAudioVideoModel`, of which what only text needs is taken away."""
        super().__init__()
        for name in _OF_TEXT:
            if _has(net, name):
                net.set_submodule(name, nn.Identity())
        for module in (net, net.audio_model, net.video_model):
            for name in [n for n, _ in module.named_parameters(recurse=False)]:
                delattr(module, name)  # scales and biases of its losses
        net.audio_model.audio_encoder = nn.Identity()
        net.video_model.video_encoder = nn.Identity()
        self.net, self.spec, self.stages = net, spec, []
        inner = net.audio_video_encoder.embedder.audio_encoder.embedder
        for module in (inner.dac_encoder, inner.bottleneck):
            module.requires_grad_(False)  # the library computes them without a gradient
        self._hop = inner.config.dac_config.hop_length
        own = (net.video_model.video_head, net.audio_model.audio_head)
        both = net.audio_video_head.proj.out_features
        of_video, of_audio = (head.proj.out_features + both for head in own)
        self.num_features = Widths(of_video, of_audio)

    def pool(self, x: Joint) -> Joint:
        """Of frames (b 3 t h w) and waveforms (b 1 s)."""
        net = self.net
        found = net.audio_video_encoder(
            input_values=_whole_hops(x.audio, self._hop),
            pixel_values_videos=x.video.transpose(1, 2).contiguous(),
        )
        together = net.audio_video_head(found.pooler_output)
        together = together.masked_fill(~(x.has_video & x.has_audio)[:, None], 0)
        video = net.video_model.video_head(found.video_model_output.pooler_output)
        audio = net.audio_model.audio_head(found.audio_model_output.pooler_output)
        return x._replace(
            video=torch.cat([video, together], 1), audio=torch.cat([audio, together], 1)
        )

    def of_file(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the file has under the other one of two names."""
        renamed = dict(found)
        for name, value in found.items():
            for one, other in _TWICE.items():
                if name.startswith(one):
                    renamed.setdefault(other + name.removeprefix(one), value)
        return renamed

    @property
    def network(self) -> nn.Module:
        """That of transformers."""
        return self.net


def _has(net: nn.Module, name: str) -> bool:
    try:
        net.get_submodule(name)
    except AttributeError:
        return False
    return True


def _whole_hops(waves: Float[Tensor, "b 1 s"], hop: int) -> Float[Tensor, "b 1 n"]:
    """Continued by reflection to a multiple of `hop` samples, as its feature extractor does."""
    return pad(waves, (0, -waves.shape[-1] % hop), mode="reflect")
