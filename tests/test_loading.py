"""From a file on disk to a `Batch`: in sync, in order, whoever loads it."""

import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from media import beep_times, write_flash_beep

from avmix.config import AugmentConfig, ClipConfig
from avmix.data.dataset import TrainSet
from avmix.data.eval_set import EvalSet
from avmix.data.loader import TrainLoader, eval_loader, train_loader
from avmix.data.manifest import Manifest, read_manifest
from avmix.data.sample import Sample
from avmix.decode import decode_clips
from avmix.media.judgement import entry_of
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
            (sample,) = dataset.samples([(epoch, position)])
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
                source=torch.tensor([0]),
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


@pytest.mark.long
def test_the_data_do_not_depend_on_the_number_of_loaders(toy_train: TrainSet) -> None:
    def load(num_workers: int) -> list[Batch]:
        return epochs(
            train_loader(toy_train, batch_size=8, num_workers=num_workers, max_bad_share=0.0)
        )

    alone = load(0)
    assert len(alone) == 10
    for num_workers in (1, 2, 3):
        for ours, theirs in zip(load(num_workers), alone, strict=True):
            assert ours.video.equal(theirs.video)
            assert ours.audio.equal(theirs.audio)
            assert ours.row.equal(theirs.row)
            assert ours.target.equal(theirs.target)
        assert not multiprocessing.active_children()  # they end with their loader


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


def test_a_clip_without_audio_is_marked(tmp_path: Path) -> None:
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


def test_room_is_made_for_exactly_what_a_batch_holds(toy_train: TrainSet) -> None:
    odd = replace(toy_train, clip=replace(toy_train.clip, duration_seconds=0.51237, crop=33))
    batch = odd.collate(odd.samples([(0, 0), (0, 1), (0, 2)])).batch
    assert batch is not None
    assert sum(tensor.nbytes for tensor in batch.tensors().values()) == 3 * odd.bytes_per_clip


def test_an_unreadable_clip_is_replaced_by_the_next_of_the_order(
    toy_train: TrainSet, tmp_path: Path
) -> None:
    order = [sample.row for sample in toy_train.samples([(0, 0), (0, 1), (0, 2)])]
    links = tmp_path / "links"  # the same files but one
    for entry in toy_train.manifest.entries:
        (links / entry.path).parent.mkdir(parents=True, exist_ok=True)
        if entry is not toy_train.manifest.entries[order[1]]:
            (links / entry.path).symlink_to(toy_train.root / entry.path)
    partly = replace(toy_train, root=links)
    (own,) = toy_train.samples([(0, 2)])
    assert own.clip is not None
    # Gone, or not to be touched: the same.
    for (replaced,), reason in (
        (partly.samples([(0, 1)]), "FileNotFoundError: No such file or directory"),
        (toy_train.samples([(0, 1)], {order[1]: "it crashes"}), "it crashes"),
    ):
        assert replaced.row == order[2]
        assert [(b.row, b.reason) for b in replaced.bad] == [(order[1], reason)]
        assert replaced.clip is not None
        assert np.array_equal(replaced.clip.video, own.clip.video)


def test_every_row_is_announced_before_its_file_is_touched(toy_train: TrainSet) -> None:
    order = [sample.row for sample in toy_train.samples([(0, 0), (0, 1), (0, 2)])]

    class Touched(Exception): ...

    def begin(row: int) -> None:
        begun.append(row)
        if len(begun) == 2:
            raise Touched

    for dataset, places, rows in (
        (toy_train, [(0, 0), (0, 1)], [order[0], order[2]]),
        (views_of(toy_train), [(3, 0), (3, 1), (order[1], 0), (4, 0)], [3, 4]),
    ):
        begun: list[int] = []
        gone = replace(dataset, root=Path("nowhere"))
        with pytest.raises(Touched):
            gone.samples(places, {order[1]: "it crashes"}, begin)
        assert begun == rows


def views_of(dataset: TrainSet, num_views: int = 3) -> EvalSet:
    return EvalSet(
        manifest=dataset.manifest, root=dataset.root, clip=dataset.clip, num_views=num_views
    )


def test_a_file_is_decoded_once_for_all_its_views(
    toy_train: TrainSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(path: Path, *, starts_seconds: list[float], **options: Any) -> list:
        calls.append(len(starts_seconds))
        return decode_clips(path, starts_seconds=starts_seconds, **options)

    monkeypatch.setattr("avmix.data.clip_reader.decode_clips", counted)
    dataset = views_of(toy_train)
    places = [(row, view) for row in (5, 2) for view in range(3)]
    together = dataset.samples(places)
    assert calls == [3, 3]
    one_by_one = [sample for place in places for sample in dataset.samples([place])]
    assert calls == [3, 3] + [1] * 6
    assert [s.row for s in together] == [s.row for s in one_by_one] == [5, 5, 5, 2, 2, 2]
    for ours, theirs in zip(together, one_by_one, strict=True):
        assert ours.clip is not None
        assert theirs.clip is not None
        assert np.array_equal(ours.clip.video, theirs.clip.video)
        assert np.array_equal(ours.clip.audio, theirs.clip.audio)


def test_a_clip_that_ends_early_misses_only_the_views_after_its_end(tmp_path: Path) -> None:
    write_flash_beep(tmp_path / "a.mp4", seconds=3, events_seconds=(0.4,))
    entry = entry_of(tmp_path / "a.mp4", tmp_path, clip_id="a", labels=["a"], source_id="a")
    entry = replace(entry, end_seconds=9.0)  # views begin at 0.5, 3.5 and 6.5
    manifest = Manifest(classes=("a",), protocol="p", split="test", entries=(entry,), sha256="")
    dataset = EvalSet(manifest=manifest, root=tmp_path, clip=CLIP, num_views=3)
    samples = dataset.samples([(0, 0), (0, 1), (0, 2)])
    assert [sample.clip is None for sample in samples] == [False, True, True]
    assert [len(sample.bad) for sample in samples] == [0, 1, 1]
    assert samples[1].bad[0].reason.startswith("ClipRangeError: ")
    loaded = dataset.collate(samples)
    assert loaded.batch is not None
    assert loaded.batch.size == 1


@pytest.mark.parametrize(
    "raised",
    [ValueError("odd\n  numbers"), MemoryError(), UnicodeDecodeError("utf-8", b"x", 0, 1, "bad")],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_decoder_raises_concerns_its_file_alone(
    toy_train: TrainSet, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    row = toy_train.samples([(0, 0)])[0].row
    path = toy_train.root / toy_train.manifest.entries[row].path

    def decode(at: Path, **options: Any) -> list:
        if at == path:
            raise raised
        return decode_clips(at, **options)

    monkeypatch.setattr("avmix.data.clip_reader.decode_clips", decode)
    (sample,) = toy_train.samples([(0, 0)])
    assert sample.clip is not None
    assert [b.row for b in sample.bad] == [row]
    assert sample.bad[0].reason.startswith(f"{type(raised).__name__}: ")
    assert "\n" not in sample.bad[0].reason
    (missing,) = views_of(toy_train).samples([(row, 0), (row, 1)])
    assert missing == Sample(row, None, sample.bad)


@pytest.mark.parametrize(
    ("verify", "sha256", "passed"),
    [("first", "ab12", "ab12"), ("first", "", None), ("never", "ab12", None)],
)
def test_files_are_compared_with_the_hash_of_the_manifest(
    toy_train: TrainSet, monkeypatch: pytest.MonkeyPatch, verify, sha256, passed
) -> None:
    entries = tuple(replace(e, sha256=sha256) for e in toy_train.manifest.entries)
    dataset = replace(
        toy_train, verify=verify, manifest=replace(toy_train.manifest, entries=entries)
    )
    seen: list[str | None] = []

    def decode(path: Path, *, sha256: str | None, **options: Any) -> list:
        seen.append(sha256)
        return decode_clips(path, **options)

    monkeypatch.setattr("avmix.data.clip_reader.decode_clips", decode)
    dataset.samples([(0, 0)])
    replace(views_of(dataset), verify=verify).samples([(0, 0)])
    assert seen == [passed, passed]
