"""Operating system, disk, terminal and git; every other package may import it."""
