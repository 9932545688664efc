"""Whether weights have seen the test set: by ids of clips, where those are known.

Nothing is taken for granted: without a list of what weights were trained on the answer is
`unknown`, never none.
"""

from collections.abc import Iterable
from pathlib import Path

from avmix.leaderboard.card import PROTOCOLS, Card, CardError, Weights
from avmix.leaderboard.result import Overlap, Pretraining

_MOST_BYTES = 100_000_000
UNKNOWN = "no list of the clips that these weights were trained on is at hand"


def pretraining_of(
    card: Card, test_ids: Iterable[str], folder: Path = PROTOCOLS
) -> tuple[Pretraining, ...]:
    """What the networks of a card start from, and its overlap with these clips: their ids, and
    those of their sources. Raises `CardError` where a list of ids cannot be read."""
    ids = {*test_ids}
    return tuple(
        Pretraining(name=one.name, modality=one.modality, trained_on=one.trained_on,
                    overlap=_overlap(one, ids, (folder / card.id).parent))
        for one in card.weights
    )  # fmt: skip


def _overlap(weights: Weights, ids: set[str], folder: Path) -> Overlap:
    if not weights.ids:
        return Overlap(found="unknown", how=UNKNOWN)
    path = folder / weights.ids
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CardError(f"{path}: larger than {_MOST_BYTES} bytes")
        known = {line.strip() for line in path.read_text(encoding="utf-8").splitlines()} - {""}
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: the ids of {weights.name} cannot be read: {error}") from None
    shared = len(ids & known)
    return Overlap(
        found="some" if shared else "none of the known ids",
        how=f"ids of clips and sources of the test split, looked for in {path.name}",
        num_shared=shared, num_compared=len(known),
    )  # fmt: skip
