"""From a file on disk to a `Batch`: in sync, in order, whoever loads it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from media import beep_times, write_flash_beep

from avmix.config import AugmentConfig, ClipConfig
from avmix.data.dataset import EvalSet, TrainSet
from avmix.data.loader import TrainLoader, eval_loader, train_loader
from avmix.data.manifest import Manifest, read_manifest
from avmix.prepare.probe import entry_of
from avmix.types import Batch

EVENTS = (0.4, 1.2, 2.0, 2.8, 3.6)
FPS = 25


@pytest.fixture(scope="module")
def flashes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """One flash-and-beep file per container; in two of them one stream starts late."""
    root = tmp_path_factory.mktemp("flashes")
    write_flash_beep(root / "plain.mp4", events_seconds=EVENTS, fps=FPS)
    write_flash_beep(root / "late_sound.mkv", events_seconds=EVENTS, fps=FPS,
                     audio_start_seconds=0.3)  # fmt: skip
    write_flash_beep(root / "early_sound.mov", events_seconds=[e + 0.48 for e in EVENTS], fps=FPS,
                     video_start_seconds=0.48, audio_seconds=4.6)  # fmt: skip
    write_flash_beep(root / "plain.webm", events_seconds=EVENTS, fps=FPS)
    # PCM: an MP3 encoder is 1105 samples late, and AVI has no place to say so.
    write_flash_beep(root / "plain.avi", events_seconds=EVENTS, fps=FPS, audio_codec="pcm_s16le")
    entries = tuple(
        entry_of(path, root, clip_id=path.name, labels=["flash"], source_id=path.name)
        for path in sorted(root.iterdir())
    )
    manifest = Manifest(
        classes=("flash",), protocol="flashes", split="train", entries=entries, sha256=""
    )
    return root, manifest


# Every frame of the second is asked for, so a flash is seen in exactly the frame that shows it.
CLIP = ClipConfig(duration_seconds=2.0, num_frames=2 * FPS, short_side=32, crop=32)


def check_sync(batch: Batch, i: int, start_seconds: float) -> int:
    """Flashes and beeps of clip `i` are where the file has them; returns how many were seen."""
    brightness = batch.video[i].float().mean((1, 2, 3)).numpy()
    bright = np.flatnonzero(brightness > 170)
    step = CLIP.duration_seconds / CLIP.num_frames
    flashes = start_seconds + (bright + 0.5) * step
    beeps = start_seconds + beep_times(batch.audio[i].numpy(), CLIP.sample_rate)
    end = start_seconds + CLIP.duration_seconds
    inside = [e for e in EVENTS if start_seconds + 0.02 < e < end - 0.05]
    assert len(inside) >= 1
    for event in inside:
        # The frame of an event is shown from the event until 1 / FPS later.
        assert np.abs(flashes - (event + 0.5 / FPS)).min() <= 1 / FPS, (event, flashes)
        assert np.abs(beeps - event).min() <= 1e-3, (event, beeps)
    return len(inside)


def test_views_arrive_in_sync(flashes: tuple[Path, Manifest]) -> None:
    root, manifest = flashes
    views = EvalSet(manifest=manifest, root=root, clip=CLIP, num_views=3)
    seen = 0
    for batch, bad in eval_loader(views, batch_size=4, num_workers=0):
        assert not bad
        assert batch is not None
        for i, row in enumerate(batch.row.tolist()):
            duration = manifest.entries[row].duration_seconds
            start = views_start(duration, seen % 3)
            check_sync(batch, i, start)
            seen += 1
    assert seen == 3 * len(manifest.entries)


def views_start(duration: float, view: int) -> float:
    """By hand: centres of thirds, moved inwards."""
    return min(max((view + 0.5) * duration / 3 - 1.0, 0.0), duration - 2.0)


def test_random_windows_arrive_in_sync(flashes: tuple[Path, Manifest]) -> None:
    root, manifest = flashes
    dataset = TrainSet(manifest=manifest, root=root, clip=CLIP, augment=AugmentConfig(), seed=3)
    starts = set()
    for epoch in range(4):
        for position in range(len(manifest.entries)):
            sample = dataset[epoch, position]
            clip = sample.clip
            assert clip is not None
            starts.add(clip.start_seconds)
            batch = Batch(
                video=torch.from_numpy(clip.video)[None],
                audio=torch.from_numpy(clip.audio)[None],
                has_video=torch.tensor([True]),
                has_audio=torch.tensor([True]),
                target=torch.ones(1, 1),
                row=torch.tensor([0]),
            )
            check_sync(batch, 0, clip.start_seconds)
    assert len(starts) == 20


def epochs(loader: TrainLoader) -> list[Batch]:
    return [batch for epoch in (0, 1) for batch, _ in loader.epoch(epoch)]


@pytest.fixture(scope="module")
def toy_train(toy_set: Path) -> TrainSet:
    return TrainSet(
        manifest=read_manifest(toy_set, "train"),
        root=toy_set,
        clip=ClipConfig(num_frames=4, short_side=36, crop=32),
        augment=AugmentConfig(),
        seed=1,
    )


def test_the_data_do_not_depend_on_the_number_of_loaders(toy_train: TrainSet) -> None:
    def load(num_workers: int) -> list[Batch]:
        return epochs(
            train_loader(toy_train, batch_size=8, num_workers=num_workers, max_bad_share=0.0)
        )

    alone = load(0)
    assert len(alone) == 10
    for num_workers in (1, 2):
        for ours, theirs in zip(load(num_workers), alone, strict=True):
            assert ours.video.equal(theirs.video)
            assert ours.audio.equal(theirs.audio)
            assert ours.row.equal(theirs.row)
            assert ours.target.equal(theirs.target)


def test_epochs_differ_and_cover_every_clip(toy_train: TrainSet) -> None:
    batches = epochs(train_loader(toy_train, batch_size=8, num_workers=0, max_bad_share=0.0))
    first, second = (torch.cat([b.row for b in batches[i : i + 5]]).tolist() for i in (0, 5))
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second
    # The same clip is seen through another window and crop in the next epoch.
    at = second.index(first[0])
    again = batches[5 + at // 8].video[at % 8]
    assert not again.equal(batches[0].video[0])


def test_starting_in_the_middle_of_an_epoch_gives_its_rest(toy_train: TrainSet) -> None:
    loader = train_loader(toy_train, batch_size=8, num_workers=0, max_bad_share=0.0)
    whole = [batch for batch, _ in loader.epoch(1)]
    rest = [batch for batch, _ in loader.epoch(1, first_step=3)]
    assert len(rest) == 2
    for ours, theirs in zip(rest, whole[3:], strict=True):
        assert ours.video.equal(theirs.video)


def test_a_clip_without_sound_is_marked(tmp_path: Path) -> None:
    write_flash_beep(tmp_path / "mute.mp4", audio_codec=None, seconds=2, events_seconds=(0.4,))
    entry = entry_of(tmp_path / "mute.mp4", tmp_path, clip_id="mute", labels=["a"], source_id="m")
    assert entry.audio is None
    manifest = Manifest(classes=("a",), protocol="p", split="test", entries=(entry,), sha256="")
    views = EvalSet(manifest=manifest, root=tmp_path, clip=CLIP, num_views=1)
    batch = next(iter(eval_loader(views, batch_size=1, num_workers=0))).batch
    assert batch is not None
    assert batch.has_audio.tolist() == [False]
    assert batch.has_video.tolist() == [True]
    assert batch.audio.abs().max() == 0


def test_an_unreadable_clip_is_replaced_by_the_next_of_the_order(
    toy_train: TrainSet, tmp_path: Path
) -> None:
    order = [toy_train[0, position].row for position in range(3)]
    links = tmp_path / "links"  # the same files but one
    for entry in toy_train.manifest.entries:
        (links / entry.path).parent.mkdir(parents=True, exist_ok=True)
        if entry is not toy_train.manifest.entries[order[1]]:
            (links / entry.path).symlink_to(toy_train.root / entry.path)
    partly = TrainSet(
        manifest=toy_train.manifest,
        root=links,
        clip=toy_train.clip,
        augment=toy_train.augment,
        seed=toy_train.seed,
    )
    replaced = partly[0, 1]
    assert replaced.row == order[2]
    assert [b.row for b in replaced.bad] == [order[1]]
    assert replaced.clip is not None
    own = toy_train[0, 2].clip
    assert own is not None
    assert np.array_equal(replaced.clip.video, own.video)
