"""Parts of augment.py: the same work on a device, and by other libraries."""

import shared  # noqa: F401  finds avmix
