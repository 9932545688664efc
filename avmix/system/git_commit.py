"""Git commit of the code, and whether any code is uncommitted."""

import os
import subprocess
from pathlib import Path

# What has no part in a computation: results are written while others are measured, and pages after.
_NOT_CODE = ("benchmarks/results", "docs", "**/*.md", "**/*.png", "**/*.jpg")
_PATHS = (":(top)", *(f":(top,exclude,glob){path}" for path in _NOT_CODE if "*" in path),
          *(f":(top,exclude){path}" for path in _NOT_CODE if "*" not in path))  # fmt: skip


def commit_of(folder: Path) -> str | None:
    """The commit that is checked out around `folder`, with `+` where code or configuration was
    changed since; None outside a checkout."""
    try:
        return _git(folder, "rev-parse", "HEAD").strip() + ("+" if uncommitted(folder) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def uncommitted(folder: Path) -> tuple[str, ...]:
    """Files of code or configuration that are not as committed, from the root of the checkout;
    ignored files do not count.

    Raises `subprocess.CalledProcessError` outside a checkout, OSError without git.
    """
    lines = _git(folder, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames",
                 "--", *_PATHS)  # fmt: skip
    return tuple(line[3:] for line in lines.split("\0") if line)


def same_code(folder: Path, one: str, other: str) -> bool:
    """Whether two commits differ in nothing but results, pages and figures; False for one that is
    not in the checkout, or has `+`."""
    if "+" in one + other:
        return False
    try:
        return not _git(folder, "diff", "--name-only", one, other, "--", *_PATHS)
    except subprocess.CalledProcessError:
        return False


def _git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=folder, capture_output=True, check=True)
    return os.fsdecode(done.stdout)  # names of files are in it, which need not be UTF-8
