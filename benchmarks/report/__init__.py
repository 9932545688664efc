"""Parts of paste.py: tables and figures of results."""

import shared  # noqa: F401  finds avmix
