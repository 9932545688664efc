"""Training: loop, losses, checkpoints, log and run state."""
