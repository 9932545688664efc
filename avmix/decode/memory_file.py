"""Files in memory that libav can open by a path."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO


@contextmanager
def memory_file() -> Iterator[tuple[str, BinaryIO]]:
    """An empty file and a path by which it can be opened: in memory where the system can."""
    if sys.platform == "linux":
        with os.fdopen(os.memfd_create("avmix"), "w+b") as file:
            # Not `self`: a program that this process starts can open it, too.
            yield f"/proc/{os.getpid()}/fd/{file.fileno()}", file
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "copy")
            with open(path, "w+b") as file:
                yield path, file
