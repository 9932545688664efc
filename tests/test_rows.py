"""Lists of millions of rows: what each takes in memory, measured on thousands."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avmix.data.manifest import read_manifest, write_manifest
from avmix.media.folder_walk import File
from avmix.prepare import pipeline
from avmix.prepare.clip_status import files_of, judge
from avmix.prepare.inventory import excluded_rows
from avmix.prepare.media_folder import scan
from avmix.prepare.probe_journal import Journal, Probed
from avmix.types import Entry
from tests.recipes_media import AUDIOSET_HEADER, load_recipe, options, write

MOST_BYTES = 600
"""Of two million rows 1.2 GB, beside the half GB that a process with torch has anyway."""
MOST_BYTES_THERE = 2100
"""With its file, where no two files are alike in length or loudness: docs/preparing.md."""


def write_lists(tmp_path: Path, count: int) -> None:
    """So many rows for train, and one for eval."""
    names = "".join(f"{n},/m/{n:03d},Class {n}\n" for n in range(527))
    write(tmp_path / "class_labels_indices.csv", "index,mid,display_name\n" + names)
    rows = "".join(
        f'{n:011d}, {10 * (n % 40)}.000, {10 * (n % 40) + 10}.000, "/m/{n % 500:03d},/m/501"\n'
        for n in range(count)
    )
    write(tmp_path / "balanced_train_segments.csv", AUDIOSET_HEADER + rows)
    write(tmp_path / "eval_segments.csv", AUDIOSET_HEADER + 'x, 0.000, 10.000, "/m/001"\n')
    (tmp_path / "media").mkdir()


@pytest.mark.long
def test_a_row_that_is_not_there_takes_little(tmp_path: Path) -> None:
    count = 5000
    write_lists(tmp_path, count)
    recipe, index = load_recipe("audioset"), scan(tmp_path / "media")
    recipe.protocols(options(tmp_path))  # what is made once is not of the rows
    tracemalloc.start()
    try:
        (protocol,) = recipe.protocols(options(tmp_path))
        judged = judge(protocol, files_of(index, [protocol]), {}, min_seconds=0.5)
        assert sum(1 for _ in excluded_rows(protocol, judged)) == count + 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / count < MOST_BYTES


@pytest.mark.long
def test_a_row_with_its_file_takes_what_is_budgeted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_entry: Callable[..., Entry]
) -> None:
    """Through all of preparing, with a journal that knows the files: no two alike in length."""
    count = 2000
    write_lists(tmp_path, count)
    found = make_entry()
    assert found.video is not None
    assert found.audio is not None
    journal = Journal(tmp_path / "out/.prepare/probe.jsonl", "fast")
    for n in range(count):
        path = tmp_path / f"media/{n:011d}.mp4"
        path.touch()
        video = replace(found.video, duration_seconds=9 + n / count)
        audio = replace(found.audio, rms_dbfs=-20 - n / count, duration_seconds=9 + n / count)
        file = File(path.name, 0, path.stat().st_mtime_ns)
        probed = Probed(video=video, audio=audio, sha256=f"{n:064x}", looked="packets",
                        cpu_seconds=0.01 + n / count)  # fmt: skip
        journal.add(file, probed)
    journal.close()
    del journal
    recipe = load_recipe("audioset")
    recipe.protocols(options(tmp_path))
    peak, write_all = 0, pipeline._write

    def measured(*arguments: Any) -> None:
        nonlocal peak
        _, peak = tracemalloc.get_traced_memory()  # the page is drawn by what is imported for it
        tracemalloc.stop()
        write_all(*arguments)

    monkeypatch.setattr(pipeline, "_write", measured)
    tracemalloc.start()
    try:
        pipeline.prepare(
            recipe.protocols(options(tmp_path)),
            pipeline.Options(media=tmp_path / "media", out=tmp_path / "out", workers=1),
        )
    finally:
        tracemalloc.stop()
    assert len((tmp_path / "out/train.jsonl").read_text().splitlines()) == count
    assert peak / count < MOST_BYTES_THERE


@pytest.mark.long
def test_a_manifest_is_written_line_by_line(
    tmp_path: Path, make_entry: Callable[..., Entry]
) -> None:
    entries = [make_entry(f"{n}") for n in range(4000)]
    tracemalloc.start()
    try:
        write_manifest(tmp_path, classes=["x"], protocol="p", splits={"train": entries})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read_manifest(tmp_path, "train").entries == tuple(entries)
    assert peak / len(entries) < 400  # a line has 600 bytes
