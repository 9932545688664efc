"""What a person runs on their own files: `avmix doctor` says what is in them and what is wrong.

command.py      arguments -> files -> exit code
pool.py         one killable process per file, with a limit of time
examine.py      one file -> `FileReport`      (linear.py: decoded from end to end, as the truth)
manifest.py     what a manifest says of a file, against the file
environment.py  versions, and which of them are known to break
show.py         text for a terminal, lines for a pipe, JSON for programs
"""
