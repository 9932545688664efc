"""Datasets and loaders: from a manifest to batches."""
