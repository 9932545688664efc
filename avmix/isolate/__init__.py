"""Work on files that may crash or hang a decoder, in processes that can be killed."""
