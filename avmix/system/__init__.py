"""The operating system, the disk, the terminal and git: what everything else may import."""
