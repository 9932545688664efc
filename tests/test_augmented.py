"""Augmentation through the loader: the same for everybody, counted, and seen by the network."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from media import write_flash_beep

from avmix.augment import (
    AudioPlan,
    AugmentPlan,
    VideoPlan,
    apply_video,
    centred,
    visible_parts,
    whole_window,
)
from avmix.augment.video_transforms import Rectangle
from avmix.config import (
    AudioEncoderConfig,
    AugmentConfig,
    ClipConfig,
    FrontendConfig,
    MixConfig,
    ModelConfig,
    TrainConfig,
    VideoEncoderConfig,
    load_config,
)
from avmix.data import clip_reader, dataset
from avmix.data.dataset import TrainSet
from avmix.data.event_times import read_events
from avmix.data.loader import EpochSampler, train_loader
from avmix.data.manifest import Manifest, ManifestError, read_manifest
from avmix.data.sample import Loaded, Sample
from avmix.decode import ClipError, decode_audio, decode_clips
from avmix.mix import clip_grids, draw_plan, mixed_targets
from avmix.mix.hidden_mix import hidden_mix
from avmix.models import build_model
from avmix.models.frontend import Frontend
from avmix.rng import rng
from avmix.training.engine import clips_of, targets_of, targets_of_mix
from avmix.types import Batch, Heads

PRESETS = Path(__file__).parents[1] / "configs/augment"
CLIP = ClipConfig(duration_seconds=1.0, num_frames=4, short_side=40, crop=32, sample_rate=8_000)
SPECTRUM = FrontendConfig(num_mels=20, n_fft=256, hop_length=80)
EVERYTHING = AugmentConfig(
    window="event", repeats=2, min_seconds=0.5, speed=1.25, speed_keeps_pitch=True, reverse=0.5,
    hide_seconds=0.3, binding="window", jitter_seconds=0.1, brightness=0.4, hue=0.1,
    policy="randaugment", erase=0.5, gain_db=6.0, invert=0.5, filter=0.5, reverb=0.5, noise=0.5,
    background=0.5, background_label="soften", time_masks=1, mel_masks=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def toy_train(toy_set: Path) -> TrainSet:
    events, _ = read_events(toy_set)
    return TrainSet(manifest=read_manifest(toy_set, "train"), root=toy_set, clip=CLIP, seed=3,
                    augment=EVERYTHING, frontend=SPECTRUM, events_seconds=events)  # fmt: skip


def of(train: TrainSet, **options: Any) -> TrainSet:
    return replace(train, augment=AugmentConfig(**options))


def first(train: TrainSet, count: int = 8, epoch: int = 0) -> list[Sample]:
    return train.samples([(epoch, place) for place in range(count)])


def same(one: Batch, other: Batch) -> bool:
    a, b = one.tensors(), other.tensors()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.long
def test_batches_do_not_depend_on_who_loads_them_or_where_a_run_resumes(toy_train: TrainSet):
    def batches(workers: int, first_step: int = 0) -> list[Batch]:
        loader = train_loader(toy_train, batch_size=8, num_workers=workers, max_bad_share=0.0)
        found = []
        for batch, bad in loader.epoch(1, first_step):
            assert not bad
            found.append(Batch(**{n: t.clone() for n, t in batch.tensors().items()}))
        loader.close()
        return found

    here = batches(0)
    assert len(here) == 10  # 40 files, two windows of each, eight to a step
    assert {"audio_target", "frame_visible", "column_visible", "bin_visible"} <= here[
        0
    ].tensors().keys()
    for other in (batches(2), here[:6] + batches(1, first_step=6)):
        assert all(same(a, b) for a, b in zip(here, other, strict=True))


def test_ranks_share_the_files_of_a_step_and_nobody_shares_a_window(toy_train: TrainSet):
    whole = next(EpochSampler(40, 8, repeats=2).steps(0))
    ranks = [next(EpochSampler(40, 4, rank, 2, repeats=2).steps(0)) for rank in range(2)]
    assert sorted(whole) == sorted(ranks[0] + ranks[1])
    alone = dict(zip(whole, toy_train.samples(whole), strict=True))
    for places in ranks:
        for place, sample in zip(places, toy_train.samples(places), strict=True):
            twin = alone.pop(place).clip
            assert sample.clip is not None
            assert twin is not None
            np.testing.assert_array_equal(sample.clip.video, twin.video)
            np.testing.assert_array_equal(sample.clip.audio, twin.audio)
    assert not alone


@pytest.mark.long
def test_another_seed_or_epoch_is_another_augmentation(toy_train: TrainSet):
    def looks(train: TrainSet, epoch: int) -> dict[int, bytes]:
        found = train.samples([(epoch, place) for place in range(80)])
        return {s.row: s.clip.video.tobytes() for s in found if s.clip is not None}

    one, two = looks(toy_train, 0), looks(toy_train, 1)
    three = looks(replace(toy_train, seed=4), 0)
    assert all(one[row] != two[row] and one[row] != three[row] for row in one)


def test_windows_of_one_file_are_read_from_one_open_file(
    toy_train: TrainSet, monkeypatch: pytest.MonkeyPatch
):
    calls: list[Sequence[float]] = []

    def counted(path: Path, **options: Any) -> Any:
        calls.append(options["starts_seconds"])
        return decode_clips(path, **options)

    monkeypatch.setattr(clip_reader, "decode_clips", counted)
    begun: list[int] = []
    samples = of(toy_train, repeats=4).samples([(0, place) for place in range(12)],
                                               begin=begun.append)  # fmt: skip
    assert [len(starts) for starts in calls] == [4, 4, 4]
    assert len(begun) == 3
    assert [s.row for s in samples] == [row for row in begun for _ in range(4)]
    frames = [s.clip.video.tobytes() for s in samples if s.clip is not None]
    assert len(set(frames)) == 12


@pytest.mark.long
def test_repeats_visit_every_file_once_in_an_epoch(toy_train: TrainSet):
    places = [p for step in EpochSampler(40, 8, repeats=4).steps(2) for p in step]
    assert len(places) == 160
    rows = Counter(s.row for s in of(toy_train, repeats=4).samples(places))
    assert rows == dict.fromkeys(range(40), 4)


def test_an_unreadable_file_is_replaced_once_for_all_its_windows(toy_train: TrainSet):
    train = of(toy_train, repeats=2)
    row, other = train.samples([(0, 0)])[0].row, train.samples([(0, 2)])[0].row
    found = train.samples([(0, 0), (0, 1), (0, 2)], skip={row: "gone"})
    assert [s.row for s in found] == [other, other, other]
    assert [[b.reason for b in s.bad] for s in found] == [["gone"], [], []]
    everything = dict.fromkeys(range(40), "gone")
    nothing = train.samples([(0, 0), (0, 1)], skip=everything)
    assert [s.clip for s in nothing] == [None, None]
    assert [len(s.bad) for s in nothing] == [40, 0]


def test_a_background_is_another_source_and_its_share_is_in_the_label(toy_train: TrainSet):
    train = of(toy_train, background=1.0, background_label="soften", background_snr_db=[0.0, 6.0])
    plain = first(of(toy_train), 16)
    laid = first(train, 16)
    batch = train.collate(laid).batch
    assert batch is not None
    assert batch.audio_target is not None
    classes = train.manifest.classes
    for i, (a, b) in enumerate(zip(plain, laid, strict=True)):
        assert a.clip is not None
        assert b.clip is not None
        assert b.background is not None
        np.testing.assert_array_equal(a.clip.video, b.clip.video)
        row, share = b.background
        under = train.manifest.entries[row]
        assert under.source_id != train.manifest.entries[a.row].source_id
        assert 1 / (1 + 10**0.6) - 1e-6 <= share <= 0.5 + 1e-6
        rest = b.clip.audio - a.clip.audio
        power = [float(np.mean(np.square(x, dtype=np.float64))) for x in (a.clip.audio, rest)]
        assert abs(power[1] / sum(power) - share) < 1e-3
        # It really is a piece of that file: 3.2 s of which 1 s is read.
        assert b.plan is not None
        assert b.plan.audio.background is not None
        piece = decode_audio(
            train.root / under.path,
            start_seconds=2.2 * b.plan.audio.background.place,
            duration_seconds=1.0,
            sample_rate=CLIP.sample_rate,
        ).audio
        assert np.corrcoef(piece, rest)[0, 1] > 0.9999
        expected = np.zeros(len(classes))
        expected[classes.index(train.manifest.entries[a.row].labels[0])] += 1 - share
        expected[classes.index(under.labels[0])] += share
        np.testing.assert_allclose(batch.audio_target[i], expected, atol=1e-6)
    kept = replace(train, augment=replace(train.augment, background_label="keep"))
    again = kept.collate(first(kept, 16)).batch
    assert again is not None
    assert again.audio_target is None
    assert torch.equal(again.audio, batch.audio)


def test_a_background_that_cannot_be_read_is_left_out_and_reported(toy_train: TrainSet):
    train = of(toy_train, background=1.0, background_label="soften")
    plain, laid = first(of(toy_train), 1)[0], first(train, 1)[0]
    assert laid.background is not None
    begun: list[int] = []
    (without,) = train.samples([(0, 0)], skip={laid.background[0]: "gone"}, begin=begun.append)
    assert [(b.row, b.reason) for b in without.bad] == [(laid.background[0], "gone")]
    assert without.background == (plain.row, 0.0)
    assert without.clip is not None
    assert plain.clip is not None
    np.testing.assert_array_equal(without.clip.audio, plain.clip.audio)
    assert begun == [plain.row]


def test_a_damaged_background_is_reported_by_name(toy_train: TrainSet, tmp_path: Path):
    train = of(toy_train, background=1.0)
    (laid,) = of(toy_train, background=1.0, background_label="soften").samples([(0, 0)])
    assert laid.background is not None
    for entry in train.manifest.entries:
        (tmp_path / entry.path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / entry.path).symlink_to(train.root / entry.path)
    broken = train.manifest.entries[laid.background[0]]
    (tmp_path / broken.path).unlink()
    (tmp_path / broken.path).write_bytes(b"no film")
    begun: list[int] = []
    (sample,) = replace(train, root=tmp_path).samples([(0, 0)], begin=begun.append)
    assert [b.path for b in sample.bad] == [broken.path]
    assert sample.clip is not None
    assert begun == [sample.row, laid.background[0], sample.row]


def test_targets_of_a_softened_batch(toy_train: TrainSet):
    train = of(toy_train, background=1.0, background_label="soften")
    batch = train.collate(first(train)).batch
    assert batch is not None
    assert batch.audio_target is not None
    targets = targets_of(batch)
    assert torch.equal(targets.video, batch.target)
    assert torch.equal(targets.audio, batch.audio_target)
    torch.testing.assert_close(targets.fused, (batch.target + batch.audio_target) / 2)
    deaf = replace(batch, has_audio=torch.zeros(8, dtype=torch.bool))
    assert torch.equal(targets_of(deaf).fused, batch.target)
    blind = replace(batch, has_video=torch.zeros(8, dtype=torch.bool))
    assert torch.equal(targets_of(blind).fused, batch.audio_target)
    plain = targets_of(replace(batch, audio_target=None))
    assert plain == Heads(batch.target, batch.target, batch.target)
    plan = draw_plan(
        MixConfig(method="mixup", law="fixed", lam=0.25),
        clips_of(batch),
        clip_grids(CLIP, SPECTRUM, "log_mel"),
        shared=rng(0, 0, "mix_shared", 0),
        own=rng(0, 0, "mix", 0, 0),
    ).to(torch.device("cpu"))
    mixed, partner = mixed_targets(plan, targets), list(plan.plan.partner)
    lam = plan.part("audio").lam[:, None]
    heard = batch.audio_target
    torch.testing.assert_close(mixed.audio, lam * heard + (1 - lam) * heard[partner])
    torch.testing.assert_close(mixed.video, lam * batch.target + (1 - lam) * batch.target[partner])


def test_what_is_hidden_is_hidden_in_the_same_seconds_by_hand():
    """A window of 1 s: frames of 0.25 s, columns every 10 ms from 16 ms on."""
    plan = AugmentPlan(
        time=replace(whole_window(CLIP, 0.0), hidden=((0.3, 0.7),)),
        video=VideoPlan(crop=Rectangle(top=0, left=0, height=8, width=8)),
        audio=AudioPlan(hidden_seconds=((0.9, 0.95),), hidden_shares=((0.1, 0.3),)),
    )
    shown = visible_parts(plan, clip_grids(CLIP, SPECTRUM, "log_mel"))
    # Middles of the frames are 0.125, 0.375, 0.625 and 0.875 s.
    assert shown.frames.tolist() == [True, False, False, True]
    middles = 0.016 + 0.01 * np.arange(len(shown.columns))
    inside = ((middles >= 0.3) & (middles < 0.7)) | ((middles >= 0.9) & (middles < 0.95))
    np.testing.assert_array_equal(shown.columns, ~inside)
    assert (np.flatnonzero(~shown.bins) == [2, 3, 4, 5]).all()


@pytest.mark.parametrize("domain", ["log_mel", "power", "waveform"])
@pytest.mark.parametrize("method", ["mixup", "cutmix_temporal", "none"])
def test_the_network_is_not_shown_what_is_hidden(toy_train: TrainSet, method: str, domain: Any):
    batch = toy_train.collate(first(toy_train)).batch
    assert batch is not None
    assert batch.frame_visible is not None
    assert batch.column_visible is not None
    assert batch.bin_visible is not None
    assert not batch.frame_visible.all()
    plan = draw_plan(
        MixConfig(method=method, law="fixed", lam=0.3, audio_domain=domain),
        clips_of(batch),
        clip_grids(CLIP, SPECTRUM, domain),
        shared=rng(0, 0, "mix_shared", 0),
        own=rng(0, 0, "mix", 0, 0),
    ).to(torch.device("cpu"))
    stage = Frontend(SPECTRUM, CLIP.sample_rate)
    frames, log_mel = stage(batch, plan)
    bare = replace(batch, frame_visible=None, column_visible=None, bin_visible=None)
    all_frames, all_mel = stage(bare, plan)
    seen = batch.frame_visible[:, None, :, None, None].expand_as(frames)
    heard = batch.column_visible[:, None, None, :] & batch.bin_visible[:, None, :, None]
    torch.testing.assert_close(frames, torch.where(seen, all_frames, 0.0), rtol=0, atol=0)
    torch.testing.assert_close(log_mel, torch.where(heard, all_mel, 0.0), rtol=0, atol=0)
    assert (all_frames != frames).any()
    assert (all_mel != log_mel).any()


@pytest.mark.parametrize("pairing", ["involution", "second_batch"])
@pytest.mark.parametrize("word", ["mixup@layer", "mixup@feature"])
def test_what_is_hidden_of_a_clip_reaches_no_mix_inside_the_network(
    toy_train: TrainSet, word: str, pairing: Any
):
    batch = toy_train.collate(first(toy_train)).batch
    assert batch is not None
    assert batch.frame_visible is not None
    assert batch.column_visible is not None
    assert batch.bin_visible is not None
    hidden = ~batch.frame_visible
    assert hidden.any()
    mix = MixConfig(method=word, law="fixed", lam=0.3, layers=[0], pairing=pairing)
    plan = draw_plan(
        mix,
        clips_of(batch),
        clip_grids(CLIP, SPECTRUM, "log_mel"),
        shared=rng(0, 0, "mix_shared", 0),
        own=rng(0, 0, "mix", 0, 0),
    ).to(torch.device("cpu"))
    torch.manual_seed(0)
    config = ModelConfig(
        video=VideoEncoderConfig(channels=[4, 4]),
        audio=AudioEncoderConfig(channels=[4, 4]),
        dropout=0.0,
    )
    model = build_model(config, len(toy_train.manifest.classes)).eval()
    stage = Frontend(SPECTRUM, CLIP.sample_rate)

    def said(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Heads]:
        frames, log_mel = stage(batch, plan)
        has = (plan.part(name).present for name in ("video", "audio"))
        return frames, log_mel, model(frames, log_mel, *has, hidden_mix(plan)).logits

    frames, log_mel, logits = said(batch)
    # Every clip that is read is hidden by its own mask, those too that only serve as partners.
    assert len(frames) == len(log_mel) == batch.size
    assert (frames.transpose(1, 2)[hidden] == 0).all()
    assert (log_mel[:, 0].transpose(1, 2)[~batch.column_visible] == 0).all()
    assert (log_mel[:, 0][~batch.bin_visible] == 0).all()
    noise = torch.randint(256, batch.video.shape, dtype=torch.uint8)
    video = torch.where(hidden[:, :, None, None, None], noise, batch.video)
    for ours, theirs in zip(said(replace(batch, video=video))[2], logits, strict=True):
        assert torch.equal(ours, theirs)
    # Were it shown, it would change what the network says.
    shown = replace(batch, frame_visible=None)
    assert not torch.equal(said(shown)[2].video, logits.video)


def test_second_half_of_a_double_batch_only_serves(toy_train: TrainSet):
    """With `second_batch` the masks of the first half are those of the result."""
    batch = toy_train.collate(first(toy_train)).batch
    assert batch is not None
    assert batch.frame_visible is not None
    plan = draw_plan(
        MixConfig(pairing="second_batch"),
        clips_of(batch),
        clip_grids(CLIP, SPECTRUM, "log_mel"),
        shared=rng(0, 0, "mix_shared", 0),
        own=rng(0, 0, "mix", 0, 0),
    ).to(torch.device("cpu"))
    frames, log_mel = Frontend(SPECTRUM, CLIP.sample_rate)(batch, plan)
    assert len(frames) == len(log_mel) == 4
    hidden = ~batch.frame_visible[:4]
    assert (frames.transpose(1, 2)[hidden] == 0).all()


def test_room_is_made_for_exactly_what_an_augmented_batch_holds(toy_train: TrainSet):
    for train in (toy_train, of(toy_train, mel_masks=1), of(toy_train, background=1.0),
                  of(toy_train, background=1.0, background_label="soften")):  # fmt: skip
        batch = train.collate(first(train, 4)).batch
        assert batch is not None
        assert sum(t.nbytes for t in batch.tensors().values()) == 4 * train.bytes_per_clip


@pytest.mark.long
def test_named_classes_are_never_flipped(toy_train: TrainSet):
    kept = toy_train.manifest.classes[:5]
    train = of(toy_train, flip=1.0, never_flip=list(kept), min_area=1.0, max_aspect=1.0)
    plain = of(toy_train, flip=0.0, min_area=1.0, max_aspect=1.0)
    for a, b in zip(first(plain, 40), first(train, 40), strict=True):
        assert a.clip is not None
        assert b.clip is not None
        label = train.manifest.entries[a.row].labels[0]
        expected = a.clip.video if label in kept else a.clip.video[:, :, ::-1]
        np.testing.assert_array_equal(b.clip.video, expected)


def test_a_class_that_is_not_there_cannot_be_left_unflipped(toy_train: TrainSet):
    with pytest.raises(ManifestError, match=r"augment.never_flip: toy/.* has no class 'jump'"):
        of(toy_train, never_flip=["jump"])


def test_event_windows_need_events_of_every_clip(toy_train: TrainSet):
    some = dict(list(toy_train.events_seconds.items())[:3])
    with pytest.raises(ManifestError, match=r"events.jsonl has no line for \d+ clips of toy/"):
        replace(toy_train, events_seconds=some)


def test_events_are_read_and_checked(tmp_path: Path):
    with pytest.raises(ManifestError, match=r"events.jsonl: not found; `avmix events` writes it"):
        read_events(tmp_path)
    file = tmp_path / "events.jsonl"
    file.write_text('{"clip_id": "a", "event_seconds": [1, 2.5]}\n\n'
                    '{"clip_id": "b", "event_seconds": [], "onset_seconds": [3]}\n')  # fmt: skip
    events, sha256 = read_events(tmp_path)
    assert events == {"a": (1.0, 2.5), "b": ()}
    file.write_text(file.read_text() + "\n")
    assert read_events(tmp_path)[1] != sha256
    for line in ('{"clip_id": "a"}', "[1]", "text", '{"clip_id": "a", "event_seconds": [NaN]}'):
        file.write_text(f'{{"clip_id": "x", "event_seconds": []}}\n{line}\n')
        with pytest.raises(ManifestError, match=r"events.jsonl:2: not a line of events"):
            read_events(tmp_path)


def test_events_are_in_the_middle_half_of_their_windows(toy_train: TrainSet):
    train = of(toy_train, window="event")
    for sample in first(train, 40):
        assert sample.clip is not None
        entry = train.manifest.entries[sample.row]
        start = sample.clip.start_seconds
        free = 0.01 < start < entry.end_seconds - 1.01  # not moved inwards
        near = [e for e in train.events_seconds[entry.clip_id] if 0.25 <= e - start <= 0.75]
        assert near or not free


def test_stereo_follows_the_flip(tmp_path: Path):
    from avmix.media.judgement import entry_of

    path = write_flash_beep(tmp_path / "a.mp4", layout="stereo")
    entry = entry_of(path, tmp_path, clip_id="a", labels=["x"], source_id="a")
    manifest = Manifest(classes=("x",), protocol="p", split="train", entries=(entry,), sha256="")
    clip = replace(CLIP, stereo=True)
    one, other = (
        TrainSet(manifest=manifest, root=tmp_path, clip=clip, seed=0, frontend=SPECTRUM,
                 augment=AugmentConfig(flip=flip)).samples([(0, 0)])[0].clip
        for flip in (0.0, 1.0)
    )  # fmt: skip
    assert one is not None
    assert other is not None
    assert one.audio.shape == (2, 8_000)
    np.testing.assert_array_equal(one.audio, other.audio[::-1])


@pytest.mark.long
def test_loaded_batches_are_finite(toy_train: TrainSet):
    loaded: Loaded = toy_train.collate(first(toy_train, 80))
    assert loaded.batch is not None
    assert loaded.batch.audio.isfinite().all()
    assert loaded.batch.size == 80


@pytest.mark.parametrize("silent", ["clip", "background"])
def test_where_nothing_is_laid_under_the_label_stays(
    toy_train: TrainSet, silent: str, monkeypatch: pytest.MonkeyPatch
):
    train = of(toy_train, background=1.0, background_label="soften")
    module, name = {
        "clip": (clip_reader, "decode_clips"),
        "background": (dataset, "decode_audio"),
    }[silent]
    right = getattr(module, name)

    def hushed(*args: Any, **options: Any) -> Any:
        found = right(*args, **options)
        if isinstance(found, list):
            return [replace(one, audio=np.zeros_like(one.audio)) for one in found]
        return replace(found, audio=np.zeros_like(found.audio))

    monkeypatch.setattr(module, name, hushed)
    samples = first(train, 2)
    assert [s.background for s in samples] == [(s.row, 0.0) for s in samples]
    batch = train.collate(samples).batch
    assert batch is not None
    assert batch.audio_target is not None
    assert torch.equal(batch.audio_target, batch.target)


def test_a_background_that_is_not_finite_is_left_out_and_reported(
    toy_train: TrainSet, monkeypatch: pytest.MonkeyPatch
):
    def broken(*args: Any, **options: Any) -> Any:
        found = decode_audio(*args, **options)
        return replace(found, audio=np.full_like(found.audio, np.inf))

    monkeypatch.setattr(dataset, "decode_audio", broken)
    (sample,) = first(of(toy_train, background=1.0, background_label="soften"), 1)
    assert [b.reason for b in sample.bad] == ["ValueError: its audio is not finite"]
    assert sample.background == (sample.row, 0.0)
    assert sample.clip is not None
    assert np.isfinite(sample.clip.audio).all()


def test_a_file_with_one_unreadable_window_is_left_before_a_background_is_read(
    toy_train: TrainSet, monkeypatch: pytest.MonkeyPatch
):
    train = of(toy_train, repeats=2, background=1.0)
    row = train.samples([(0, 0)])[0].row

    def damaged(path: Path, **options: Any) -> Any:
        found = decode_clips(path, **options)
        if path == train.path_of(train.manifest.entries[row]):
            found[1] = ClipError(str(path), "damaged")
        return found

    monkeypatch.setattr(clip_reader, "decode_clips", damaged)
    begun: list[int] = []
    found = train.samples([(0, 0), (0, 1)], begin=begun.append)
    assert begun[:2] == [row, found[0].row]
    assert [[b.row for b in s.bad] for s in found] == [[row], []]


def test_a_clip_that_lost_a_modality_has_the_label_of_what_is_left(toy_train: TrainSet):
    train = of(toy_train, background=1.0, background_label="soften")
    batch = train.collate(first(train, 16)).batch
    assert batch is not None
    heard = batch.target.roll(1, 0)
    batch = replace(batch, audio_target=heard)
    plan = draw_plan(
        MixConfig(method="mixup+dropout", law="fixed", lam=0.25, drop_video=0.3, drop_audio=0.3),
        clips_of(batch),
        clip_grids(CLIP, SPECTRUM, "log_mel"),
        shared=rng(0, 0, "mix_shared", 0),
        own=rng(0, 0, "mix", 0, 0),
    ).to(torch.device("cpu"))
    mixed = targets_of_mix(plan, batch)
    sees, hears = plan.part("video").present.tolist(), plan.part("audio").present.tolist()
    assert {(True, True), (True, False), (False, True)} == set(zip(sees, hears, strict=True))
    for i, (has_video, has_audio) in enumerate(zip(sees, hears, strict=True)):
        parts = [mixed.video[i]] * has_video + [mixed.audio[i]] * has_audio
        torch.testing.assert_close(mixed.fused[i], torch.stack(parts).mean(0))
    hard = targets_of_mix(plan, replace(batch, audio_target=None))
    torch.testing.assert_close(hard.fused.sum(1), torch.ones(16))


def test_what_is_read_as_a_background(toy_train: TrainSet, monkeypatch: pytest.MonkeyPatch):
    """Entries of 0.7 to 2.7 s: windows of 1 s begin between 0.7 and 1.7 s."""
    asked: list[dict[str, Any]] = []

    def noted(path: Path, **options: Any) -> Any:
        asked.append({"path": path, **options})
        return decode_audio(path, **options)

    monkeypatch.setattr(dataset, "decode_audio", noted)
    entries = tuple(
        replace(entry, start_seconds=0.7, end_seconds=2.7, sha256=entry.sha256)
        for entry in toy_train.manifest.entries
    )
    train = replace(of(toy_train, background=1.0), clip=replace(CLIP, stereo=True),
                    manifest=replace(toy_train.manifest, entries=entries))  # fmt: skip
    samples = first(train, 6)
    assert len(asked) == 6
    for sample, options in zip(samples, asked, strict=True):
        assert not sample.bad
        assert sample.plan is not None
        wanted = sample.plan.audio.background
        assert wanted is not None
        assert options["path"] == train.path_of(entries[wanted.row])
        assert options["start_seconds"] == pytest.approx(0.7 + wanted.place)
        assert (options["duration_seconds"], options["sample_rate"]) == (1.0, 8_000)
        assert options["channels"] == 2
        assert options["sha256"] == entries[wanted.row].sha256
        assert options["limits"] == train.limits


def test_only_what_has_audio_is_a_background(toy_train: TrainSet):
    audio = toy_train.manifest.entries[0].audio
    assert audio is not None
    entries = tuple(
        entry if row in (3, 7) else replace(entry, audio=replace(audio, silent=True))
        for row, entry in enumerate(toy_train.manifest.entries)
    )
    train = replace(toy_train, manifest=replace(toy_train.manifest, entries=entries))
    picked = {train._other_source(0, rng(0, 0, "sound", i)) for i in range(40)}  # pyright: ignore
    assert picked
    assert picked <= {3, 7}
    nothing = tuple(replace(entry, audio=None) for entry in entries)
    deaf = replace(train, manifest=replace(train.manifest, entries=nothing))
    assert deaf._other_source(0, rng(0, 0, "sound", 0)) is None  # pyright: ignore


def test_frames_and_audio_of_a_visit_have_streams_of_their_own(toy_train: TrainSet):
    train = of(toy_train, flip=0.5, invert=0.5, gain_db=6.0)
    (sample,) = first(of(toy_train), 1)
    assert sample.clip is not None
    time, clip = whole_window(CLIP, 0.0), sample.clip
    plans = [train.draw(row, visit, time, clip) for row in range(20) for visit in range(20)]
    both = [plan.video.flip == plan.audio.invert for plan in plans]
    assert abs(np.mean(both) - 0.5) < 0.1
    assert len({plan.audio.gain_db for plan in plans}) == 400
    assert len({plan.video.crop for plan in plans}) > 300


@pytest.mark.long
def test_windows_of_a_file_are_augmented_apart_and_never_as_before(toy_train: TrainSet):
    train = of(toy_train, repeats=2, gain_db=6.0)
    plans: dict[int, set[float]] = {}
    for epoch in range(3):
        for sample in train.samples([(epoch, place) for place in range(80)]):
            assert sample.plan is not None
            plans.setdefault(sample.row, set()).add(sample.plan.audio.gain_db)
    assert {len(gains) for gains in plans.values()} == {6}


@pytest.mark.parametrize("part", ["hide_seconds", "time_masks", "mel_masks"])
def test_each_way_to_hide_is_told_to_the_network(toy_train: TrainSet, part: str):
    (batch, _) = toy_train.collate(
        first(of(toy_train, **{part: 0.9 if part == "hide_seconds" else 1}))
    )
    assert batch is not None
    assert batch.frame_visible is not None
    assert batch.column_visible is not None
    assert batch.bin_visible is not None
    assert batch.frame_visible.all() == (part != "hide_seconds")
    assert batch.column_visible.all() == (part == "mel_masks")
    assert batch.bin_visible.all() == (part != "mel_masks")


def test_masks_of_a_double_batch_and_of_what_is_missing(toy_train: TrainSet):
    batch = toy_train.collate(first(toy_train)).batch
    assert batch is not None
    assert batch.column_visible is not None
    assert batch.bin_visible is not None
    plan = draw_plan(
        MixConfig(pairing="second_batch"),
        clips_of(batch),
        clip_grids(CLIP, SPECTRUM, "log_mel"),
        shared=rng(0, 0, "mix_shared", 0),
        own=rng(0, 0, "mix", 0, 0),
    ).to(torch.device("cpu"))
    stage = Frontend(SPECTRUM, CLIP.sample_rate)
    _, log_mel = stage(batch, plan)
    shown = (batch.column_visible[:, None] & batch.bin_visible[:, :, None])[:4]
    torch.testing.assert_close(log_mel[:, 0] != 0, shown)
    some = torch.arange(8) % 2 == 0
    frames, log_mel = stage(replace(batch, has_video=some, has_audio=~some))
    assert not frames[~some].any()
    assert not log_mel[some].any()
    assert frames[some].any()
    assert log_mel[~some].any()


def test_after_what_is_shown_there_is_silence_whatever_is_added(toy_train: TrainSet):
    train = of(toy_train, min_seconds=0.25, noise=1.0, reverb=1.0, background=1.0, filter=1.0)
    cut = 0
    for sample in first(train, 20):
        assert sample.clip is not None
        assert sample.plan is not None
        heard = sample.plan.time.num_audible_samples
        assert not sample.clip.audio[heard:].any()
        cut += heard < 8_000
    assert cut > 5


def test_the_preset_without_augmentation_is_what_evaluation_sees(toy_train: TrainSet):
    options = load_config(TrainConfig, ["--config", str(PRESETS / "none.yaml")]).augment
    train = replace(toy_train, augment=options)
    for sample in first(train, 6):
        assert sample.clip is not None
        (clip,) = decode_clips(
            train.path_of(train.manifest.entries[sample.row]),
            starts_seconds=[sample.clip.start_seconds],
            duration_seconds=1.0,
            num_frames=4,
            sample_rate=8_000,
            short_side=40,
        )
        assert not isinstance(clip, ClipError)
        plan = centred(*clip.video.shape[1:3])
        np.testing.assert_array_equal(sample.clip.video, apply_video(clip.video, plan, 32))
        np.testing.assert_array_equal(sample.clip.audio, clip.audio)
