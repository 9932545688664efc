"""What all benchmarks share: folders, provenance, machine, rounds, progress, result files."""

import shared.paths  # noqa: F401  avmix is then found beside this folder, wherever it is installed
