"""What a person runs on their own files: `avmix doctor` says what is in them and what is wrong.

doctor_command.py  arguments -> files -> exit code
file_pool.py       one killable process per file, with a limit of time
examine.py         one file -> `FileReport`
full_decode.py     the same file decoded from end to end, as the truth
manifest_check.py  what a manifest says of a file, against the file
environment.py     versions, and which of them are known to break
report_text.py     text for a terminal, lines for a pipe, JSON for programs
"""
