"""Parts of decode.py: candidates, their processes, files to read, and files of known content."""

import shared  # noqa: F401  finds avmix
