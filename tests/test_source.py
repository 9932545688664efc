"""Bytes and file objects give what the path gives: frames, audio, errors and limits."""

import array
import hashlib
import io
import mmap
import sys
import tracemalloc
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import fsspec
import numpy as np
import pytest

from avmix.decode import (
    ClipError,
    ClipRangeError,
    Limits,
    MediaOpenError,
    UnsupportedMediaError,
    decode_audio,
    decode_clip,
    decode_clips,
)
from avmix.media.probe import probe
from avmix.types import Clip
from tests.media import write_flash_beep, write_media
from tests.truth import RECIPES
from tests.unchecked import unchecked

FORM: dict[str, Any] = {"duration_seconds": 0.6, "fps": 25}
CONTAINERS = {name.rsplit(".", 1)[1]: name for name in reversed(RECIPES) if not RECIPES[name].slow}
"""The first file of the truth table in each container."""
SLOWER: dict[str, Any] = {"duration_seconds": 0.6, "fps": 5, "audio": "silence"}


def assert_same(one: Clip, other: Clip) -> None:
    np.testing.assert_array_equal(one.video, other.video)
    np.testing.assert_array_equal(one.audio, other.audio)
    np.testing.assert_array_equal(one.pts_seconds, other.pts_seconds)
    assert (one.audio_valid, one.num_held) == (other.audio_valid, other.num_held)


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_same_as_from_the_path(tmp_path: Path, container: str) -> None:
    path = write_media(tmp_path / CONTAINERS[container], RECIPES[CONTAINERS[container]])
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    starts = (1.2, 0.3, 50.0)
    want = decode_clips(path, starts_seconds=starts, **SLOWER)
    memory = fsspec.filesystem("memory")
    memory.pipe(f"/{path.name}", data)
    with path.open("rb") as file, memory.open(f"/{path.name}") as remote:
        file.seek(100)
        sources: list[Any] = [data, bytearray(data), io.BytesIO(data), file, remote]
        sources += [f"memory://{path.name}", path.as_uri()]
        for source in sources:
            got = decode_clips(source, starts_seconds=starts, sha256=sha256, **SLOWER)
            for one, other in zip(got[:2], want[:2], strict=True):
                assert isinstance(one, Clip)
                assert isinstance(other, Clip)
                assert_same(one, other)
            assert isinstance(got[2], ClipRangeError)
            assert isinstance(want[2], ClipRangeError)
            assert got[2].problem == want[2].problem
        assert file.tell() == 100
    memory.rm(f"/{path.name}")
    assert probe(data) == probe(path) == probe(path.as_uri())
    if RECIPES[path.name].audio:
        audio: dict[str, Any] = {"start_seconds": 0.3, "duration_seconds": 0.6}
        np.testing.assert_array_equal(
            decode_audio(data, **audio).audio, decode_audio(path, **audio).audio
        )


def test_every_container_of_the_table_is_there() -> None:
    assert set(CONTAINERS) >= {"mp4", "mov", "mkv", "webm", "avi", "ts", "mpg", "flv", "wmv", "ogv"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a server of the files of `tmp_path`, which notes what is asked for."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            asked.append(self.path)

    asked.clear()
    one = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{one.server_port}"
    one.shutdown()
    thread.join()
    one.server_close()


asked: list[str] = []


def test_from_a_server(tmp_path: Path, server: str) -> None:
    pytest.importorskip("aiohttp", reason="fsspec reads http:// with aiohttp")
    path = write_flash_beep(tmp_path / "x.mp4", seconds=1)
    assert_same(
        decode_clip(f"{server}/x.mp4", start_seconds=0.3, **FORM),
        decode_clip(path, start_seconds=0.3, **FORM),
    )
    few = Limits(max_source_bytes=100)
    with pytest.raises(UnsupportedMediaError, match=f"{server}/x.mp4: has"):
        decode_clip(f"{server}/x.mp4", start_seconds=0.3, limits=few, **FORM)
    with pytest.raises(FileNotFoundError, match=f"{server}/none.mp4"):
        decode_clip(f"{server}/none.mp4", start_seconds=0, **FORM)


def test_a_url_is_read_by_fsspec_or_not_at_all(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_flash_beep(tmp_path / "x.mp4", seconds=1)
    monkeypatch.setitem(sys.modules, "fsspec", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"x\.mp4 needs fsspec: pip install '\.\[fsspec\]'"):
        decode_clip(f"{server}/x.mp4", start_seconds=0, **FORM)
    assert asked == []


@pytest.mark.parametrize(
    "url",
    [
        "rtmp://a/b.mp4",
        "data://video/mp4;base64,AA",
        "simplecache::memory://x.mp4",
        "ssh://a/b.mp4",
    ],
)
def test_urls_of_other_protocols_are_refused(url: str) -> None:
    with pytest.raises(UnsupportedMediaError, match="are not opened, only those of abfs, az, file"):
        decode_clip(url, start_seconds=0, **FORM)


def test_two_colons_are_part_of_a_name(tmp_path: Path) -> None:
    # To fsspec.open they are a chain of URLs: it reads the file of the shorter name.
    want = write_flash_beep(tmp_path / "x.mp4::y.mp4", seconds=0.4)
    write_flash_beep(tmp_path / "x.mp4", seconds=0.8)
    assert probe(f"file://{want}") == probe(want)


def test_errors_of_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        probe("memory://none.mp4")
    fsspec.filesystem("memory").pipe("/text.mp4", b"not media")
    with pytest.raises(MediaOpenError, match=r"memory://text\.mp4: cannot be opened"):
        probe("memory://text.mp4")

    def fail(*_: object, **__: object) -> None:
        raise KeyError("a client's own")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "_open", fail)
    with pytest.raises(MediaOpenError, match=r"memory://text\.mp4: cannot be read: .*client's own"):
        probe("memory://text.mp4")


def test_a_name_like_a_url_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "memory:").mkdir()
    want = write_flash_beep(tmp_path / "x.mp4", seconds=1)
    for name in ("a:b.mp4", "memory://x.mp4", "http:x.mp4"):
        Path(name).write_bytes(want.read_bytes())
        assert probe(name) == probe(want)
    with pytest.raises(FileNotFoundError):
        probe("c:d.mp4")
    with pytest.raises(FileNotFoundError):
        probe(Path("memory://y.mp4"))


def test_a_row_of_a_table_with_the_bytes_of_files(tmp_path: Path) -> None:
    # As in the documentation; `datasets` gives such rows with `Video(decode=False)`.
    path = write_flash_beep(tmp_path / "x.mp4", seconds=1)
    row = {"video": {"bytes": path.read_bytes(), "path": None}}
    clip = decode_clip(row["video"]["bytes"], start_seconds=0, duration_seconds=0.5, num_frames=4)
    assert clip.video.shape == (4, 96, 160, 3)
    assert clip.audio.shape == (8000,)


def test_errors_name_the_source_and_limits_hold(tmp_path: Path) -> None:
    path = write_flash_beep(tmp_path / "x.mp4", seconds=1)
    data = path.read_bytes()
    with pytest.raises(MediaOpenError, match="<9 bytes>: cannot be opened"):
        decode_clip(b"not media", start_seconds=0, **FORM)
    with pytest.raises(MediaOpenError, match="<0 bytes>: is empty"):
        probe(b"")
    with pytest.raises(ClipRangeError, match=f"<{len(data)} bytes>: the window begins"):
        decode_clip(data, start_seconds=3, **FORM)
    with path.open("rb") as file, pytest.raises(ClipError) as caught:
        decode_clip(file, start_seconds=3, **FORM)
    assert caught.value.path == str(path)
    with pytest.raises(UnsupportedMediaError, match="give a path"):
        decode_clip(data, start_seconds=0, limits=Limits(max_source_bytes=len(data) - 1), **FORM)
    assert decode_clip(data, start_seconds=0, limits=Limits(max_source_bytes=len(data)), **FORM)


as_file = unchecked("avmix.decode.source").as_file


class Lying(io.BytesIO):
    """A file object that says it has another number of bytes than it gives."""

    def __init__(self, data: bytes, says: int) -> None:
        super().__init__(data)
        self.says, self.num_read = says, 0

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self.says if (offset, whence) == (0, io.SEEK_END) else super().seek(offset, whence)

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.num_read += len(data)
        return data


class Endless(Lying):
    """A file object that never ends."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size >= 0
        self.num_read += size
        return bytes(size)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (Endless(b"", 3_000_000), "says that it has 3000000 bytes, and gives more than 3000000"),
        (Lying(bytes(10), 9), "says that it has 9 bytes, and gives more than 9"),
        (Lying(bytes(10), 0), "says that it has 0 bytes, and gives more than 0"),
        (Lying(bytes(10), 11), "says that it has 11 bytes, and gives 10"),
    ],
)
def test_a_file_object_gives_what_it_says(source: Lying, says: str) -> None:
    source.seek(3)
    with pytest.raises(MediaOpenError, match=f"<{type(source).__name__}>: {says}"):  # noqa: SIM117
        with as_file(source, Limits()):
            pass
    assert source.num_read <= source.says + 1
    assert source.tell() == 3


class Untouchable(io.BytesIO):
    """A file object that must not be read."""

    def read(self, *_: object) -> bytes:
        raise AssertionError("it was read")


def test_a_wrong_argument_is_told_before_anything_is_read() -> None:
    clip: dict[str, Any] = {"duration_seconds": 0.6, "fps": 25, "start_seconds": 0.0}
    for wrong in ({"fps": -1}, {"start_seconds": -1.0}, {"duration_seconds": -1.0}):
        with pytest.raises((ValueError, ClipRangeError), match=next(iter(wrong))):
            decode_clip(Untouchable(b"x"), **{**clip, **wrong})
    with pytest.raises(ClipRangeError, match="start_seconds"):
        decode_audio(Untouchable(b"x"), start_seconds=-1.0, duration_seconds=1.0)


def test_no_more_than_the_limit_is_read() -> None:
    source = Endless(b"", 1000)
    for limit, num_read in ((999, 0), (1000, 1001)):
        with pytest.raises(ClipError), as_file(source, Limits(max_source_bytes=limit)):
            pass
        assert source.num_read == num_read


def test_a_large_file_object_is_not_held_in_memory() -> None:
    with open("/dev/zero", "rb") as zeros:
        tracemalloc.start()
        data = Lying(zeros.read(20 << 20), 20 << 20)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        with as_file(data, Limits()) as path, open(path, "rb") as copy:
            assert copy.seek(0, io.SEEK_END) == 20 << 20
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak - before < 4 << 20


class Nothing(io.BytesIO):
    """As a raw file that would block."""

    def read(self, size: int | None = -1, /) -> Any:
        del size


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (None, r"<NoneType> is not a media source \(NoneType\)"),
        (5, "<int> is not a media source"),
        ((part for part in [b"x"]), "<generator> is not a media source"),
        ([b"x"], "<list> is not a media source"),
        (np.zeros(3, np.uint8), "<ndarray> is not a media source"),
        (array.array("b", [1]), "<array> is not a media source"),
        (io.StringIO("x"), "<StringIO> is not a media source"),
        (fsspec.open("memory://unopened.mp4"), "<OpenFile> is not a media source"),
        (Nothing(b"x"), r"<Nothing>: read\(\) gives NoneType, not bytes"),
    ],
)
def test_what_is_no_source_is_told_what_is(source: Any, says: str) -> None:
    accepts = "give a path or URL, the bytes of a whole file .*, or a file object"
    with pytest.raises(TypeError, match=f"{says}.*: {accepts}"), as_file(source, Limits()):
        pass


def test_files_opened_as_text_and_maps(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(b"abc")
    with (
        path.open() as text,
        pytest.raises(TypeError, match=r"x\.mp4 is not a media source \(TextIOWrapper\)"),
        as_file(text, Limits()),
    ):
        pass
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        if mapped.seek(0) is None:  # before Python 3.13
            with pytest.raises(TypeError, match=r"seek\(\) gives None"), as_file(mapped, Limits()):
                pass
        with memoryview(mapped) as view, as_file(view, Limits()) as copy:
            assert Path(copy).read_bytes() == b"abc"
    numbers = memoryview(array.array("i", [1, 2, 3, 4]))
    with as_file(numbers[::2], Limits()) as copy:
        assert Path(copy).read_bytes() == numbers[::2].tobytes()
    with pytest.raises(UnsupportedMediaError, match="<16 bytes>"):  # noqa: SIM117
        with as_file(numbers, Limits(max_source_bytes=15)):
            pass
