"""Files made to hang a decoder or to exhaust memory end in an error, soon and in little memory.

Each is read in a process of its own, by every public call. Large files are sparse: they take no
space on the disk.
"""

import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from avmix.decode import ClipError, Limits, decode_clips
from tests.fuzz_child import Answer, Child, every_call
from tests.media import draw_frame, pack_boxes, read_counter, write_flash_beep

LIMIT_SECONDS = 10.0
LIMIT_BYTES = 1500 << 20
FEW = Limits(seconds=0.3)
"""What the calls may take, one after the other."""


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    with Child(partial(every_call, limits=FEW), limit_seconds=LIMIT_SECONDS) as one:
        yield one


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A short file that is as it should be, by its ending."""
    folder = tmp_path_factory.mktemp("plain")
    codecs: dict[str, dict[str, Any]] = {
        ".mpg": {"video_codec": "mpeg2video", "audio_codec": "mp2"},
        ".flv": {"audio_codec": "aac"},
        ".ts": {"audio_codec": "aac"},
        ".avi": {"audio_codec": "pcm_s16le"},
        ".wmv": {"video_codec": "msmpeg4v3", "audio_codec": "wmav2"},
        ".ogv": {"video_codec": "libvpx", "audio_codec": "libopus"},
    }

    def make(suffix: str) -> Path:
        path = folder / f"plain{suffix}"
        how = codecs.get(suffix, {})
        return path if path.exists() else write_flash_beep(path, b_frames=0, **how)

    return make


def ask(child: Child, path: Path, sha256: str | None = None) -> list[str]:
    """What every call said of a file, within the limits; the file is deleted."""
    (answer,) = child.decode(path, (0.4,), sha256)
    with suppress(OSError):
        path.unlink()
    assert isinstance(answer, Answer), answer
    assert answer.promised_error, answer.error
    assert answer.seconds < LIMIT_SECONDS, answer
    assert answer.peak_bytes < LIMIT_BYTES, answer
    return answer.error.splitlines()


def assert_refused(child: Child, path: Path, says: str = "", sha256: str | None = None) -> None:
    """Every call ends in an error that says so."""
    for line in ask(child, path, sha256):
        assert "Error: " in line
        assert says in line


# ---- data that go on and on ----------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("suffix", [".mkv", ".mpg", ".avi", ".flv", ".ts", ".ogv", ".mp4", ".wmv"])
def test_gigabytes_of_nothing_end_at_the_limit_of_time(
    child: Child, plain: Callable[[str], Path], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"tail{suffix}"
    path.write_bytes(plain(suffix).read_bytes())
    os.truncate(path, 16 << 30)
    lines = ask(child, path)
    # What lies before may be given. Nobody reads gigabytes in a moment: where only the whole file
    # tells, there is an error. Headers of mp4 and wmv say where their frames end.
    assert suffix in (".mp4", ".wmv") or "Error: " in lines[-1]


def test_the_hash_of_what_has_no_end_in_sight(child: Child, tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    path.touch()
    os.truncate(path, 4 << 40)
    lines = ask(child, path, sha256="0" * 64)
    assert all("SHA-256 takes longer than 0.3 s" in line for line in lines[:2])


@pytest.mark.parametrize("sha256", [None, "0" * 64])
def test_pipes_and_devices_are_not_read(child: Child, tmp_path: Path, sha256: str | None) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert_refused(child, tmp_path / "pipe.mp4", "is not a regular file", sha256)
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    assert_refused(child, tmp_path / "zero.mp4", "is not a regular file", sha256)


# ---- packets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("codec", "suffix"), [("mpeg2video", ".ts"), ("libx264", ".ts")])
def test_a_megabyte_of_stuffing_in_each_packet(tmp_path: Path, codec: str, suffix: str) -> None:
    path = tmp_path / f"stuffed{suffix}"
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(codec, rate=25, options={"bf": "0"})
        video.width, video.height, video.pix_fmt, video.bit_rate = 160, 96, "yuv420p", 900_000
        video.thread_count = 1
        for number in [*range(12), None]:
            frame = None
            if number is not None:
                picture = draw_frame(number, size=(160, 96), flash=False)
                frame = VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
            for packet in video.encode(frame):
                one = av.Packet(bytes(packet) + bytes(1_000_000))
                one.pts, one.dts, one.time_base = packet.pts, packet.dts, packet.time_base
                one.stream, one.is_keyframe = video, packet.is_keyframe
                container.mux(one)
    began = time.process_time()
    (clip,) = decode_clips(
        path, starts_seconds=(0.0,), duration_seconds=0.4, fps=25, audio="silence"
    )
    assert time.process_time() - began < LIMIT_SECONDS
    assert not isinstance(clip, ClipError)
    assert [read_counter(frame) for frame in clip.video] == list(range(10))


def element(kind: bytes, size: int) -> bytes:
    """The head of an element of Matroska, which says that it has `size` bytes."""
    return kind + (size | 1 << 56).to_bytes(8)


CLUSTER = b"\x1f\x43\xb6\x75"


def test_a_packet_of_two_gigabytes(
    child: Child, plain: Callable[[str], Path], tmp_path: Path
) -> None:
    block = element(b"\xa3", (2 << 30) - 64) + b"\x81\0\0\x80"
    open_cluster = CLUSTER + b"\x01" + b"\xff" * 7 + b"\xe7\x82\x03\xe8"
    path = tmp_path / "block.mkv"
    path.write_bytes(plain(".mkv").read_bytes() + open_cluster + block)
    os.truncate(path, 3 << 30)
    assert "Error: " in ask(child, path)[-1]
    data = plain(".avi").read_bytes()
    path = tmp_path / "chunk.avi"
    path.write_bytes(data[: data.index(b"idx1")] + b"00dc" + struct.pack("<I", (2 << 30) - 64))
    os.truncate(path, 3 << 30)
    assert "Error: " in ask(child, path)[-1]
    changed = bytearray(plain(".mp4").read_bytes())
    fourth = changed.index(b"stsz") + 16 + 4 * 3
    changed[fourth : fourth + 4] = struct.pack(">I", (2 << 30) - 64)
    path = tmp_path / "sample.mp4"
    path.write_bytes(changed)
    os.truncate(path, 4 << 30)
    ask(child, path)


@pytest.mark.parametrize(
    "kind",
    ["1549a966", "1654ae6b", "ae", "63a2", "e0", "1f43b675", "a3", "1c53bb6b", "1254c367"],
    ids=["info", "tracks", "track", "private", "video", "cluster", "block", "cues", "tags"],
)
def test_elements_that_say_they_are_huge(
    child: Child, plain: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    data, mark = plain(".mkv").read_bytes(), bytes.fromhex(kind)
    at = data.index(mark, data.index(CLUSTER) if kind == "a3" else 0) + len(mark)
    length = 9 - data[at].bit_length()
    path = tmp_path / "huge.mkv"
    path.write_bytes(data[:at] + element(b"", (1 << 56) - 2)[:8] + data[at + length :])
    os.truncate(path, 16 << 30)
    ask(child, path)


# ---- headers -------------------------------------------------------------------------------------


def with_lists(path: Path, whole: bytes, sizes: list[int], *, after: bool = False) -> Path:
    """An mp4 with further edit lists in its first track, of so many entries, all zero."""
    at = whole.rindex(b"moov") - 4
    moov = bytearray(whole[at:])
    track, edits = moov.index(b"trak") - 4, moov.index(b"edts") - 4
    lists = [(16 + 12 * size, size) for size in sizes]
    grown = 8 + sum(size for size, _ in lists)
    for box in (0, track):
        moov[box : box + 4] = struct.pack(">I", int.from_bytes(moov[box : box + 4]) + grown)
    with path.open("wb") as file:
        file.write(whole[:at])
        file.write(moov if after else moov[:edits])
        file.write(struct.pack(">I4s", grown, b"edts"))
        for size, num_edits in lists:
            file.write(struct.pack(">I4sII", size, b"elst", 0, num_edits))
            file.seek(size - 16, os.SEEK_CUR)
        file.write(b"" if after else moov[edits:])
        file.truncate(file.tell())
    return path


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ([1500], "1500 entries"),
        ([21_000_000], "21000000 entries"),
        ([7_000_000] * 3, "7000000 entries"),
        ([23_000_000], "header is larger than 256 MiB"),
    ],
)
def test_edit_lists_of_millions_of_entries(
    child: Child, plain: Callable[[str], Path], tmp_path: Path, sizes: list[int], says: str
) -> None:
    # The list that is meant follows.
    whole = plain(".mp4").read_bytes()
    assert_refused(child, with_lists(tmp_path / "x.mp4", whole, sizes), says)


def test_an_edit_list_out_of_place(
    child: Child, plain: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = plain(".mp4").read_bytes()
    ask(child, with_lists(tmp_path / "x.mp4", whole, [21_000_000], after=True))


def test_boxes_around_200_megabytes(child: Child, tmp_path: Path) -> None:
    size, path = 200 << 20, tmp_path / "boxes.mp4"
    kinds = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta", b"meta", b"edts"]
    with path.open("wb") as file:
        file.write(pack_boxes([(b"ftyp", b"isom\0\0\2\0")]))
        for depth in range(1000):
            file.write(struct.pack(">I4s", size - 8 * depth, kinds[min(depth, depth % 8)]))
        file.truncate(24 + size)
    assert_refused(child, path)


def test_boxes_without_number(child: Child, plain: Callable[[str], Path], tmp_path: Path) -> None:
    path, start = tmp_path / "boxes.mp4", pack_boxes([(b"ftyp", b"isom\0\0\2\0")])
    path.write_bytes(start + pack_boxes([(b"moov", b"\0\0\0\x08free" * 150_000)]))
    assert_refused(child, path, "edit lists are damaged")
    path.write_bytes(start + b"\0\0\0\x08free" * 200_000)
    assert_refused(child, path, "edit lists are damaged")
    # Before seeking, files are looked through for the clock of fragments and clusters.
    path.write_bytes(plain(".mp4").read_bytes() + b"\0\0\0\x08free" * 1_000_000)
    ask(child, path)
    path = tmp_path / "voids.mkv"
    path.write_bytes(plain(".mkv").read_bytes() + b"\xec\x80" * 2_000_000)
    ask(child, path)


def test_a_box_longer_than_any_file(
    child: Child, plain: Callable[[str], Path], tmp_path: Path
) -> None:
    for size in ((1 << 63) - 1, (1 << 64) - 1):
        path, box = tmp_path / "long.mp4", struct.pack(">I4sQ", 1, b"free", size)
        path.write_bytes(box + plain(".mp4").read_bytes())
        assert_refused(child, path)
        path.write_bytes(plain(".mp4").read_bytes() + box)
        ask(child, path)


def test_a_compressed_header_that_says_it_is_gigabytes(
    child: Child, plain: Callable[[str], Path], tmp_path: Path
) -> None:
    total, whole = 3 << 30, plain(".mov").read_bytes()
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = struct.pack(">I4sI4s", total, b"moov", total - 8, b"free")
    data = pack.compress(head) + pack.flush(zlib.Z_FULL_FLUSH)
    data += (pack.compress(bytes(1 << 20)) + pack.flush(zlib.Z_FULL_FLUSH)) * ((total >> 20) - 1)
    packed = [(b"dcom", b"zlib"), (b"cmvd", struct.pack(">I", total) + b"\x78\xda" + data)]
    header = pack_boxes([(b"moov", pack_boxes([(b"cmov", pack_boxes(packed))]))])
    path = tmp_path / "packed.mov"
    path.write_bytes(whole[: whole.rindex(b"moov") - 4] + header)
    assert_refused(child, path, "header is larger than 256 MiB")


def test_attachments_of_gigabytes(
    child: Child, plain: Callable[[str], Path], tmp_path: Path
) -> None:
    data, size, path = plain(".mkv").read_bytes(), 250 << 20, tmp_path / "fonts.mkv"
    at = data.index(CLUSTER)
    with path.open("wb") as file:
        file.write(data[:at])
        for number in range(1, 9):
            about = b"\x46\x6e\x81a\x46\x60\x81a\x46\xae\x81" + bytes([number])
            one = about + element(b"\x46\x5c", size)
            one = element(b"\x61\xa7", len(one) + size) + one
            file.write(element(b"\x19\x41\xa4\x69", len(one) + size) + one)
            file.seek(size, os.SEEK_CUR)
        file.write(data[at:])
    assert_refused(child, path, "header is larger than 256 MiB")


def test_a_million_streams(child: Child, tmp_path: Path) -> None:
    head = b"OpusHead\x01\x01\0\0\x80\xbb\0\0\0\0\0"
    pages = np.zeros((1_000_000, 28 + len(head)), np.uint8)
    page = b"OggS\0\x02" + bytes(20) + bytes([1, len(head)]) + head
    pages[:] = np.frombuffer(page, np.uint8)
    numbers = np.arange(len(pages), dtype="<u4")[:, None].view(np.uint8)
    pages[:, 14:18] = numbers
    sums = np.full(len(pages), ogg_sum(page), np.uint32)
    for place in range(4):  # the sum is linear: what each byte of the number adds to it
        blank = bytes(len(page))
        adds = np.array(
            [
                ogg_sum(blank[: 14 + place] + bytes([value]) + blank[15 + place :])
                for value in range(256)
            ],
            np.uint32,
        )
        sums ^= adds[numbers[:, place]]
    pages[:, 22:26] = sums.astype("<u4")[:, None].view(np.uint8)
    path = tmp_path / "streams.ogg"
    path.write_bytes(pages.tobytes())
    assert_refused(child, path)


def ogg_sum(page: bytes) -> int:
    """Of a page whose sum is zero (RFC 3533, 6)."""
    total = 0
    for byte in page:
        total ^= byte << 24
        for _ in range(8):
            total = (total << 1) ^ (0x04C11DB7 if total >> 31 else 0)
            total &= 0xFFFFFFFF
    return total


@pytest.mark.parametrize("rate", [2_000_000_000, 4_294_967_295, 0])
def test_audio_of_an_impossible_rate(
    child: Child, plain: Callable[[str], Path], tmp_path: Path, rate: int
) -> None:
    data, form = plain(".avi").read_bytes(), struct.pack("<HHI", 1, 1, 48_000)
    assert data.count(form) == 1
    path = tmp_path / "x.avi"
    path.write_bytes(data.replace(form, struct.pack("<HHI", 1, 1, rate)))
    lines = ask(child, path)
    assert rate != 2_000_000_000 or all("2000000000 samples" in line for line in lines[:2])


@pytest.mark.parametrize("rate", [2e9, 1e300, float("nan"), float("inf"), -48000.0])
def test_audio_of_an_impossible_rate_in_matroska(
    child: Child, plain: Callable[[str], Path], tmp_path: Path, rate: float
) -> None:
    data, mark = plain(".mkv").read_bytes(), b"\xb5\x88" + struct.pack(">d", 48_000)
    assert data.count(mark) == 1
    path = tmp_path / "x.mkv"
    path.write_bytes(data.replace(mark, b"\xb5\x88" + struct.pack(">d", rate)))
    ask(child, path)
