"""Which of several audio tracks: chosen by number or language, noted, and read by everybody."""

from argparse import ArgumentParser
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from avmix.config import ClipConfig
from avmix.data.eval_set import EvalSet
from avmix.data.eval_windows import Window
from avmix.data.manifest import Manifest, parse_row, row_of
from avmix.decode import NoAudioStreamError, decode_audio, decode_clip
from avmix.doctor.manifest_check import _differences
from avmix.media.fingerprint import _listen
from avmix.media.folder_walk import File
from avmix.media.judgement import entry_of, judge_file
from avmix.media.probe import probe
from avmix.media.whole_clip import audio_of
from avmix.prepare.command import _options, add_arguments
from avmix.prepare.probe_pool import ProbeTask, probe_one
from avmix.preview.mix_preview import _read
from avmix.tools.transcode_check import _check_audio
from avmix.types import Entry

RATE, SECONDS = 16_000, 2
TONES = {"eng": 500, "deu": 1500, "": 3000}
CLIP = ClipConfig(duration_seconds=1.0, num_frames=2, short_side=32, crop=32)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey frames, and three tracks with a tone each; the last has no language."""
    path = tmp_path_factory.mktemp("tracks") / "a.mkv"
    time = np.arange(SECONDS * RATE) / RATE
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 32
        tracks = []
        for language in TONES:
            track = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
            if language:
                track.metadata["language"] = language
            tracks.append(track)
        for _ in range(10 * SECONDS):
            frame = VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for track, hz in zip(tracks, TONES.values(), strict=True):
            samples = (16_000 * np.sin(2 * np.pi * hz * time)).astype(np.int16)[None]
            frame = AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            container.mux([*track.encode(frame), *track.encode(None)])
    return path


@pytest.fixture(scope="module")
def entry(file: Path) -> Entry:
    """Its row, prepared with the German track."""
    stat = file.stat()
    look = ProbeTask(
        str(file.parent), File(file.name, stat.st_size, stat.st_mtime_ns), 9.0, audio_track="deu"
    )
    probed = probe_one(look)
    assert probed.problem == ""
    assert probed.video is not None
    return Entry(clip_id="a", path=file.name, start_seconds=0.0,
                 end_seconds=probed.video.duration_seconds, labels=("x",), source_id="a",
                 video=probed.video, audio=probed.audio, bytes=stat.st_size,
                 sha256=probed.sha256)  # fmt: skip


def hz_of(wave: np.ndarray) -> float:
    """Of the loudest tone."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(spectrum.argmax() * RATE / len(wave))


@pytest.mark.parametrize(("track", "hz"), [(None, 500), (0, 500), (1, 1500), (2, 3000),
                                           ("eng", 500), ("DEU", 1500)])  # fmt: skip
def test_a_track_is_chosen_by_number_or_language(file: Path, track: int | str | None, hz: int):
    window = {"start_seconds": 0.5, "duration_seconds": 1.0, "audio_track": track}
    clip = decode_clip(file, num_frames=2, **window)
    assert hz_of(clip.audio) == pytest.approx(hz, abs=2)
    np.testing.assert_array_equal(decode_audio(file, **window).audio, clip.audio)


@pytest.mark.parametrize("track", [3, "fra"])
def test_a_track_that_is_not_there_lists_those_that_are(file: Path, track: int | str):
    listed = "it has 0: eng, pcm_s16le, 1 channel; 1: deu, pcm_s16le, 1 channel; 2: no language, "
    with pytest.raises(NoAudioStreamError, match=rf"no audio track {track!r}; {listed}"):
        decode_clip(file, start_seconds=0, duration_seconds=1, num_frames=1, audio_track=track)


@pytest.mark.parametrize("track", [-1, True, " "])
def test_a_track_is_a_number_or_a_word(file: Path, track):
    with pytest.raises(ValueError, match=r"^audio_track is .*it must be a (whole|language)"):
        decode_audio(file, start_seconds=0, duration_seconds=1, audio_track=track)


def test_the_manifest_notes_the_track_and_everybody_reads_it(file: Path, entry: Entry):
    assert entry.audio is not None
    assert entry.audio.track == 1
    assert parse_row(row_of(entry), "here") == entry
    assert _differences(str(file), [entry]) == []
    assert judge_file(file, "full", audio_track=1).audio == entry.audio
    manifest = Manifest(classes=("x",), protocol="p", split="test", entries=(entry,), sha256="")
    reader = EvalSet(manifest=manifest, root=file.parent, clip=CLIP, num_views=1)
    (sample,) = reader.samples([(0, 0)])
    assert sample.clip is not None
    waves = {
        "training": sample.clip.audio,
        "synthesis": audio_of(file.parent, entry, RATE),
        "preview": _read(file, Window(0.5, 1.0), CLIP, 1).audio,
    }
    assert {name: round(hz_of(wave)) for name, wave in waves.items()} == dict.fromkeys(waves, 1500)
    assert np.abs(_listen(file, entry)).max() == pytest.approx(16_000 / 32768, rel=0.05)


def test_what_is_transcoded_of_another_track_is_noticed(file: Path, entry: Entry, tmp_path: Path):
    _check_audio(file.parent, entry, _only(file, 1, tmp_path / "right.mkv"), 0.0, 1.0)
    with pytest.raises(Exception, match="not the source's"):
        _check_audio(file.parent, entry, _only(file, 0, tmp_path / "wrong.mkv"), 0.0, 1.0)


def _only(file: Path, number: int, out: Path) -> Path:
    """A copy with its frames and one of its tracks."""
    with av.open(str(file)) as source, av.open(str(out), "w") as copy:
        streams = [source.streams.video[0], source.streams.audio[number]]
        copies = {s.index: copy.add_stream_from_template(s) for s in streams}
        for packet in source.demux(streams):
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                copy.mux(packet)
    return out


def test_without_a_choice_rows_are_what_they_were(file: Path):
    entry = entry_of(file, file.parent, clip_id="a", labels=["x"], source_id="a")
    assert "track" not in row_of(entry)
    _, audio = probe(file, 0)
    assert audio is not None
    assert audio.track == 0


@pytest.mark.parametrize(("words", "track"), [([], None), (["--audio-track", "1"], 1),
                                              (["--audio-track", "deu"], "deu")])  # fmt: skip
def test_recipes_take_the_choice_and_note_it(words: list[str], track: int | str | None):
    parser = ArgumentParser()
    add_arguments(parser)
    options = _options(parser.parse_args(["--root", "a", "--out", "b", *words]))
    assert options.audio_track == track
    assert options.arguments.get("audio_track") == track
    assert ("audio_track" in options.arguments) == (track is not None)
