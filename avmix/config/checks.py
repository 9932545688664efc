"""Range checks shared by all configuration sections."""

from dataclasses import fields
from math import isfinite
from typing import Any


def validate(ok: bool, key: str, rule: str, value: object) -> None:
    """Raise ValueError that names the option `key` and its value, unless `ok`."""
    if not ok:
        raise ValueError(f"{key} {rule}, got {value!r}")


LARGEST: dict[str, int] = {
    "data.num_workers": 1024,
    "clip.num_frames": 10_000,
    "clip.sample_rate": 768_000,
    "clip.short_side": 8192,
    "clip.crop": 4096,
    "augment.repeats": 1024,
    "augment.scales": 16,
    "augment.policy_ops": 100,
    "augment.gain_db": 120,
    "augment.noise_snr_db": 200,
    "augment.background_snr_db": 200,
    "augment.time_masks": 1000,
    "augment.mel_masks": 1000,
    "frontend.num_mels": 4096,
    "frontend.n_fft": 2**20,
    "model.shared_width": 2**16,
    "model.video.channels": 2**16,
    "model.video.lr_scale": 1000,
    "model.audio.channels": 2**16,
    "model.audio.lr_scale": 1000,
    "model.joint.lr_scale": 1000,
    "optim.batch_size": 2**16,
    "optim.precise_bn_batches": 2**24,
    "run.threads": 1024,
    "num_workers": 1024,
    "batch_size": 2**16,
    "num_views": 10_000,
    "resamples": 1_000_000,
    "threads": 1024,
}
"""Far beyond what anybody wants, by path: more ends in memory that no machine has, in numbers that
overflow, or in processes that a machine hangs on. Signed ones are as far below 0 at most."""


def validate_numbers(section: Any, prefix: str) -> None:
    """Check that no number of any option is nan or infinite (comparisons let some of them through),
    or beyond `LARGEST`."""
    for f in fields(section):
        key, value = prefix + f.name, getattr(section, f.name)
        inner = value.values() if isinstance(value, dict) else value
        found = inner if isinstance(value, (dict, list)) else [value]
        numbers = [x for x in found if isinstance(x, (int, float))]
        fine = all(isfinite(x) for x in numbers if isinstance(x, float))
        validate(fine, key, "must be finite", value)
        validate(all(abs(x) < 2**63 for x in numbers), key, "must be below 2**63", "more")
        if (most := LARGEST.get(key)) is not None:
            validate(all(abs(x) <= most for x in numbers), key, f"must be <= {most}", value)
