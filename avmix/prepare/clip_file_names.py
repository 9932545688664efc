"""Parsing of the file names of trimmed clips: an id, and seconds in various forms."""

import re

PREFIXES = ("v_", "y", "yt_", "youtube_", "vid_", "video_")
"""What downloaders put before the id, whatever the case."""

Times = tuple[tuple[float, str], ...]
"""No number, the start, or start and end; each with its unit: `s`, `ms`, or empty where the name
does not say."""

_NUMBER = r"(\d+(?:\.\d+)?)(ms|s)?"
_TIMES = re.compile(rf"[\W_]+{_NUMBER}(?:[\W_]+(?:to[\W_]+)?{_NUMBER})?[\W_]*", re.IGNORECASE)


def kinetics_stem(youtube_id: str, start_seconds: float, end_seconds: float) -> str:
    """`ID_%06d_%06d`, whole seconds: Kinetics, and its crawlers."""
    return f"{youtube_id}_{int(start_seconds):06d}_{int(end_seconds):06d}"


def kinetics_names(
    youtube_id: str, start_seconds: float, end_seconds: float, *, split: str, label: str
) -> list[str]:
    """Where a clip of Kinetics may lie, best first.

    What replaces broken files (CVDF) comes before what it replaces; then the folder of the split
    (CVDF), that of the class (the crawler of ActivityNet), any other.
    """
    stem = kinetics_stem(youtube_id, start_seconds, end_seconds)
    return [
        f"replacement_for_corrupted_k400/{stem}.mp4",
        f"{split}/{stem}.mp4",
        f"{label}/{stem}.mp4",
    ]


def times_in(stem: str, video: str) -> Times | None:
    """The numbers behind the id of a video in the name of a file; None where the name is not one
    of this video.

    The id stands at the beginning, behind one of `PREFIXES`, in brackets behind a title (yt-dlp),
    or at the end behind a title and a hyphen (youtube-dl): `ID_000030_000040`, `ID-30-40`,
    `v_ID_30.0`, `YID`, `Title [ID].mp4`.
    """
    at = stem.find(video)
    while at >= 0:
        before, after = stem[:at], stem[at + len(video) :]
        bracketed = before.endswith("[") and after.startswith("]")
        titled = before.endswith("-") and not after
        if not before or before.casefold() in PREFIXES or bracketed or titled:
            rest = after.removeprefix("]") if bracketed else after
            if not rest:
                return ()
            found = _TIMES.fullmatch(rest)
            if found is not None:
                numbers = ((found[1], found[2]), (found[3], found[4]))
                return tuple((float(n), (u or "").casefold()) for n, u in numbers if n is not None)
        at = stem.find(video, at + 1)
    return None


def videos_in(stem: str, known: frozenset[str], lengths: frozenset[int]) -> list[str]:
    """Which of the ids `known`, of these `lengths`, the name of a file may be of."""
    folded = stem.casefold()
    starts = {0, *(len(p) for p in PREFIXES if folded.startswith(p))}
    starts |= {k + 1 for k, character in enumerate(stem) if character == "["}
    starts |= {len(stem) - n for n in lengths if len(stem) > n}
    found = dict.fromkeys(stem[a : a + n] for a in sorted(starts) for n in lengths)
    return [v for v in found if v in known and times_in(stem, v) is not None]


def name_match_rank(times: Times, cut_seconds: tuple[float, float] | None) -> int | None:
    """How well the numbers in a name say a stretch: 0 both ends (or start and length), 1 the start,
    2 there are none; None where they say another. Without a stretch any do, none best."""
    if not times:
        return 2
    if cut_seconds is None:
        return 3
    low, high = cut_seconds
    for milli in (False, True):
        if any(unit == ("s" if milli else "ms") for _, unit in times):
            continue
        start, *end = (value / 1000 if milli else value for value, _ in times)
        if _same(start, low):
            if not end:
                return 1
            if _same(end[0], high) or _same(end[0], high - low):
                return 0
    return None


def _same(value: float, seconds: float) -> bool:
    """Names say seconds whole, rounded or cut, or with their decimals."""
    return abs(value - seconds) < 0.01 or value in (int(seconds), round(seconds))
