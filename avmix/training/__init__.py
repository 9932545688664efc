"""Training: the loop, losses, checkpoints, the log and the state of a run."""
