"""Kept features: embeddings of every clip by frozen encoders, and linear probes on them."""
