"""Every shell line and block of Python of the pages, in the order of the pages, in one folder where
`make demo` ran.

They run in one process, as scripts would, on small copies of what they name (`STAND_INS`), and
what only makes them long is smaller (`QUICK`, `SMALLER`). Nothing else of a line is changed.
"""

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/tutorial.md", "docs/training.md", "docs/architecture.md",
         "docs/augment.md", "docs/benchmarks.md", "docs/decoding.md", "docs/dropin.md",
         "docs/features.md", "docs/exploring.md", "docs/balance.md",
         "docs/leaderboard.md",
         "docs/evaluation.md", "docs/few_shot.md", "docs/glossary.md", "docs/learning.md",
         "docs/mixing.md",
         "docs/models.md", "docs/predicting.md", "docs/exporting.md", "docs/preparing.md",
         "docs/robustness.md", "docs/synthesis.md", "docs/howto.md", "docs/coming_from.md",
         "docs/troubleshooting.md", "docs/platforms.md")  # fmt: skip
LEFT_OUT = {
    "make demo": "its lines come first, from the Makefile",
    "make env": "it is there",
    "make test": "this is a part of it",
    "avmix probe features/demo features/other": "a second folder; tests/test_joined_features.py",
    "avmix push runs/demo published/demo --hub": "the Hub; tests/test_push.py",
    "avmix explore": "a server, and NiceGUI; tests/test_explore.py",
    "ffmpeg -loglevel error -re": "FFmpeg, and a pipe; tests/test_live.py",
    "avmix compare": "two runs; tests/test_compare.py",
    "python benchmarks/seeds.py": "hours, and of committed code only; tests/test_seeds.py",
    **{
        f"avmix {words}": "networks of one modality; tests/test_balance_runs.py"
        for words in (
            "train --config configs/demo.yaml --model.modalities",
            "evaluate --checkpoint runs/video",
            "evaluate --checkpoint runs/audio",
            "evaluate --from runs/video",
        )
    },
    "torchrun": "processes that train together; tests/test_train.py",
    "avmix prepare folder --root my_clips --out data/by_ray": "tests/test_prepare_command.py",
}
CODE_LEFT_OUT = {
    "CrossModalMixup(": "tests/test_cross_modal_mixup.py, tests/test_project.py",
    "data/toy/test": "tests/test_project.py",
    "net.predict(": "tests/test_predict.py",
    "result = train(": "ten epochs; tests/test_wheel.py",
    'row["video"]': "a row of a table; tests/test_source.py",
    "open_joined(": "a second folder; tests/test_joined_features.py",
    "network_for_clips(": "another configuration; tests/test_on_features.py",
}
"""What a block of Python holds, and where it is tested instead."""
QUICK = ["--optim.epochs", "1", "--mix.ramp_epochs", "0", "--optim.batch_size", "4",
         "--clip.num_frames", "4", "--clip.short_side", "36", "--clip.crop", "32",
         "--model.audio.channels", "[8,16]", "--data.num_workers", "0",
         "--run.threads", "1"]  # fmt: skip
"""After every line that trains."""
NARROW = ["--model.video.channels", "[8,16]"]
"""After those that train avmix's own video encoder."""
SMALLER = {"--shots 10": "--shots 4", "--data.shots 10": "--data.shots 4",
           "--per-class 20": "--per-class 1"}  # fmt: skip
MAY_FIND = "avmix leaks", "avmix doctor"
"""Commands that end with 1 where they find something."""

RUN = """
import contextlib, io, json, runpy, sys, traceback
from avmix.cli import main
for line in json.loads(sys.stdin.read()):
    said, sys.argv = io.StringIO(), line[1:] if line[0] == "python" else line
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            if line[0] == "code":
                exec(compile(line[2], line[1], "exec"), {})
            elif line[0] == "python":
                runpy.run_path(line[1], run_name="__main__")
            else:
                main(line[1:])
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
            if isinstance(stop.code, str):
                print(stop.code)
        except Exception:  # as an interpreter of its own ends: the test prints it and fails
            code = 1
            traceback.print_exc()
    print(json.dumps([line, code, said.getvalue()[-3000:]]), flush=True)
"""
FOLEY = """#!{python}
import sys, wave
import numpy as np
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
length = int(16000 * float(given["--seconds"]))
audio = np.random.default_rng(int(given["--seed"])).normal(0, 3000, length)
with wave.open(given["--out"], "wb") as file:
    file.setnchannels(1), file.setsampwidth(2), file.setframerate(16000)
    file.writeframes(audio.astype("<i2").tobytes())
"""


def shell_lines(text: str) -> list[str]:
    """Commands of the blocks ```sh; a line that ends with a backslash goes on in the next."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").split("\n")
    return [line.strip() for line in lines if line.strip()]


def steps(page: str) -> list[list[str]]:
    """What a page runs, in its order: ["sh", line], and ["code", page, block] of Python."""
    found: list[list[str]] = []
    blocks = re.findall(r"```(sh|python)\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    for kind, text in blocks:
        if kind == "sh":
            found += [["sh", line] for line in shell_lines(f"```sh\n{text}```")]
        elif not any(word in text for word in CODE_LEFT_OUT):
            found.append(["code", page, text])
    return found


def demo_lines() -> list[str]:
    """What `make demo` runs after the environment is there."""
    recipe = (ROOT / "Makefile").read_text().split("\ndemo: env\n")[1].split("\n\n")[0]
    lines = recipe.replace("\\\n", " ").replace("$$", "$").replace("$(BIN)/", "").split("\n")
    return [line.strip() for line in lines if "datasets/toy/make.py" not in line]


def words(line: str, folder: Path) -> list[str]:
    """The words that a shell makes of a line: quotes, comments, `$(...)`."""
    for long, short in SMALLER.items():
        line = re.sub(rf"{re.escape(long)}\b", short, line)
    said = subprocess.run(["bash", "-ec", f"printf '%s\\0' {line}"], cwd=folder,
                          capture_output=True, text=True, check=True).stdout  # fmt: skip
    found = said.split("\0")[:-1]
    if found[:2] not in (["python", "train.py"], ["avmix", "train"]):
        return found
    if "--data.features" in found:
        return found + QUICK[:6]
    other = "--model.video.encoder" in found or "configs/own.yaml" in found
    return found + QUICK + ([] if other else NARROW)


def stand_ins(folder: Path, toy: Path) -> None:
    """What the lines name and a reader has: scripts, the toy set, clips of one's own, UCF101."""
    for name in ("train.py", "eval.py", "datasets", "configs", "examples"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(toy, folder / "data/toy")
    clips = {name: sorted((toy / "train").glob(f"{name}_*.mp4"))
             for name in ("bounce_thud", "swing_ping")}  # fmt: skip
    for letter, files in zip(("A", "B"), clips.values(), strict=True):
        shutil.copy(files[0], folder / letter)
    for copy, of in (("clip.mp4", "A"), ("one.mp4", "A"), ("other.mp4", "B")):
        shutil.copy(folder / of, folder / copy)
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs/models.md").read_text(), re.DOTALL)
    assert code is not None
    (folder / "mine.py").write_text(code[1])

    for label, files in clips.items():
        (folder / "my_clips" / label).mkdir(parents=True)
        names = [f"{label}/1001_{number}.mp4" for number in range(4)]  # of an actor, 1001
        for file, name in zip(files, names, strict=False):
            shutil.copy(file, folder / "my_clips" / name)
        # Dealt out in the order of their hashes: one to test, one to val, the others to train.
        last = max(names, key=lambda name: hashlib.sha256(name.encode()).digest())
        job = {"id": "0001", "label": label, "text": "a bell", "parent": last}
        (folder / "jobs.jsonl").write_text(json.dumps(job) + "\n")
    (folder / "bin").mkdir()
    (folder / "bin/foley").write_text(FOLEY.format(python=sys.executable))
    (folder / "bin/foley").chmod(0o755)

    rows = [("path", "class", "group", "split1")]
    (folder / "data/ucf101_av8").mkdir()
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for label, files in zip(("Archery", "Surfing"), clips.values(), strict=True):
        (folder / "UCF-101" / label).mkdir(parents=True)
        for group, file in enumerate(files[:4], 1):
            split, name = "test" if group == 1 else "train", f"v_{label}_g0{group}_c01.avi"
            shutil.copy(file, folder / "UCF-101" / label / name)
            shutil.copy(file, folder / "data/ucf101_av8" / name)
            lists[split].append(f"{label}/{name}")
            rows.append((name, label, str(group), split))
    with (folder / "data/ucf101_av8/clips.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (folder / "ucfTrainTestlist").mkdir()
    for split, names in lists.items():
        for number in (1, 2, 3):
            path = folder / f"ucfTrainTestlist/{split}list0{number}.txt"
            path.write_text("".join(f"{name}\n" for name in names))


def test_every_line_of_the_pages_is_found():
    lines = [line for page in PAGES for line in shell_lines((ROOT / page).read_text())]
    assert len(lines) > 20
    others = [p.name for p in (ROOT / "docs").glob("*.md") if f"docs/{p.name}" not in PAGES]
    assert not others
    programs = ("python", "avmix", "make", "torchrun", "ffmpeg")
    assert all(line.split()[0] in programs for line in lines)
    texts = [(ROOT / page).read_text() for page in PAGES]
    assert all(any(word in text for text in texts) for word in CODE_LEFT_OUT)


@pytest.mark.long
def test_the_lines_of_the_pages_run_in_their_order(
    toy_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins(tmp_path, toy_set)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    todo = [["sh", line] for line in demo_lines()]
    for page in PAGES:
        if page == "docs/synthesis.md":  # which takes the manifest of that configuration as given
            todo.append(["sh", "python train.py --config configs/ucf101_av8.yaml"])
        todo += steps(page)
    kept = [step for step in todo if step[0] == "code" or not step[1].startswith(tuple(LEFT_OUT))]
    given = [step if step[0] == "code" else words(step[1], tmp_path) for step in kept]
    done = subprocess.run([sys.executable, "-c", RUN], input=json.dumps(given), cwd=tmp_path,
                          capture_output=True, text=True)  # fmt: skip
    ran = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[[")]
    assert len(ran) == len(kept), done.stderr[-3000:]
    failed = [
        f"{step[-1]}\n{said}"
        for step, (_, code, said) in zip(kept, ran, strict=True)
        if code > step[-1].startswith(MAY_FIND)
    ]
    assert not failed, "\n\n".join(failed)
