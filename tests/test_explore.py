"""`avmix explore`: what the page shows, and that nothing else can be had from its server."""

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import wave
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import chromium
import numpy as np
import pytest
import torch
from command_line import PROGRAM
from kept import drawn
from media import write_flash_beep
from test_report_page import shots_of
from test_trained import write

import avmix
from avmix.evaluation.clip_shots import write_shots
from avmix.evaluation.most_wrong import most_wrong
from avmix.evaluation.prediction_file import NAME, write_predictions
from avmix.explore.clip_shelf import ClipShelf, NotOnShelf, ShelfItem
from avmix.explore.explored_mix import (
    METHODS,
    CannotExplore,
    ExploredMix,
    Explorer,
    distance_of,
    read_clip,
)
from avmix.explore.local_guard import LocalGuard
from avmix.explore.result_html import result_html

HOSTILE = "<script>alert(1)<script>`${x}'\".mp4"
SECRET = b"this must not be seen"


class Setup(NamedTuple):
    root: Path
    run: Path
    outside: Path


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """Two classes, a clip without audio, one with a hostile name, one that is damaged, and links
    that lead out."""
    folder = tmp_path_factory.mktemp("explore")
    root, outside = folder / "root", folder / "outside"
    for name in ("clap", "x"):
        (root / name).mkdir(parents=True)
    outside.mkdir()
    write_flash_beep(root / "clap/a.mp4", seconds=1, events_seconds=(0.3, 0.6), size=(48, 32))
    write_flash_beep(root / "x/b.mp4", seconds=1.2, events_seconds=(0.5,), size=(48, 32))
    write_flash_beep(root / "x/mute.mp4", seconds=1, events_seconds=(0.4,), size=(48, 32),
                     audio_codec=None)  # fmt: skip
    (root / "x" / HOSTILE).write_bytes((root / "x/b.mp4").read_bytes())
    (root / "x/damaged.mp4").write_bytes((root / "x/b.mp4").read_bytes()[:900])
    (outside / "secret.mp4").write_bytes((root / "x/b.mp4").read_bytes())
    (outside / "secret.txt").write_bytes(SECRET)
    (root / "x/link.mp4").symlink_to(outside / "secret.mp4")
    (root / "linked").symlink_to(outside)
    (root / "x/inside.mp4").symlink_to("../clap/a.mp4")
    (folder / "run").mkdir()
    write(folder / "run")
    return Setup(root, folder / "run", outside)


# What can be chosen -------------------------------------------------------------------------------


def test_only_files_inside_of_the_folder_can_be_chosen(setup: Setup, tmp_path: Path) -> None:
    shelf = ClipShelf.of_folder(setup.root)
    assert shelf.names == ["clap/a.mp4", f"x/{HOSTILE}", "x/b.mp4", "x/damaged.mp4",
                           "x/inside.mp4", "x/mute.mp4"]  # fmt: skip
    assert shelf.problems == ["linked/secret.mp4: a link that leads out of the folder",
                              "x/link.mp4: a link that leads out of the folder"]  # fmt: skip
    assert shelf.item("x/b.mp4").label == "x"
    asked: list[object] = [
        "../outside/secret.mp4", "x/../../outside/secret.mp4", str(setup.outside / "secret.mp4"),
        str(setup.root / "x/b.mp4"), "x/link.mp4", "linked/secret.mp4", "", None, 0, ["x/b.mp4"],
        {"x": 1}, "x/b.mp4\0", "X/B.MP4",
    ]  # fmt: skip
    for name in asked:
        with pytest.raises(NotOnShelf):
            shelf.item(name)
    # A file that is replaced by a link while the page is open.
    other = tmp_path / "root"
    other.mkdir()
    (other / "a.mp4").write_bytes((setup.root / "x/b.mp4").read_bytes())
    shelf = ClipShelf.of_folder(other)
    assert shelf.item("a.mp4").label == "a"
    (other / "a.mp4").unlink()
    (other / "a.mp4").symlink_to(setup.outside / "secret.mp4")
    with pytest.raises(NotOnShelf, match="leads out"):
        shelf.item("a.mp4")
    (tmp_path / "empty").mkdir()
    for path, said in ((tmp_path / "no", "no such folder"), (tmp_path / "empty", "no media")):
        with pytest.raises(ValueError, match=said):
            ClipShelf.of_folder(path)


def test_the_name_of_an_upload_decides_nothing(setup: Setup) -> None:
    shelf = ClipShelf.of_folder(setup.root)
    names = ("../../../etc/passwd", "C:\\temp\\clip.mp4", "a/b.webm", "x.mp4\0.sh", "", "é.MKV")
    places = [shelf.upload_place(name) for name in names]
    folder = places[0][1].parent
    assert [path.name for _, path in places] == ["1", "2.mp4", "3.webm", "4.sh", "5", "6.MKV"]
    assert {path.parent for _, path in places} == {folder}
    assert places[1][0] == "upload 2: clip.mp4"
    for shown, path in [*places, *(shelf.upload_place("more.mp4") for _ in range(4))]:
        path.write_bytes(b"x")
        shelf.add_upload(shown, path)
    assert shelf.names[:8] == [f"upload {n}: more.mp4" for n in (10, 9, 8, 7)] + [
        shown for shown, _ in places[:1:-1]]  # fmt: skip
    assert len([*folder.iterdir()]) == 8
    shelf.close()
    assert not folder.exists()


# What is shown ------------------------------------------------------------------------------------


def explorer_of(setup: Setup, with_network: bool = True) -> tuple[Explorer, list[ShelfItem]]:
    """Clips are read here, not in a process of their own, which takes seconds to begin."""
    explorer = Explorer(avmix.load(setup.run) if with_network else None)
    shelf = ClipShelf.of_folder(setup.root)
    items = [shelf.item(name) for name in ("clap/a.mp4", "x/b.mp4", "x/mute.mp4")]
    for item in items:
        explorer._kept[item] = read_clip((str(item.path), None, None, explorer.clip, "both"))
    return explorer, items


def samples_of(data: bytes | None) -> np.ndarray:
    assert data is not None
    with wave.open(BytesIO(data)) as file:
        assert file.getframerate() == 8000
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767


def test_the_mix_is_that_of_frames_audio_label_and_predictions(setup: Setup) -> None:
    explorer, (a, b, mute) = explorer_of(setup)
    net = explorer.trained
    assert net is not None
    found = explorer.explore(a, b, "mixup", 0.3)
    own, partner, mixed = (look.frames.astype(float) for look in found.looks)
    assert np.abs(own - partner).max() > 20
    assert np.abs(mixed - (0.3 * own + 0.7 * partner)).max() <= 1
    low, high, both = map(samples_of, found.waves)
    assert np.abs(low - high).max() > 0.1
    assert both == pytest.approx(0.3 * low + 0.7 * high, abs=2e-4)
    assert found.looks[2].shares.fused.tolist() == pytest.approx([0.3, 0.7])
    # The predictions of A and B are those of `avmix predict`; of the mix, by hand.
    said = [net.predict(item.path, num_views=1) for item in (a, b)]
    for ranked, one in zip(found.ranked, said, strict=False):
        for mine, theirs in zip(ranked, one.top(3), strict=True):
            assert mine.name == theirs.name
            for head in ("fused", "video", "audio"):
                assert getattr(mine, head) == pytest.approx(getattr(theirs, head), abs=1e-5)
    (fused, video, audio) = found.distances
    for head, distance in zip(("fused", "video", "audio"), found.distances, strict=True):
        p, q = (getattr(one, head) for one in said)
        of_mix = {one.name: getattr(one, head) for one in found.ranked[2]}
        r = np.array([of_mix[name] for name in net.classes])
        expected = np.abs(r - (0.3 * p + 0.7 * q)).sum() / 2
        assert distance.distance == pytest.approx(expected, abs=1e-5)
        assert distance.weight == pytest.approx(0.3)
    assert max(fused.distance, video.distance, audio.distance) > 1e-4
    # A clip without audio: nothing of the audio is mixed, and no head of it is asked.
    found = explorer.explore(a, mute, "mixup", 0.3)
    assert found.has == ((True, True), (True, False), (True, True))
    assert found.looks[2].shares.audio.tolist() == [1.0, 0.0]
    assert found.looks[2].shares.fused.tolist() == pytest.approx([0.65, 0.35])
    assert {one.head: one.weight for one in found.distances}["audio"] == 1.0
    assert all(one.audio is None for one in found.ranked[1])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_shown(setup: Setup, method: str) -> None:
    explorer, (a, b, _) = explorer_of(setup)
    found = explorer.explore(a, b, method, 0.4)
    changes = [np.abs(found.looks[2].frames.astype(float) - found.looks[0].frames).max() > 5,
               np.abs(found.looks[2].log_mel - found.looks[0].log_mel).max() > 0.05]  # fmt: skip
    assert changes == [method != "audio", method != "video"]
    assert (found.waves[2] is None) == (method == "cutmix_frequency")
    html = result_html(found, ("<b>", "b"), ("c", "d"), several=False)
    assert "<b>" not in html
    assert html.count("<audio") == (2 if method == "cutmix_frequency" else 3)
    assert "http" not in html


def test_what_cannot_be_mixed_is_said(setup: Setup) -> None:
    explorer, (a, b, _) = explorer_of(setup, with_network=False)
    with pytest.raises(CannotExplore, match="same clip"):
        explorer.explore(a, a, "mixup", 0.5)
    for method in ("cross", "mixup@feature", "", "no"):
        with pytest.raises(CannotExplore, match="no mixing method"):
            explorer.explore(a, b, method, 0.5)
    with pytest.raises(CannotExplore, match=r"in \[0, 1\]"):
        explorer.explore(a, b, "mixup", 1.5)
    found = explorer.explore(a, b, "mixup", 1.0)
    assert isinstance(found, ExploredMix)
    assert found.ranked == ()
    assert np.array_equal(found.looks[0].frames, found.looks[2].frames)


@pytest.mark.parametrize(("several", "expected"), [(False, 0.25), (True, 0.2)])
def test_the_distance_by_hand(several: bool, expected: float) -> None:
    """A 1, 0, 0 and B 0, 1, 0; the line at 0.25 is 0.25, 0.75, 0."""
    p = torch.tensor([[1, 0, 0], [0, 1, 0], [0.3, 0.5, 0.2]]) if not several else (
        torch.tensor([[1, 0, 0], [0, 1, 0], [0.3, 0.6, 0.2]]))  # fmt: skip
    found = distance_of("fused", 0.25, p.float(), ("a", "b", "c"), several)
    assert found.distance == pytest.approx(expected)
    assert found.expected == ("b", pytest.approx(0.75))
    assert found.said == ("b", pytest.approx(float(p[2, 1])))


# The guard ----------------------------------------------------------------------------------------

GOOD = [(b"host", b"127.0.0.1:8420"), (b"cookie", b"avmix_explore_8420=secret")]


def asked(headers: list[tuple[bytes, bytes]], path: str = "/", *, method: str = "GET",
          kind: str = "http", query: bytes = b"") -> tuple[int, dict[bytes, bytes]]:  # fmt: skip
    """Status and headers of the answer; 200 is that of the application behind the guard."""
    sent: list[dict[str, Any]] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        kind = "websocket.accept" if scope["type"] == "websocket" else "http.response.start"
        await send({"type": kind, "status": 200, "headers": []})

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    guard = LocalGuard(behind, port=8420, token="secret", max_body_bytes=100)
    scope = {"type": kind, "path": path, "raw_path": path.encode(), "method": method,
             "headers": headers, "query_string": query}  # fmt: skip
    asyncio.run(guard(scope, receive, send))
    first = sent[0]
    if first["type"] == "websocket.close":
        return 403, {}
    return first.get("status", 200), dict(first.get("headers") or ())


def test_only_its_own_page_on_this_machine_is_answered() -> None:
    host, cookie = GOOD
    status, headers = asked(GOOD)
    assert status == 200
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert asked([(b"host", b"LOCALHOST:8420"), cookie])[0] == 200
    for kind in ("http", "websocket"):
        for name in (
            b"127.0.0.1",
            b"127.0.0.1:80",
            b"evil.example:8420",
            b"0.0.0.0:8420",
            b"[::1]:8420",
            b"127.0.0.1.evil.example:8420",
            b"192.168.0.1:8420",
            b"",
        ):
            assert asked([(b"host", name), cookie], kind=kind)[0] == 403
        assert asked([cookie], kind=kind)[0] == 403
        assert asked([host, (b"host", b"evil.example"), cookie], kind=kind)[0] == 403
        for origin in (
            b"http://evil.example",
            b"null",
            b"https://127.0.0.1:8420",
            b"http://127.0.0.1:8421",
        ):
            assert asked([*GOOD, (b"origin", origin)], kind=kind)[0] == 403
        assert asked([*GOOD, (b"origin", b"http://localhost:8420")], kind=kind)[0] == 200
        assert asked([*GOOD, (b"sec-fetch-site", b"cross-site")], kind=kind)[0] == 403
        for bad in (
            b"avmix_explore_8420=",
            b"avmix_explore_8420=other",
            b"x=secret",
            b"\xff;=",
            b"avmix_explore_8421=secret",
        ):
            assert asked([host, (b"cookie", bad)], "/_nicegui/x", kind=kind)[0] == 403


def test_the_secret_is_exchanged_for_a_cookie() -> None:
    host = GOOD[0]
    status, headers = asked([host], query=b"token=secret")
    assert (status, headers[b"location"]) == (303, b"/")
    assert headers[b"set-cookie"].endswith(b"HttpOnly; SameSite=Strict")
    assert asked([(b"host", b"evil.example")], query=b"token=secret")[0] == 403
    for query in (b"", b"token=", b"token=Secret", b"token=%ff", b"token=other&token=secret"):
        assert asked([host], query=query)[0] == 403
    assert asked([host], "/_nicegui/x", query=b"token=secret")[0] == 403


def test_only_paths_of_the_page_and_small_bodies_pass() -> None:
    for path in (
        "/etc/passwd",
        "/file=/etc/passwd",
        "/file/etc/passwd",
        "/docs",
        "/openapi.json",
        "/gradio_api/file=/etc/passwd",
        "//etc/passwd",
        "/_nicegui/../x",
        "/static/x",
        "/_nicegui/..\\x",
        "/_nicegui/%2e%2e/x",
        "/_nicegui/a\0b",
    ):
        assert asked(GOOD, path)[0] == 404, path
    assert asked(GOOD, "/_nicegui/3/static/a.js")[0] == 200
    post = "/_nicegui/client/x/upload/1"
    for length, status in ((b"100", 200), (b"101", 413), (b"-1", 411), (b"", 411), (b"1e9", 411)):
        found, _ = asked([*GOOD, (b"content-length", length)], post, method="POST")
        assert found == status
    assert asked([*GOOD, (b"transfer-encoding", b"chunked")], post, method="POST")[0] == 411


# The real program ---------------------------------------------------------------------------------


class Answer(NamedTuple):
    status: int
    cookie: str
    body: bytes


class Running(NamedTuple):
    setup: Setup
    process: "subprocess.Popen[str]"
    url: str

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    def cookie(self) -> str:
        found = self.ask("/?" + urlsplit(self.url).query)
        assert found.status == 303
        return found.cookie

    def ask(self, path: str, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with closing(connection):
            connection.putrequest("GET", path, skip_host="host" in headers)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            with connection.getresponse() as found:
                cookie = (found.getheader("set-cookie") or "").partition(";")[0]
                return Answer(found.status, cookie, found.read())


@pytest.fixture(scope="module")
def running(setup: Setup, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    pytest.importorskip("nicegui", reason="the extra [explore] is not installed")
    folder = tmp_path_factory.mktemp("evaluation")
    kept = drawn(k=3, n=9)
    first = most_wrong(kept)[0].clip_id
    clips = [replace(c, path="x/b.mp4" if c.clip_id == first else HOSTILE) for c in kept.clips]
    kept = replace(kept, clips=tuple(clips))
    write_predictions(folder / NAME, kept)
    write_shots(folder, shots_of(kept, folder), kept)
    words = ["explore", str(setup.run), "--root", str(setup.root), "--worst", str(folder),
             "--port", "0", "--no-browser", "--threads", "1", "--device", "cpu"]  # fmt: skip
    process = subprocess.Popen(
        [*PROGRAM, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    try:
        assert url.startswith("http://127.0.0.1:"), (url, process.communicate())
        yield Running(setup, process, url)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.long
def test_the_server_gives_nothing_of_the_disk(running: Running) -> None:
    cookie = running.cookie()
    paths = ["/file=/etc/passwd", f"/file={running.setup.outside}/secret.txt", "/x/b.mp4",
             "/../outside/secret.txt", "/_nicegui/../../secret.txt", "/docs", "/openapi.json",
             "/_nicegui/3.18.0/static/../../../../../../../../etc/passwd",
             "/_nicegui/3.18.0/static/%2e%2e/%2e%2e/nicegui.py",
             "/_nicegui/3.18.0/static/..%2f..%2fnicegui.py",
             f"/_nicegui/3.18.0/static/{running.setup.outside}/secret.txt",
             f"/_nicegui/3.18.0/resources/x/{running.setup.outside}/secret.txt",
             f"/_nicegui/auto/static/{running.setup.outside}/secret.txt"]  # fmt: skip
    for path in paths:
        found = running.ask(path, cookie=cookie)
        assert found.status in (403, 404), path
        assert SECRET not in found.body
    page = running.ask("/", cookie=cookie)
    assert page.status == 200
    text = page.body
    assert b"secret.mp4" in text  # it is named, as what is not offered
    assert b"http://" not in text.replace(b"http://www.w3.org/", b"")
    assert b"https://" not in text
    assert running.ask("/", cookie=cookie, host="evil.example").status == 403
    assert running.ask("/").status == 403
    assert running.ask("/", cookie=cookie, origin="http://evil.example").status == 403
    upgrade = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13",
               "sec-websocket-key": "x" * 22 + "=="}  # fmt: skip
    way = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    assert running.ask(way, cookie=cookie, origin="http://evil.example", **upgrade).status == 403
    # On the loopback interface alone.
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
    for address in others - {"127.0.0.1", "127.0.1.1", "::1"}:
        with socket.socket() as tried, pytest.raises(OSError):  # noqa: PT011
            tried.connect((str(address), running.port))


@pytest.mark.long
def test_it_works_in_a_browser(running: Running, tmp_path: Path) -> None:
    if chromium.PROGRAM is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium-headless-shell)")
    shown = "document.querySelectorAll('#result .look').length === 3"
    with chromium.browser(tmp_path) as page:
        page.open_url(running.url)
        page.wait_for(shown)
        seen = {}
        for scheme in ("light", "dark"):
            page.prefer(scheme)
            page.wait_for(f"document.body.classList.contains('body--{scheme}')")
            seen[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert seen == {"light": "rgb(255, 255, 255)", "dark": "rgb(15, 20, 25)"}
        images = "[...document.querySelectorAll('#result img')]"
        page.wait_for(f"{images}.length > 3 && {images}.every(i => i.naturalWidth > 0)")
        audio = "[...document.querySelectorAll('#result audio')]"
        page.wait_for(f"{audio}.length === 3 && {audio}.every(a => a.duration > 0.25)")
        assert page.evaluate("document.querySelector('.distances td').textContent")
        # By the keyboard alone: from the top to the slider, and with it.
        page.evaluate("document.activeElement.blur()")
        reached: list[str] = []
        while "range" not in reached and len(reached) < 30:
            page.press("Tab")
            reached.append(page.evaluate("document.activeElement.type || ''"))
        assert "range" in reached
        page.press("ArrowLeft")
        page.wait_for("document.body.innerText.includes('the weight of A: 0.45')")
        page.wait_for("document.querySelector('#result').innerText.includes('mixup: 0.45')")
        # A clip of the gallery, from the keyboard.
        cards = "document.querySelectorAll('.gallery .card')"
        assert page.evaluate(f"{cards}.length") == 9
        assert page.evaluate(f"{cards}[1].innerText.includes('not below --root')")
        page.evaluate(f"{cards}[0].querySelector('button').focus()")
        page.press("Enter")
        page.wait_for("document.querySelector('#result h2').innerText.includes('b.mp4, 0.50 to')")
        # Uploads: a clip, and one that no decoder can read, which costs nothing but itself.
        clip = running.setup.root / "clap/a.mp4"
        for number, file in enumerate((clip, running.setup.root / "x/damaged.mp4"), 1):
            found = page.call("Runtime.evaluate",
                              expression="document.querySelector('input[type=file]')")  # fmt: skip
            page.call("DOM.setFileInputFiles", files=[str(file)],
                      objectId=found["result"]["objectId"])  # fmt: skip
            where = "#result h2" if number == 1 else ".problem"
            page.wait_for(f"(document.querySelector('{where}')?.innerText ?? '')"
                          f".includes('upload {number}: {file.name}')")  # fmt: skip
        assert page.evaluate("document.querySelectorAll('#result .look').length") == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.said == []


@pytest.mark.long
def test_it_ends_by_ctrl_c(running: Running) -> None:
    """The last test of this server."""
    running.process.send_signal(signal.SIGINT)
    out, err = running.process.communicate(timeout=60)
    assert running.process.returncode == 0, err
    assert "ended" in out
    assert err == ""


def test_without_the_folder_it_is_one_line(setup: Setup, tmp_path: Path) -> None:
    from command_line import main

    with pytest.raises(SystemExit) as end:
        main(["explore", "--root", str(tmp_path / "no"), "--no-browser"])
    assert str(end.value.code) == f"error: --root {tmp_path}/no: no such folder"
    with pytest.raises(SystemExit) as end:
        main(["explore", str(tmp_path / "no.pt"), "--root", str(setup.root), "--threads", "1"])
    assert "no.pt" in str(end.value.code)
