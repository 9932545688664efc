"""Frontend: normalises frames, computes log-mels and mixes both; `Batch` -> inputs of the
network."""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchaudio.compliance.kaldi import get_mel_banks
from torchaudio.transforms import MelSpectrogram

from avmix.config import MEL_MEAN, MEL_STD, FrontendConfig
from avmix.mix.blend import mix_part
from avmix.mix.frame_mixer import FrameMixer
from avmix.mix.loudness import mix_powers, mix_waveforms
from avmix.mix.mix_plan import MixPlan, PlacedPlan
from avmix.models.encoder import VideoSpec
from avmix.types import Batch

PIXEL_MEAN = (0.45, 0.45, 0.45)
PIXEL_STD = (0.225, 0.225, 0.225)
"""Per colour, of pixels in [0, 1]: the usual values for Kinetics."""

LOG_FLOOR = 1e-6
"""Added to mel power before the logarithm: far below any audible level, and far above what half
precision would flush to zero."""

KALDI_FLOOR = torch.finfo(torch.float32).eps
"""Least mel power of Kaldi's filterbanks before the logarithm."""

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
        kaldi = config.kind == "kaldi"
        self._mel = KaldiPower(config, sample_rate) if kaldi else _mel_power(config, sample_rate)
        self._kaldi = kaldi
        numbers = config.with_log_mel(MEL_MEAN, MEL_STD)
        self._mean, self._std = float(numbers.mel_mean), float(numbers.mel_std)
        self._sample_rate = sample_rate
        mean = pixels.mean if pixels and pixels.mean else PIXEL_MEAN
        std = pixels.std if pixels and pixels.std else PIXEL_STD
        self._frames = FrameMixer(config.kernel, mean, std, reuse_output=reuse_output)

    def forward(
        self, batch: Batch, plan: PlacedPlan | None = None
    ) -> tuple[Float[Tensor, "n c t h w"], Float[Tensor, "n channels m f"]]:
        """Frames with mean 0 and deviation 1 (about), log-mel likewise; float32, but for frames
        that Triton makes under autocast, which have its type already.

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
                _check_domains(plan.plan)
            else:
                plan = None
        size = plan.plan.size if plan else batch.size
        with torch.autocast(kind, enabled=False):
            frames = self._frames(batch.video, plan, dtype)
            log_mel = self.log_mel(batch.audio, plan)
            seen = batch.has_video[:size].view(-1, 1, 1, 1, 1)
            heard = batch.has_audio[:size].view(-1, 1, 1, 1)
            if batch.frame_visible is not None:
                seen = seen & batch.frame_visible[:size, None, :, None, None]
            if batch.column_visible is not None:
                heard = heard & batch.column_visible[:size, None, None, :]
            if batch.bin_visible is not None:
                heard = heard & batch.bin_visible[:size, None, :, None]
            return frames.masked_fill_(~seen, 0), log_mel.masked_fill_(~heard, 0)

    def log_mel(
        self, audio: Float[Tensor, "b *c s"], plan: PlacedPlan | None = None
    ) -> Float[Tensor, "n channels m f"]:
        """(ln(mel power + LOG_FLOOR) - mean) / std, float32; mixed in the domain of the plan. Of
        Kaldi's filterbanks, ln(max(mel power, KALDI_FLOOR)).

        One spectrogram of a mono waveform (b, s), two of a stereo one (b, 2, s): all channels of a
        clip are transformed and mixed alike. Raises ValueError for any other shape.
        """
        if audio.ndim != 2 and audio.shape[1:-1] != (2,):
            raise ValueError(f"audio is (b, s) or (b, 2, s), got {tuple(audio.shape)}")
        audio, part = audio.float(), plan.part("audio") if plan else None
        domain = part.part.domain if part else None
        limit = plan.plan.energy_limit_db if plan else None
        if part is not None and domain == "waveform":
            audio = mix_waveforms(part, audio, self._sample_rate, limit)
        power = self._mel_power(audio)
        if part is not None and domain == "power":
            power = mix_powers(part, power, audio, self._sample_rate, limit)
        floored = power.clamp(min=KALDI_FLOOR) if self._kaldi else power + LOG_FLOOR
        log_mel = floored.log_().sub_(self._mean).div_(self._std)
        if part is not None and domain == "log_mel":
            log_mel = mix_part(part, log_mel)
        return log_mel if log_mel.ndim == 4 else log_mel.unsqueeze(1)

    def _mel_power(self, audio: Float[Tensor, "b *c s"]) -> Float[Tensor, "b *c m f"]:
        waves = audio.flatten(0, -2)
        chunks = waves.split(_CPU_CHUNK) if audio.device.type == "cpu" else (waves,)
        return torch.cat([self._mel(chunk) for chunk in chunks]).unflatten(0, audio.shape[:-1])


def _mel_power(config: FrontendConfig, sample_rate: int) -> MelSpectrogram:
    """Waveforms to mel power. Raises ValueError where a mel filter would be empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty filters: an error here, see below
        mel = MelSpectrogram(
            sample_rate=sample_rate,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            n_mels=config.num_mels,
            # Column k then covers samples [k * hop, k * hop + n_fft) and nothing is invented
            # beyond the borders of the window.
            center=False,
        )
    empty = int((mel.mel_scale.get_buffer("fb").sum(0) <= 0).sum())
    if empty:
        raise ValueError(
            f"frontend.num_mels (={config.num_mels}): {empty} mel filters are empty with "
            f"frontend.n_fft (={config.n_fft}) at {sample_rate} Hz; fewer mels or a longer "
            "n_fft are needed"
        )
    return mel


class KaldiPower(nn.Module):
    """Waveforms (n s) to the mel power (n m f) of Kaldi's filterbanks, batched and differentiable.

    Column k covers samples [k * hop, k * hop + n_fft): their mean is removed, they are emphasised
    (x[t] - 0.97 x[t - 1]), weighted by a symmetric Hann window and padded to a power of two. Mel
    filters, triangles in mel, reach from 20 Hz to half of the sample rate. No dither. As
    `torchaudio.compliance.kaldi.fbank(window_type="hanning", dither=0)`.
    """

    def __init__(self, config: FrontendConfig, sample_rate: int) -> None:
        """`n_fft` and `hop_length` of `config` are window and step, samples."""
        super().__init__()
        self._length, self._hop = config.n_fft, config.hop_length
        self._size = 1 << (config.n_fft - 1).bit_length()
        banks, _ = get_mel_banks(config.num_mels, self._size, sample_rate, 20.0, 0.0, 100.0, -500.0,
                                 1.0)  # fmt: skip
        self.window: Tensor
        self.banks: Tensor
        window = torch.hann_window(config.n_fft, periodic=False)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("banks", nn.functional.pad(banks, (0, 1)), persistent=False)

    def forward(self, audio: Float[Tensor, "n s"]) -> Float[Tensor, "n m f"]:
        """Computed in the type of `audio`."""
        frames = audio.unfold(-1, self._length, self._hop)
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
        spectrum = torch.fft.rfft((frames - 0.97 * before) * self.window, self._size)
        power = spectrum.real.square() + spectrum.imag.square()
        return self.banks @ power.transpose(-1, -2)


_DOMAINS = {"video": ("pixels",), "audio": ("waveform", "power", "log_mel")}


def _check_domains(plan: MixPlan) -> None:
    """Raise ValueError for a part that is mixed nowhere: its label would be mixed, its data not."""
    for part in plan.parts:
        known = _DOMAINS.get(part.name, ())
        if plan.method == "energy" and part.name == "audio":
            known = ("waveform", "power")  # logarithms have no loudness
        if part.mixes and part.domain not in known:
            raise ValueError(
                f"the plan mixes {part.name} as {part.domain!r}, which a frontend does not: "
                f"{', '.join(known) or 'only video and audio'}"
            )
