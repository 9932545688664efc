"""Command-line tools for prepared datasets: leaks, transcode, shards, download."""
