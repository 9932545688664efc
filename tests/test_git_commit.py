"""Commits are those of a real repository."""

import os
import subprocess
from pathlib import Path

import pytest

from avmix.system.git_commit import commit_of, same_code, uncommitted


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def commit(folder: Path) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "some")
    return git(folder, "rev-parse", "HEAD").strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    for path in ("avmix/a.py", "configs/a.yaml", "README.md", "docs/a.html", "docs/a.jpg",
                 "benchmarks/results/a.json", "datasets/x/README.md"):  # fmt: skip
        write(tmp_path / path, "1")
    write(tmp_path / ".gitignore", "/runs/\n")
    commit(tmp_path)
    return tmp_path


def test_results_pages_and_figures_leave_a_commit_clean(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD").strip()
    for path in ("README.md", "docs/a.html", "docs/a.jpg", "docs/results/new.png",
                 "benchmarks/results/a.json", "benchmarks/results/new.json",
                 "datasets/x/README.md", "new/page.md", "new/figure.png", "runs/a.py"):  # fmt: skip
        write(checkout / path, "2")
    assert uncommitted(checkout) == ()
    assert commit_of(checkout / "avmix") == head


@pytest.mark.parametrize(
    "path",
    ["avmix/a.py", "configs/a.yaml", "avmix/new.py", "new/ä b.py", os.fsdecode(b"no\xff.mp4"),
     "benchmarks/a.py"],
)  # fmt: skip
def test_code_and_configuration_do_not(checkout: Path, path: str) -> None:
    write(checkout / path, "2")
    # Asked from a folder below: the whole checkout counts.
    assert uncommitted(checkout / "docs") == (path,)
    assert commit_of(checkout / "avmix") == git(checkout, "rev-parse", "HEAD").strip() + "+"


def test_deleted_and_staged_files_count(checkout: Path) -> None:
    git(checkout, "mv", "avmix/a.py", "avmix/b.py")
    assert sorted(uncommitted(checkout)) == ["avmix/a.py", "avmix/b.py"]


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None


def test_commits_of_results_are_the_same_code(checkout: Path) -> None:
    first = git(checkout, "rev-parse", "HEAD").strip()
    write(checkout / "benchmarks/results/a.json", "2")
    results = commit(checkout)
    write(checkout / "avmix/a.py", "2")
    code = commit(checkout)
    assert same_code(checkout, first, results)
    assert not same_code(checkout, results, code)
    assert not same_code(checkout, first, first + "+")
    assert not same_code(checkout, first, "0" * 40)
