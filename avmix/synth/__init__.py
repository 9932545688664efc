"""Synthetic clips for additional training data: real files, with manifest rows that say how they
were generated.

    repair    frames of one clip with the audio of another of its class
    compose   drawn actions over real backgrounds
    external  whatever another program makes

`docs/synthesis.md` says what each does and what it is good for.
"""
