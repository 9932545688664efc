"""`avmix doctor`: reports what media files contain and what is wrong with them.

command.py      arguments -> files -> exit code
pool.py         one killable process per file, with a limit of time
examine.py      one file -> `FileReport`      (linear.py: decoded from end to end, as the truth)
manifest.py     what a manifest says of a file, against the file
environment.py  versions, and which of them are known to break
show.py         text for a terminal, lines for a pipe, JSON for programs
"""
