"""Annotation files from the web: only what a checksum vouches for.

An address is written `URL#sha256=HEX`. What is there already with that hash is not fetched again;
what does not have it is refused and not kept. Archives are unpacked beside themselves, and refused
whole where a member would land elsewhere.
"""

import glob
import hashlib
import lzma
import re
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from avmix.prepare.annotation_rows import AnnotationError
from avmix.prepare.archives import look_into
from avmix.system.atomic_files import partial_of, remove_partial, replacing_path

MAX_BYTES = 1 << 30
"""No annotations are larger than this; a file that is, is something else."""
_TIMEOUT_SECONDS = 60.0
_PIECE = 1 << 20


def fetch_annotations(
    addresses: Sequence[str], folder: Path, *, max_bytes: int = MAX_BYTES
) -> Path:
    """Fetch every `URL#sha256=HEX` into `folder`, unpack archives, and return the folder.

    Raises `AnnotationError` where the scheme is not http or https, no checksum is given, the server
    does not deliver, the file is larger than `max_bytes`, its hash is another, or an archive would
    write outside its folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for address in addresses:
        path = fetch(address, folder, max_bytes=max_bytes)
        if zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
            unpack(path, folder / f"{path.name}.d", max_bytes=max_bytes)
    return folder


def fetch(address: str, folder: Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """Fetch one `URL#sha256=HEX`; the file is in `folder` under the last part of its address."""
    parts = urlsplit(address)
    found = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", parts.fragment)
    if parts.scheme.lower() not in ("http", "https"):
        raise AnnotationError(f"{address}: only http and https are fetched")
    if found is None:
        raise AnnotationError(f"{address}: give its checksum: URL#sha256=HEX (64 digits)")
    wanted = found[1].lower()
    name = PurePosixPath(unquote(parts.path)).name
    if not name or name in (".", "..") or "\\" in name:
        raise AnnotationError(f"{address}: does not end in the name of a file")
    path = folder / name
    if path.is_file() and _sha256(path) == wanted:
        return path
    with replacing_path(path) as partial:
        sha256 = _download(parts._replace(fragment="").geturl(), partial, max_bytes)
        if sha256 != wanted:
            raise AnnotationError(f"{address}: what came has the SHA-256 {sha256}: not used")
    return path


def unpack(archive: Path, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
    """Unpack a zip or tar into `folder`; nothing of it where any member is not safe.

    What `look_into` refuses is refused, and what unpacks to more than `max_bytes`. Raises
    `AnnotationError`.
    """
    refused = look_into(archive.parent, archive.name).refused
    if refused:
        raise AnnotationError(f"{archive}: refused: {refused}")
    # Half of it, left by a kill, holds lists of the same names: which is meant could not be said.
    remove_partial(folder.parent, glob.escape(folder.name))
    partial = partial_of(folder)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                _check_size(archive, [m.file_size for m in file.infolist()], max_bytes)
                file.extractall(partial)
        else:
            with tarfile.open(archive) as file:
                _check_size(archive, [m.size for m in file.getmembers()], max_bytes)
                file.extractall(partial, filter="data")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError,
            RuntimeError) as error:  # fmt: skip
        raise AnnotationError(f"{archive}: cannot be unpacked: {error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_size(archive: Path, sizes: Sequence[int], max_bytes: int) -> None:
    if sum(sizes) > max_bytes:
        raise AnnotationError(f"{archive}: unpacks to {sum(sizes)} bytes, more than {max_bytes}")


def _download(url: str, partial: Path, max_bytes: int) -> str:
    """Hash of what was written to `partial`."""
    opener = urllib.request.OpenerDirector()  # without the handlers of file:, ftp: and data:
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    opener.addheaders = [("User-Agent", "avmix")]
    sha256, total = hashlib.sha256(), 0
    try:
        with opener.open(url, timeout=_TIMEOUT_SECONDS) as response, partial.open("wb") as file:
            declared = response.headers.get("Content-Length")
            while piece := response.read(_PIECE):
                total += len(piece)
                if total > max_bytes:
                    raise AnnotationError(f"{url}: larger than {max_bytes} bytes: not fetched")
                sha256.update(piece)
                file.write(piece)
    except (OSError, urllib.error.URLError, ValueError) as error:
        if isinstance(error, AnnotationError):
            raise
        raise AnnotationError(f"{url}: {error}") from None
    if declared is not None and declared.isdigit() and total < int(declared):
        raise AnnotationError(f"{url}: ended after {total} of {declared} bytes")
    return sha256.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
