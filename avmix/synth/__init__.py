"""Clips that nobody filmed, to train on: real files, rows that say how they were made.

    repair    pictures of one clip with the sound of another of its class
    compose   drawn actions over real backgrounds
    external  whatever another program makes

`docs/synthesis.md` says what each does and what it is good for.
"""
