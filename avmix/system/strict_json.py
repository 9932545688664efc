"""Strict JSON: UTF-8, without NaN and infinity.

Python's own default writes `NaN`, which is not JSON, and escapes what is not ASCII, which people
cannot read.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

_LONE = re.compile(r"[\ud800-\udfff]")


def dumps(value: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """`value` as JSON that can be encoded in UTF-8, without a newline at its end.

    Bytes of a file name that are not UTF-8 (lone surrogates in Python) are escaped, so that reading
    gives the same name. Raises ValueError for a number that is not finite.
    """
    text = json.dumps(
        value, indent=indent, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False
    )
    return text if text.isascii() else _LONE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def lines(rows: Iterable[Any]) -> str:
    """JSON Lines: a line for each row, each with a newline at its end."""
    return "".join(dumps(row) + "\n" for row in rows)
