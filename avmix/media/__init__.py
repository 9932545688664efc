"""Whole media files: probing, reading a clip from end to end, statistics, writing mp4."""
