"""Clips that lack a modality altogether, and networks that are given only one."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import several_labels
import torch
from test_several_labels import config_of, rows

from avmix import load
from avmix.commands import evaluate as evaluation
from avmix.commands import train
from avmix.config import EvalConfig, ModelConfig
from avmix.data.eval_set import EvalSet
from avmix.data.kept_features import FeaturesError
from avmix.data.manifest import ManifestError, read_manifest, write_manifest
from avmix.decode import NoVideoStreamError, decode_audio
from avmix.features.keep import check_frames
from avmix.media.judgement import entry_of


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One label a clip; of every three clips one has both modalities, one no audio, one no
    video."""
    folder = tmp_path_factory.mktemp("mixed") / "set"
    folder.mkdir()
    splits: dict[str, list[Any]] = {"train": [], "val": []}
    for number in range(14):
        label = ("green", "blue")[number // 3 % 2]
        path = folder / f"{number}.mkv"
        visible = None if number % 3 == 2 else [label]
        audible = None if number % 3 == 1 else [label]
        several_labels.write_clip(path, visible, audible, number)
        entry = entry_of(path, folder, clip_id=path.name, labels=[label], source_id=path.name)
        splits["train" if number < 8 else "val"].append(entry)
    write_manifest(folder, classes=("green", "blue"), protocol="mixed", splits=splits)
    return folder


def batch_of(data: Path, **options: Any) -> Any:
    config = config_of(data, data.parent / "out")
    views = EvalSet(manifest=read_manifest(data, "val"), root=data, clip=config.clip, num_views=2,
                    **options)  # fmt: skip
    places = [(row, view) for row in range(6) for view in range(2)]
    loaded = views.collate(views.samples(places))
    assert not loaded.bad
    return loaded.batch


def test_a_file_without_frames_is_read_and_masked(mixed: Path) -> None:
    entry = read_manifest(mixed, "val").entries[0]
    assert entry.clip_id == "8.mkv"
    assert entry.video is None
    batch = batch_of(mixed)
    assert batch.has_video.tolist() == [False, False, True, True, True, True] * 2
    assert batch.has_audio.tolist() == [True, True, True, True, False, False] * 2
    assert not batch.video[:2].any()
    assert batch.video[2:6].flatten(1).any(1).all()
    # The samples are those that were written: 8000 a second, from the start.
    wave = several_labels.wave_of([*entry.labels], np.random.default_rng(8))
    written = (wave * 20_000).clip(-32_767, 32_767).astype(np.int16)[:4000] / 32_768
    torch.testing.assert_close(batch.audio[0], torch.from_numpy(written).float(), atol=2e-3, rtol=0)
    with pytest.raises(NoVideoStreamError):
        decode_audio(mixed / "8.mkv", start_seconds=0, duration_seconds=0.5)


def test_clips_that_lack_a_modality_train_and_are_evaluated_beside_whole_ones(
    mixed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train.train(config_of(mixed, run, "--mix.method", "cutmix_temporal"))
    steps = rows(run, "step")
    assert all(0 < row[f"loss_{head}"] < 3 for row in steps for head in ("fused", "video", "audio"))
    found = evaluation.evaluate(
        EvalConfig(checkpoint=str(run), split="val", num_views=1, num_workers=0, threads=1)
    )
    assert {name: s and s.num_clips for name, s in found.items()} == {
        "fused": 6, "video head": 4, "audio head": 4, "audio missing": 4, "video missing": 4,
    }  # fmt: skip
    entry = read_manifest(mixed, "val").entries[0]
    nothing = replace(entry, audio=None)
    manifest = replace(read_manifest(mixed, "val"), entries=(nothing,))
    with pytest.raises(ManifestError, match="has no video stream and no audio; leave it out"):
        EvalSet(manifest=manifest, root=mixed, clip=config_of(mixed, run).clip, num_views=1)


@pytest.mark.parametrize(("one", "other"), [("video", "audio"), ("audio", "video")])
def test_a_network_of_one_modality(one: str, other: str, mixed: Path, tmp_path: Path) -> None:
    batch = batch_of(mixed, modalities=one)
    assert not getattr(batch, f"has_{other}").any()
    assert not getattr(batch, other).any()  # not decoded
    both = batch_of(mixed)
    assert torch.equal(getattr(batch, f"has_{one}"), getattr(both, f"has_{one}"))
    assert torch.equal(getattr(batch, one), getattr(both, one))

    run = tmp_path / "run"
    train.train(config_of(mixed, run, "--model.modalities", one, "--mix.method", "mixup@layer"))
    assert all(row[f"loss_{other}"] == 0 < row[f"loss_{one}"] < 3 for row in rows(run, "step"))
    found = evaluation.evaluate(
        EvalConfig(checkpoint=str(run), split="val", num_views=1, num_workers=0, threads=1)
    )
    absent = {f"{other} head", f"{one} missing"}
    assert {name for name, s in found.items() if s is None} == absent
    trained = load(run)
    encoder = getattr(trained.network, other)
    assert not list(encoder.parameters())
    given = {one: getattr(both, one), other: getattr(both, other)}
    assert torch.equal(trained(**given).fused, trained(**{**given, other: None}).fused)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mix.method", "audio"], r"mix\.method must not mix or drop the other .*'audio'"),
        (["--mix.method", "mixup+dropout"], r"mix\.method must not mix or drop"),
        (["--loss.agreement", "0.1"], r"loss\.agreement compares both modalities"),
        (["--model.fusion", "sum"], r"model\.fusion must be concat for model\.modalities video"),
        (["--loss.video", "0", "--loss.fused", "0"], r"loss\.video must be > 0"),
        (["--augment.noise", "0.5"], r"augment\.noise cannot act without model\.modalities both"),
        (["--loss.audio", "0.1"], r"loss\.audio cannot act without model\.modalities both"),
    ],
)
def test_what_one_modality_cannot_do_is_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        config_of(tmp_path, tmp_path / "run", "--model.modalities", "video", *options)
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(message, said), said


def test_only_both_modalities_are_fused() -> None:
    with pytest.raises(ValueError, match=r"^model\.missing must be mask for model\.modalities au"):
        ModelConfig(modalities="audio", missing="mean")


def test_features_are_of_clips_with_video(mixed: Path) -> None:
    with pytest.raises(
        FeaturesError, match=r"^val: 2 clips have no video .* the first 8\.mkv; lea"
    ):
        check_frames(read_manifest(mixed, "val"))
