"""What is said of every expected clip, and what a journal keeps of a killed run."""

import json
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import AUDIO, ENTRY, VIDEO

from avmix.data.manifest import ManifestError
from avmix.media.folder_walk import File
from avmix.media.frame_scan import Check
from avmix.prepare.archives import Archive
from avmix.prepare.clip_status import Judged, judge
from avmix.prepare.inventory import excluded_rows, inventory_of
from avmix.prepare.inventory_html import page_of
from avmix.prepare.inventory_text import lines_of, show_inventory, table_of
from avmix.prepare.media_folder import MediaIndex
from avmix.prepare.probe_counts import probe_counts
from avmix.prepare.probe_journal import Journal, Probed, alone
from avmix.prepare.protocol import Expected, Problem, Protocol

FILE = File("a.mp4", 1000, 1)
GOOD = Probed(video=VIDEO, audio=AUDIO, sha256="00")


def clip(clip_id: str = "a", **changes: Any) -> Expected:
    made = Expected(clip_id=clip_id, split="train", labels=("x",), source_id=clip_id,
                    names=(clip_id,), where="list.txt:1")  # fmt: skip
    return replace(made, **changes)


def protocol(*clips: Expected, **changes: Any) -> Protocol:
    return replace(Protocol(name="p/1", classes=("x", "y"), expected=clips), **changes)


def judged(
    one: Expected, probed: Probed | dict[File, Probed] = GOOD, *, needs_audio: bool = False
) -> Judged:
    found = probed if isinstance(probed, dict) else {FILE: probed}
    made = protocol(one, needs_audio=needs_audio)
    return judge(made, {one: list(found)}, found, min_seconds=0.5)[0]


def test_a_good_file_is_a_row_of_the_manifest() -> None:
    found = judged(clip())
    assert (found.status, found.flags, found.reason) == ("found", (), "")
    assert found.entry == replace(ENTRY, labels=("x",), source_id="a", sha256="00")


@pytest.mark.parametrize(
    ("start", "end", "stretch"),
    [(None, None, (0, 10)), (2.0, 5.0, (2, 5)), (None, 4.0, (0, 4)), (8.0, None, (8, 10)),
     (8.0, 10.2, (8, 10))],
)  # fmt: skip
def test_the_labelled_stretch_is_kept(start, end, stretch) -> None:
    found = judged(clip(start_seconds=start, end_seconds=end))
    assert found.entry is not None
    assert (found.entry.start_seconds, found.entry.end_seconds) == stretch
    assert found.flags == ()


@pytest.mark.parametrize(
    ("changes", "probed", "status", "reason"),
    [
        ({}, Probed(problem="cut off"), "unreadable", "cut off"),
        ({}, replace(GOOD, video=None), "no_pictures", "no video stream"),
        ({"start_seconds": 9.6}, GOOD, "too_short", "0.40 s are available, 0.5 s are needed"),
        ({"start_seconds": 60.0, "end_seconds": 70.0}, GOOD, "too_short", "0.00 s are"),
        ({}, replace(GOOD, video=replace(VIDEO, duration_seconds=0.1)), "too_short", "0.10 s are"),
    ],
)
def test_clips_that_are_left_out_have_a_reason(changes, probed, status, reason) -> None:
    found = judged(clip(**changes), probed)
    assert (found.status, found.entry, found.path) == (status, None, "a.mp4")
    assert found.reason.startswith(reason)


ONLY_AUDIO = replace(GOOD, video=None)


@pytest.mark.parametrize(
    ("audio", "reason"),
    [(None, "no video stream and no audio stream"),
     (replace(AUDIO, silent=True), "no video stream, and its audio is silent")],
)  # fmt: skip
def test_files_without_video_are_kept_for_their_audio_on_request(audio, reason) -> None:
    one = clip(start_seconds=2.0)

    def keep(probed: dict[File, Probed]) -> Judged:
        return judge(protocol(one), {one: list(probed)}, probed, min_seconds=0.5,
                     keep_audio_only=True)[0]  # fmt: skip

    assert "--keep-audio-only" in judged(one, ONLY_AUDIO).reason
    found = keep({FILE: ONLY_AUDIO})
    assert (found.status, found.flags) == ("found", ("audio_only",))
    assert found.entry is not None
    assert (found.entry.video, found.entry.audio) == (None, AUDIO)
    assert (found.entry.start_seconds, found.entry.end_seconds) == (2.0, AUDIO.duration_seconds)
    left = keep({FILE: replace(ONLY_AUDIO, audio=audio)})
    assert (left.status, left.entry, left.reason) == ("no_pictures", None, reason)
    other = File("b.mp4", 1000, 1)
    both = keep({FILE: ONLY_AUDIO, other: GOOD})  # the file with frames is taken, though second
    assert (both.path, both.flags) == ("b.mp4", ("duplicate",))
    assert judged(one, {FILE: ONLY_AUDIO, other: GOOD}).path == "b.mp4"


def test_a_clip_without_a_file_is_missing() -> None:
    found = judged(clip(), {})
    assert (found.status, found.reason, found.path) == ("missing", "no file called a", "")


@pytest.mark.parametrize(
    ("audio", "word"), [(None, "no_audio"), (replace(AUDIO, silent=True), "silent")]
)
def test_without_audio_a_clip_is_kept_or_not_as_the_protocol_says(audio, word) -> None:
    kept = judged(clip(), replace(GOOD, audio=audio))
    assert (kept.status, kept.flags) == ("found", (word,))
    left = judged(clip(), replace(GOOD, audio=audio), needs_audio=True)
    assert (left.status, left.entry) == (word, None)


@pytest.mark.parametrize(("start", "flags"), [(0.1, ()), (0.101, ("av_offset",)),
                                              (-0.2, ("av_offset",))])  # fmt: skip
def test_audio_that_begins_apart_is_remarked_upon(start, flags) -> None:
    found = judged(clip(), replace(GOOD, audio=replace(AUDIO, start_seconds=start)))
    assert (found.status, found.flags) == ("found", flags)


@pytest.mark.parametrize(
    ("seconds", "flags"),
    [(None, ()), (10.0, ()), (10.9, ()), (11.2, ("wrong_duration",)), (9.0, ("wrong_duration",)),
     (9.2, ())],
)  # fmt: skip
def test_a_wrong_length_is_remarked_upon(seconds, flags) -> None:
    found = judged(clip(seconds=seconds))  # it is 10 s long; 10 % of what it should be are allowed
    assert (found.status, found.flags) == ("found", flags)


def test_a_stretch_that_the_file_does_not_hold_is_a_wrong_length() -> None:
    found = judged(clip(start_seconds=8.0, end_seconds=18.0))
    assert (found.flags, found.reason) == (("wrong_duration",), "2.00 s long instead of 10.00")


def test_of_two_files_the_first_that_can_be_read_is_taken() -> None:
    files = [File(f"{n}.mp4", 10, 1) for n in "abc"]
    bad, other = Probed(problem="cut off"), replace(GOOD, sha256="11")
    found = judged(clip(), dict(zip(files, (bad, GOOD, other), strict=True)))
    assert (found.path, found.flags) == ("b.mp4", ("duplicate",))
    assert found.others == (("a.mp4", "unreadable: cut off"),
                            ("c.mp4", "b.mp4 was taken: by folder, name, then size"))  # fmt: skip
    found = judged(clip(), dict.fromkeys(files, GOOD))
    assert found.others[0] == ("b.mp4", "the same content as a.mp4, which was taken")


def test_two_clips_of_the_same_content_are_remarked_upon() -> None:
    one, two, three = clip("a"), clip("b"), clip("c", names=("b",), start_seconds=2.0)
    files = {one: [File("a.mp4", 1, 1)], two: [File("b.mp4", 1, 1)], three: [File("b.mp4", 1, 1)]}
    probed = dict.fromkeys((file for found in files.values() for file in found), GOOD)
    found = judge(protocol(one, two, three), files, probed, min_seconds=0.5)
    assert [f.flags for f in found] == [("duplicate",)] * 3
    assert [f.reason for f in found] == [f"the same content as clip {i}" for i in "baa"]
    # Stretches of one file are no duplicates of each other.
    assert judge(protocol(two, three), files, probed, min_seconds=0.5)[0].flags == ()


def an_inventory() -> tuple[Protocol, list[Judged], dict[str, Any]]:
    clips = (clip("a"), clip("b"), clip("c", split="test"), clip("d", split="test", labels=("y",)))
    problems = (Problem(where="l.txt:9", reason="duplicate row", text="<b>", dropped=True),
                Problem(where="l.txt:8", reason="a typo", text="q", dropped=False))  # fmt: skip
    made = protocol(*clips, problems=problems, published={"train": 5}, leaks="<everyone>")
    files = {clips[0]: [FILE, File("z/a.mp4", 1, 1)], clips[1]: [File("b.mp4", 1, 1)],
             clips[2]: [File("c.mp4", 1, 1)], clips[3]: []}  # fmt: skip
    probed = {file: GOOD for found in files.values() for file in found}
    probed[File("b.mp4", 1, 1)] = Probed(problem="cut off")
    probed[File("c.mp4", 1, 1)] = replace(GOOD, sha256="11", audio=None)
    found = judge(made, files, probed, min_seconds=0.5)
    index = MediaIndex(Path("m"), unusable=[("q.mp4", "gone")], links_outside=["disk"])
    archives = [Archive(path="r.tgz", media=("x/d.mp4",)), Archive(path="e.zip", refused="evil")]
    return (
        made,
        found,
        inventory_of(
            made,
            found,
            index,
            archives,
            ["u.mp4"],
            min_seconds=0.5,
            looks=probe_counts("fast", probed, probed),
        ),
    )


def test_everything_is_counted_per_split_and_class() -> None:
    _, _, data = an_inventory()
    json.dumps(data, allow_nan=False)
    train, test = data["splits"]["train"], data["splits"]["test"]
    assert (train["published"], train["expected"], train["found"]) == (5, 2, 1)
    assert (train["unreadable"], train["kept_duplicate"]) == (1, 1)
    assert (test["published"], test["missing"], test["kept_no_audio"]) == (None, 1, 1)
    assert data["counts"]["expected"] == 4
    assert data["counts"]["annotation"] == 1
    assert data["classes"]["y"] == {"test": {"expected": 1, "missing": 1}}
    assert data["absent_classes"] == ["y"]
    assert data["missing_of_present_classes"] == 0
    assert data["media"]["archives"][0]["num_wanted"] == 1
    for row in (*data["splits"].values(), data["counts"]):
        kept_out = ("missing", "unreadable", "no_pictures", "too_short", "no_audio", "silent")
        assert row["expected"] == row["found"] + sum(row[key] for key in kept_out)


def test_nothing_is_left_out_without_a_row() -> None:
    made, found, _ = an_inventory()
    rows = list(excluded_rows(made, found))
    assert [(r["clip_id"], r["status"], r["path"]) for r in rows] == [
        ("a", "duplicate", "z/a.mp4"),
        ("b", "unreadable", "b.mp4"),
        ("d", "missing", ""),
        (None, "annotation", ""),
    ]
    assert all(row["reason"] and row["where"] for row in rows)
    kept = {one.clip.clip_id for one in found if one.entry is not None}
    assert kept | {r["clip_id"] for r in rows if r["status"] != "annotation"} == set("abcd")


def test_the_terminal_shows_what_matters(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, data = an_inventory()
    headings = [str(column.header) for column in table_of(data).columns]
    assert headings == ["split", "expected", "published", "kept", "missing", "unreadable",
                        "annotation", "no audio*", "duplicate*"]  # fmt: skip
    show_inventory(data)
    shown = capsys.readouterr().out
    for line in lines_of(data):
        assert line in shown
    for said in ("LEAK by definition of this protocol: <everyone>", "1 of 2 classes have no clip",
                 "q.mp4: gone", "e.zip: refused: evil", "r.tgz: may hold 1 of the excluded clips",
                 "l.txt:9: duplicate row", "l.txt:8: a typo (used)", "outside"):  # fmt: skip
        assert said in shown


def test_a_split_of_one_clip_a_class_is_remarked_upon() -> None:
    def lines(*labels: str) -> list[str]:
        clips = [clip(f"{k}", split="val", labels=(label,)) for k, label in enumerate(labels)]
        clips += [clip(f"t{k}", labels=(label,)) for k, label in enumerate("xxyy")]
        found = [Judged(clip=c, status="found", entry=replace(ENTRY, labels=c.labels))
                 for c in clips]  # fmt: skip
        made = inventory_of(protocol(*clips), found, MediaIndex(Path()), (), (), min_seconds=0.5,
                            looks=probe_counts("fast", (), {}))  # fmt: skip
        return [line for line in lines_of(made) if "accuracy" in line]

    said = "val has one clip per class, 2 in all: each changes its accuracy by 50.0 points"
    assert lines("x", "y") == [said]
    assert lines("x", "y", "y") == lines() == []


def test_the_page_needs_nothing_else_and_is_the_same_again() -> None:
    _, found, data = an_inventory()
    kept = [one.entry for one in found if one.entry is not None]
    page = page_of(data, kept)
    assert page == page_of(data, kept)
    asked: list[tuple[str, str | None]] = []
    text: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            asked.extend((k, v) for k, v in attrs if k in ("src", "href", "xlink:href"))

        def handle_data(self, data: str) -> None:
            text.append(data)

    Reader().feed(page.decode())
    assert all(value and value.startswith("#") for _, value in asked)
    assert b"@import" not in page
    assert page.count(b"<svg") == 5
    assert "<b>" in text  # escaped: it is text
    for title in ("length, s", "loudness, dBFS", "frames / s", "size, pixels"):
        assert title in "".join(text)
    assert page_of({**data, "leaks": ""}, [])  # nothing was found: no plots


def test_a_journal_that_was_cut_anywhere_keeps_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "work/probe.jsonl"
    results = {
        File("ä.mp4", 5, 10**18 + 1): GOOD,
        File("b.mp4", 6, 2): Probed(sha256="22", problem="broken"),
        File("c.mp4", 7, 3): replace(GOOD, audio=None),
    }
    journal = Journal(path, "fast")
    for file, probed in results.items():
        journal.add(file, probed)
    journal.close()
    whole = path.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(0, len(whole) + 1, 7):
        path.write_bytes(whole[:cut])
        journal = Journal(path, "fast")
        known = sum(end <= cut for end in ends)
        assert journal.found == dict(list(results.items())[:known])
        for file, probed in list(results.items())[known:]:
            journal.add(file, probed)
        journal.close()
        assert path.read_bytes() == whole


def test_a_journal_does_not_keep_what_may_pass(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "fast")
    journal.add(FILE, Probed(problem="Input/output error", passing=True))
    journal.close()
    assert (tmp_path / "j").read_bytes() == b""


@pytest.mark.parametrize("line", ["{}", "[]", "nothing", "\0" * 50, '{"version": 0}'])
def test_lines_of_another_kind_are_passed_over(tmp_path: Path, line: str) -> None:
    row = {"version": 4, "check": "fast", **asdict(FILE), **asdict(GOOD)}
    (tmp_path / "j").write_text(f"{line}\n{json.dumps(row)}\n")
    journal = Journal(tmp_path / "j", "fast")
    assert journal.found == {FILE: GOOD}
    journal.close()


def test_what_one_check_has_found_does_not_serve_another(tmp_path: Path) -> None:
    part = replace(GOOD, good=((0.0, 1.5), (2.0, 9.0)), in_part="usable from 0 to 1.5 s")
    checks: list[tuple[Check, Probed]] = [("fast", GOOD), ("full", part)]
    for check, probed in checks:
        journal = Journal(tmp_path / "j", check)
        assert journal.found == {}
        journal.add(FILE, probed)
        journal.close()
    for check, probed in checks:
        journal = Journal(tmp_path / "j", check)
        assert journal.found == {FILE: probed}
        journal.close()


@pytest.mark.parametrize("version", [2, 3])
def test_what_an_earlier_version_has_found_is_not_taken(tmp_path: Path, version: int) -> None:
    row = {"version": version, "check": "fast", **asdict(FILE), **asdict(GOOD)}
    (tmp_path / "j").write_text(json.dumps(row) + "\n")
    journal = Journal(tmp_path / "j", "fast")
    assert journal.found == {}
    journal.close()


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path / "w"), pytest.raises(ManifestError, match="another run is preparing it"), \
            alone(tmp_path / "w"):  # fmt: skip
        pass
    with alone(tmp_path / "w"):
        pass
