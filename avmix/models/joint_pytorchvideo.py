"""AVSlowFast of pytorchvideo: a slow and a fast pathway of frames and one of audio.

Xiao et al., "Audiovisual SlowFast networks for video recognition" (2020). After every stage what
the audio and the fast pathway have found is added and appended to the slow one; the audio pathway
does not see the frames. It is cut and run by pytorchvideo's own blocks, to the bit, but for the
lateral connections, whose module prints at every call.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from avmix.config import ClipConfig, EncoderConfig, FrontendConfig, JointEncoderConfig
from avmix.models.encoder import AudioSpec, VideoSpec
from avmix.models.hidden import Joint
from avmix.models.joint_encoder import JointEncoder, JointSpec, Widths
from avmix.models.library_encoder import built, imported, without_head
from avmix.models.pytorchvideo import PIXEL_MEAN, PIXEL_STD, SLOWER

JOINT = {"avslowfast_r50": 50, "avslowfast_r101": 101}
"""Depth of each."""
_SHRINKS_PIXELS, _SHRINKS_AUDIO = 32, 8
"""By which the stages shrink a frame, and columns and mel bins."""


def joint(
    name: str, config: JointEncoderConfig, clip: ClipConfig, frontend: FrontendConfig
) -> JointEncoder:
    """`pytorchvideo:NAME` of `JOINT`."""
    which = f"model.joint.encoder pytorchvideo:{name}"
    if name not in JOINT:
        raise ValueError(f"{which}: there are {', '.join(JOINT)}")
    library = imported("pytorchvideo.models.audio_visual_slowfast", which)
    net = built(
        library.create_audio_visual_slowfast, which, config.options, model_depth=JOINT[name],
        input_channels=(3, 3, clip.audio_channels),
    )  # fmt: skip
    return AVSlowFast(net, which, clip.audio_channels)


def pretrained(name: str, config: EncoderConfig, channels: int) -> dict[str, Tensor]:
    """Raises ValueError: pytorchvideo publishes none."""
    raise ValueError(f"pytorchvideo has no weights for {name}")


class AVSlowFast(JointEncoder):
    """The network without its classifier: features of slow and fast pathway are those of video."""

    def __init__(self, net: Any, which: str, channels: int) -> None:
        """`net`: of `create_audio_visual_slowfast`, for spectrograms of so many channels."""
        super().__init__()
        self.net = net
        *blocks, concat, head = net.blocks
        width = without_head(head, which, "proj")
        head.activation = None
        self.stages = [partial(_first, blocks[0]), *(partial(_run, one) for one in blocks[1:])]
        norms = [m for m in blocks[-1].multipathway_blocks[2].modules()
                 if isinstance(m, nn.BatchNorm3d)]  # fmt: skip
        of_audio = norms[-1].num_features
        self.num_features = Widths(video=width - of_audio, audio=of_audio)
        _, fast, audio = (pool.kernel_size for pool in concat.pool)
        self.spec = JointSpec(
            video=VideoSpec(num_frames=fast[0], size=_SHRINKS_PIXELS * fast[1], mean=PIXEL_MEAN,
                            std=PIXEL_STD),
            audio=AudioSpec(channels=channels, num_mels=_SHRINKS_AUDIO * audio[2],
                            num_columns=_SHRINKS_AUDIO * audio[0]),
        )  # fmt: skip

    def pool(self, x: Joint) -> Joint:
        """The mean over each pathway."""
        *_, concat, head = self.net.blocks
        features = head(concat([*x.video, x.audio]))
        video, audio = features.split([*self.num_features], 1)
        return x._replace(video=video, audio=audio)

    @property
    def network(self) -> nn.Module:
        """pytorchvideo's."""
        return self.net


def _first(block: Any, x: Joint) -> Joint:
    """The first stage, of frames (b 3 t h w) and spectrograms (b channels m f): the slow pathway
    sees every fourth frame, evenly spaced from first to last."""
    num = x.video.shape[2]
    places = torch.linspace(0, num - 1, num // SLOWER, device=x.video.device).long()
    pathways = [x.video.index_select(2, places), x.video]
    audio = x.audio.transpose(2, 3).unsqueeze(3)  # as (b channels f 1 m)
    return _run(block, x._replace(video=pathways, audio=audio))


def _run(block: Any, x: Joint) -> Joint:
    """A stage, and what the slow pathway gets from the others: of audio nothing, where the clip has
    none."""
    pathways = zip(block.multipathway_blocks, [*x.video, x.audio], strict=True)
    slow, fast, audio = (path(one) for path, one in pathways)
    fusion = block.multipathway_fusion
    if not isinstance(fusion, nn.Identity):  # as it is after the last stage
        from_fast = fusion.block_fast_to_slow(fast)
        from_audio = fusion.block_audio_to_fastslow(audio.mean(-1, keepdim=True))
        from_audio = from_audio.masked_fill(~x.has_audio.view(-1, 1, 1, 1, 1), 0)
        slow = from_audio + torch.cat([slow, from_fast], 1)
    return x._replace(video=[slow, fast], audio=audio)
