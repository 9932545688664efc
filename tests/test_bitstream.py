"""Bytes that cannot be there, and the same bytes where they may be."""

import time

import pytest

from avmix.decode.bitstream import damage_check, parameter_sets

AVCC = bytes([1, 100, 0, 31, 0xFF, 0xE1, 0])
HVCC = bytes([1] + [0] * 20 + [3] + [0])


def check(name: str, data: bytes, extra: bytes = b"") -> bool:
    return damage_check(name, extra)(data)


def unit(body: bytes) -> bytes:
    return len(body).to_bytes(4) + body


@pytest.mark.parametrize(("name", "extra"), [("h264", AVCC), ("hevc", HVCC)])
def test_units_with_their_length(name: str, extra: bytes) -> None:
    good = unit(b"\x65abc\x00\x00\x03\x01xyz")
    assert not check(name, good, extra)
    # The length itself may be 0, 0, 0 or 0, 0, 1; zeros may fill up the end of a unit.
    assert not check(name, unit(b"a" * 256) + unit(b"\x01"), extra)
    assert not check(name, unit(b"\x65abc\x00\x00\x00"), extra)
    for hole in (b"\x00\x00\x00", b"\x00\x00\x01", b"\x00\x00\x02", bytes(400)):
        assert check(name, good + unit(b"\x65abc" + hole + b"xyz"), extra)


@pytest.mark.parametrize("name", ["h264", "hevc"])
def test_units_with_start_codes(name: str) -> None:
    good = b"\x00\x00\x00\x01\x65abc\x00\x00\x01\x41abc\x00\x00\x03\x00xyz\x00\x00"
    assert not check(name, good)
    assert check(name, good + b"\x00\x00\x00x")
    assert check(name, good + b"a\x00\x00\x02x")


@pytest.mark.parametrize("name", ["mpeg1video", "mpeg2video", "mpeg4"])
def test_zeros_before_a_start_code(name: str) -> None:
    assert not check(
        name, b"\x00\x00\x01\xb6abc\x00\x00\x00\x00\x00\x01\x01abc\x00\x00\x02d\x00\x00\x00"
    )
    assert check(name, b"\x00\x00\x01\xb6abc\x00\x00\x00x")


@pytest.mark.parametrize("name", ["vp8", "vp9", "av1"])
def test_holes_in_arithmetic_codes(name: str) -> None:
    assert not check(name, b"a" + bytes(60) + b"b")
    assert check(name, b"a" + bytes(128) + b"b")
    assert not check("mjpeg", bytes(1000))  # nothing is known of others


@pytest.mark.parametrize("name", ["h264", "hevc", "mpeg2video", "mpeg4"])
def test_long_stuffing_is_searched_once(name: str) -> None:
    # One pass takes some milliseconds; one for every zero took minutes.
    begin = time.process_time()
    assert not check(name, b"\x00\x00\x01\x65abc" + bytes(1_000_000))
    assert not check(name, bytes(1_000_000) + b"\x01\x65abc")
    assert check(name, b"\x00\x00\x01\x65abc" + bytes(1_000_000) + b"x")
    if name in ("h264", "hevc"):
        extra = AVCC if name == "h264" else HVCC
        assert not check(name, unit(b"\x65abc" + bytes(1_000_000)), extra)
        assert check(name, unit(bytes(300) + b"x"), extra)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize(("name", "extra", "head", "first"), [
    ("h264", AVCC, b"\x67", b"\x09\xf0"), ("hevc", HVCC, b"\x42", b"\x46\x01\x50"),
])  # fmt: skip
def test_the_form_of_frames_is_read_wherever_it_stands(
    name: str, extra: bytes, head: bytes, first: bytes
) -> None:
    code, form, frame = b"\x00\x00\x00\x01", head + b"form", b"\x65" + b"abc" * 100
    frame = b"\x26" + frame[1:] if name == "hevc" else frame
    for data in (
        unit(form) + unit(frame),
        unit(first + code + form + code + frame),  # one length for a delimiter and all that follows
        unit(form + code + frame),
    ):
        assert parameter_sets(name, extra)(data).startswith(form)
        assert frame not in parameter_sets(name, extra)(data)
    assert parameter_sets(name, extra)(unit(frame)) == b""
    assert parameter_sets(name, b"")(code + form + code + frame) == form
    if name == "h264":  # start codes without a length
        assert parameter_sets(name, extra)(code + form + code + frame) == form
