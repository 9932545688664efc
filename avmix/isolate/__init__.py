"""Isolation: work on files that may crash or hang a decoder runs in processes that can be
killed."""
