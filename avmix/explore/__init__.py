"""`avmix explore`: a local page on which two clips are mixed, seen, played and predicted."""
