"""A recipe as those in datasets/ are, for tests: a table says clip, split, class, source, name.

Run as a script it is what users run, but that each file takes longer by what AVMIX_TEST_SLOW says.
"""

import os
import sys
import time
from argparse import Namespace

from avmix.data.manifest import ManifestError
from avmix.prepare import probe_pool
from avmix.prepare.command import run_recipe
from avmix.prepare.probe_journal import Probed
from avmix.prepare.protocol import Expected, Problem, Protocol

judge_file, probe_one = probe_pool.judge_file, probe_pool.probe_one


def slow(*args, **how):
    """As `judge_file`, which it takes the place of in the script and its children."""
    time.sleep(float(os.environ.get("AVMIX_TEST_SLOW", "0")))
    return judge_file(*args, **how)


def hanging(look: probe_pool.ProbeTask) -> Probed:
    """As `probe_one`, but that it never comes to an end with `a2.mp4`."""
    while look.file.path == "a2.mp4":
        time.sleep(1)
    return probe_one(look)


def protocols(options: Namespace) -> list[Protocol]:
    """One, `mini/1`, or what the first line of the table says: names, flags."""
    try:
        lines = (options.annotations / "list.csv").read_text().splitlines()
    except OSError as error:
        raise ManifestError(f"{error.filename}: {error.strerror}") from None
    head, expected, problems = lines[0].split(), [], []
    for number, line in enumerate(lines[1:], 2):
        cells = line.split(",")
        if len(cells) < 5:
            problems.append(Problem(where=f"list.csv:{number}", reason="too few cells", text=line,
                                    dropped=True))  # fmt: skip
            continue
        clip_id, split, label, source, name = cells[:5]
        start, end, seconds = (float(c) if c else None for c in (cells[5:] + [""] * 3)[:3])
        expected.append(
            Expected(clip_id=clip_id, split=split, labels=(label,), source_id=source, names=(name,),
                     start_seconds=start, end_seconds=end, seconds=seconds,
                     where=f"list.csv:{number}")
        )  # fmt: skip
    return [
        Protocol(name=name, classes=("clap", "drum", "tap"), expected=tuple(expected),
                 problems=tuple(problems), needs_audio="needs_audio" in head,
                 leaks="all of them" if "leaks" in head else "",
                 annotation_sha256=str(hash(tuple(map(len, lines)))))
        for name in head
        if "/" in name
    ]  # fmt: skip


if __name__ != "tests.mini_recipe":  # the script, and the children that it starts
    probe_pool.judge_file = slow
if __name__ == "__main__":
    sys.exit(run_recipe("mini", __doc__, protocols))
