"""Files are found under the names that people and downloaders give them, by every recipe."""

import csv
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from conftest import AUDIO, VIDEO

from avmix.media.folder_walk import File
from avmix.prepare.clip_file_names import name_match_rank, times_in
from avmix.prepare.clip_status import Judged, files_of, judge
from avmix.prepare.file_mapping import mapping_of, missing_links, show_mapping
from avmix.prepare.inventory import like_missing
from avmix.prepare.media_folder import MediaIndex, scan
from avmix.prepare.probe_journal import Probed
from avmix.prepare.protocol import Expected, Protocol
from avmix.tools.link_list import Item, read_list, write_list
from tests.recipes_media import MAKERS, YT, load_recipe, options

ID = "0wR5jVB-WPk"
FORMS = (
    "{id}_{low:06.0f}_{high:06.0f}", "{id}_{low:.0f}_{high:.0f}", "{id}_{low:.1f}_{high:.1f}",
    "{id}-{low:.0f}-{high:.0f}", "{id}_{low:.0f}", "{id}_{low:06.0f}", "v_{id}_{low:.0f}",
    "Y{id}_{lowms:.0f}_{highms:.0f}", "{id}_{low:.0f}s_{high:.0f}s", "{id}_{low:.0f}_{long:.0f}",
    "A title [{id}] {low:.0f}-{high:.0f}", "{id}.{low:.3f}-{high:.3f}",
)  # fmt: skip
ALONE = ("{id}", "v_{id}", "Y{id}", "A title [{id}]", "A title-{id}")
LAYOUTS = ("{path}", "data/{path}", "any/{name}", "{stem}.mkv", "any/{stem}.WEBM", "{stem}.MP4",
           "{parent}/{stem}.avi", "{parent}/{stem}.mov", "a/b/{parent}/{name}", 
           "{parent}/{stem}.ts")  # fmt: skip


def spelled(form: str, video: str, low: float, high: float) -> str:
    return form.format(id=video, low=low, high=high, lowms=1000 * low, highms=1000 * high,
                       long=high - low)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("video", [ID, YT, "_2345678901"])
@pytest.mark.parametrize("low", [0.0, 1.0, 417.0])
def test_a_name_says_id_and_seconds(form: str, video: str, low: float) -> None:
    times = times_in(spelled(form, video, low, low + 10), video)
    assert times is not None
    assert name_match_rank(times, (low, low + 10)) == (0 if len(times) == 2 else 1)
    assert name_match_rank(times, (low + 20, low + 30)) is None
    assert name_match_rank(times, None) == 3


@pytest.mark.parametrize("form", ALONE)
def test_a_name_says_an_id_alone(form: str) -> None:
    assert times_in(spelled(form, YT, 0, 0), YT) == ()
    assert name_match_rank((), (3.0, 13.0)) == 2


@pytest.mark.parametrize("stem", [f"{ID}_clip", f"x{ID}", f"{ID}9", f"{ID}_1_2_3", f"a_{ID}_x"])
def test_what_says_something_else_is_no_name_of_it(stem: str) -> None:
    assert times_in(stem, ID) is None


def test_seconds_of_another_stretch_are_not_this_one() -> None:
    for form in ("{id}_418_428", "{id}_417_500", "{id}_42", "{id}_417ms_427ms"):
        times = times_in(form.format(id=ID), ID)
        assert times is not None
        assert name_match_rank(times, (417.0, 427.0)) is None


def of_recipe(name: str, root: Path) -> tuple[Protocol, ...]:
    annotations, media = MAKERS[name](root)
    asked = ["kinetics/400"] if name == "kinetics" else []
    shares = {"val": 0.1, "test": 0.2, "source": None}
    return tuple(load_recipe(name).protocols(options(annotations, media, *asked, **shares)))


def index_of(root: Path, *paths: str) -> MediaIndex:
    index = MediaIndex(root)
    for path in sorted(paths):
        index._add(File(path, 1, 1))
    return index


@pytest.mark.parametrize("name", sorted(set(MAKERS) - {"av_mnist"}))
def test_every_recipe_finds_names_in_ten_forms(name: str, tmp_path: Path) -> None:
    protocol = of_recipe(name, tmp_path)[0]
    clips = list({clip.names: clip for clip in protocol.expected}.values())
    if clips[0].video:
        forms = {form: [spelled(form, c.video, *(c.cut_seconds or (5.0, 15.0))) + ".mp4"
                        for c in clips] for form in (*FORMS, *ALONE)}  # fmt: skip
    else:
        forms = {}
        for form in LAYOUTS:
            paths = [PurePosixPath(clip.names[0]) for clip in clips]
            forms[form] = [form.format(path=p, name=p.name, stem=p.stem, parent=p.parent)
                           for p in paths]  # fmt: skip
    assert len(forms) >= 10
    for form, paths in forms.items():
        found = files_of(index_of(tmp_path, *paths), [protocol])
        for clip, path in zip(clips, paths, strict=True):
            assert [file.path for file in found[clip]] == [str(PurePosixPath(path))], form


def cut(clip_id: str, low: float, **changes: object) -> Expected:
    made = Expected(clip_id=clip_id, split="train", labels=("x",), source_id=ID, names=(),
                    video=ID, cut_seconds=(low, low + 10), seconds=10.0, where="l:1")  # fmt: skip
    return replace(made, **changes)


def judged(clips: list[Expected], path: str, seconds: float) -> list[Judged]:
    """What is made of a file of so many seconds that is called so."""
    index = index_of(Path("m"), path)
    protocol = Protocol(name="p", classes=("x", "tap dancing"), expected=tuple(clips))
    video = replace(VIDEO, duration_seconds=seconds)
    probed = Probed(video=video, audio=AUDIO, sha256="00")
    files = files_of(index, [protocol])
    return judge(protocol, files, dict.fromkeys(index.files.values(), probed), min_seconds=0.5)


def test_a_whole_video_gives_the_stretch() -> None:
    one, two = judged([cut("a", 417.0), cut("b", 20.0)], f"{ID}.mp4", 500.0)
    assert one.entry is not None
    assert two.entry is not None
    assert (one.entry.start_seconds, one.entry.end_seconds) == (417, 427)
    assert (two.entry.start_seconds, two.entry.end_seconds) == (20, 30)
    assert one.flags == two.flags == ()
    (end,) = judged([cut("a", 417.0)], f"{ID}.mp4", 426.8)
    assert end.entry is not None
    assert (end.entry.start_seconds, end.entry.end_seconds) == (417, 426.8)


def test_a_long_file_whose_stretch_cannot_be_located_is_refused() -> None:
    (one,) = judged([cut("a", 417.0)], f"{ID}.mp4", 40.0)
    assert (one.status, one.entry) == ("too_long", None)
    assert one.reason == "40.00 s long instead of 10, and without the seconds from 417 to 427"
    (one,) = judged([cut("a", 417.0)], f"{ID}_417_427.mp4", 40.0)
    assert one.reason == ("40.00 s long instead of 10: which part (seconds 417 to 427 of the "
                          "video) it is cannot be known; cut the file")  # fmt: skip
    (one,) = judged([cut("a", 0.0, cut_seconds=None)], f"{ID}.mp4", 40.0)
    assert one.status == "too_long"
    # As keyframes cut it: kept, and remarked upon.
    (one,) = judged([cut("a", 417.0)], f"{ID}_417_427.mp4", 12.5)
    assert (one.status, one.flags) == ("found", ("wrong_duration",))


def test_a_clip_called_by_its_id_alone_is_one_clip() -> None:
    clips = [cut("a", 417.0), cut("b", 20.0), cut("a/test", 417.0, split="test")]
    one, two, again = judged(clips, f"{ID}.mp4", 10.0)
    said = "its name has no seconds, and 2 clips are of its video"
    assert (one.status, one.flags, one.reason) == ("found", ("id_alone",), said)
    assert (two.status, two.entry) == ("missing", None)
    assert two.reason == f"{ID}.mp4 was taken for a: {said}"
    assert again.status == "found"  # the same stretch in another split
    (one,) = judged(clips[:1], f"{ID}.mp4", 10.0)
    assert one.flags == ()


def test_a_file_in_the_folder_of_another_class_is_remarked_upon() -> None:
    (one,) = judged([cut("a", 417.0)], f"Tap_dancing/{ID}_417_427.mp4", 10.0)
    assert (one.status, one.flags) == ("found", ("other_folder",))
    assert one.reason == "it lies in the folder of class 'tap dancing'"
    for folder in ("x", "train", "x/tap dancing"):
        (one,) = judged([cut("a", 417.0)], f"{folder}/{ID}_417_427.mp4", 10.0)
        assert one.flags == ()


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        ((), (f"x/{ID}_417.mp4", f"tap dancing/{ID}_417_427.mp4")),
        (("a.mp4",), ("x/a.mkv", "tap dancing/a.mp4")),
        (("a.mp4", "b.mp4"), ("x/b.mp4", "train/tap_dancing/a.mp4")),
        (("a.mp4",), ("other/a.mp4", "tap dancing/a.mp4")),
        (("tap dancing/a.mp4",), ("tap dancing/a.mp4", "x/a.mp4")),  # the annotations say so
    ],
)
def test_a_file_in_the_folder_of_another_class_comes_last(
    names: tuple[str, ...], paths: tuple[str, ...]
) -> None:
    clip = cut("a", 417.0, names=names)
    protocol = Protocol(name="p", classes=("tap dancing", "x"), expected=(clip,))
    found = files_of(index_of(Path("m"), *reversed(paths)), [protocol])
    assert tuple(file.path for file in found[clip]) == paths


def test_files_of_one_stem_and_two_clips_are_no_duplicates() -> None:
    def named(name: str) -> Expected:
        return Expected(clip_id=name, split="train", labels=("x",), source_id=name, names=(name,))

    clips = [named("a/x.mp4"), named("a/x.mkv")]
    protocol = Protocol(name="p", classes=("x",), expected=tuple(clips))
    found = files_of(index_of(Path("m"), "a/x.mp4", "a/x.mkv"), [protocol])
    assert [[file.path for file in found[clip]] for clip in clips] == [["a/x.mp4"], ["a/x.mkv"]]
    # Where only one of them is there, it is its own clip.
    found = files_of(index_of(Path("m"), "a/x.mkv"), [protocol])
    assert [[file.path for file in found[clip]] for clip in clips] == [[], ["a/x.mkv"]]


def test_unexpected_files_that_begin_as_missing_clips_are_said() -> None:
    missing = [Judged(clip=cut("a", 417.0), status="missing"),
               Judged(clip=replace(cut("b", 1.0), video="", names=("u/v_x_c1.avi",)),
                      status="missing")]  # fmt: skip
    files = [f"{ID}_part2.mp4", f"w/v_{ID}_x.mp4", "v_x_c1_small.mp4", "v_x_c12.mp4", "else.mp4"]
    assert like_missing(files, missing) == [
        {"path": f"{ID}_part2.mp4", "clip_id": "a"}, {"path": f"w/v_{ID}_x.mp4", "clip_id": "a"},
        {"path": "v_x_c1_small.mp4", "clip_id": "b"},
    ]  # fmt: skip


def test_what_is_missing_is_a_list_for_download(tmp_path: Path) -> None:
    clips = [cut("a", 417.0), cut("again", 417.0), cut("c", 0.0, cut_seconds=None),
             cut("no link", 1.0, video="P01_01")]  # fmt: skip
    link = f"https://www.youtube.com/watch?v={ID}"
    cut_line = f"{link}\t{ID}_000417_000427\t417-427"
    path = tmp_path / "missing.txt"
    assert write_list(path, missing_links(clips)) == 3
    assert path.read_text().splitlines() == [cut_line, cut_line, f"{link}\t{ID}"]
    assert read_list(path)[0] == Item(
        url=link, name=f"{ID}_000417_000427", cut_seconds=(417.0, 427.0)
    )
    assert not list(missing_links([]))


def test_a_mapping_is_shown_and_written_before_anything_is_read(tmp_path, capsys) -> None:
    media = tmp_path / "media"
    for name in (f"{ID}_417_427.mp4", f"{ID}_x.mp4", "else.mp4"):
        media.mkdir(exist_ok=True)
        (media / name).write_bytes(b"not a video")
    clips = (cut("a", 417.0), cut("b", 20.0))
    protocol = Protocol(name="p", classes=("x",), expected=clips)
    index = scan(media)
    show_mapping(mapping_of(protocol, index, files_of(index, [protocol])), tmp_path / "out")
    said = capsys.readouterr().out
    assert f"1  id and seconds: a <- {ID}_417_427.mp4" in said
    assert "1  missing: b" in said
    assert f"2  files that nothing expects: {ID}_x.mp4, else.mp4" in said
    assert f"1  of them begin as clips that are missing are called: {ID}_x.mp4" in said
    with (tmp_path / "out/mapping.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["clip_id"], r["path"], r["how"]) for r in rows] == [
        ("a", f"{ID}_417_427.mp4", "id and seconds"), ("b", "", "missing")]  # fmt: skip
    assert (tmp_path / "out/missing.txt").read_text().count("\n") == 1
