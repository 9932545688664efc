"""Parts of mix.py: candidates, what they mixed really, their cost on a CPU and on CUDA."""

import shared  # noqa: F401  finds avmix
