"""Which file of a media folder is which clip, and what archives in it may do."""

import io
import os
import random
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest

from avmix.data.manifest import ManifestError
from avmix.media.folder_walk import walk
from avmix.prepare.archives import look_into, unpack
from avmix.prepare.media_folder import scan, shared_names
from avmix.prepare.protocol import Expected


def clip(*names: str, clip_id: str = "x") -> Expected:
    return Expected(clip_id=clip_id, split="train", labels=("a",), source_id="s", names=names)


def lay(root: Path, **sizes: int) -> None:
    """Files of so many bytes; `__` in a keyword is a slash."""
    for name, size in sizes.items():
        write(root / name.replace("__", "/").replace("_dot_", "."), size)


def write(path: Path, size: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def paths(root: Path, *names: str) -> list[str]:
    return [file.path for file in scan(root).candidates(clip(*names))]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["clap/a.avi"], "clap/a.avi"),  # the exact path
        (["a.avi"], "clap/a.avi"),  # the name, wherever it is
        (["a"], "clap/a.avi"),  # with any media ending
        (["clap/a"], "clap/a.avi"),
        (["UCF/clap/a.avi"], "clap/a.avi"),  # a folder more than there is
        (["a.mp4"], "clap/a.avi"),  # transcoded
        (["-id.mp4"], "deep/er/-id.mp4"),  # ids may begin so
        (["1.5_id"], "deep/1.5_id.webm"),  # what is behind a dot is an ending or it is not
        (["Up.mp4"], "Up.MP4"),  # of endings, case says nothing
        (["A.avi"], None),  # of names it does
        (["notes"], None),  # no media
        (["hidden"], None),
        ([], None),
    ],
)
def test_a_clip_is_found_by_its_names(tmp_path: Path, names: list[str], found: str | None) -> None:
    for path in ("clap/a.avi", "deep/er/-id.mp4", "deep/1.5_id.webm", "Up.MP4", "notes.txt",
                 ".cache/hidden.mp4"):  # fmt: skip
        write(tmp_path / path)
    assert paths(tmp_path, *names) == ([] if found is None else [found])


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_names_are_the_same(tmp_path: Path, form: str) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    on_disk = unicodedata.normalize(form, "küche/né.mp4")  # type: ignore[arg-type]
    write(tmp_path / on_disk)
    for name in ("küche/né.mp4", "né.mp4", "né"):
        assert paths(tmp_path, unicodedata.normalize(other, name)) == [on_disk]  # type: ignore[arg-type]


def test_of_several_files_the_better_one_is_first(tmp_path: Path) -> None:
    for path, size in (("v/a.mp4", 10), ("w/a.mp4", 30), ("x/a.mp4", 30), ("a.webm", 99),
                       ("fixed/a.mp4", 5)):  # fmt: skip
        write(tmp_path / path, size)
    # The path as named; then the same name, the larger first, of equals by path; then the stem.
    assert paths(tmp_path, "v/a.mp4") == ["v/a.mp4", "w/a.mp4", "x/a.mp4", "fixed/a.mp4", "a.webm"]
    # An earlier name of the clip comes before a later one, however large that file is.
    assert paths(tmp_path, "fixed/a.mp4", "w/a.mp4")[:2] == ["fixed/a.mp4", "w/a.mp4"]


def test_a_name_that_two_folders_have_is_found_in_its_own_only(tmp_path: Path) -> None:
    write(tmp_path / "data/clap/1.mp4")
    clips = [clip(f"{c}/1.mp4", "1.mp4", clip_id=c) for c in ("clap", "drum")]
    shared = shared_names(clips)
    assert shared == {"1"}
    index = scan(tmp_path)
    assert [f.path for f in index.candidates(clips[0], shared)] == ["data/clap/1.mp4"]
    assert index.candidates(clips[1], shared) == []  # never the clip of another class
    assert shared_names([clip("a/1.mp4"), clip("a/2.mp4"), clip("1.mp4", "b/2")]) == {"1"} | {"2"}


def test_links_are_followed_once_and_listed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/a.mp4")
    write(tmp_path / "media/own/b.mp4")
    (tmp_path / "media/disk").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "media/own/ring").symlink_to(tmp_path / "media")
    (tmp_path / "media/c.mp4").symlink_to(tmp_path / "elsewhere/a.mp4")
    (tmp_path / "media/d.mp4").symlink_to("nothing.mp4")
    index = scan(tmp_path / "media")
    assert list(index.files) == ["c.mp4", "disk/a.mp4", "own/b.mp4"]
    assert index.links_outside == ["c.mp4", "disk"]
    assert index.unusable == [("d.mp4", "No such file or directory")]


def test_a_file_that_two_links_lead_to_is_said(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/run/0.mp4")
    write(tmp_path / "media/walk/1.mp4")
    write(tmp_path / "media/.git/annex/2.mp4")
    (tmp_path / "media/run").mkdir()
    (tmp_path / "media/run/inside").symlink_to(tmp_path / "elsewhere/run")
    (tmp_path / "media/run/one.mp4").symlink_to(tmp_path / "elsewhere/run/0.mp4")
    (tmp_path / "media/run/walk.mp4").symlink_to(tmp_path / "media/walk/1.mp4")
    (tmp_path / "media/run/annexed.mp4").symlink_to(tmp_path / "media/.git/annex/2.mp4")
    (tmp_path / "media/up").symlink_to(tmp_path)
    found = walk(tmp_path / "media")
    assert [file.path for file in found.files] == [
        "run/annexed.mp4", "run/inside/0.mp4", "run/one.mp4", "run/walk.mp4", "walk/1.mp4",
    ]  # fmt: skip
    assert found.links_again == {"run/inside/0.mp4": "run/one.mp4", "run/walk.mp4": "walk/1.mp4",
                                 "up": str(tmp_path)}  # fmt: skip
    assert found.links_outside == ["run/inside", "run/one.mp4"]
    assert found.num_hidden == 1


def test_hidden_files_and_folders_of_systems_are_no_media(tmp_path: Path) -> None:
    for name in ("a/1.mp4", "a/._1.mp4", "a/.hidden.mp4", "a/@eaDir/1.mp4/thumb.mp4",
                 ".Trashes/501/x.mp4", ".cache/x.mp4", "__MACOSX/a/._1.mp4", "__MACOSX/a/1.mp4",
                 "$RECYCLE.BIN/x.mp4", "lost+found/x.mp4"):  # fmt: skip
        write(tmp_path / name)
    found = walk(tmp_path)
    assert [file.path for file in found.files] == ["a/1.mp4"]
    assert found.num_hidden == 8


HEADS = {
    "a.mp4x": b"\0\0\0\x18ftypmp42", "noending": b"\x1a\x45\xdf\xa3x",
    "b.dat": b"RIFF\0\0\0\0AVI LIST",
    "c.tod": (b"\x47" + bytes(187)) * 5, "d.m2t": (bytes(4) + b"\x47" + bytes(187)) * 5,
    "e.mod": b"\0\0\x01\xba1", "f.dvr": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "g.mxf":
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "h.x": b"FLV\x01",
}  # fmt: skip


def test_a_file_with_an_unknown_ending_is_asked(tmp_path: Path) -> None:
    for name, data in HEADS.items():
        (tmp_path / name).write_bytes(data + bytes(1000))
    for name, data in {"i.heif": b"\0\0\0\x18ftypheic", "j": b"RIFF\0\0\0\0WEBP",
                       "k.txt": HEADS["a.mp4x"],
                       "l.bin": bytes(2000), "m": b"", "n.xyz": b"hello"}.items():  # fmt: skip
        (tmp_path / name).write_bytes(data)
    found = walk(tmp_path)
    assert [file.path for file in found.files] == sorted(HEADS)
    assert found.others == {".heif": 1, "(no ending)": 2, ".txt": 1, ".bin": 1, ".xyz": 1}
    assert paths(tmp_path, "a.mp4") == ["a.mp4x"]  # another ending
    assert paths(tmp_path, "b") == ["b.dat"]


def test_what_cannot_be_named_in_a_manifest_is_said(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"x")
    index = scan(tmp_path)
    assert not index.files
    assert index.unusable == [("'caf\\udce9.mp4'", "its name is not UTF-8: rename it")]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no such folder \(--root\)"):
        scan(tmp_path / "none")


def tar(path: Path, *members: str, link: bool = False) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as file:
        for name in members:
            info = tarfile.TarInfo(name)
            info.size = 0 if link else 5
            info.type, info.linkname = (tarfile.SYMTYPE, "/etc/passwd") if link else (b"0", "")
            file.addfile(info, io.BytesIO(b"media"))
    return path


def pack(path: Path, *members: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in members:
            file.writestr(name, b"media")
    return path


@pytest.mark.parametrize("make", [tar, pack])
@pytest.mark.parametrize(
    ("member", "why"),
    [
        ("/etc/a.mp4", "has an absolute path"),
        ("C:\\a.mp4", "has an absolute path"),
        ("../a.mp4", "leaves its folder"),
        ("x/../../a.mp4", "leaves its folder"),
        ("..\\a.mp4", "leaves its folder"),
    ],
)
def test_archives_that_reach_out_are_refused_as_a_whole(tmp_path, make, member, why) -> None:
    make(tmp_path / "media.zip" if make is pack else tmp_path / "media.tar", "good.mp4", member)
    index = scan(tmp_path)
    archive = look_into(tmp_path, index.archives[0])
    assert why in archive.refused
    with pytest.raises(ManifestError, match="refused"):
        unpack(tmp_path, archive, "new")
    assert sorted(p.name for p in tmp_path.rglob("*")) == index.archives


def test_archives_with_links_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    tar(tmp_path / "a.tgz", "a.mp4", link=True)
    assert "is a link or a device" in look_into(tmp_path, "a.tgz").refused
    write(tmp_path / "b.zip", 100)
    assert look_into(tmp_path, "b.zip").refused.startswith("it cannot be read: ")
    whole = tar(tmp_path / "c.tgz", "a.mp4", "b.mp4").read_bytes()
    (tmp_path / "c.tgz").write_bytes(whole[:-30])
    assert look_into(tmp_path, "c.tgz").refused.startswith("it cannot be read: ")


def test_archives_of_damaged_lzma_are_refused_and_stop_nothing(tmp_path: Path) -> None:
    data = random.Random(0).randbytes(300_000)  # several blocks: the first is read when opened
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as file:
        for name in ("a.mp4", "b.mp4"):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("a.mp4", data)
    for path, at in ((tmp_path / "a.tar.xz", 150_000), (tmp_path / "b.zip", 60)):
        whole = path.read_bytes()
        path.write_bytes(whole[:at] + bytes(99) + whole[at + 99 :])
    assert look_into(tmp_path, "a.tar.xz").refused == "it cannot be read: Corrupt input data"
    archive = look_into(tmp_path, "b.zip")  # the list of a zip is not compressed
    with pytest.raises(ManifestError, match=r"b\.zip: a\.mp4: Corrupt input data"):
        unpack(tmp_path, archive, "work")
    assert not [path for path in (tmp_path / "work").rglob("*") if path.is_file()]


@pytest.mark.parametrize("make", [tar, pack])
def test_unpacking_adds_media_and_overwrites_nothing(tmp_path: Path, make) -> None:
    name = "new.zip" if make is pack else "new.tar.gz"
    make(tmp_path / name, "k/a.mp4", "k/b.mp4", "k/readme.txt")
    archive = look_into(tmp_path, name)
    assert (archive.media, archive.num_members) == (("k/a.mp4", "k/b.mp4"), 3)
    assert (archive.media_bytes, archive.refused) == (10, "")
    mine = write(tmp_path / "work/new/k/b.mp4", 3)
    assert unpack(tmp_path, archive, "work") == 1
    assert mine.read_bytes() == b"xxx"
    assert (tmp_path / "work/new/k/a.mp4").read_bytes() == b"media"
    assert unpack(tmp_path, archive, "work") == 0
    assert list(scan(tmp_path).files) == ["work/new/k/a.mp4", "work/new/k/b.mp4"]


def test_what_does_not_fit_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar(tmp_path / "a.tar", "a.mp4")
    archive = look_into(tmp_path, "a.tar")
    usage = type("usage", (), {"total": 100, "free": 9})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(ManifestError, match=r"need 5 bytes and 9 are free .*; make room"):
        unpack(tmp_path, archive, "work")
    assert not list(tmp_path.rglob("*.mp4"))
