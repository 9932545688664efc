"""`avmix events`: onsets in the clips of a dataset."""
