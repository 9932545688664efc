"""Samples that are no numbers, and channels that cancel: met where they enter, and named."""

import ast
import json
from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from avmix.augment.wsola import stretch
from avmix.config import AugmentConfig, ClipConfig, FrontendConfig
from avmix.data.eval_set import EvalSet
from avmix.data.eval_windows import Window
from avmix.data.manifest import Manifest, ManifestError, parse_row, row_of
from avmix.decode import DecodeError, decode_clip
from avmix.doctor.examine import Task, examine
from avmix.media.fingerprint import fingerprint_of
from avmix.media.folder_walk import File
from avmix.media.judgement import entry_of
from avmix.media.probe import probe
from avmix.media.whole_clip import audio_of, audio_of_file
from avmix.prepare.probe_pool import ProbeTask, probe_one
from avmix.preview import mix_preview
from avmix.preview.augment_preview import _augmented
from avmix.synth import compose
from avmix.synth.actions import ACTIONS
from avmix.tools.transcode_check import _check_audio
from avmix.types import Entry

RATE = 16_000
ROOT = Path(__file__).parents[1]


def write(path: Path, wave: np.ndarray) -> Path:
    """Two seconds of grey frames with this audio (2 s), as floats."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 32
        audio = container.add_stream("pcm_f32le", rate=RATE)
        audio.layout = "stereo"
        for _ in range(20):
            frame = VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for at in range(0, wave.shape[1], 1000):
            samples = np.ascontiguousarray(wave[:, at : at + 1000].T.reshape(1, -1), np.float32)
            frame = AudioFrame.from_ndarray(samples, format="flt", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


def tone() -> np.ndarray:
    """An amplitude of 0.5: -9.03 dBFS."""
    return 0.5 * np.sin(2 * np.pi * 400 * np.arange(2 * RATE) / RATE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e25, -2100.0])
@pytest.mark.parametrize("suffix", ["mkv", "mov"])
def test_a_sample_that_is_no_audio_costs_exactly_its_file(
    tmp_path: Path, value: float, suffix: str
) -> None:
    wave = np.stack([tone(), tone()])
    wave[1, 20_000] = value
    path = write(tmp_path / f"bad.{suffix}", wave)
    words = "samples not finite, or beyond 1000 times full scale"
    with pytest.raises(DecodeError, match=words):
        probe(path)
    with pytest.raises(DecodeError, match=words):
        decode_clip(path, start_seconds=1.0, duration_seconds=1.0, num_frames=2)
    assert decode_clip(path, start_seconds=0.0, duration_seconds=1.0, num_frames=2).audio.any()
    stat = path.stat()
    probed = probe_one(
        ProbeTask(str(tmp_path), File(path.name, stat.st_size, stat.st_mtime_ns), 9.0)
    )
    assert words in probed.problem
    report = examine(Task(path=str(path), seconds=9.0))
    assert "sound_broken" in {finding.code for finding in report.findings}
    assert report.audio is not None
    assert report.audio.num_broken == 1
    json.dumps(asdict(report), allow_nan=False)


def test_loud_floats_are_taken_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "loud.mkv", np.stack([1990 * tone(), tone()]))
    clip = decode_clip(path, start_seconds=0.0, duration_seconds=1.0, num_frames=2)
    assert np.abs(clip.audio).max() == pytest.approx((995 + 0.5) / 2, rel=0.01)


@pytest.mark.parametrize("right", [-1.0, 0.0, 1.0, -0.9])
def test_loudness_is_of_each_channel_and_a_mix_that_cancels_is_said(
    tmp_path: Path, right: float
) -> None:
    path = write(tmp_path / "a.mkv", np.stack([tone(), right * tone()]))
    _, audio = probe(path)
    assert audio is not None
    assert not audio.silent
    cancels = right < 0  # 0.05 of the amplitude of the left one is left: 26 dB
    assert audio.mono_cancels == cancels
    level = 0.5 if cancels else 0.5 * (1 + right) / 2
    assert audio.rms_dbfs == pytest.approx(20 * np.log10(level / np.sqrt(2)), abs=0.05)
    report = examine(Task(path=str(path), seconds=9.0))
    assert ("mono_cancels" in {f.code for f in report.findings}) == cancels
    assert "silent" not in {f.code for f in report.findings}

    entry = entry_of(path, tmp_path, clip_id="a", labels=["x"], source_id="a")
    assert parse_row(row_of(entry), "here") == entry
    assert ("mono_cancels" in row_of(entry)) == cancels  # of others the bytes are what they were
    manifest = Manifest(classes=("x",), protocol="p", split="test", entries=(entry,), sha256="")
    clip = ClipConfig(duration_seconds=1.0, num_frames=2, short_side=32, crop=32)
    reader = EvalSet(manifest=manifest, root=tmp_path, clip=clip, num_views=1)
    (sample,) = reader.samples([(0, 0)])
    assert sample.clip is not None
    assert sample.clip.audio.shape == (RATE,)
    assert np.abs(sample.clip.audio).max() == pytest.approx(level, rel=0.01)
    loaded = reader.collate([sample])
    assert loaded.batch is not None
    assert loaded.batch.has_audio.all()


PREVIEW = ClipConfig(duration_seconds=1.0, num_frames=2, short_side=32, crop=32)


def previewed(file: Path, entry: Entry) -> np.ndarray:
    sample = _augmented(file, None, AugmentConfig(crop="centre", flip=0.0), PREVIEW,
                        FrontendConfig(), 0, 0)  # fmt: skip
    return np.stack([sample.before.audio, sample.after.audio])


def composed(file: Path, entry: Entry) -> np.ndarray:
    """A drawn action over this clip, at the same level."""
    job = compose.Composition(
        out=file.parent, root=file.parent, clip_id="made", action=ACTIONS[0], address=(0, 0, 0),
        background=entry, start_seconds=0.0, across=0.5, background_db=0.0, difficulty=0.0,
    )  # fmt: skip
    made = compose.make_composition(job)
    assert made.entry is not None, made.reason
    path = file.parent / made.entry.path
    return decode_clip(path, start_seconds=0.0, duration_seconds=1.0, num_frames=1).audio


def log_mel_of(entry: Entry) -> np.ndarray:
    assert entry.audio is not None
    return np.array([entry.audio.log_mel_mean, entry.audio.log_mel_std])


MONO_READERS: dict[str, Callable[[Path, Entry], np.ndarray]] = {
    "synth, events": lambda file, entry: audio_of(file.parent, entry, RATE),
    "without frames": lambda file, entry: audio_of_file(file, RATE),
    "leaks": lambda file, entry: fingerprint_of(file.parent, entry).audio,
    "preview of a mix": lambda file, entry: (
        mix_preview._read(file, Window(0.5, 1.0), PREVIEW).audio
    ),
    "preview of augmentation": previewed,
    "compose": composed,
    "log-mel": lambda file, entry: log_mel_of(entry),
}


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Entry]]:
    """Two files with the same left channel: the right one is equal, or inverted."""
    found = []
    left = tone() + 0.1 * np.random.default_rng(0).standard_normal(2 * RATE)
    for right in (left, -left):
        path = write(tmp_path_factory.mktemp("twin") / "a.mkv", np.stack([left, right]))
        entry = entry_of(path, path.parent, clip_id="a", labels=["x"], source_id="a")
        found.append((path, entry))
    return found


@pytest.mark.parametrize("reader", MONO_READERS)
def test_whoever_wants_mono_hears_the_left_channel_where_both_cancel(
    reader: str, twins: list[tuple[Path, Entry]]
) -> None:
    plain, cancelling = (MONO_READERS[reader](*twin) for twin in twins)
    assert plain.any()
    np.testing.assert_allclose(cancelling, plain, atol=1e-5)


def test_what_is_transcoded_of_channels_that_cancel_is_compared_by_one_of_them(
    twins: list[tuple[Path, Entry]],
) -> None:
    path, entry = twins[1]
    _check_audio(path.parent, entry, path, 0.0, 1.0)


def test_stretching_finds_attacks_where_both_channels_cancel() -> None:
    wave = tone().astype(np.float32)
    wave[: RATE // 2] = 0
    both = stretch(np.stack([wave, -wave]), 40_000, RATE)
    np.testing.assert_array_equal(both, np.stack([stretch(wave, 40_000, RATE)] * 2) * [[1], [-1]])


def test_a_manifest_with_numbers_that_are_not_finite_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", np.stack([tone(), tone()]))
    entry = entry_of(path, tmp_path, clip_id="a", labels=["x"], source_id="a")
    line = json.loads(row_of(entry))
    line["audio"]["rms_dbfs"] = float("nan")
    with pytest.raises(ManifestError, match="rms_dbfs is not finite"):
        parse_row(json.dumps(line), "here")


def test_every_json_that_is_written_is_strict() -> None:
    files = [*(ROOT / "avmix").rglob("*.py"), *(ROOT / "datasets").rglob("*.py"),
             ROOT / "train.py", ROOT / "eval.py"]  # fmt: skip
    calls = [
        (path.relative_to(ROOT).as_posix(), ast.unparse(node))
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dump", "json.dumps")
    ]
    assert [path for path, _ in calls] == ["avmix/system/strict_json.py"]
    assert "allow_nan=False" in calls[0][1]
