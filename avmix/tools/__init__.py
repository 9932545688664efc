"""Command line tools on prepared datasets: leaks, transcode, shards, download."""
