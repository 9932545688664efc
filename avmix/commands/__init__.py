"""The commands that join several rooms: train, evaluate, prepare; and the list of all commands."""
