"""Parent clips: the real clips of the train split that synthetic clips are derived from."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avmix.data.few_shot import ShotsBy, few_shot
from avmix.data.manifest import Manifest, read_manifest
from avmix.synth.synthetic_set import SynthError


@dataclass(frozen=True, slots=True, kw_only=True)
class Parents:
    """The clips to make others from."""

    root: Path
    """Folder that their paths start from."""
    manifest: Manifest
    """The train split, or the few of its clips that were asked for."""
    shots: int
    shots_seed: int
    shots_by: ShotsBy

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What of them goes into the notes of a set: not where they are, but what they are."""
        return {
            "parents": self.manifest.protocol,
            "parents_sha256": self.manifest.sha256,
            "shots": self.shots,
            "shots_seed": self.shots_seed if self.shots else 0,
            **({"shots_by": self.shots_by} if self.shots and self.shots_by != "clip" else {}),
        }


def read_parents(
    root: Path, folder: Path | None, shots: int, shots_seed: int, shots_by: ShotsBy = "clip"
) -> Parents:
    """The real clips of the train split of the manifest in `folder` (None: `root`), or few of it.

    Raises `SynthError` for numbers out of range and for label sets, and `ManifestError`.
    """
    if shots < 0 or not 0 <= shots_seed < 2**32:
        raise SynthError(
            f"--shots must be at least 0 and --shots-seed in [0, 2**32), got {shots}, {shots_seed}"
        )
    whole = read_manifest(folder or root, "train")
    if whole.label_sets:
        raise SynthError(
            f"{folder or root}: clips have a label of each of {', '.join(whole.label_sets)}; "
            "synthetic clips are made of clips of one label"
        )
    chosen = few_shot(whole, shots, shots_seed, shots_by)
    # What was made of synthetic clips would have no parent that can be looked up.
    real = tuple(e for e in chosen.entries if e.synthetic is None)
    manifest = replace(chosen, entries=real)
    return Parents(
        root=root, manifest=manifest, shots=shots, shots_seed=shots_seed, shots_by=shots_by
    )


def file_name(clip_id: str, label: str) -> str:
    """Name of a synthetic clip's file: its class for people, a hash that no other clip has."""
    word = re.sub(r"[^A-Za-z0-9._-]+", "_", label)[:60]
    return f"clips/{word}_{hashlib.sha256(clip_id.encode()).hexdigest()[:16]}.mp4"
