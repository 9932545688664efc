"""Loudness-aware mixing: A-weighted loudness of a waveform, and the gains that make lambda the
perceived share.

Tokozume, Ushiku and Harada, "Learning from between-class examples for deep audio recognition"
(ICLR 2018).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from avmix.mix.blend import blend, exact_at_ends, mix_part
from avmix.mix.mix_plan import PlacedPart

FLOOR_DB = -80.0
"""What is quieter counts as silence."""


def a_weighting_db(frequencies_hz: Float[Tensor, " f"]) -> Float[Tensor, " f"]:
    """A-weighting curve of IEC 61672 in dB, floored at `FLOOR_DB`; 0 at 1 kHz."""
    f2 = frequencies_hz.double().clamp(min=1.0) ** 2  # at 0 Hz the curve is minus infinity
    gain = (
        12194**2 * f2**2
        / ((f2 + 20.6**2) * (f2 + 12194**2) * ((f2 + 107.7**2) * (f2 + 737.9**2)).sqrt())
    )  # fmt: skip
    return (20 * gain.log10() + 2.0).clamp(min=FLOOR_DB).to(frequencies_hz.dtype)


def loudness_db(audio: Float[Tensor, "b *c s"], sample_rate: int) -> Float[Tensor, " b"]:
    """A-weighted level of the loudest frame of each clip, dB, at least `FLOOR_DB`.

    Frames of about an eighth of a second (a power of two), half overlapping, Hann window. The power
    of a frame of several channels is the mean of theirs.
    """
    n_fft = 2 ** round(math.log2(0.128 * sample_rate))
    if audio.shape[-1] < n_fft:
        audio = torch.nn.functional.pad(audio, (0, n_fft - audio.shape[-1]))
    window = torch.hann_window(n_fft, device=audio.device)
    frames = audio.float().unfold(-1, n_fft, n_fft // 2) * window
    frequencies = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, device=audio.device)
    weights = 10 ** (a_weighting_db(frequencies) / 10)
    power = (torch.fft.rfft(frames).abs() ** 2 * weights).sum(-1)
    energy = (power if power.ndim == 2 else power.mean(1)).amax(1)
    return 10 * energy.clamp(min=10 ** (FLOOR_DB / 10)).log10()


def loudness_gains(
    lam: Float[Tensor, " n"],
    own_db: Float[Tensor, " n"],
    other_db: Float[Tensor, " n"],
    limit_db: float,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Gains of the own and the partner's waveform for which `lam` is the perceived own share.

    Their squares add up to 1. A lambda of 1 gives exactly (1, 0), of 0 (0, 1), whatever the other
    waveform is.
    """
    difference = (own_db - other_db).clamp(-limit_db, limit_db)
    own = lam
    other = (1 - lam) * 10 ** (difference / 20)
    norm, one, zero = (own**2 + other**2).sqrt(), torch.ones_like(lam), torch.zeros_like(lam)
    return (
        exact_at_ends(own / norm, one, zero, lam),
        exact_at_ends(other / norm, zero, one, lam),
    )


def mix_waveforms(
    part: PlacedPart, audio: Float[Tensor, "b *c s"], sample_rate: int, limit_db: float | None
) -> Float[Tensor, "n *c s"]:
    """Mix waveforms by the plan; with `limit_db`, by loudness and at constant power.

    All channels of a clip are mixed alike.
    """
    if limit_db is None or not part.part.mixes:
        return mix_part(part, audio)
    own_factor, other_factor = _factors(part, audio, sample_rate, limit_db)
    own, other = audio[: len(part.partner)], audio.index_select(0, part.partner)
    once = (-1, *[1] * (audio.ndim - 1))
    mixed = own_factor.view(once) * own + other_factor.view(once) * other
    return exact_at_ends(mixed, own, other, part.weight.view(once))


def mix_powers(
    part: PlacedPart,
    power: Float[Tensor, "b *c m f"],
    audio: Float[Tensor, "b *c s"],
    sample_rate: int,
    limit_db: float | None,
) -> Float[Tensor, "n *c m f"]:
    """Mix mel powers by the plan; with `limit_db`, by the loudness of the waveforms.

    The squared factors of the waveforms are the weights of the powers, and add up to 1.
    """
    if limit_db is None or not part.part.mixes:
        return mix_part(part, power)
    own, _ = _factors(part, audio, sample_rate, limit_db)
    return blend(power, part.partner, own**2)


def _factors(
    part: PlacedPart, audio: Tensor, sample_rate: int, limit_db: float
) -> tuple[Tensor, Tensor]:
    if part.box is not None:
        raise ValueError(f"{part.part.name}: what is mixed by loudness cannot be cut from boxes")
    loudness = loudness_db(audio, sample_rate)
    own, other = loudness[: len(part.partner)], loudness.index_select(0, part.partner)
    return loudness_gains(part.weight, own, other, limit_db)
