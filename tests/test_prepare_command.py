"""The command that every recipe is, on real files: what it writes, and that nothing breaks it."""

import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from media import write_flash_beep

from avmix.data.manifest import read_manifest, splits_of
from avmix.prepare.command import run_recipe
from tests.mini_recipe import hanging, protocols

ROOT = Path(__file__).parents[1]
SCRIPT = Path(__file__).with_name("mini_recipe.py")
TABLE = """mini/1
a1,train,clap,s1,clap/a1.mp4
a2,train,clap,s2,a2.mp4
a3,test,clap,s3,clap/a3,,,9.0
d1,train,drum,s4,d1
d2,test,drum,s5,d2,0.5,
d3,test,drum,s6,d3,3.0,5.0
-x,train,drum,s7,-x.mp4
gone,train,drum,s8,gone.mp4
late,test,drum,s9,late
torn,test,drum,s9,torn.mp4
quiet,train,drum,s4,quiet.mp4
mute,train,drum,s4,mute.mp4
t1,test,tap,t1,t1.mp4
a row
"""


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 1 s: some good, and one of everything that can be wrong with them. Only read it."""
    root = tmp_path_factory.mktemp("mini")
    (root / "clap").mkdir()
    small: dict[str, Any] = {"seconds": 1, "size": (64, 48), "events_seconds": (0.4,)}
    write = lambda name, **how: write_flash_beep(root / name, **{**small, **how})  # noqa: E731
    write("clap/a1.mp4")
    write("a2.mp4", fps=20)
    write("clap/a3.mkv")
    write("d1.mp4", fps=10)
    write("d2.mp4", size=(80, 48))
    write("d3.mp4")
    write("-x.mp4", fps=8)
    write("late.mp4", audio_start_seconds=0.3)
    write("quiet.mp4", events_seconds=())
    write("mute.mp4", audio_codec=None)
    write("more.mp4", fps=5)  # nothing expects it
    shutil.copy(root / "d1.mp4", root / "clap/d1.mp4")  # a second file of the same size
    data = (root / "d1.mp4").read_bytes()
    (root / "torn.mp4").write_bytes(data[: len(data) // 2])
    (root / "list.csv").write_text(TABLE)
    return root


def run(media: Path, out: Path, *more: str, table: str = TABLE) -> int:
    """The recipe in this process."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "list.csv").write_text(table)
        given = ["--media", str(media), "--annotations", folder, "--out", str(out), *more]
        return run_recipe("mini", "doc", protocols, argv=given)


def command(media: Path, out: Path, *more: str) -> list[str]:
    """The recipe as a script."""
    return [sys.executable, str(SCRIPT), "--media", str(media), "--out", str(out), *more]


def tree(out: Path) -> dict[str, bytes]:
    """Every result and its bytes."""
    found = (p for p in out.rglob("*") if p.is_file() and ".prepare" not in p.parts)
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in found}


def without_plots(out: Path) -> dict[str, bytes]:
    """All but the page, which has none in runs within this process."""
    return {name: data for name, data in tree(out).items() if name != "inventory.html"}


NO_TAP = TABLE.replace("t1,test,tap,t1,t1.mp4\n", "")


@pytest.fixture(scope="module", autouse=True)
def no_plots() -> Iterator[None]:
    """They take longer than everything else, and have a test of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avmix.prepare.inventory_html._plots", lambda entries: [])
        yield


@pytest.fixture(scope="module")
def made(media: Path, no_plots: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of an undisturbed run; only read it."""
    out = tmp_path_factory.mktemp("made") / "out"
    assert run(media, out) == 0
    return out


@pytest.fixture
def known(made: Path, tmp_path: Path) -> Path:
    """A folder for results that knows what is in the files."""
    (tmp_path / "out/.prepare").mkdir(parents=True)
    shutil.copy(made / ".prepare/probe.jsonl", tmp_path / "out/.prepare")
    return tmp_path / "out"


def test_every_clip_is_kept_or_has_a_row(media: Path, made: Path) -> None:
    assert splits_of(made) == ("train", "test")
    train, test = read_manifest(made, "train"), read_manifest(made, "test")
    assert train.classes == ("clap", "drum", "tap")  # nothing of `tap` is there: an output is
    assert [e.clip_id for e in train.entries] == ["a1", "a2", "d1", "-x", "quiet", "mute"]
    assert [(e.clip_id, e.path) for e in test.entries] == [
        ("a3", "clap/a3.mkv"), ("d2", "d2.mp4"), ("late", "late.mp4")
    ]  # fmt: skip
    assert test.entries[1].start_seconds == 0.5
    rows = [json.loads(line) for line in (made / "excluded.jsonl").read_text().splitlines()]
    assert {(r["clip_id"], r["status"]) for r in rows} == {
        ("d1", "duplicate"), ("d3", "too_short"), ("gone", "missing"), ("torn", "unreadable"),
        ("t1", "missing"), (None, "annotation"),
    }  # fmt: skip
    data = json.loads((made / "inventory.json").read_text())
    flags = {remark["clip_id"]: remark["flags"] for remark in data["remarks"]}
    # Of the two files of the same size the one in the folder of another class comes last.
    assert flags == {"d1": ["duplicate"], "late": ["av_offset"], "quiet": ["silent"],
                     "mute": ["no_audio"], "a3": ["wrong_duration"]}  # fmt: skip
    assert data["media"]["unexpected"] == ["more.mp4"]
    assert data["absent_classes"] == ["tap"]
    notes = json.loads((made / "dataset.json").read_text())["notes"]
    assert notes["arguments"] == {"min_seconds": 0.5}
    assert notes["absent_classes"] == ["tap"]
    assert notes["counts"]["expected"] == 13


def test_workers_change_nothing(media: Path, made: Path, tmp_path: Path) -> None:
    assert run(media, tmp_path / "out", "--workers", "3") == 0
    assert tree(tmp_path / "out") == tree(made)


def test_files_are_probed_once(media, made, monkeypatch, capsys) -> None:
    monkeypatch.setattr("avmix.prepare.probe_files.probe_here", None)  # nothing is left for it
    monkeypatch.setattr("avmix.prepare.probe_files._running", lambda tasks, *_: _none(tasks))
    before = {path: path.stat().st_mtime_ns for path in made.glob("*.json*")}
    assert run(media, made) == 0
    said = capsys.readouterr().out
    assert (
        "wrote 9 clips; excluded 4, ignored 1 additional file of the same clips, ignored 1 row of"
        in said
    )
    assert set(before) == set(made.glob("*.json*"))


def _none(tasks: list[Any]) -> Iterator[Any]:
    assert not tasks
    yield from ()


def test_where_audio_is_needed_clips_without_it_are_left_out(media: Path, known: Path) -> None:
    table = TABLE.replace("mini/1", "mini/1 needs_audio")
    assert run(media, known, table=table) == 0
    rows = (known / "excluded.jsonl").read_text().splitlines()
    found = {json.loads(row)["clip_id"]: json.loads(row)["status"] for row in rows}
    assert (found["quiet"], found["mute"]) == ("silent", "no_audio")
    assert [e.clip_id for e in read_manifest(known, "train").entries][-1] == "-x"


def test_several_protocols_have_folders_and_names(media, known, capsys) -> None:
    table = TABLE.replace("mini/1", "mini/1 mini/two/3")
    assert run(media, known, table=table) == 0
    assert read_manifest(known / "mini_1", "test").protocol == "mini/1"
    assert read_manifest(known / "mini_two_3", "test").protocol == "mini/two/3"
    assert run(media, known, "--protocol", "mini/1", table=table) == 0
    assert splits_of(known) == ("train", "test")
    assert run(media, known, "--protocol", "mini/4", table=table) == 2
    error = capsys.readouterr().err
    assert error == "error: --protocol mini/4: unknown; choices: mini/1, mini/two/3\n"


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",s2,", ",s3,", "source 's3' is in train (list.csv:3) and in test (list.csv:4): a leak"),
        ("a2,train", "a1,train", "clip 'a1' is listed twice: list.csv:2 and list.csv:3"),
        ("a2,train", "a2,validate", "list.csv:3: split 'validate' is none of"),
        (",clap,s1", ",slap,s1", "list.csv:2: labels ('slap',) are not classes"),
        ("mini/1", "mini/1\n", "none"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(media, known, capsys, old, new, message) -> None:
    table = TABLE.replace(old, new)
    if message == "none":
        table, message = "mini/1\na row\n", "the annotations list no usable clip"
    assert run(media, known, table=table) == 1
    assert message in one_line(capsys)
    assert not (known / "dataset.json").exists()


def test_a_class_that_has_clips_and_none_to_train_on_is_said(media, known, capsys) -> None:
    assert run(media, known, table=TABLE.replace(",tap,t1,t1", ",tap,t1,more")) == 0
    said = capsys.readouterr().out
    assert "1 classes have clips, but none in train, so they cannot be learned: tap" in said
    assert read_manifest(known, "train").classes == read_manifest(known, "test").classes


def test_a_set_for_evaluation_only(media, known, capsys) -> None:
    table = "\n".join(line for line in TABLE.splitlines() if ",train," not in line)
    assert run(media, known, table=table) == 0
    assert splits_of(known) == ("test",)
    assert read_manifest(known, "test").classes == ("clap", "drum", "tap")
    assert "none in train" not in capsys.readouterr().out


def test_some_classes_by_name_or_by_a_file(media, known, tmp_path, capsys) -> None:
    assert run(media, known, "--classes", "Drum", "tap") == 0
    found = read_manifest(known, "train")
    assert found.classes == ("drum", "tap")
    assert found.protocol.startswith("mini/1/2_classes_")
    assert [e.clip_id for e in found.entries] == ["d1", "-x", "quiet", "mute"]
    assert "--classes: 2 of 3 classes, 10 of 13 clips" in capsys.readouterr().out
    (tmp_path / "some.txt").write_text("drum\ntap\n")
    assert run(media, known, "--classes", str(tmp_path / "some.txt")) == 0
    assert read_manifest(known, "train").protocol == found.protocol
    capsys.readouterr()
    assert run(media, known, "--classes", "drums") == 1
    assert "mini/1 has no class 'drums'; did you mean 'drum'?" in one_line(capsys)


def test_a_dry_run_reads_nothing(media, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert run(media, out, "--dry_run") == 0
    assert not (out / ".prepare/probe.jsonl").exists()
    assert set(tree(out)) == {"mapping.csv"}
    assert "mini/1: 13 clips" in capsys.readouterr().out


def test_a_leak_by_definition_is_allowed_and_noted(media, known, capsys) -> None:
    table = TABLE.replace(",s2,", ",s3,").replace("mini/1", "mini/1 leaks")
    assert run(media, known, table=table) == 0
    assert "LEAK by definition of this protocol: all of them" in capsys.readouterr().out
    assert json.loads((known / "dataset.json").read_text())["leaks"] == "all of them"
    assert "s3" in {e.source_id for e in read_manifest(known, "train").entries}


@pytest.mark.parametrize(("name", "leaks"), [("clap", {"leaks": "all of them"}), ("drum", {})])
def test_some_classes_leak_where_their_own_clips_do(media, known, name, leaks) -> None:
    table = TABLE.replace(",s2,", ",s3,").replace("mini/1", "mini/1 leaks")  # in `clap` only
    assert run(media, known, "--classes", name, table=table) == 0
    header = json.loads((known / "dataset.json").read_text())
    assert {key: header[key] for key in header if key == "leaks"} == leaks


def test_the_inventory_comes_also_where_there_can_be_no_manifest(media, tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", tmp_path / "out", table=TABLE) == 1
    assert "none of 13 clips can be used; is --root the right folder?" in one_line(capsys)
    assert set(tree(tmp_path / "out")) == {"excluded.jsonl", "inventory.html", "inventory.json"}
    assert run(tmp_path / "none", tmp_path / "out", table=TABLE) == 1
    assert "none: no such folder (--root)" in one_line(capsys)


def test_changed_annotations_say_what_changed_and_replace_only_when_told(
    media, known, tmp_path, capsys
) -> None:
    out = known
    assert run(media, out, table=TABLE) == 0
    old = tree(out)
    table = TABLE.replace("a2,train,clap", "a2,train,drum").replace("d2,test", "d2,train")
    table = table.replace("-x,train,drum,s7,-x.mp4\n", "more,train,drum,s7,more.mp4\n")
    capsys.readouterr()
    assert run(media, out, table=table) == 1
    error = one_line(capsys)
    assert ("differs from this one: 1 clip added (more); 1 clip removed (-x); 1 clip relabelled "
            "(a2); 1 clip moved to another split (d2). Nothing was written; add --overwrite"
            ) in error  # fmt: skip
    assert tree(out) == old
    assert run(media, out, "--overwrite", table=table) == 0
    assert "replaced: 1 clip added (more); 1 clip removed" in capsys.readouterr().out
    shutil.copytree(out / ".prepare", tmp_path / "fresh/.prepare")
    assert run(media, tmp_path / "fresh", table=table) == 0
    assert tree(out) == tree(tmp_path / "fresh")


def test_found_files_are_a_change_too(media, known, tmp_path, capsys) -> None:
    copy = tmp_path / "media"
    shutil.copytree(media, copy)
    assert run(copy, known) == 0
    shutil.copy(copy / "more.mp4", copy / "gone.mp4")
    assert run(copy, known) == 1
    assert "1 clip now kept (gone)" in one_line(capsys)


@pytest.mark.parametrize("when", range(9))
def test_interrupted_while_results_are_put_in_place_the_next_run_is_whole(
    media, made, known, monkeypatch, when
) -> None:
    out, steps = known, 0
    assert run(media, out, table=NO_TAP) == 0
    for name in ("replace", "unlink"):
        real = getattr(Path, name)

        def step(self: Path, *args: Any, real: Any = real, **kwargs: Any) -> Any:
            nonlocal steps
            steps += out in self.parents
            if steps > when and out in self.parents:
                raise KeyboardInterrupt
            return real(self, *args, **kwargs)

        monkeypatch.setattr(Path, name, step)
    assert run(media, out, "--overwrite") == 130
    monkeypatch.undo()
    assert run(media, out, "--overwrite") == 0
    assert tree(out) == tree(made)


@pytest.mark.parametrize("archive", ["zip", "gztar"])
def test_replacements_in_an_archive_are_unpacked_when_told(
    media, known, tmp_path, capsys, archive
) -> None:
    copy = tmp_path / "media"
    shutil.copytree(media, copy)
    (tmp_path / "new").mkdir()
    shutil.copy(media / "more.mp4", tmp_path / "new/torn.mp4")
    shutil.make_archive(str(copy / "replacement"), archive, tmp_path / "new")
    out = known
    assert run(copy, out) == 0
    assert "may hold 1 of the excluded clips; unpack it, or add" in capsys.readouterr().out
    assert run(copy, out, "--archives", "../work", "--overwrite") == 1
    assert "not a folder within" in one_line(capsys)
    assert run(copy, out, "--archives", "work", "--overwrite") == 0
    assert "replaced: 1 clip now kept (torn)" in capsys.readouterr().out
    paths = {e.clip_id: e.path for e in read_manifest(out, "test").entries}
    assert paths["torn"] == "work/replacement/torn.mp4"


def test_a_full_or_read_only_disk_leaves_the_old_result_whole(
    media, known, tmp_path, capsys
) -> None:
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("no full and no read-only disk is tried: only root can make a small one")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no full and no read-only disk is tried: {done.stderr.strip()}")
    try:
        out = disk / "out"
        shutil.copytree(known, out)
        assert run(media, out, table=NO_TAP) == 0
        old = tree(out)
        (disk / "ballast").write_bytes(b"\0" * (shutil.disk_usage(disk).free - 8192))
        capsys.readouterr()
        assert run(media, out, "--overwrite", table=TABLE) == 1
        assert "No space left on device" in one_line(capsys)
        assert tree(out) == old
        assert len(read_manifest(out, "train").entries) == 6
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert run(media, out, "--overwrite", table=TABLE) == 1
        assert "Read-only file system" in one_line(capsys)
        assert tree(out) == old
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("arguments", [["--workers", "0"], ["--seconds", "-1"], ["--none"], []])
def test_wrong_usage_is_2(media: Path, tmp_path: Path, arguments: list[str]) -> None:
    start = ["--media", str(media), "--out", str(tmp_path)] if arguments else []
    assert run_recipe("mini", "doc", protocols, argv=[*start, *arguments]) == 2


def test_help_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_recipe("mini", "What it does.", protocols, argv=["--help"]) == 0
    assert "What it does." in capsys.readouterr().out


def killed_then_resumed(media: Path, out: Path, kills: int) -> None:
    """Kill the script so many times at random, then let it end."""
    rng = random.Random(0)
    environment = {**os.environ, "AVMIX_TEST_SLOW": "0.1"}
    journal = out / ".prepare/probe.jsonl"
    for _ in range(kills):
        before = journal.stat().st_size if journal.exists() else 0
        child = subprocess.Popen(command(media, out, "--workers", "1"), env=environment,
                                 stdout=subprocess.DEVNULL)  # fmt: skip
        # From the first lines that it adds on: before, it only starts.
        while child.poll() is None and (
            not journal.exists() or journal.stat().st_size <= before
        ):  # fmt: skip
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.25))
        child.send_signal(signal.SIGKILL)
        child.wait()
    done = subprocess.run(command(media, out), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_killed_and_resumed_it_is_the_same(media: Path, made: Path, tmp_path: Path) -> None:
    killed_then_resumed(media, tmp_path / "out", kills=1)
    assert without_plots(tmp_path / "out") == without_plots(made)


@pytest.mark.slow  # every start imports torch twice
def test_killed_ten_times_and_resumed_it_is_the_same(media, made, tmp_path) -> None:
    killed_then_resumed(media, tmp_path / "out", kills=10)
    assert without_plots(tmp_path / "out") == without_plots(made)


@pytest.mark.long
def test_a_file_that_hangs_costs_its_limit_and_nothing_else(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avmix.prepare.probe_pool.probe_one", hanging)
    out = tmp_path / "out"
    assert run(media, out, "--seconds", "2") == 0
    rows = [json.loads(line) for line in (out / "excluded.jsonl").read_text().splitlines()]
    hung = next(row for row in rows if row["clip_id"] == "a2")
    assert hung["status"] == "unreadable"
    assert hung["reason"] == "not finished within 2 s; a long file needs a larger --seconds"
    assert len(read_manifest(out, "train").entries) == 5
    # With another limit it is read again, and what is known is not.
    monkeypatch.undo()
    lines = (out / ".prepare/probe.jsonl").read_text().count("\n")
    assert run(media, out, "--overwrite") == 0
    assert len(read_manifest(out, "train").entries) == 6
    assert (out / ".prepare/probe.jsonl").read_text().count("\n") == lines + 1


DYING = """
import os, pathlib, sys
from avmix.prepare import ray_cluster
from avmix.prepare.command import run_recipe
from tests.mini_recipe import protocols

whole, mark = ray_cluster._batch, pathlib.Path(sys.argv.pop())

def dying(looks):
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), 9)
    return whole(looks)

ray_cluster._batch, ray_cluster._FILES_PER_TASK = dying, 3
sys.exit(run_recipe("mini", "", protocols))
"""


@pytest.mark.long  # starts a cluster
@pytest.mark.parametrize("loses_a_worker", [False, True])
def test_a_cluster_gives_the_same(
    media: Path, made: Path, tmp_path: Path, loses_a_worker: bool
) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip(
            "--ray is not tried: Ray is not installed: pip install '.[ray]' in the checkout"
        )
    given = command(media, tmp_path / "out", "--ray", "local")
    if loses_a_worker:
        (tmp_path / "dying.py").write_text(DYING)
        given[1] = str(tmp_path / "dying.py")
        given.append(str(tmp_path / "mark"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(given, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mark").exists() == loses_a_worker
    assert without_plots(tmp_path / "out") == without_plots(made)


def test_without_ray_it_says_how_to_get_it(media, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(media, tmp_path / "out", "--ray", "local") == 1
    assert "--ray needs Ray: pip install '.[ray]' in the checkout" in one_line(capsys)


def test_audio_only_files_are_kept_and_counted_on_request(
    no_plots: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    media = tmp_path / "media"
    media.mkdir()
    for name in ("a1", "a2"):
        write_flash_beep(media / f"{name}.mp4", seconds=1, size=(64, 48), events_seconds=(0.4,))
    write_flash_beep(media / "d1.mp4", seconds=1, events_seconds=(0.3,), video_codec=None)
    table = "mini/1\na1,train,clap,s1,a1\na2,train,drum,s2,a2\nd1,train,drum,s3,d1\n"
    (media / "list.csv").write_text(table)
    assert run(media, tmp_path / "out", table=table) == 0
    assert len(read_manifest(tmp_path / "out", "train").entries) == 2
    notes = json.loads((tmp_path / "out/dataset.json").read_text())["notes"]
    assert "keep_audio_only" not in notes["arguments"]
    capsys.readouterr()
    assert run(media, tmp_path / "kept", "--keep-audio-only", table=table) == 0
    assert "audio only*" in capsys.readouterr().out
    entry = read_manifest(tmp_path / "kept", "train").entries[2]
    assert (entry.clip_id, entry.video) == ("d1", None)
    assert entry.audio is not None
    assert entry.end_seconds == entry.audio.duration_seconds
    header = json.loads((tmp_path / "kept/dataset.json").read_text())
    assert header["notes"]["counts"]["kept_audio_only"] == 1
    assert header["notes"]["arguments"]["keep_audio_only"] is True
