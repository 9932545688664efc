"""Frontend: normalises frames, computes log-mels (or leaves waveforms as they are) and mixes both;
`Batch` -> inputs of the network."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from avmix.config import MEL_MEAN, MEL_STD, FrontendConfig
from avmix.mix.blend import mix_part
from avmix.mix.frame_mixer import FrameMixer
from avmix.mix.loudness import mix_powers, mix_waveforms
from avmix.mix.mix_plan import MixPlan, PlacedPlan
from avmix.models.encoder import VideoSpec
from avmix.models.spectrograms import normalised, spectrogram
from avmix.types import Batch

PIXEL_MEAN = (0.45, 0.45, 0.45)
PIXEL_STD = (0.225, 0.225, 0.225)
"""Per colour, of pixels in [0, 1]: the usual values for Kinetics."""

_CPU_CHUNK = 8
"""Waveforms per spectrogram call on a CPU: more leave its cache and cost page faults."""


class Frontend(nn.Module):
    """Front end: `Batch` to normalised encoder inputs, mixed where a plan mixes at input level. It
    has no weights and no randomness."""

    def __init__(
        self,
        config: FrontendConfig,
        sample_rate: int,
        pixels: VideoSpec | None = None,
        *,
        reuse_output: bool = False,
    ) -> None:
        """`pixels`: by what the video encoder wants them normalised. `reuse_output`: write frames
        into memory that is kept, which is faster on a CPU; every second call overwrites what the
        last but one gave. Log-mels that `config` wants normalised as measured, and of which no
        numbers were put in, take `MEL_MEAN` and `MEL_STD`. Raises ValueError where a mel filter
        would be empty: its bin could never change.
        """
        super().__init__()
        self._mel = None if config.kind == "waveform" else spectrogram(config, sample_rate)
        self._config = config.with_log_mel(MEL_MEAN, MEL_STD)
        self._sample_rate = sample_rate
        mean = pixels.mean if pixels and pixels.mean else PIXEL_MEAN
        std = pixels.std if pixels and pixels.std else PIXEL_STD
        self._frames = FrameMixer(config.kernel, mean, std, reuse_output=reuse_output)

    def forward(
        self, batch: Batch, plan: PlacedPlan | None = None
    ) -> tuple[Float[Tensor, "n c t h w"], Float[Tensor, "n channels *rest"]]:
        """Frames with mean 0 and deviation 1 (about), log-mel (n channels m f) likewise, or, of
        `frontend.kind` waveform, waveforms (n channels s); float32, but for frames that Triton
        makes under autocast, which have its type already.

        A missing modality is zeros, the mean of the dataset: what batch normalisation should see
        of it. (The log-mel of silence would be an outlier that shifts everybody's statistics.) So
        are the frames, columns and mel bins that augmentation hides. Where the plan mixes at input
        level they are hidden after mixing, by the mask of the clip, so that they are hidden of both
        clips and their shares stay what the label says. Where it mixes inside the network every
        clip that is read, partners too, is hidden by its own mask: what is mixed there has no
        seconds and no bands any more.
        Raises ValueError when the plan is for another number of clips, or for clips of another
        shape.
        """
        kind = batch.video.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        if plan is not None:
            plan.plan.for_size(batch.size)
            if plan.plan.level == "input":
                _check_domains(plan.plan, self._domains())
            else:
                plan = None
        size = plan.plan.size if plan else batch.size
        with torch.autocast(kind, enabled=False):
            frames = self._frames(batch.video, plan, dtype)
            seen = batch.has_video[:size].view(-1, 1, 1, 1, 1)
            if batch.frame_visible is not None:
                seen = seen & batch.frame_visible[:size, None, :, None, None]
            if self._mel is None:
                wave = self.waveform(batch.audio, plan)
                heard = batch.has_audio[:size].view(-1, 1, 1)
                return _hidden(frames, seen), wave.masked_fill(~heard, 0)
            log_mel = self.log_mel(batch.audio, plan)
            heard = batch.has_audio[:size].view(-1, 1, 1, 1)
            if batch.column_visible is not None:
                heard = heard & batch.column_visible[:size, None, None, :]
            if batch.bin_visible is not None:
                heard = heard & batch.bin_visible[:size, None, :, None]
            return _hidden(frames, seen), _hidden(log_mel, heard)

    def log_mel(
        self, audio: Float[Tensor, "b *c s"], plan: PlacedPlan | None = None
    ) -> Float[Tensor, "n channels m f"]:
        """(logarithm of mel power - mean) / std, float32, by the formula of `frontend.kind`
        (`avmix.models.spectrograms`); mixed in the domain of the plan.

        One spectrogram of a mono waveform (b, s), two of a stereo one (b, 2, s): all channels of a
        clip are transformed and mixed alike. Raises ValueError for any other shape, and where
        `frontend.kind` is waveform.
        """
        if self._mel is None:
            raise ValueError("frontend.kind waveform: there is no spectrogram")
        audio, part = self._mixed_waveforms(audio, plan), plan.part("audio") if plan else None
        domain = part.part.domain if part else None
        limit = plan.plan.energy_limit_db if plan else None
        power = torch.cat([self._mel(chunk) for chunk in self._chunks(audio)])
        power = power.unflatten(0, audio.shape[:-1])
        if part is not None and domain == "power":
            power = mix_powers(part, power, audio, self._sample_rate, limit)
        log_mel = normalised(self._mel.logarithm(power), self._config)
        if part is not None and domain == "log_mel":
            log_mel = mix_part(part, log_mel)
        return log_mel if log_mel.ndim == 4 else log_mel.unsqueeze(1)

    def energy(
        self, audio: Float[Tensor, "b *c s"], domain: str
    ) -> Float[Tensor, "b m f"] | Float[Tensor, "b s"]:
        """Energy of each cell that boxes of `domain` are cut from, the sum over channels: mel
        power, or of domain waveform the squares of samples."""
        if self._mel is None or domain == "waveform":
            cells = audio.float().square()
            return cells if audio.ndim == 2 else cells.sum(1)
        power = torch.cat([self._mel(chunk) for chunk in self._chunks(audio.float())])
        power = power.unflatten(0, audio.shape[:-1])
        return power if power.ndim == 3 else power.sum(1)

    def waveform(
        self, audio: Float[Tensor, "b *c s"], plan: PlacedPlan | None = None
    ) -> Float[Tensor, "n channels s"]:
        """Waveforms of a mono (b, s) or stereo (b, 2, s) clip, float32, mixed where the plan mixes
        them. Raises ValueError for any other shape."""
        audio = self._mixed_waveforms(audio, plan)
        return audio if audio.ndim == 3 else audio.unsqueeze(1)

    def _mixed_waveforms(
        self, audio: Float[Tensor, "b *c s"], plan: PlacedPlan | None
    ) -> Float[Tensor, "n *c s"]:
        """float32; mixed where the plan mixes waveforms."""
        if audio.ndim != 2 and audio.shape[1:-1] != (2,):
            raise ValueError(f"audio is (b, s) or (b, 2, s), got {tuple(audio.shape)}")
        audio = audio.float()
        if plan is None or (part := plan.part("audio")).part.domain != "waveform":
            return audio
        return mix_waveforms(part, audio, self._sample_rate, plan.plan.energy_limit_db)

    def _domains(self) -> dict[str, tuple[str, ...]]:
        """In which each modality can be mixed."""
        if self._mel is None:
            return _WAVEFORM
        return _SPECTROGRAM if self._config.exponent == 2 else _MAGNITUDE

    @staticmethod
    def _chunks(audio: Float[Tensor, "b *c s"]) -> tuple[Tensor, ...]:
        waves = audio.flatten(0, -2)
        return waves.split(_CPU_CHUNK) if audio.device.type == "cpu" else (waves,)


def _hidden(x: Tensor, visible: Bool[Tensor, "..."]) -> Tensor:
    """Zeros, in place, where it is not `visible`. Where all is, it is left alone; that is asked on
    a CPU only, where nothing waits for the answer, and not where the front end is exported."""
    if x.device.type == "cpu" and not torch.compiler.is_compiling() and bool(visible.all()):
        return x
    return x.masked_fill_(~visible, 0)


_SPECTROGRAM = {"video": ("pixels",), "audio": ("waveform", "power", "log_mel")}
_WAVEFORM = {"video": ("pixels",), "audio": ("waveform",)}
_MAGNITUDE = {**_SPECTROGRAM, "audio": ("waveform", "log_mel")}
"""Domains of input, where the network is given spectrograms, waveforms, and spectrograms of
magnitudes, which have no power to mix."""


def _check_domains(plan: MixPlan, domains: dict[str, tuple[str, ...]]) -> None:
    """Raise ValueError for a part that is mixed nowhere: its label would be mixed, its data not."""
    for part in plan.parts:
        known = domains.get(part.name, ())
        if plan.method == "energy" and part.name == "audio":
            known = tuple(d for d in known if d != "log_mel")  # logarithms have no loudness
        if part.mixes and part.domain not in known:
            raise ValueError(
                f"the plan mixes {part.name} as {part.domain!r}, which a frontend does not: "
                f"{', '.join(known) or 'only video and audio'}"
            )
