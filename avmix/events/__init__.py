"""`avmix events`: onset times in the clips of a dataset."""
