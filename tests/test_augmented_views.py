"""Augmented views of kept features: those that training would read, whoever computes them."""

import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from test_every_option import BASE, FPS, HEIGHT, RATE, WIDTH, write_set, write_weights
from test_features import HERE, files, keep, keeping

from avmix.augment import draw_times
from avmix.cli import main
from avmix.config import AugmentConfig, DataConfig, ModelConfig, TrainConfig, to_yaml
from avmix.data.dataset import TrainSet
from avmix.data.kept_features import FeaturesError, open_features, read_header
from avmix.data.manifest import read_manifest, write_manifest
from avmix.data.sample import Sample
from avmix.features.frozen_encoders import FrozenEncoders, of_config
from avmix.features.keep import Augmented, Progress
from avmix.media.judgement import entry_of

SEED, VIEWS, DRAWN = 5, 2, 3
EVERYTHING = AugmentConfig(noise=0.5, gain_db=6.0, hide_seconds=0.3, mel_masks=1, erase=0.5,
                           brightness=0.3, background=0.5)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_set(tmp_path_factory.mktemp("views") / "data", 0, {"train": 4, "test": 2})
    write_weights(folder)
    return folder


@pytest.fixture(scope="module")
def config(data: Path) -> TrainConfig:
    model = ModelConfig(
        video=replace(BASE.model.video, weights=str(data / "video.pt")),
        audio=replace(BASE.model.audio, weights=str(data / "audio.pt")),
    )
    return replace(
        BASE,
        model=model,
        augment=EVERYTHING,
        frontend=replace(BASE.frontend, mel_mean=-0.3, mel_std=3.7),
        data=DataConfig(root=str(data), num_workers=0),
        run=replace(BASE.run, threads=HERE.threads, seed=SEED),
    )


@pytest.fixture(scope="module")
def encoders(config: TrainConfig) -> FrozenEncoders:
    return of_config(config, ["video", "audio"])


def augmented(augment: AugmentConfig = EVERYTHING, **changes: Any) -> Augmented:
    usual: dict[str, Any] = {"split": "train", "num_views": DRAWN, "seed": SEED}
    return Augmented(augment=augment, **(usual | changes))


@pytest.fixture(scope="module")
def kept(data: Path, encoders: FrozenEncoders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kept") / "features"
    for split in ("test", "train"):
        keep(keeping(data, out, augmented=augmented()), encoders, split=split)
    return out


def as_training_reads(
    data: Path, config: TrainConfig, augment: AugmentConfig
) -> Iterator[tuple[int, int, TrainSet, Sample]]:
    """Row, view and sample of every augmented view: in epoch v of a run with the same seed."""
    train = TrainSet(
        manifest=read_manifest(data, "train"), root=data, clip=config.clip,
        frontend=config.frontend, augment=augment, seed=SEED,
    )  # fmt: skip
    for row in range(len(train.manifest.entries)):
        for view in range(DRAWN):
            (sample,) = train.read_row(view, row)
            yield row, view, train, sample


@pytest.mark.parametrize("speed", [1.0, 1.5])
def test_they_are_what_training_reads(
    speed: float, data: Path, config: TrainConfig, encoders: FrozenEncoders, kept: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Whether the windows of a file are read in one go (one speed) or one after the other."""
    augment = replace(EVERYTHING, speed=speed)
    if speed != 1:
        kept = tmp_path / "features"
        keep(keeping(data, kept, augmented=augmented(augment)), encoders)
    found = open_features(kept, "train")
    assert found.num_eval_views == VIEWS
    assert {name: value.shape[:2] for name, value in found.features.items()} == {
        "video": (4, VIEWS + DRAWN), "audio": (4, VIEWS + DRAWN)}  # fmt: skip
    hidden = 0
    for row, view, train, sample in as_training_reads(data, config, augment):
        batch = train.collate([sample]).batch
        assert batch is not None
        assert batch.frame_visible is not None
        hidden += int((~batch.frame_visible).sum())
        for name, wanted in encoders(batch).items():
            np.testing.assert_allclose(
                found.features[name][row, VIEWS + view], wanted[0].numpy(), atol=1e-5
            )
    assert hidden > 0
    assert np.ptp(found.features["video"][:, VIEWS:], axis=1).max(1).min() > 1e-3


def test_evaluation_views_are_as_without(
    data: Path, encoders: FrozenEncoders, kept: Path, tmp_path: Path
) -> None:
    for split, views in (("train", VIEWS + DRAWN), ("test", VIEWS)):
        keep(keeping(data, tmp_path / "plain"), encoders, split=split)
        plain, found = open_features(tmp_path / "plain", split), open_features(kept, split)
        assert "augmented" not in plain.header.identity
        for name, value in plain.features.items():
            assert found.features[name].shape[1] == views
            np.testing.assert_allclose(found.features[name][:, :VIEWS], value, atol=1e-6)
        np.testing.assert_array_equal(found.has_audio[:, :VIEWS], plain.has_audio)


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.long)])
def test_interrupted_and_with_other_loader_processes_the_bytes_are_the_same(
    num_workers: int, data: Path, encoders: FrozenEncoders, kept: Path, tmp_path: Path
) -> None:
    what = keeping(data, tmp_path / "features", augmented=augmented())
    keep(what, encoders, split="test")

    def clips(number: int, computed: bool) -> None:
        if len(list((what.out / "parts/train").glob("*.safetensors"))) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(what, encoders, Progress(clips=clips))
    keep(replace(what, num_workers=num_workers), encoders)
    assert files(what.out) == files(kept)


def test_the_header_says_what_was_drawn(kept: Path) -> None:
    header = read_header(kept)
    assert header is not None
    said = header.identity["augmented"]
    assert (said["split"], said["views"], said["seed"]) == ("train", DRAWN, SEED)
    wanted = asdict(EVERYTHING)
    del wanted["repeats"]
    assert {key: said[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (augmented(replace(EVERYTHING, noise=0.25)), r"\(augmented.noise 0.5 -> 0.25\)"),
        (augmented(seed=6), r"\(augmented.seed 5 -> 6\)"),
        (augmented(num_views=2), r"\(augmented.views 3 -> 2\)"),
        (augmented(events_sha256="a" * 64), r"\(augmented.events_sha256 None -> a{12}\)"),
        (None, r"\(augmented \{'split': 'train'.* -> None\)"),
    ],
    ids=["augmentation", "seed", "views", "events", "none"],
)
def test_other_augmented_views_are_not_mixed_in(
    other: Augmented | None, reason: str, data: Path, encoders: FrozenEncoders, kept: Path
) -> None:
    before = files(kept)
    with pytest.raises(FeaturesError, match=f"holds other features {reason}; choose another --out"):
        keep(keeping(data, kept, augmented=other), encoders)
    assert files(kept) == before


def test_a_background_that_cannot_be_read_is_named(
    data: Path, encoders: FrozenEncoders, tmp_path: Path
) -> None:
    """The clip itself is left out; those that were to have its audio behind them go without."""
    media, out = tmp_path / "data", tmp_path / "features"
    shutil.copytree(data, media)
    (media / "2.mkv").write_bytes(b"nothing" * 100)
    more = augmented(AugmentConfig(background=1.0))
    keep(keeping(data, out, root=media, augmented=more), encoders)
    header = read_header(out)
    assert header is not None
    said = header.splits["train"]
    assert [clip["clip_id"] for clip in said["left_out"]] == ["2.mkv"]
    (background,) = said["unread_backgrounds"]
    assert (background["clip_id"], background["path"]) == ("2.mkv", "2.mkv")
    assert "has changed: its SHA-256" in background["reason"]
    ids = [entry.clip_id for entry in open_features(out, "train").manifest.entries]
    assert ids == ["0.mkv", "1.mkv", "3.mkv"]


def test_audio_is_there_or_not_for_each_view(
    data: Path, config: TrainConfig, tmp_path: Path
) -> None:
    """One second of frames, half a second of audio, windows of a fifth of a second."""
    path = tmp_path / "half.mkv"
    with av.open(path, "w") as container:
        video = container.add_stream("mpeg4", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        image = np.full((HEIGHT, WIDTH, 3), 99, np.uint8)
        for _ in range(FPS):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        wave = np.random.default_rng(0).integers(-9999, 9999, (1, RATE // 2), np.int16)
        frame = av.AudioFrame.from_ndarray(wave, "s16", "mono")
        frame.sample_rate = RATE
        container.mux([*audio.encode(frame), *video.encode(), *audio.encode()])
    entry = entry_of(path, tmp_path, clip_id="half", labels=("c0",), source_id="half")
    write_manifest(tmp_path, classes=["c0", "c1"], protocol="tiny", splits={"train": [entry]})
    clip = replace(config.clip, duration_seconds=0.2)
    augment, out = AugmentConfig(), tmp_path / "features"
    encoders = of_config(replace(config, clip=clip, augment=augment), ["video", "audio"])
    more = augmented(augment, num_views=12)
    keep(keeping(tmp_path, out, augmented=more), encoders)
    starts = [
        draw_times(augment, clip, entry, seed=SEED, epoch=view, row=0)[0].start_seconds
        for view in range(12)
    ]
    wanted = [True, False, *(start < 0.49 for start in starts)]
    assert open_features(out, "train").has_audio.tolist() == [wanted]
    assert 2 < sum(wanted) < 12


def run(*words: str | Path) -> tuple[int, str]:
    said = StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit) as stop:
        main(["features", *map(str, words)])
    assert isinstance(stop.value.code, int)
    return stop.value.code, said.getvalue()


def test_the_command_draws_with_the_seed_of_the_run(
    data: Path, config: TrainConfig, kept: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path, out = tmp_path / "config.yaml", tmp_path / "features"
    path.write_text(to_yaml(config))
    words = ["--config", path, "--views", "2", "--batch-size", "4", "--augmented-views"]
    code, said = run(*words, "3", "--out", out)
    assert code == 0
    assert "of train with 3 augmented views 0.2 MB; 6 clips, 0.0 MB" in " ".join(said.split())
    for split in ("train", "test"):
        found, wanted = open_features(out, split), open_features(kept, split)
        assert found.header.identity == wanted.header.identity
        for name, value in wanted.features.items():
            np.testing.assert_array_equal(found.features[name], value)
    for options, reason in (
        (["augment.background_label=soften"], "augment.background_label soften: kept features"),
        (["data.train_split=nowhere"], "--augmented-views are of data.train_split 'nowhere', and"),
    ):
        capsys.readouterr()
        assert run(*words, "3", "--out", tmp_path / "x", *options)[0] == 1
        assert capsys.readouterr().err.startswith(f"error: {reason}")
    assert run(*words, "-1", "--out", tmp_path / "x")[0] == 1
    assert torch.get_num_threads() == HERE.threads
