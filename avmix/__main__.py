"""`python -m avmix`: the `avmix` command, also for `torchrun -m avmix train ...`."""

from avmix.cli import main

if __name__ == "__main__":
    main()
