"""Two clips and their mix: what is seen, played and predicted."""

import io
import wave
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from avmix.config import ClipConfig, FrontendConfig, MixConfig, Modalities
from avmix.data.eval_set import EvalSet
from avmix.data.manifest import Manifest
from avmix.data.sample import Sample
from avmix.data.whole_files import entry_of_file
from avmix.decode import Limits
from avmix.evaluation.file_prediction import Ranked
from avmix.explore.clip_shelf import ShelfItem
from avmix.isolate.process_pool import Failure, run_each
from avmix.mix import MixPlan
from avmix.models.frontend import Frontend
from avmix.preview.mix_preview import PREVIEW_CLIP
from avmix.preview.mixed_pair import Look, looks_of, pair_plan, plan_title
from avmix.training.label_setup import refuse_label_sets
from avmix.training.trained import TrainedNetwork
from avmix.types import Batch, Entry, Heads

METHODS = (
    "mixup", "cutmix_temporal", "cutmix_spatial", "cutmix_spatiotemporal", "cutmix_frequency",
    "energy", "video", "audio",
)  # fmt: skip
"""Methods that mix before the network, where there is something to see."""
_SECONDS = 60.0
"""Time limit for reading one clip."""
_WITHOUT_LIMIT = 10
"""Times that limit, within which the process is killed: one clock decides."""


class CannotExplore(ValueError):
    """A clip cannot be read, or two cannot be mixed; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadClip:
    """A clip as evaluation reads it: the middle window."""

    entry: Entry
    sample: Sample
    note: str
    """What of the file is left out, or damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadDistance:
    """What a head says of the mix, and of the line between what it says of both clips."""

    head: str
    weight: float
    """Weight of A in this head's label."""
    said: tuple[str, float]
    """Most probable class of the mix, and its probability."""
    expected: tuple[str, float]
    """The same of weight * p(A) + (1 - weight) * p(B)."""
    distance: float
    """Between both: of one label a clip, half the sum of absolute differences; of several, the
    largest difference. 0 to 1; 0: linear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploredMix:
    """All that the page shows of two clips and a mix of them."""

    title: str
    looks: tuple[Look, Look, Look]
    """A, B and the mix."""
    has: tuple[tuple[bool, bool], ...]
    """Whether each of them has video, and audio."""
    waves: tuple[bytes, bytes, bytes | None]
    """WAV files, 16 bits; of the mix None where it is not one of waveforms."""
    starts_seconds: tuple[float, float]
    """Where the windows of A and B begin in their files."""
    notes: tuple[str, str]
    ranked: tuple[tuple[Ranked, ...], ...] = ()
    """Highest classes of A, B and the mix; empty without a network."""
    distances: tuple[HeadDistance, ...] = ()


def read_clip(task: tuple[str, float | None, float | None, ClipConfig, Modalities]) -> ReadClip:
    """The middle window of a file, or of a stretch of it. Raises as decoding does, and ValueError
    where the window cannot be read."""
    path, start, end, clip, modalities = task
    limits = Limits(seconds=_WITHOUT_LIMIT * _SECONDS)
    entry, note = entry_of_file(path, limits)
    if start is not None and end is not None:
        entry = replace(entry, start_seconds=start, end_seconds=min(end, entry.end_seconds))
    views = _views((entry,), clip, modalities, limits)
    (sample,) = views.samples([(0, 0)])
    if sample.clip is None:
        raise ValueError(sample.bad[0].reason)
    return ReadClip(entry=entry, sample=sample, note=note)


def _views(
    entries: Sequence[Entry], clip: ClipConfig, modalities: Modalities, limits: Limits
) -> EvalSet:
    return EvalSet(
        manifest=Manifest(classes=("a",), protocol="files", split="files", entries=tuple(entries),
                          sha256="", several_labels=True),
        root=Path(), clip=clip, num_views=1, verify="never", limits=limits, several_labels=True,
        modalities=modalities,
    )  # fmt: skip


class Explorer:
    """Reads clips in processes that a file may kill, mixes them and asks the network."""

    def __init__(self, trained: TrainedNetwork | None) -> None:
        """`trained`: None to look without predictions, at frames large enough to see. Raises
        ValueError for a network of label sets."""
        if trained is not None:
            refuse_label_sets(trained.config, "mixes cannot be explored")
        self.trained = trained
        self.clip = trained.clip if trained else PREVIEW_CLIP
        self._modalities: Modalities = trained.config.model.modalities if trained else "both"
        frontend = trained.config.frontend if trained else FrontendConfig()
        self.frontend = replace(frontend, kernel="auto").drawn
        self._kept: dict[ShelfItem, ReadClip] = {}

    def read(self, item: ShelfItem) -> ReadClip:
        """A clip, from the last few that were read, or its file; raises `CannotExplore`."""
        if item in self._kept:
            return self._kept[item]
        task = (str(item.path), item.start_seconds, item.end_seconds, self.clip, self._modalities)
        running = run_each(
            read_clip, [task], workers=1, seconds=lambda task: _SECONDS,
            preload=("avmix.explore.explored_mix",),
        )  # fmt: skip
        with closing(running):
            ((_, outcome),) = running
        if isinstance(outcome, Failure):
            reason = " ".join(outcome.text.replace(str(item.path), "").split())
            raise CannotExplore(f"{item.name}: {reason}")
        while len(self._kept) >= 4:
            self._kept.pop(next(iter(self._kept)))
        self._kept[item] = outcome
        return outcome

    def explore(self, own: ShelfItem, partner: ShelfItem, method: str, lam: float) -> ExploredMix:
        """Mix two clips; raises `CannotExplore`."""
        if own == partner:
            raise CannotExplore("A and B are the same clip: nothing would be mixed")
        if method not in METHODS:
            raise CannotExplore(f"no mixing method {method!r}: {', '.join(METHODS)}")
        clips = [self.read(item) for item in (own, partner)]
        batch = self._batch(clips)
        domain = "waveform" if method == "energy" or self._of_waveforms else "log_mel"
        try:
            mix = MixConfig(method=method, law="fixed", lam=lam, audio_domain=domain)
            plan = pair_plan(mix, batch, self.clip, self.frontend)
        except ValueError as error:
            raise CannotExplore(f"{method}: {error}") from None
        own_look, partner_look, mixed = looks_of(
            batch, [plan], self.frontend, self.clip.sample_rate
        )
        present = tuple(plan.part(name).present[0] for name in ("video", "audio"))
        has = tuple(zip(batch.has_video.tolist(), batch.has_audio.tolist(), strict=True))
        first, second = (
            clip.sample.clip.start_seconds for clip in clips if clip.sample.clip is not None
        )
        found = ExploredMix(
            title=plan_title(plan),
            looks=(own_look, partner_look, mixed),
            has=(*has, (present[0], present[1])),
            waves=(self._wav(batch.audio[0]), self._wav(batch.audio[1]), self._mixed(batch, mix)),
            starts_seconds=(first, second),
            notes=(clips[0].note, clips[1].note),
        )
        return self._predicted(found, batch, plan)

    @property
    def _of_waveforms(self) -> bool:
        return self.trained is not None and self.trained.config.frontend.kind == "waveform"

    def _batch(self, clips: Sequence[ReadClip]) -> Batch:
        entries = [replace(c.entry, source_id=str(n)) for n, c in enumerate(clips)]
        views = _views(entries, self.clip, self._modalities, Limits())
        loaded = views.collate([c.sample._replace(row=n) for n, c in enumerate(clips)])
        assert loaded.batch is not None
        return loaded.batch

    def _mixed(self, batch: Batch, mix: MixConfig) -> bytes | None:
        """The mix as one plays it: that of the waveforms, with the same lambda and the same
        seconds. A band of frequencies has none."""
        if mix.method == "cutmix_frequency":
            return None
        plan = pair_plan(replace(mix, audio_domain="waveform"), batch, self.clip, self.frontend)
        stage = Frontend(self.frontend, self.clip.sample_rate)
        return self._wav(stage.waveform(batch.audio, plan.to(torch.device("cpu")))[0])

    def _wav(self, audio: Float[Tensor, "*c s"]) -> bytes:
        samples = audio.reshape(-1, audio.shape[-1]).clamp(-1, 1).numpy()
        return wav_of(samples.astype(np.float32), self.clip.sample_rate)

    def _predicted(self, found: ExploredMix, batch: Batch, plan: MixPlan) -> ExploredMix:
        if self.trained is None:
            return found
        trained = self.trained
        several = trained.config.loss.several_labels
        device = next(trained.network.parameters()).device
        placed, there = plan.to(device), batch.to(device)
        mixed_has = [torch.tensor([value], device=device) for value in found.has[2]]
        with torch.no_grad():
            alone = trained.network(
                *trained.frontend(there), there.has_video, there.has_audio
            ).logits
            mixed = trained.network(*trained.frontend(there, placed), *mixed_has).logits
        probability = [
            torch.cat(heads).float().cpu() for heads in zip(alone, mixed, strict=True)
        ]  # a head: A, B, the mix
        probability = Heads(*map(trained.probabilities, probability))
        names = {"fused": (True, True, True), "video": [h[0] for h in found.has],
                 "audio": [h[1] for h in found.has]}  # fmt: skip
        distances = []
        for head, has in names.items():
            p, weight = getattr(probability, head), float(getattr(found.looks[2].shares, head)[0])
            needed = [has[2], has[0] or weight == 0, has[1] or weight == 1]
            if all(needed):
                distances.append(distance_of(head, weight, p, trained.classes, several))
        ranked = tuple(_ranked(probability, place, found.has[place], trained.classes)
                       for place in range(3))  # fmt: skip
        return replace(found, distances=tuple(distances), ranked=ranked)


def distance_of(
    head: str,
    weight: float,
    probability: Float[Tensor, "3 k"],
    classes: Sequence[str],
    several: bool,
) -> HeadDistance:
    """`HeadDistance` of the probabilities of A, B and the mix."""
    own, partner, mixed = probability.double()
    line = weight * own + (1 - weight) * partner
    apart = (mixed - line).abs()

    def best(values: Tensor) -> tuple[str, float]:
        place = int(values.argmax())
        return classes[place], float(values[place])

    return HeadDistance(
        head=head, weight=weight, said=best(mixed), expected=best(line),
        distance=float(apart.max() if several else apart.sum() / 2),
    )  # fmt: skip


def wav_of(samples: Float32[np.ndarray, "c s"], rate_hz: int) -> bytes:
    """A WAV file of 16 bits; samples beyond full scale are cut off."""
    whole = np.round(np.clip(samples, -1, 1) * 32767).astype("<i2")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(whole.T.tobytes())
    return out.getvalue()


def _ranked(
    probability: Heads, place: int, has: tuple[bool, bool], classes: Sequence[str], most: int = 3
) -> tuple[Ranked, ...]:
    fused, video, audio = (head[place] for head in probability)
    order: list[int] = (-fused).argsort(stable=True)[:most].tolist()
    return tuple(
        Ranked(
            name=classes[k], fused=float(fused[k]),
            video=float(video[k]) if has[0] else None, audio=float(audio[k]) if has[1] else None,
        )
        for k in order
    )  # fmt: skip
