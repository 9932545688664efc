"""Audio of a synthetic scene, rendered."""

import numpy as np
from jaxtyping import Float32

from avmix.synth.actions import NUM_SAMPLES, RATE_HZ, Scene, Voice, stream_of

_RING_SECONDS = 0.7


def audio_of(scene: Scene) -> Float32[np.ndarray, " s"]:
    """Render the audio, mono; an onset is at its event's place on the continuous clock."""
    stream = stream_of((*scene.address, 1))
    wave = np.zeros(NUM_SAMPLES)
    for voice in scene.voices:
        noisy = voice.sound in ("thud", "clap")
        for onset in voice.onset_seconds:
            loudness = voice.gain * stream.uniform(0.8, 1)
            first = max(0, int(np.ceil(onset * RATE_HZ)))
            end = min(NUM_SAMPLES, int((onset + _RING_SECONDS) * RATE_HZ))
            if loudness > 0 and first < end:
                since = (np.arange(first, end) / RATE_HZ - onset).astype(np.float32)
                grain = stream.standard_normal(end - first if noisy else 0, dtype=np.float32)
                wave[first:end] += loudness * _ring(voice, since, grain)
    hiss = stream.standard_normal(NUM_SAMPLES)
    if scene.hiss > 0:
        spectrum = np.fft.rfft(hiss)
        spectrum[1:] *= np.arange(1, len(spectrum)) ** (-scene.hiss_tilt / 2)
        spectrum[0] = 0
        hiss = np.fft.irfft(spectrum, NUM_SAMPLES)
        wave += hiss * (scene.hiss / np.sqrt(np.mean(hiss**2)))
    wave *= scene.peak
    loudest = float(np.abs(wave).max())
    return (wave * min(1.0, 0.98 / max(loudest, 1e-9))).astype(np.float32)


def _ring(voice: Voice, since: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """One audio, `since` seconds after its onset; about 1 at its loudest."""
    higher, decay = 2.0**voice.pitch_octaves, voice.decay
    attack = np.minimum(1, since / 0.0004) * np.clip((_RING_SECONDS - since) / 0.2, 0, 1)
    match voice.sound:
        case "thud":
            # A drum: a low tone whose pitch falls at first, and the knock of the stick.
            hz, fall = 95 * higher, 0.02
            phase = 2 * np.pi * hz * (since + 1.5 * fall * (1 - np.exp(-since / fall)))
            tone = np.sin(phase) * np.exp(-since / (0.09 * decay))
            return attack * (0.9 * tone + 0.12 * grain * np.exp(-since / 0.003))
        case "ping":
            # A struck metal bar: its partials are not harmonic (free bar, Fletcher and Rossing).
            parts = ((1.0, 0.6, 0.22), (2.756, 0.3, 0.12), (5.404, 0.15, 0.06))
            hz = 1300 * higher
            tones = [
                loud * np.sin(2 * np.pi * hz * ratio * since) * np.exp(-since / (ring * decay))
                for ratio, loud, ring in parts
                if hz * ratio < 0.45 * RATE_HZ
            ]
            return attack * np.sum(tones, axis=0)
        case "clap":
            # Noise without its low end, decaying.
            rough = np.diff(grain, prepend=0) if higher > 1 else grain
            return attack * 0.4 * rough * np.exp(-since / (0.035 * decay))
        case "chirp":
            # A tone that rises two octaves, then stops.
            hz, length = 550 * higher, 0.15 * decay
            phase = 2 * np.pi * hz * length / np.log(4) * (4 ** (since / length) - 1)
            fade = np.clip((length - since) / (0.25 * length), 0, 1)
            return attack * 0.7 * np.sin(np.where(since < length, phase, 0)) * fade
