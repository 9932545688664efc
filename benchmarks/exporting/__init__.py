"""Parts of export.py: the exported file in 8 bits."""
