"""`avmix features`: what is stored, what a kill costs, what is refused and what is left out."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fragile import FragileEvalSet
from safetensors.numpy import load_file
from test_every_option import BASE, write_set, write_weights
from torch import Tensor, nn

import avmix
from avmix.cli import main
from avmix.config import (
    AudioEncoderConfig,
    AugmentConfig,
    DataConfig,
    ModelConfig,
    TrainConfig,
    to_yaml,
)
from avmix.data.kept_features import FeaturesError, open_features, read_header
from avmix.data.manifest import read_manifest, write_manifest
from avmix.data.tensor_file import Shape, TensorFileError, open_tensors, write_tensors
from avmix.features import keep as features_keep
from avmix.features.frozen_encoders import FrozenEncoders, of_config
from avmix.features.keep import Keeping, Progress, begin, keep_split
from avmix.media.judgement import entry_of
from avmix.models import build_model
from avmix.models.encoder import AudioSpec, Encoder
from avmix.models.frontend import Frontend
from avmix.training.runtime import Runtime
from avmix.training.trained import TrainedNetwork

HERE = Runtime(device=torch.device("cpu"), threads=1)


class NotFinite(Encoder):
    """Mean of the log-mel; not a number where that is above a limit."""

    def __init__(self, limit: float = 1e9) -> None:
        super().__init__()
        self.limit = limit
        self.stages, self.num_features, self.spec = nn.ModuleList(), 2, AudioSpec()

    def pool(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 2, 3))
        return torch.stack([mean, torch.where(mean > self.limit, float("nan"), mean)], 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven clips to train on and three to test on, tiny; and weights of both encoders."""
    folder = write_set(tmp_path_factory.mktemp("features") / "data", 0, {"train": 7, "test": 3})
    write_weights(folder)
    return folder


@pytest.fixture(scope="module")
def config(data: Path) -> TrainConfig:
    video, audio = BASE.model.video, BASE.model.audio
    model = ModelConfig(
        video=replace(video, weights=str(data / "video.pt")),
        audio=replace(audio, weights=str(data / "audio.pt")),
    )
    numbers = replace(BASE.frontend, mel_mean=-0.3, mel_std=3.7)
    return replace(
        BASE,
        model=model,
        frontend=numbers,
        clip=replace(BASE.clip, short_side=16),
        data=DataConfig(root=str(data), num_workers=0),
        run=replace(BASE.run, threads=HERE.threads),
    )


def keeping(data: Path, out: Path, **changes: Any) -> Keeping:
    usual: dict[str, Any] = dict(
        manifest_folder=data, root=data, out=out, num_views=2, batch_size=4, num_workers=0,
        part_clips=2,
    )  # fmt: skip
    return Keeping(**(usual | changes))


def keep(
    what: Keeping, encoders: FrozenEncoders, progress: Progress | None = None, split: str = "train"
) -> None:
    torch.set_num_threads(HERE.threads)  # which decide the last digits
    header, _ = begin(what, encoders, HERE)
    keep_split(split, what, encoders, header, HERE, progress or Progress())


@pytest.fixture(scope="module")
def kept(data: Path, config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kept") / "features"
    for split in ("test", "train"):
        keep(keeping(data, out), of_config(config, ["video", "audio"]), split=split)
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_features_are_those_of_the_windows(data: Path, config: TrainConfig, kept: Path) -> None:
    """Two views of a clip of one second: 0 to 0.5 s and 0.5 to 1 s, the centre of the frames."""
    found = open_features(kept, "train")
    assert [entry.clip_id for entry in found.manifest.entries] == [f"{n}.mkv" for n in range(7)]
    assert found.labels.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert found.sources.tolist() == list(range(7))
    assert {name: value.shape for name, value in found.features.items()} == {
        "video": (7, 2, 4), "audio": (7, 2, 4)}  # fmt: skip
    model = build_model(config.model, 4, clip=config.clip, frontend=config.frontend).eval()
    frontend = Frontend(config.frontend, config.clip.sample_rate)
    for row, view in ((0, 0), (3, 1), (6, 0)):
        clip = avmix.decode_clip(
            data / f"{row}.mkv", start_seconds=0.5 * view, duration_seconds=0.5, num_frames=2,
            sample_rate=8000, channels=1, short_side=16,
        )  # fmt: skip
        assert clip.video.shape[1:3] == (16, 24)
        frames = (clip.video[:, :, 4:20].astype(np.float32) / 255 - 0.45) / 0.225
        video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None]
        log_mel = frontend.log_mel(torch.from_numpy(clip.audio)[None])
        with torch.no_grad():
            wanted = model.video(video)[0], model.audio(log_mel)[0]
        np.testing.assert_allclose(found.features["video"][row, view], wanted[0], atol=1e-5)
        np.testing.assert_allclose(found.features["audio"][row, view], wanted[1], atol=1e-5)
    assert np.ptp(found.features["video"], axis=(0, 1)).min() > 1e-3
    assert found.has_audio.all()


def test_the_library_reads_the_same_file(kept: Path) -> None:
    ours = open_features(kept, "train")
    theirs = load_file(kept / "train.safetensors")
    assert theirs.keys() == {"video", "audio", "has_audio"}
    for name, value in ours.features.items():
        assert isinstance(value, np.memmap)
        np.testing.assert_array_equal(value, theirs[name])


def test_a_header_says_what_the_features_are_of(data: Path, kept: Path) -> None:
    header = read_header(kept)
    assert header is not None
    assert header.identity["clip"]["duration_seconds"] == 0.5
    assert header.identity["frontend"]["num_mels"] == 16
    assert (header.identity["views"], header.identity["dtype"]) == (2, "float32")
    assert len(header.identity["video"]["weights_sha256"]) == 64
    assert header.computed_with["clips_per_batch"] == 2
    assert header.splits["train"]["manifest_sha256"] == read_manifest(data, "train").sha256
    assert sorted(files(kept)) == ["dataset.json", "features.json", "test.index.safetensors",
                                   "test.jsonl", "test.safetensors", "train.index.safetensors",
                                   "train.jsonl", "train.safetensors"]  # fmt: skip


@pytest.mark.parametrize("after", [0, 1, 3, 4, 5, 6])
def test_interrupted_anywhere_and_continued_gives_the_same_bytes(
    after: int, data: Path, config: TrainConfig, kept: Path, tmp_path: Path
) -> None:
    out, encoders = tmp_path / "features", of_config(config, ["video", "audio"])
    keep(keeping(data, out), encoders, split="test")
    seen = {True: 0, False: 0}

    def clips(number: int, computed: bool) -> None:
        seen[computed] += number
        if after and seen[True] > after:
            raise KeyboardInterrupt

    if after:
        with pytest.raises(KeyboardInterrupt):
            keep(keeping(data, out), encoders, Progress(clips=clips))
        with pytest.raises(FeaturesError, match="not complete; the same `avmix features`"):
            open_features(out, "train")
        after, seen = 0, {True: 0, False: 0}
    keep(keeping(data, out), encoders, Progress(clips=clips))
    assert sum(seen.values()) == 7
    assert files(out) == files(kept)


def test_a_part_that_was_damaged_is_computed_again(
    data: Path, config: TrainConfig, kept: Path, tmp_path: Path
) -> None:
    out, encoders = tmp_path / "features", of_config(config, ["video", "audio"])
    keep(keeping(data, out), encoders, split="test")

    def stop(number: int, computed: bool) -> None:
        if len(list((out / "parts/train").glob("*.safetensors"))) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(keeping(data, out), encoders, Progress(clips=stop))
    part = out / "parts/train/000001.safetensors"
    part.write_bytes(part.read_bytes()[:-3] + b"abc")
    said: list[str] = []
    keep(keeping(data, out), encoders, Progress(notice=said.append))
    assert len(said) == 1
    assert "000001.safetensors: not a part of features" in said[0]
    assert "its hash differs" in said[0]
    assert said[0].endswith("; it is computed again")
    assert files(out) == files(kept)


@pytest.mark.parametrize(("first", "then"), [(4, 6), (6, 4)])
def test_continuing_with_other_batches_neither_loses_clips_nor_has_them_twice(
    first: int, then: int, data: Path, config: TrainConfig, kept: Path, tmp_path: Path
) -> None:
    out, encoders = tmp_path / "features", of_config(config, ["video", "audio"])
    computed = 0

    def clips(number: int, now: bool) -> None:
        nonlocal computed
        computed += number
        if computed > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(keeping(data, out, batch_size=first, part_clips=4), encoders, Progress(clips=clips))
    keep(keeping(data, out, batch_size=then, part_clips=4), encoders)
    found, wanted = open_features(out, "train"), open_features(kept, "train")
    assert [*found.manifest.entries] == [*wanted.manifest.entries]
    np.testing.assert_allclose(found.features["video"], wanted.features["video"], atol=1e-5)


def other_part(one: Path, other: Path) -> None:
    shutil.copy(other, one)


def other_rows(one: Path, other: Path) -> None:
    content = one.read_bytes()
    assert content.count(b'rows\\": [2, 3]') == 1
    one.write_bytes(content.replace(b'rows\\": [2, 3]', b'rows\\": [3, 2]'))


@pytest.mark.parametrize(
    ("damage", "reason"), [(other_part, "a part of other clips"), (other_rows, "its hash differs")]
)
def test_a_part_says_of_which_clips_it_is(
    damage: Callable[[Path, Path], None],
    reason: str,
    data: Path,
    config: TrainConfig,
    kept: Path,
    tmp_path: Path,
) -> None:
    out, encoders = tmp_path / "features", of_config(config, ["video", "audio"])
    keep(keeping(data, out), encoders, split="test")

    def stop(number: int, computed: bool) -> None:
        if len(list((out / "parts/train").glob("*.safetensors"))) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(keeping(data, out), encoders, Progress(clips=stop))
    parts = out / "parts/train"
    damage(parts / "000001.safetensors", parts / "000000.safetensors")
    said: list[str] = []
    keep(keeping(data, out), encoders, Progress(notice=said.append))
    assert len(said) == 1
    assert reason in said[0]
    assert files(out) == files(kept)


def other_weights(config: TrainConfig, folder: Path) -> TrainConfig:
    state = torch.load(config.model.video.weights, weights_only=True)
    name = next(iter(state))
    torch.save(state | {name: state[name] + 1e-3}, folder / "video.pt")
    video = replace(config.model.video, weights=str(folder / "video.pt"))
    return replace(config, model=replace(config.model, video=video))


@pytest.mark.parametrize(
    ("change", "views", "half", "reason"),
    [
        (other_weights, 2, False, r"\(video.weights_sha256 [0-9a-f]{12} -> [0-9a-f]{12}\)"),
        (lambda c, _: replace(c, clip=replace(c.clip, duration_seconds=0.4)), 2, False,
         r"\(clip.duration_seconds 0.5 -> 0.4\)"),
        (lambda c, _: replace(c, frontend=replace(c.frontend, mel_mean=0.0)), 2, False,
         r"\(frontend.mel_mean -0.3 -> 0.0\)"),
        (lambda c, _: c, 3, False, r"\(views 2 -> 3\)"),
        (lambda c, _: c, 2, True, r"\(dtype float32 -> float16\)"),
    ],
    ids=["weights", "window", "front end", "views", "half"],
)  # fmt: skip
def test_other_features_are_not_mixed_in(
    change: Callable[[TrainConfig, Path], TrainConfig],
    views: int,
    half: bool,
    reason: str,
    data: Path,
    config: TrainConfig,
    kept: Path,
    tmp_path: Path,
) -> None:
    encoders, before = of_config(change(config, tmp_path), ["video", "audio"]), files(kept)
    what = keeping(data, kept, num_views=views, half=half, batch_size=2 * views)
    with pytest.raises(FeaturesError, match=f"holds other features {reason}; choose another --out"):
        keep(what, encoders)
    assert files(kept) == before


def test_features_are_not_written_among_other_files(
    data: Path, config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    (run_folder / "last.pt").write_bytes(b"a checkpoint")
    code, _ = run("--config", written(config, tmp_path), "--out", run_folder)
    said = " ".join(capsys.readouterr().err.split())
    assert (code, said) == (1, f"error: {run_folder} has other files (last.pt); name a new folder")
    assert [path.name for path in run_folder.iterdir()] == ["last.pt"]


def test_another_file_of_a_clip_is_refused(
    data: Path, config: TrainConfig, kept: Path, tmp_path: Path
) -> None:
    other, out = tmp_path / "data", tmp_path / "features"
    shutil.copytree(data, other)
    shutil.copytree(kept, out)
    shutil.copy(other / "5.mkv", other / "2.mkv")
    entries = [
        entry_of(other / e.path, other, clip_id=e.clip_id, labels=e.labels, source_id=e.source_id)
        for e in read_manifest(data, "train").entries
    ]
    write_manifest(other, classes=[f"c{i}" for i in range(4)], protocol="tiny",
                   splits={"train": entries})  # fmt: skip
    with pytest.raises(FeaturesError, match=r"'train', or their files, .* differs: 2\.mkv\)"):
        keep(keeping(other, out), of_config(config, ["video", "audio"]))


def test_other_settings_of_rounding_are_said_and_continued(
    data: Path, config: TrainConfig, kept: Path
) -> None:
    what = keeping(data, kept, batch_size=2)
    _, said = begin(what, of_config(config, ["video", "audio"]), HERE)
    assert said.startswith("it continues with other settings (clips_per_batch 2 -> 1): features")


def test_what_is_not_finite_or_cannot_be_read_is_named_and_left_out(
    data: Path, config: TrainConfig, kept: Path, tmp_path: Path
) -> None:
    def keep_with(out: Path, root: Path, **options: float) -> None:
        audio = AudioEncoderConfig(encoder=f"python:{__name__}:NotFinite", options=options)
        changed = replace(config, model=replace(config.model, audio=audio))
        keep(keeping(data, out, root=root), of_config(changed, ["video", "audio"]))

    keep_with(tmp_path / "before", data)
    loudest = open_features(tmp_path / "before", "train").features["audio"][:, :, 0].max(1)
    limit = float(np.sort(loudest)[-3:-1].mean())
    loud = [f"{row}.mkv" for row in np.flatnonzero(loudest > limit)]
    assert len(loud) == 2
    assert "0.mkv" not in loud

    media, out = tmp_path / "data", tmp_path / "features"
    shutil.copytree(data, media)
    (media / "0.mkv").write_bytes(b"nothing" * 100)
    keep_with(out, media, limit=limit)
    header, found = read_header(out), open_features(out, "train")
    assert header is not None
    left_out = {said["path"]: said["reason"] for said in header.splits["train"]["left_out"]}
    assert header.splits["train"]["num_left_out"] == 3
    assert "has changed: its SHA-256" in left_out.pop("0.mkv")
    assert left_out == dict.fromkeys(loud, "its audio feature is not finite")
    ids = [entry.clip_id for entry in found.manifest.entries]
    assert ids == [f"{n}.mkv" for n in range(7) if f"{n}.mkv" not in ("0.mkv", *loud)]
    assert np.isfinite(found.features["audio"]).all()
    rows = [int(name.removesuffix(".mkv")) for name in ids]
    whole = open_features(kept, "train").features["video"]
    np.testing.assert_allclose(found.features["video"], whole[rows], atol=1e-6)


def test_half_precision_states_its_difference(
    data: Path, config: TrainConfig, kept: Path, tmp_path: Path
) -> None:
    keep(keeping(data, tmp_path, half=True), of_config(config, ["video", "audio"]))
    exact, half = open_features(kept, "train"), open_features(tmp_path, "train")
    for name, said in half.header.splits["train"]["half_error"].items():
        a = exact.features[name].astype(np.float64)
        np.testing.assert_array_equal(half.features[name], a.astype(np.float16))
        wanted = np.sqrt(np.square(a - half.features[name]).sum() / np.square(a).sum())
        assert said == pytest.approx(wanted, rel=1e-9)
        assert 0 < said < 2**-11


def test_a_damaged_file_of_features_is_refused(kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept, tmp_path / "x")
    path = tmp_path / "x/train.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(FeaturesError, match="damaged: its hash"):
        open_features(tmp_path / "x", "train")
    path.write_bytes(content[:-1])
    with pytest.raises(TensorFileError, match="not a readable file of tensors"):
        open_features(tmp_path / "x", "train")
    with pytest.raises(FeaturesError, match="no features of a split 'val'; it has: test, train"):
        open_features(kept, "val")
    with pytest.raises(FeaturesError, match="not found; `avmix features` writes it"):
        open_features(tmp_path, "train")


def test_a_large_file_is_mapped_and_not_read(tmp_path: Path) -> None:
    """Two million rows of 64 numbers: half a gigabyte, of which a hundred rows are read. (Sparse:
    zeros take no room on the disk.)"""
    path, rows = tmp_path / "x.safetensors", 2_000_000
    write_tensors(path, {"video": Shape(np.dtype("<f4"), (1, 1, 64))},
                  lambda name: [np.ones((1, 1, 64), "<f4")], {})  # fmt: skip
    text = path.read_bytes()
    header = json.loads(text[8 : 8 + int.from_bytes(text[:8], "little")])
    header["video"] |= {"shape": [rows, 1, 64], "data_offsets": [0, rows * 256]}
    said = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(said).to_bytes(8, "little") + said)
        file.truncate(8 + len(said) + rows * 256)
        file.seek(8 + len(said) + (rows - 1) * 256)
        file.write(np.full(64, 7, "<f4").tobytes())
    before = resident_bytes()
    found = open_tensors(path).tensors["video"]
    assert found[rows - 1].tolist() == [[7.0] * 64]
    for row in np.random.default_rng(0).integers(rows - 1, size=100):
        assert not found[row].any()
    assert resident_bytes() - before < 20e6


def resident_bytes() -> int:
    """Of this process, with the pages of files that it has mapped and looked at."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return 1024 * int(line.split()[1])


def written(config: TrainConfig, folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(to_yaml(config))
    return path


def run(*words: str | Path) -> tuple[int, str]:
    said = StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit) as stop:
        main(["features", *map(str, words)])
    assert isinstance(stop.value.code, int)
    return stop.value.code, said.getvalue()


def test_the_command_says_size_time_and_difference(
    data: Path, config: TrainConfig, tmp_path: Path
) -> None:
    path, out = written(config, tmp_path), tmp_path / "features"
    code, said = run("--config", path, "--out", out, "--half", "--split", "test",
                     "--modality", "video")  # fmt: skip
    assert code == 0
    assert "video 4 numbers a view, 1 view, float16: 0.0 MB per 1,000 clips; 3 clips" in said
    assert "test, 3 clips of 3, 0.0 MB; " in said
    assert "s per 1,000 clips" in said
    assert "half precision changes the video features by " in said
    assert set(open_features(out, "test").features) == {"video"}
    code, said = run("--config", path, "--out", out, "--half", "--modality", "video")
    assert code == 0
    assert "test, 3 clips of 3, 0.0 MB; 3 of them computed before\n" in said
    assert "train, 7 clips of 7" in said


def test_a_checkpoint_gives_the_features_of_its_encoders(
    data: Path, config: TrainConfig, kept: Path, tmp_path: Path
) -> None:
    network = build_model(config.model, 4, clip=config.clip, frontend=config.frontend)
    elsewhere = replace(config, data=replace(config.data, root=str(tmp_path / "gone")))
    TrainedNetwork(elsewhere, [f"c{i}" for i in range(4)], network).save(tmp_path / "x.safetensors")
    words = ["--checkpoint", tmp_path / "x.safetensors", "--views", "2", "--batch-size", "4"]
    code, said = run(*words, "--root", data, "--out", tmp_path / "features")
    assert code == 0, said
    for split in ("train", "test"):
        wanted, found = open_features(kept, split), open_features(tmp_path / "features", split)
        assert found.header.identity == wanted.header.identity
        for name, value in wanted.features.items():
            np.testing.assert_array_equal(found.features[name], value)


def test_the_command_refuses_random_weights_and_says_what_to_do(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(config, model=replace(config.model, audio=BASE.model.audio))
    out = tmp_path / "features"
    code, _ = run("--config", written(config, tmp_path), "--out", out)
    assert code == 1
    assert capsys.readouterr().err == (
        "error: model.audio.weights: avmix:cnn has random weights, whose features say nothing; "
        "name weights, or leave it out: --modality video\n"
    )
    assert not out.exists()


@pytest.mark.long
def test_a_file_that_crashes_the_decoder_costs_itself_alone(
    data: Path, config: TrainConfig, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_keep, "EvalSet", FragileEvalSet)
    media, out = tmp_path / "data", tmp_path / "features"
    shutil.copytree(data, media)
    (media / "3.mkv").write_bytes(b"crash")
    what = keeping(data, out, root=media, num_workers=1, verify="never")
    said: list[str] = []
    keep(what, of_config(config, ["video", "audio"]), Progress(notice=said.append))
    header, found = read_header(out), open_features(out, "train")
    assert header is not None
    (left_out,) = header.splits["train"]["left_out"]
    assert left_out["clip_id"] == "3.mkv"
    assert left_out["reason"].endswith("; in quarantine, not read again")
    assert said == [
        f"1 clip in quarantine, not read; to try again, delete {out / 'quarantine.jsonl'}"
    ]
    others = [row for row in range(7) if row != 3]
    for name, value in open_features(kept, "train").features.items():
        np.testing.assert_allclose(found.features[name], value[others], atol=1e-6)


@pytest.mark.long
def test_killed_ten_times_it_gives_the_same_bytes(config: TrainConfig, tmp_path: Path) -> None:
    """By the kernel, with a loader process and augmented views: each time after another file was
    written, and then anywhere while the next is read, encoded or written."""
    media = write_set(tmp_path / "data", 0, {"train": 18, "test": 6})
    config = replace(config, augment=AugmentConfig(noise=0.5, hide_seconds=0.2))
    words = ["--config", str(written(config, tmp_path)), "--views", "2", "--augmented-views", "2",
             "--batch-size", "2", "data.num_workers=1", f"data.root={media}"]  # fmt: skip
    code = (
        "import sys; from avmix.features import keep; from avmix.cli import main\n"
        "keep.Keeping.__init__.__kwdefaults__['part_clips'] = 1\n"
        "main(['features', *sys.argv[1:]])"
    )

    def start(out: Path) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", code, *words, "--out", str(out)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait() == 0
    out, draw = tmp_path / "killed", np.random.default_rng(0)
    for _ in range(10):
        before, process = done(out), start(out)
        while done(out) == before and not ended_within(process, 0.001):
            pass
        ended_within(process, draw.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        (out / "run.lock").unlink(missing_ok=True)
    assert start(out).wait() == 0
    assert files(out) == files(tmp_path / "whole")


def ended_within(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None


def done(out: Path) -> list[Path]:
    """Parts and splits that are there."""
    return sorted([*out.glob("parts/*/*.safetensors"), *out.glob("*.safetensors")])
