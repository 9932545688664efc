"""Capture of the log of another copy of libav: decord and torchcodec report most damage nowhere
else.

Each library comes with its own libav, beside the one of PyAV. Decoders patch up what they cannot
read, and only their log tells.
"""

import atexit
import ctypes

_ERROR = 16
"""AV_LOG_ERROR; worse has smaller numbers."""
_PATCHED = b"concealing"
"""How the message begins, of a lower level, that parts of a frame were made up."""
# The last argument is a va_list, which every ABI of Linux and macOS passes as one pointer.
_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class ForeignLibavLog:
    """Counts the errors that one copy of libav logs, in any thread: decord decodes in its own.

    So two threads that read with the same library can take each other's damage for theirs; they
    then refuse a file too many, never one too few.
    """

    def __init__(self, *libraries: ctypes.CDLL) -> None:
        """Each is linked with a copy of libav, which is listened to until the process ends."""
        self.num_errors = 0
        # Kept here: libav holds a bare pointer to it.
        self._callback = _Callback(self._heard)
        for library in libraries:
            library.av_log_set_callback(self._callback)
            atexit.register(library.av_log_set_callback, None)  # no listener is left

    def _heard(self, source: int | None, level: int, form: bytes, arguments: int | None) -> None:
        del source, arguments
        self.num_errors += level <= _ERROR or form.startswith(_PATCHED)
