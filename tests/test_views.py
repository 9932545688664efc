"""Views of evaluation: crops and mirrored crops of each window, and what of them is averaged."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from media import write_flash_beep
from test_engine import FRONTEND, HERE, SMALL, batch_of, eval_loader_of

from avmix.augment import along
from avmix.config import ClipConfig
from avmix.data import clip_reader
from avmix.data.eval_set import EvalSet
from avmix.data.loader import eval_loader
from avmix.data.manifest import Manifest
from avmix.data.sample import Loaded
from avmix.decode import decode_clips
from avmix.evaluation.metrics import EVAL_ROWS
from avmix.media.judgement import entry_of
from avmix.models import build_model
from avmix.training.evaluation_loop import evaluate

CLIP = ClipConfig(duration_seconds=1.0, num_frames=2, short_side=32, crop=32, stereo=True)


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> EvalSet:
    root = tmp_path_factory.mktemp("views")
    for name in ("a.mp4", "b.mp4"):
        write_flash_beep(root / name, events_seconds=(0.4, 1.2), fps=10)
    entries = tuple(
        entry_of(root / name, root, clip_id=name, labels=["flash"], source_id=name)
        for name in ("a.mp4", "b.mp4")
    )
    manifest = Manifest(classes=("flash",), protocol="p", split="test", entries=entries, sha256="")
    return EvalSet(manifest=manifest, root=root, clip=CLIP, num_views=2, crops="three", flip=True)


def test_every_window_has_its_crops_and_their_mirror_images(views: EvalSet) -> None:
    assert (views.views_per_window, views.views_per_clip) == (6, 12)
    entry = views.manifest.entries[0]
    starts = [0.25 * entry.duration_seconds - 0.5, 0.75 * entry.duration_seconds - 0.5]
    starts = [min(max(s, 0.0), entry.duration_seconds - 1.0) for s in starts]
    windows = decode_clips(
        views.root / "a.mp4", starts_seconds=starts, duration_seconds=1.0, num_frames=2,
        sample_rate=CLIP.sample_rate, channels=2, short_side=32, audio="require",
    )  # fmt: skip
    samples = views.samples([(0, view) for view in range(12)])
    width = windows[0].video.shape[2]  # type: ignore[union-attr]
    assert width > 34
    offsets = (0, (width - 32) // 2, width - 32)
    for sample, (window, left, flip) in zip(
        samples, itertools.product(windows, offsets, (False, True)), strict=True
    ):
        assert sample.clip is not None
        expected = window.video[:, :, left : left + 32]  # type: ignore[union-attr]
        expected = expected[:, :, ::-1] if flip else expected
        np.testing.assert_array_equal(sample.clip.video, expected)
        audio = window.audio[::-1] if flip else window.audio  # type: ignore[union-attr]
        np.testing.assert_array_equal(sample.clip.audio, audio)
        assert sample.clip.start_seconds == window.start_seconds  # type: ignore[union-attr]


def test_a_file_is_decoded_once_for_all_views(
    views: EvalSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(path: Path, **options):  # type: ignore[no-untyped-def]
        calls.append((path.name, len(options["starts_seconds"])))
        return decode_clips(path, **options)

    monkeypatch.setattr(clip_reader, "decode_clips", counted)
    loader = eval_loader(views, batch_size=24, num_workers=0)
    (loaded,) = list(loader)
    assert loaded.batch is not None
    assert loaded.batch.row.tolist() == [0] * 12 + [1] * 12
    assert calls == [("a.mp4", 2), ("b.mp4", 2)]
    assert loader.num_views == 12


def test_without_these_options_views_are_as_they_were(views: EvalSet) -> None:
    plain = replace(views, crops="centre", flip=False)
    assert plain.views_per_clip == 2
    (one, two) = plain.samples([(1, 0), (1, 1)])
    all_views = views.samples([(1, view) for view in (2, 8)])  # the centres
    for ours, other in zip((one, two), all_views, strict=True):
        assert ours.clip is not None
        assert other.clip is not None
        np.testing.assert_array_equal(ours.clip.video, other.clip.video)


def test_crops_lie_along_the_longer_side() -> None:
    boxes = [(p.crop.top, p.crop.left, p.crop.height, p.crop.width) for p in along(30, 51)]
    assert boxes == [(0, 0, 30, 30), (0, 10, 30, 30), (0, 21, 30, 30)]
    boxes = [(p.crop.top, p.crop.left, p.crop.height, p.crop.width) for p in along(51, 30)]
    assert boxes == [(0, 0, 30, 30), (10, 0, 30, 30), (21, 0, 30, 30)]


def test_averages_of_probabilities_and_of_logits_by_hand() -> None:
    torch.manual_seed(0)
    model, batches = build_model(SMALL, 3).eval(), [batch_of([4, 2]), batch_of([7, 1])]
    batches[1] = replace(batches[1], row=batches[0].row, target=batches[0].target)
    with torch.no_grad():
        for weight in model.fusion.parameters():
            weight.mul_(10)  # logits far enough apart for the two means to differ
        logits = [model(*FRONTEND(b), b.has_video, b.has_audio).logits.fused for b in batches]
    loader = [Loaded(batch, ()) for batch in batches]
    found = {
        name: evaluate(model, FRONTEND, eval_loader_of(loader, 2), HERE, average=name).predictions
        for name in ("probabilities", "logits")
    }
    order = batches[0].row.argsort()
    mean = torch.stack([one.softmax(1) for one in logits]).mean(0)[order]
    torch.testing.assert_close(found["probabilities"].probability["fused"], mean)
    geometric = torch.stack([one.log_softmax(1) for one in logits]).mean(0).exp()[order]
    geometric = geometric / geometric.sum(1, keepdim=True)
    torch.testing.assert_close(found["logits"].probability["fused"], geometric)
    assert not torch.allclose(mean, geometric, rtol=0.01, atol=0)
    for row in EVAL_ROWS:  # where a clip has no place there are still zeros
        counted = found["logits"].counted[row]
        assert not found["logits"].probability[row][~counted].any()
