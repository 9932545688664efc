"""Fusions that compute one vector of the two features: sum, gate, FiLM, low-rank bilinear."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avmix.models.fusion import JointFusion, common_width


class SumFusion(JointFusion):
    """Sum of both features in one space: h = P v + Q a, of those that are there."""

    def joint_width(self, num_video: int, num_audio: int) -> int:
        """Of that space."""
        return common_width(num_video, num_audio)

    def add_parts(self, num_video: int, num_audio: int) -> None:
        """P and Q, without biases: what is missing adds nothing."""
        width = self.joint_width(num_video, num_audio)
        self.from_video = nn.Linear(num_video, width, bias=False)
        self.from_audio = nn.Linear(num_audio, width, bias=False)

    def joint(
        self, video: Tensor, audio: Tensor, use_video: Tensor, use_audio: Tensor
    ) -> Float[Tensor, "b d"]:
        """h"""
        return self.from_video(video) + self.from_audio(audio)


class GatedFusion(SumFusion):
    """A gate for each element of the joint vector: h = z tanh(P v) + (1 - z) tanh(Q a), with
    z = sigmoid(R [v; a]).

    Arevalo et al., "Gated multimodal units for information fusion" (ICLR workshop 2017). Where one
    modality is missing, the gate is open to the other.
    """

    def add_parts(self, num_video: int, num_audio: int) -> None:
        """P, Q and R."""
        super().add_parts(num_video, num_audio)
        self.gate = nn.Linear(num_video + num_audio, self.joint_width(num_video, num_audio))

    def joint(
        self, video: Tensor, audio: Tensor, use_video: Tensor, use_audio: Tensor
    ) -> Float[Tensor, "b d"]:
        """h"""
        gate = self.gate(torch.cat([video, audio], 1)).sigmoid()
        both, only_video = (use_video & use_audio)[:, None], use_video[:, None].to(gate.dtype)
        gate = torch.where(both, gate, only_video)
        return gate * self.from_video(video).tanh() + (1 - gate) * self.from_audio(audio).tanh()


class FilmFusion(JointFusion):
    """Each feature is scaled and shifted as the other one says, then both are concatenated:
    h = [(1 + g(a)) v + s(a); (1 + g'(v)) a + s'(v)], with linear g, s, g' and s'.

    Perez et al., "FiLM: visual reasoning with a general conditioning layer" (AAAI 2018), in both
    directions. A modality whose partner is missing is left as it is.
    """

    def joint_width(self, num_video: int, num_audio: int) -> int:
        """Both."""
        return num_video + num_audio

    def add_parts(self, num_video: int, num_audio: int) -> None:
        """g and s from audio, g' and s' from video."""
        self.of_audio = nn.Linear(num_audio, 2 * num_video)
        self.of_video = nn.Linear(num_video, 2 * num_audio)

    def joint(
        self, video: Tensor, audio: Tensor, use_video: Tensor, use_audio: Tensor
    ) -> Float[Tensor, "b d"]:
        """h"""
        both = (use_video & use_audio)[:, None]
        scale, shift = (self.of_audio(audio) * both).chunk(2, 1)
        other_scale, other_shift = (self.of_video(video) * both).chunk(2, 1)
        return torch.cat([video + scale * video + shift,
                          audio + other_scale * audio + other_shift], 1)  # fmt: skip


RANK = 4
"""Of a bilinear map: products that are added."""


class BilinearFusion(JointFusion):
    """A bilinear map of both features of low rank, with an element of each that is constant:
    h = mean over r of (P_r v + p_r) (Q_r a + q_r), element by element, r = 1 to `RANK`.

    Liu et al., "Efficient low-rank multimodal fusion with modality-specific factors" (ACL 2018):
    the constants, 1 at first, keep what each modality says alone beside what both say together. A
    missing feature leaves its constants.
    """

    def joint_width(self, num_video: int, num_audio: int) -> int:
        """Of the space of the products."""
        return common_width(num_video, num_audio)

    def add_parts(self, num_video: int, num_audio: int) -> None:
        """All P_r and p_r, all Q_r and q_r."""
        width = self.joint_width(num_video, num_audio)
        self.from_video = nn.Linear(num_video, RANK * width)
        self.from_audio = nn.Linear(num_audio, RANK * width)
        nn.init.ones_(self.from_video.bias)
        nn.init.ones_(self.from_audio.bias)

    def joint(
        self, video: Tensor, audio: Tensor, use_video: Tensor, use_audio: Tensor
    ) -> Float[Tensor, "b d"]:
        """h"""
        products = self.from_video(video) * self.from_audio(audio)
        return products.unflatten(1, (RANK, -1)).mean(1)
