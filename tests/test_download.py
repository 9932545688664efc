"""Downloads from a server on this machine: whole, gone on with, refused; no passwords."""

import gzip
import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from functools import lru_cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from avmix.cli import main
from avmix.data.manifest import ManifestError
from avmix.media.probe import probe
from avmix.tools.download import download
from avmix.tools.fetch_link import RequestLimits, fetch_file, fetch_page
from avmix.tools.link_list import Item, read_list, write_list
from tests.media import write_flash_beep

DATA = bytes(range(256)) * 2000
transfer = partial(download, look=lambda path, item: ("", path))
"""As `download`, for tests of how it is fetched: what it is does not matter there."""
QUICK = RequestLimits(bytes_per_second=1e9, pause_seconds=0.0, timeout_seconds=5.0)


class _Server(BaseHTTPRequestHandler):
    asked: list[tuple[str, dict[str, str]]] = []  # noqa: RUF012
    cuts = 0
    """Answers to come that end early."""
    tag = '"one"'
    broken: dict[str, bytes] = {}  # noqa: RUF012

    def do_GET(self) -> None:
        kind = type(self)
        kind.asked.append((self.path, dict(self.headers)))
        if self.path.startswith("/gone"):
            self.send_error(404)
            return
        name = self.path.split("?")[0].rpartition("/")[2]
        data = kind.broken.get(name) or self.answers().get(name, DATA)
        start = 0
        if "Range" in self.headers and self.headers.get("If-Range") == kind.tag:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        if self.path.endswith("packed.mp4"):
            self.send_header("Content-Encoding", "gzip")
        self.send_header("ETag", kind.tag)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        part = data[start:]
        if kind.cuts:
            kind.cuts -= 1
            part = part[: len(part) // 2]
        self.wfile.write(part)

    @staticmethod
    @lru_cache
    def answers() -> dict[str, bytes]:
        """What is sent under names that the tests of what arrived ask for."""
        with TemporaryDirectory() as folder:
            whole = write_flash_beep(Path(folder) / "a.mp4", seconds=3, fps=10, size=(64, 48),
                                     events_seconds=(1.5,)).read_bytes()  # fmt: skip
        return {
            "whole.mp4": whole,
            "packed.mp4": gzip.compress(whole),
            "torn.mp4": whole[: len(whole) // 2],
            "page.mp4": b"\n<html>please log in</html>",
            "empty.mp4": b"",
            "raw.mp4": gzip.compress(whole),
            "noise.mp4": bytes(range(256)) * 40,
            "list.csv": b"a,b\n",
            "broken.zip": b"PK\3\4 and no more",
        }

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    _Server.asked, _Server.cuts, _Server.tag, _Server.broken = [], 0, '"one"', {}
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_what_is_there_is_not_fetched_again(server: str, tmp_path: Path) -> None:
    items = [Item(url=f"{server}/a.mp4", name="x/a.mp4"), Item(url=f"{server}/gone", name="g.mp4")]
    first = transfer(items, tmp_path, QUICK, fetch_file)
    assert (tmp_path / "x/a.mp4").read_bytes() == DATA
    assert first[0].sha256 == hashlib.sha256(DATA).hexdigest()
    assert first[1].problem == "HTTP 404 Not Found"
    assert [path for path, _ in _Server.asked] == ["/a.mp4", "/gone"]  # 404 is not asked again
    again = transfer(items, tmp_path, QUICK, fetch_file)
    assert again == first
    assert [path for path, _ in _Server.asked][2:] == ["/gone"]
    (tmp_path / "x/a.mp4").write_bytes(b"short")
    transfer(items[:1], tmp_path, QUICK, fetch_file)
    assert (tmp_path / "x/a.mp4").read_bytes() == DATA
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.mp4", "download.jsonl", "x"]


def test_a_dry_run_says_what_would_become_of_each_link(server: str, tmp_path, capsys) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"{server}/a.mp4\tx/first.mp4\n{server}/b.mp4\n")
    command = ["download", "--list", str(listed), "--out", str(tmp_path / "out"), "--pause", "0"]
    for _ in range(2):
        with pytest.raises(SystemExit) as stop:
            main([*command, "--dry-run"])
        assert stop.value.code == 0
        assert not _Server.asked
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{server}/a.mp4 -> {tmp_path}/out/x/first.mp4: to be fetched"
    assert said[2] == "0 of 2 are there; nothing was fetched"
    assert not (tmp_path / "out").exists()
    transfer([Item(url=f"{server}/a.mp4", name="x/first.mp4")], tmp_path / "out", QUICK, fetch_file)
    with pytest.raises(SystemExit):
        main([*command, "--dry-run"])
    said = capsys.readouterr().out.splitlines()
    assert [line.rpartition(": ")[2] for line in said[:2]] == ["there", "to be fetched"]


def test_a_stopped_download_goes_on(server: str, tmp_path: Path) -> None:
    _Server.cuts = 2
    (outcome,) = transfer([Item(url=f"{server}/a", name="a")], tmp_path, QUICK, fetch_file)
    assert outcome.problem == ""
    assert (tmp_path / "a").read_bytes() == DATA
    starts = [headers.get("Range") for _, headers in _Server.asked]
    assert starts == [None, f"bytes={len(DATA) // 2}-", f"bytes={len(DATA) * 3 // 4}-"]


def test_a_file_that_changed_begins_anew(server: str, tmp_path: Path) -> None:
    _Server.cuts = 1
    item = Item(url=f"{server}/a", name="a")
    once = RequestLimits(bytes_per_second=1e9, pause_seconds=0.0, tries=1)
    (outcome,) = transfer([item], tmp_path, once, fetch_file)
    assert "ended after" in outcome.problem or "IncompleteRead" in outcome.problem
    assert not (tmp_path / "a").exists()
    _Server.tag = '"two"'
    (outcome,) = transfer([item], tmp_path, once, fetch_file)
    assert (tmp_path / "a").read_bytes() == DATA
    assert outcome.problem == ""


def test_no_more_is_asked_than_is_polite(server: str, tmp_path: Path) -> None:
    import time

    waits: list[float] = []
    items = [Item(url=f"{server}/{n}", name=n) for n in "abc"]
    slow = RequestLimits(bytes_per_second=len(DATA) / 0.2, pause_seconds=7.0)
    began = time.monotonic()
    transfer(items, tmp_path, slow, fetch_file, sleep=waits.append)
    assert time.monotonic() - began >= 0.6  # 0.2 s each
    assert waits == [7.0, 7.0]


def test_a_list_is_read_as_it_is_written(tmp_path: Path) -> None:
    items = (Item(url="https://a.example/%C3%BC.mp4?x=1", name="-dir/ü.mp4"),
             Item(url="http://b.example/b.mp4", name="b.mp4"))  # fmt: skip
    write_list(tmp_path / "list", items)
    assert read_list(tmp_path / "list") == items
    (tmp_path / "plain").write_text(
        "\ufeff# mine\r\n\r\nhttps://a.example/%C3%BC.mp4\r\nhttps://a.example/%C3%BC.mp4\r\n"
    )
    assert read_list(tmp_path / "plain") == (
        Item(url="https://a.example/%C3%BC.mp4", name="ü.mp4"),
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("https://me:secret@a.example/x.mp4", "password"),
        ("file:///etc/passwd", "not an http"),
        ("nonsense", "not an http"),
        ("https://a.example/", "no name"),
        ("https://a.example/x\t../x", "no name"),
        ("https://a.example/x\t/etc/x", "no name"),
        ("https://a.example/x\ta\nhttps://b.example/x\ta", "another link"),
        ("https://a.example/x\ta\t1-2\nhttps://a.example/x\ta\t3-4", "another link"),
        ("https://a.example/x\ta\t5-2", "no stretch of seconds"),
        ("https://a.example/x\ta\t5-7\tmore", "more than link"),
    ],
)
def test_lines_that_are_refused(tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "list").write_text(line + "\n")
    with pytest.raises(ManifestError, match=reason) as raised:
        read_list(tmp_path / "list")
    assert "secret" not in str(raised.value)


def test_pages_are_left_to_yt_dlp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    class Program:
        def __init__(self, options: dict[str, Any]) -> None:
            self.options = options
            seen.append(options)

        def __enter__(self) -> "Program":
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def extract_info(self, url: str, download: bool) -> None:
            if "gone" in url:
                raise fake.utils.DownloadError("Video unavailable")
            name = self.options["outtmpl"]["default"].replace("%%", "%") % {"ext": "mp4"}
            Path(name).write_bytes(b"video")

    fake: Any = ModuleType("yt_dlp")
    fake.YoutubeDL = Program
    fake.utils = SimpleNamespace(DownloadError=type("DownloadError", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "yt_dlp", fake)
    items = [
        Item(url="https://v.example/-a", name="-a"),
        Item(url="https://v.example/gone", name="g"),
    ]
    one = RequestLimits(bytes_per_second=5e5, pause_seconds=0.0, tries=1)
    there, gone = transfer(items, tmp_path, one, fetch_page)
    assert (there.path, there.bytes) == ("-a.mp4", 5)
    assert "Video unavailable" in gone.problem
    assert seen[0]["ratelimit"] == 5e5
    assert not {"username", "password", "cookiefile", "cookiesfrombrowser"} & set(seen[0])
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    with pytest.raises(ManifestError, match="not installed"):
        transfer(items[1:], tmp_path, one, fetch_page)


def test_what_arrived_is_looked_at(server: str, tmp_path: Path) -> None:
    names = list(_Server.answers())
    items = [Item(url=f"{server}/{name}", name=name) for name in names]
    found = {o.name: o.problem for o in download(items, tmp_path, QUICK, fetch_file)}
    good = {"whole.mp4", "packed.mp4", "list.csv"}
    assert {name for name, problem in found.items() if not problem} == good
    assert {p.name for p in tmp_path.iterdir()} == {*good, "download.jsonl"}
    assert (tmp_path / "packed.mp4").read_bytes() == _Server.answers()["whole.mp4"]
    assert found["page.mp4"] == "it is a web page and no file; is a login needed?"
    assert found["empty.mp4"] == "it is empty"
    assert found["raw.mp4"] == "it is compressed (gzip), and no media file"
    assert found["broken.zip"] == "it is no archive that can be read"
    # What was no use is asked for again, once; what is there is not.
    _Server.asked = []
    download(items, tmp_path, QUICK, fetch_file)
    assert sorted(path[1:] for path, _ in _Server.asked) == sorted(set(names) - good)


def test_gzip_that_cannot_be_unpacked_is_a_problem_of_that_file(server: str, tmp_path) -> None:
    packed = gzip.compress(_Server.answers()["whole.mp4"])
    _Server.broken = {
        "cut_packed.mp4": packed[:-20],
        "bad_packed.mp4": packed[:100] + bytes(200) + packed[300:],
        "no_packed.mp4": b"no gzip",
    }
    items = [Item(url=f"{server}/{n}", name=n) for n in (*_Server.broken, "whole.mp4")]
    outcomes = transfer(items, tmp_path, QUICK, fetch_file)
    assert [o.problem[:39] for o in outcomes] == ["ValueError: its gzip cannot be unpacked"] * 3 + [
        ""
    ]
    files = {p.name for p in tmp_path.iterdir() if p.suffix != ".mark"}
    assert files == {"whole.mp4", "download.jsonl"}


def test_a_whole_video_is_cut_to_the_seconds_of_the_list(server: str, tmp_path: Path) -> None:
    link = f"{server}/whole.mp4"
    (tmp_path / "list").write_text(f"{link}\tc_1_2.mkv\t1-2\n{link}?\tlate.mp4\t20-21\n"
                                   f"{link}\tall.mp4\t0-3\n")  # fmt: skip
    items = read_list(tmp_path / "list")
    assert [item.cut_seconds for item in items] == [(1, 2), (20, 21), (0, 3)]
    write_list(tmp_path / "again", items)
    assert read_list(tmp_path / "again") == items
    cut, late, whole = download(items, tmp_path / "out", QUICK, fetch_file)
    assert (cut.path, cut.problem) == ("c_1_2.mp4", "")
    video, audio = probe(tmp_path / "out" / cut.path)
    assert video is not None
    assert audio is not None
    assert (video.width, video.height) == (64, 48)
    assert video.duration_seconds == pytest.approx(1.0, abs=0.11)
    assert audio.duration_seconds == pytest.approx(1.0, abs=0.11)
    assert late.problem == "3.00 s long: it does not reach second 21"
    assert (tmp_path / "out" / whole.path).read_bytes() == _Server.answers()["whole.mp4"]


def test_command(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list").write_text(f"{server}/whole.mp4\n{server}/gone.mp4\n")
    words = ["download", "--list", str(tmp_path / "list"), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as end:
        main([*words, "--pause", "0", "--rate", "1000"])
    assert end.value.code == 1
    assert "1 of 2 are there" in capsys.readouterr().out
    lines = (tmp_path / "out/download.jsonl").read_text().split("\n")
    outcomes = [json.loads(line) for line in lines if line]
    assert [bool(o["problem"]) for o in outcomes] == [False, True]
