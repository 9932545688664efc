"""Annotation files as people have them: what is forgiven, and what becomes a problem."""

import hashlib
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from avmix.prepare.annotation_rows import AnnotationError, Row
from avmix.prepare.annotation_values import plain, seconds_of
from avmix.prepare.annotations import Annotations, in_two_splits
from avmix.prepare.fetch_annotations import fetch, fetch_annotations

COLUMNS = ("path", "label")


def read(folder: Path, text: str | bytes, **how: object) -> tuple[Annotations, list[list[str]]]:
    (folder / "a.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    annotations = Annotations(folder)
    rows = list(annotations.csv(folder / "a.csv", COLUMNS, **how))  # type: ignore[arg-type]
    return annotations, [[row["path"], row["label"]] for row in rows]


@pytest.mark.parametrize(
    "text",
    [
        "path,label\nx.mp4,a\ny.mp4,b\n",
        "x.mp4,a\ny.mp4,b",
        b"\xef\xbb\xbfpath,label\r\nx.mp4,a\r\ny.mp4,b\r\n",
        b"\xef\xbb\xbfx.mp4,a\r\n\r\n   \r\n,\r\ny.mp4,b\r\n\r\n",
        "path,label\nx.mp4,a\ny.mp4,b\n".encode("utf-16"),
        "x.mp4,a\ry.mp4,b\r",
        'Path , "LABEL"\n"x.mp4", "a"\n y.mp4 ,b \n',
        "label;number;path\na;1;x.mp4\nb;2;y.mp4\n",
        "label\tpath\na\tx.mp4\nb\ty.mp4\n",
        "x.mp4,a,,\ny.mp4,b,,\n",
    ],
    ids=["header", "none", "crlf", "blank", "utf16", "cr", "blanks", "semicolons", "tabs", "more"],
)
def test_the_same_rows_however_they_are_written(tmp_path: Path, text: str | bytes) -> None:
    annotations, rows = read(tmp_path, text)
    assert rows == [["x.mp4", "a"], ["y.mp4", "b"]]
    assert not annotations.problems


def test_commas_in_quotes_and_ids_with_a_hyphen_are_cells(tmp_path: Path) -> None:
    annotations, rows = read(tmp_path, '-x--,"bee, wasp, etc. buzzing"\n--,"say ""hi"""\n')
    assert rows == [["-x--", "bee, wasp, etc. buzzing"], ["--", 'say "hi"']]
    assert not annotations.problems


def test_a_row_that_is_broken_is_named_and_does_not_take_others_with_it(tmp_path: Path) -> None:
    text = 'path,label\nx.mp4,"a\ny.mp4,b\nz.mp4\nz.mp4,\nz.mp4,c,d\nw.mp4,c\n'
    annotations, rows = read(tmp_path, text)
    assert rows == [["y.mp4", "b"], ["w.mp4", "c"]]
    assert [(p.where, p.text, p.dropped) for p in annotations.problems] == [
        ("a.csv:2", 'x.mp4,"a', True), ("a.csv:4", "z.mp4", True), ("a.csv:5", "z.mp4,", True),
        ("a.csv:6", "z.mp4,c,d", True),
    ]  # fmt: skip
    assert [p.reason for p in annotations.problems][1:] == [
        "1 cells; expected are: path, label", "label is empty",
        "3 cells; expected are: path, label"]  # fmt: skip


def test_comments_are_left_out_only_where_a_format_has_them(tmp_path: Path) -> None:
    assert read(tmp_path, "# note\n#x.mp4,a\n", comment="#")[1] == []
    assert read(tmp_path, "#x.mp4,a\n")[1] == [["#x.mp4", "a"]]


def test_a_header_that_must_be_there_is_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"a\.csv: no column 'label'; its first line is: pa"):
        read(tmp_path, "path,klass\nx.mp4,a\n", header=True)


def test_decomposed_unicode_and_odd_line_separators(tmp_path: Path) -> None:
    decomposed = "e\N{COMBINING ACUTE ACCENT}.mp4"
    annotations, rows = read(tmp_path, f"{decomposed},caf\N{LINE SEPARATOR}\u00e9\n")
    assert rows == [["\u00e9.mp4", "caf\N{LINE SEPARATOR}\u00e9"]]
    assert not annotations.problems


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "the file is empty"), (b"\xef\xbb\xbf\r\n", "the file is empty"),
     (2 * b"\xef\xbb\xbf", "the file is empty"), (b" \xef\xbb\xbf\n\n", "the file is empty"),
     (b"caf\xe9,a\n", "not UTF-8.*at byte 3.*iconv")],
)  # fmt: skip
def test_files_of_which_nothing_can_be_read_are_errors(
    tmp_path: Path, data: bytes, message: str
) -> None:
    with pytest.raises(AnnotationError, match=message):
        read(tmp_path, data)


def test_files_are_found_in_folders_and_missing_ones_named(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train.csv").write_text("x")
    annotations = Annotations(tmp_path)
    assert annotations.need("nope.csv", "train.csv") == tmp_path / "lists/train.csv"
    with pytest.raises(AnnotationError, match=r"no a\.csv or b\.csv in it; it has: lists"):
        annotations.need("a.csv", "b.csv")
    (tmp_path / "old").mkdir()
    (tmp_path / "old/train.csv").write_text("x")
    with pytest.raises(
        AnnotationError, match=r"which train\.csv: lists/train\.csv, old/train\.csv"
    ):
        annotations.need("train.csv")
    with pytest.raises(AnnotationError, match="not a folder"):
        Annotations(tmp_path / "nowhere").find("a")
    (tmp_path / "a.json").write_text('{"a": 1,')
    with pytest.raises(AnnotationError, match=r"a\.json: not JSON: .*line 1 column 9"):
        annotations.json(tmp_path / "a.json")


def row(text: str = "x", line: int = 1) -> Row:
    return Row(cells={}, where=f"a.csv:{line}", text=text)


def test_a_label_is_one_of_the_classes_or_a_problem_with_a_suggestion(tmp_path: Path) -> None:
    annotations = Annotations(tmp_path)
    classes = ("Male speech, man speaking", "playing guitar")
    assert annotations.label(row(), "male speech man  speaking", classes) == classes[0]
    assert annotations.label(row(), "Playing_Guitar", classes) == classes[1]
    assert not annotations.problems
    assert annotations.label(row(), "playing gitar", classes) is None
    assert annotations.label(row(), "zebra", classes) is None
    assert [p.reason for p in annotations.problems] == [
        "label 'playing gitar' is not one of the 2 classes; did you mean 'playing guitar'?",
        "label 'zebra' is not one of the 2 classes",
    ]


def add(annotations: Annotations, line: int, **changes: object) -> None:
    what: dict[str, object] = {"clip_id": "x", "split": "train", "labels": ["a"], "source_id": "s",
                               "names": ["x.mp4"]}  # fmt: skip
    annotations.add(row(f"row {line}", line), **{**what, **changes})  # type: ignore[arg-type]


def test_rows_that_say_a_clip_again(tmp_path: Path) -> None:
    annotations = Annotations(tmp_path)
    add(annotations, 1)
    add(annotations, 2)
    add(annotations, 3, labels=["b"])
    add(annotations, 4, split="test")
    assert [clip.where for clip in annotations.clips.values()] == ["a.csv:1"]
    already = "clip 'x' is already a in train (a.csv:1), and stays it"
    reasons = [p.reason for p in annotations.problems]
    assert reasons == ["duplicate row: as a.csv:1", already, already]


@pytest.mark.parametrize("name", ["/etc/x.mp4", "../x.mp4", "a/../../x.mp4", "C:\\x.mp4",
                                  "a\\..\\..\\x.mp4", "\\\\host\\x.mp4"])  # fmt: skip
def test_names_that_leave_the_media_folder_are_refused(tmp_path: Path, name: str) -> None:
    annotations = Annotations(tmp_path)
    add(annotations, 1, names=["x.mp4", name])
    assert not annotations.clips
    assert annotations.problems[0].reason == f"{name!r} does not stay within the media folder"


@pytest.mark.skipif(os.name == "nt", reason="on Windows it is on another disk: no such folder")
def test_a_folder_with_a_colon_is_an_ordinary_one(tmp_path: Path) -> None:
    annotations = Annotations(tmp_path)
    add(annotations, 1, names=["a:b|c/x.mp4"])
    assert [clip.names for clip in annotations.clips.values()] == [("a:b|c/x.mp4",)]
    assert not annotations.problems


def test_stretches_of_time_that_cannot_be(tmp_path: Path) -> None:
    annotations = Annotations(tmp_path)
    add(annotations, 1, start_seconds=3.0, end_seconds=3.0)
    add(annotations, 2, start_seconds=-1.0)
    add(annotations, 3, start_seconds=1.0)
    assert len(annotations.problems) == 2
    assert [clip.where for clip in annotations.clips.values()] == ["a.csv:3"]
    cell = Row(cells={"t": "1e999"}, where="a.csv:4", text="")
    assert annotations.number(cell, "t") is None
    assert annotations.problems[-1].reason == "t '1e999' is not a number"


def test_small_helpers(tmp_path: Path) -> None:
    assert seconds_of("01:02:03.5") == 3723.5
    for wrong in ("1:2", "00:61:00", "00:00:60", "a:b:c", ""):
        with pytest.raises(ValueError, match="is not HH:MM:SS"):
            seconds_of(wrong)
    assert plain(" A_b,  C ") == "a b c"
    annotations = Annotations(tmp_path)
    add(annotations, 1, clip_id="1")
    add(annotations, 2, clip_id="2", split="test")
    add(annotations, 3, clip_id="3", source_id="other")
    assert in_two_splits(annotations.clips.values()) == {"s": ("train", "test")}


def test_the_hash_of_the_annotations_is_of_their_content(tmp_path: Path) -> None:
    hashes = set()
    for text in ("x.mp4,a\n", "x.mp4,b\n", "x.mp4,a\n"):
        annotations, _ = read(tmp_path, text)
        hashes.add(annotations.protocol("p", ["a"]).annotation_sha256)
    assert len(hashes) == 2


# Fetching: from a server on this machine, never from elsewhere.


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a server, and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/file":
                self.send_response(302)
                self.send_header("Location", "file:///etc/passwd")
                self.end_headers()
            elif self.path == "/short":
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b"too little")
            else:
                super().do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    server.server_close()
    thread.join()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_is_fetched_once_and_only_with_its_checksum(
    served: tuple[str, Path], tmp_path: Path
) -> None:
    address, folder = served
    (folder / "list one.txt").write_bytes(b"x")
    out = tmp_path / "out"
    url = f"{address}/list%20one.txt#sha256={sha256(b'x')}"
    assert fetch_annotations([url], out) == out
    assert (out / "list one.txt").read_bytes() == b"x"
    (folder / "list one.txt").unlink()
    fetch(url, out)  # there already: not asked for again

    (folder / "list one.txt").write_bytes(b"y")
    (out / "list one.txt").write_bytes(b"spoiled")
    with pytest.raises(AnnotationError, match=f"has the SHA-256 {sha256(b'y')}: not used"):
        fetch(url, out)
    assert (out / "list one.txt").read_bytes() == b"spoiled"  # nothing was put there
    assert not list(out.glob("*.partial"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd#sha256=" + "0" * 64, "only http and https"),
        ("ftp://127.0.0.1/x#sha256=" + "0" * 64, "only http and https"),
        ("{}/x", "give its checksum"),
        ("{}/x#sha256=12", "give its checksum"),
        ("{}/#sha256=" + "0" * 64, "does not end in the name of a file"),
        ("{}/absent#sha256=" + "0" * 64, "404"),
        ("{}/file#sha256=" + "0" * 64, "file:"),
        ("{}/short#sha256=" + "0" * 64, "ended after 10 of 100 bytes|IncompleteRead"),
        ("{}/big#sha256=" + "0" * 64, "larger than 1000 bytes"),
    ],
)
def test_what_is_not_fetched(
    served: tuple[str, Path], tmp_path: Path, url: str, message: str
) -> None:
    address, folder = served
    (folder / "big").write_bytes(b"x" * 2000)
    with pytest.raises(AnnotationError, match=message):
        fetch(url.format(address), _made(tmp_path / "out"), max_bytes=1000)
    assert not list((tmp_path / "out").iterdir())


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_archives_are_unpacked_and_dangerous_ones_refused(
    served: tuple[str, Path], tmp_path: Path
) -> None:
    address, folder = served
    with zipfile.ZipFile(folder / "good.zip", "w") as file:
        file.writestr("lists/train.txt", "x")
    with zipfile.ZipFile(folder / "bad.zip", "w") as file:
        file.writestr("fine.txt", "x")
        file.writestr("../evil.txt", "x")
    for name, member, kind in (("up", "../evil.txt", tarfile.REGTYPE),
                               ("root", "/evil.txt", tarfile.REGTYPE),
                               ("link", "evil.txt", tarfile.SYMTYPE)):  # fmt: skip
        with tarfile.open(folder / f"{name}.tgz", "w:gz") as archive:
            info = tarfile.TarInfo(member)
            info.type, info.linkname = kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            archive.addfile(info, io.BytesIO())
    out = tmp_path / "out"

    def get(name: str) -> Path:
        digest = sha256((folder / name).read_bytes())
        return fetch_annotations([f"{address}/{name}#sha256={digest}"], out)

    assert Annotations(get("good.zip")).need("train.txt").read_text() == "x"
    killed = _made(out / "good.zip.d.0123456789ab.partial")
    (killed / "train.txt").write_text("half")
    assert Annotations(get("good.zip")).need("train.txt").read_text() == "x"
    for name in ("bad.zip", "up.tgz", "root.tgz", "link.tgz"):
        with pytest.raises(AnnotationError, match=r"refused"):
            get(name)
    assert not list(tmp_path.rglob("evil.txt"))
    assert not list(tmp_path.rglob("fine.txt"))
