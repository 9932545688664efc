"""Parts of seeds.py, fewshot.py and learning.py: one run, and looks into its first steps."""

import shared  # noqa: F401  finds avmix
