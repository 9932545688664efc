"""Lists of millions of rows: what each takes in memory, measured on thousands."""

import tracemalloc
from pathlib import Path

from avmix.prepare.inventory import excluded_rows
from avmix.prepare.judge import files_of, judge
from avmix.prepare.scan import scan
from tests.recipes_media import AUDIOSET_HEADER, load_recipe, options, write

MOST_BYTES = 600
"""Of two million rows 1.2 GB, beside the half GB that a process with torch has anyway."""


def test_a_row_that_is_not_there_takes_little(tmp_path: Path) -> None:
    count = 5000
    names = "".join(f"{n},/m/{n:03d},Class {n}\n" for n in range(527))
    write(tmp_path / "class_labels_indices.csv", "index,mid,display_name\n" + names)
    rows = "".join(
        f'{n:011d}, {10 * (n % 40)}.000, {10 * (n % 40) + 10}.000, "/m/{n % 500:03d},/m/501"\n'
        for n in range(count)
    )
    write(tmp_path / "balanced_train_segments.csv", AUDIOSET_HEADER + rows)
    write(tmp_path / "eval_segments.csv", AUDIOSET_HEADER + 'x, 0.000, 10.000, "/m/001"\n')
    (tmp_path / "media").mkdir()
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
