"""Parts of benchmarks/balance.py."""
