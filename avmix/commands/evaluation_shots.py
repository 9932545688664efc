"""Frames and spectrograms of the clips that an evaluation is most wrong about."""

from dataclasses import replace

from avmix.config import FrontendConfig
from avmix.data.eval_set import EvalSet
from avmix.data.loader import EvalLoader
from avmix.data.loader_pool import LoaderError
from avmix.data.sample import Loaded, Place
from avmix.evaluation.clip_shots import Shot, Shots, frame_jpeg, spectrogram_png
from avmix.evaluation.kept_predictions import KeptPredictions
from avmix.evaluation.most_wrong import most_wrong
from avmix.models.frontend import Frontend


def shots_of(
    kept: KeptPredictions, views: EvalSet, loader: EvalLoader, frontend: FrontendConfig
) -> Shots:
    """What is shown of each of these clips: the middle frame, and the spectrogram, of its middle
    view, as the network is given it.

    They are read as the clips of the evaluation are, so that a file that ends or hangs the decoder
    costs itself alone; what cannot be read has its reason.
    """
    rows = {clip.clip_id: clip.row for clip in kept.clips}
    clips = [clip.clip_id for clip in most_wrong(kept)]
    places = [[(rows[clip_id], _middle(views))] for clip_id in clips]
    try:
        stage = Frontend(frontend.drawn, views.clip.sample_rate)
    except ValueError:  # of what a network of waveforms does not use
        stage = None
    return Shots(root=views.root, clips=_read(clips, places, loader, stage))


def _middle(views: EvalSet) -> int:
    """Number of the view: the middle window, its centre crop, not mirrored."""
    crop = (1 if views.crops == "three" else 0) * (2 if views.flip else 1)
    return views.num_views // 2 * views.views_per_window + crop


def _read(
    clips: list[str], places: list[list[Place]], loader: EvalLoader, stage: Frontend | None
) -> dict[str, Shot]:
    found: dict[str, Shot] = {}
    try:
        for clip_id, loaded in zip(clips, replace(loader, batches=places), strict=True):
            found[clip_id] = _shot(loaded, stage)
    except LoaderError as error:  # the predictions are there; they are worth more than a frame
        reason = " ".join(f"{error}".split())
        found |= {clip_id: Shot(reason=reason) for clip_id in clips if clip_id not in found}
    return found


def _shot(loaded: Loaded, stage: Frontend | None) -> Shot:
    batch, bad = loaded
    if batch is None:
        return Shot(reason=bad[0].reason if bad else "cannot be read")
    frame = spectrogram = None
    if batch.has_video[0]:
        frames = batch.video[0].numpy()
        frame = frame_jpeg(frames[len(frames) // 2])
    if batch.has_audio[0] and stage is not None:
        spectrogram = spectrogram_png(stage.log_mel(batch.audio)[0].mean(0).numpy())
    return Shot(frame=frame, spectrogram=spectrogram)
