"""Status of every annotated clip: kept, or excluded with a reason."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from avmix.media.folder_walk import File
from avmix.prepare.annotation_values import plain
from avmix.prepare.clip_file_names import times_in
from avmix.prepare.media_folder import MediaIndex, nfc_name, shared_names, stem_of
from avmix.prepare.probe_journal import Probed
from avmix.prepare.protocol import Expected, Protocol
from avmix.types import Entry

OFFSET_SECONDS = 0.1
"""Between the beginnings of video and audio: from here on it is remarked upon."""
LENGTH_SECONDS, LENGTH_SHARE = 0.5, 0.1
"""A length is wrong where it differs from what it should be by more than both of these."""

LONG_SHARE, LONG_SECONDS = 1.5, 1.0
"""A file longer than this many times its clip, and this more, is something else than the clip."""

_NO_FRAMES = "no video stream"
_NO_VIDEO = "no file has a name with the id of its video and its seconds"

Status = Literal[
    "found", "missing", "unreadable", "no_pictures", "too_short", "too_long", "no_audio", "silent",
    "annotation",
]  # fmt: skip
STATUSES: tuple[Status, ...] = get_args(Status)
"""All but the first are reasons to leave a clip out."""
Flag = Literal[
    "no_audio", "silent", "duplicate", "av_offset", "wrong_duration", "id_alone", "other_folder",
    "in_part", "damaged_audio", "audio_only", "separate_audio",
]  # fmt: skip
FLAGS: tuple[Flag, ...] = get_args(Flag)
"""Remarks on clips that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An expected clip and its status."""

    clip: Expected
    status: Status
    reason: str = ""
    """One line: why it was left out, or what the flags say; empty where all is well."""
    flags: tuple[Flag, ...] = ()
    path: str = ""
    """The file that was taken, or the one that could not be; empty where there is none."""
    others: tuple[tuple[str, str], ...] = ()
    """Further files of the clip, and why each was not taken."""
    entry: Entry | None = None
    """The row of the manifest, where it is kept."""


class Candidates(dict[Expected, list[File]]):
    """Candidate files by clip; empty for a clip without any."""

    def __missing__(self, clip: Expected) -> list[File]:
        """No file."""
        return []


def files_of(index: MediaIndex, protocols: Sequence[Protocol]) -> Candidates:
    """The files that each expected clip may be, the one to take first.

    The order is that of `Index.candidates`, but files in the folder of another class come last: the
    same name there may be another clip. One whose path the annotations give stays where it is.
    """
    found = Candidates()
    index.know_videos(clip.video for protocol in protocols for clip in protocol.expected)
    for protocol in protocols:
        shared, folders = shared_names(protocol.expected), _class_folders(protocol)
        for clip in protocol.expected:
            if files := index.candidates(clip, shared):
                if len(files) > 1:
                    files.sort(key=lambda file: _is_elsewhere(clip, file, index, folders))
                found[clip] = files
        # `x.mkv` stands in for `x.mp4`, unless it is what another clip is called.
        own = {
            files[0].path: clip.clip_id
            for clip in protocol.expected
            if (files := found[clip]) and clip.names and index.is_at(files[0].path, clip.names[0])
        }
        for clip in protocol.expected:
            if len(found[clip]) > 1 or (found[clip] and found[clip][0].path in own):
                found[clip] = [
                    file
                    for file in found[clip]
                    if own.get(file.path, clip.clip_id) == clip.clip_id
                    or (clip.names and index.is_at(file.path, clip.names[0]))
                ]
    return found


def judge(
    protocol: Protocol,
    files: Mapping[Expected, Sequence[File]],
    probed: Mapping[File, Probed],
    *,
    min_seconds: float,
    keep_audio_only: bool = False,
) -> list[Judged]:
    """Determine the status of every expected clip, in the order of the protocol.

    Of several files of a clip the first that can be read as a whole is taken, else in part; one
    without video comes after all others. `min_seconds` is the shortest stretch that is kept.
    `keep_audio_only`: files without a video stream are kept for their audio, with a remark.
    """
    folders = _class_folders(protocol)
    judged = [
        _judge(
            clip, files[clip], probed, protocol.needs_audio, min_seconds, folders, keep_audio_only
        )
        for clip in protocol.expected
    ]
    return _with_same_content(_once_by_id(judged))


def _judge(
    clip: Expected,
    files: Sequence[File],
    probed: Mapping[File, Probed],
    needs_audio: bool,
    min_seconds: float,
    folders: Mapping[str, str],
    keep_audio_only: bool,
) -> Judged:
    if not files:
        of_none = _NO_VIDEO if clip.video else "the annotations name no file"
        looked = f"no file called {clip.names[0]}" if clip.names else of_none
        return Judged(clip=clip, status="missing", reason=looked)
    usable = [f for f in files if not probed[f].problem]
    usable.sort(key=lambda file: (probed[file].video is None, bool(probed[file].in_part)))
    taken = (usable or files)[0]
    others = tuple((f.path, _why_not(f, taken, probed)) for f in files if f is not taken)
    of_file, path = probed[taken], taken.path
    if of_file.problem:
        return Judged(
            clip=clip, status="unreadable", reason=of_file.problem, path=path, others=others
        )
    if lacks := _lacks(of_file, keep_audio_only):
        return Judged(clip=clip, status="no_pictures", reason=lacks, path=path, others=others)
    whole = _length(of_file)
    stretch = _stretch(clip, path, whole)
    if isinstance(stretch, str):
        return Judged(clip=clip, status="too_long", reason=stretch, path=path, others=others)
    start, end, until = _usable(of_file, *stretch)
    if end - start < min_seconds:
        said = f"{max(end - start, 0.0):.2f} s are available, {min_seconds:g} s are needed"
        said += f"; {of_file.in_part}" if of_file.in_part else ""
        return Judged(clip=clip, status="too_short", reason=said, path=path, others=others)
    remarks = [
        *_worth(of_file),
        *_audio(of_file),
        *_times(clip, of_file, start, end),
        *_place(clip, path, folders),
    ]
    lacks = next((r for r in remarks if r[0] in ("no_audio", "silent")), None)
    if needs_audio and lacks is not None:
        status: Status = "no_audio" if lacks[0] == "no_audio" else "silent"
        return Judged(clip=clip, status=status, reason=lacks[1], path=path, others=others)
    if others:
        remarks.append(("duplicate", f"{len(others)} more files of this clip"))
    entry = Entry(
        clip_id=clip.clip_id,
        path=path,
        start_seconds=start,
        end_seconds=end,
        labels=clip.labels,
        source_id=clip.source_id,
        video=of_file.video,
        audio=of_file.audio,
        bytes=of_file.media_bytes or taken.bytes,
        sha256=of_file.sha256,
        usable_until_seconds=until,
        video_labels=clip.video_labels,
        audio_labels=clip.audio_labels,
        unknown_labels=clip.unknown_labels,
        subsets=clip.subsets,
    )
    return _kept(clip, remarks, entry, others)


def _lacks(of_file: Probed, keep_audio_only: bool) -> str:
    """Why a file without video cannot be a clip; empty where it can."""
    if of_file.video is not None:
        return ""
    if of_file.audio is None:
        return f"{_NO_FRAMES} and no audio stream"
    if not keep_audio_only:
        return f"{_NO_FRAMES} (--keep-audio-only keeps its audio)"
    return f"{_NO_FRAMES}, and its audio is silent" if of_file.audio.silent else ""


def _length(of_file: Probed | Entry) -> float:
    """Seconds of the frames of a file; where it has none, of its audio."""
    longest = of_file.video or of_file.audio
    assert longest is not None
    return longest.duration_seconds


def _stretch(clip: Expected, path: str, whole: float) -> tuple[float, float] | str:
    """The part of a file of `whole` seconds that is the clip, or why it cannot be known."""
    if clip.start_seconds is not None or clip.end_seconds is not None or clip.seconds is None:
        return clip.start_seconds or 0.0, min(clip.end_seconds or whole, whole)
    tolerance = max(LENGTH_SECONDS, LENGTH_SHARE * clip.seconds)
    cut = clip.cut_seconds
    by_id = is_by_id(clip, path)
    longer = whole > clip.seconds + tolerance
    if longer and by_id and cut is not None and cut[1] <= whole + tolerance:
        return cut[0], min(cut[1], whole)  # of the whole video, whose clock annotations mean
    if whole > LONG_SHARE * clip.seconds + LONG_SECONDS:
        said = f"{whole:.2f} s long instead of {clip.seconds:g}"
        if cut is not None and by_id:
            return f"{said}, and without the seconds from {cut[0]:g} to {cut[1]:g}"
        where = f" (seconds {cut[0]:g} to {cut[1]:g} of the video)" if cut is not None else ""
        return f"{said}: which part{where} it is cannot be known; cut the file"
    return 0.0, whole


def _usable(of_file: Probed, start: float, end: float) -> tuple[float, float, float | None]:
    """The longest stretch of a clip that can be read, and where reading has to end if it does."""
    if not of_file.good:
        return start, end, None
    good = max(of_file.good, key=lambda g: (round(min(g[1], end) - max(g[0], start), 3), -g[0]))
    until = good[1] if good[1] < _length(of_file) else None
    return max(start, good[0]), min(end, good[1]), until


def _worth(of_file: Probed) -> list[tuple[Flag, str]]:
    """Remarks on a file that is not as whole as it might be."""
    remarks: list[tuple[Flag, str]] = []
    if of_file.in_part:
        remarks.append(("in_part", of_file.in_part))
    if of_file.damaged_audio:
        remarks.append(("damaged_audio", of_file.damaged_audio))
    if of_file.separate_audio:
        remarks.append(("separate_audio", of_file.separate_audio))
    return remarks


def is_by_id(clip: Expected, path: str) -> bool:
    """Whether a file is called by the id of the video and nothing else: no seconds."""
    stem = stem_of(nfc_name(path).rpartition("/")[2])
    return bool(clip.video) and times_in(stem, clip.video) == ()


def _class_folders(protocol: Protocol) -> dict[str, str]:
    """What a folder of a class may be called, and the class."""
    return {plain(name): name for name in protocol.classes}


def _other_class(clip: Expected, path: str, folders: Mapping[str, str]) -> str | None:
    """The class in whose folder a file lies, where none of its folders is of the clip's own."""
    parts = path.split("/")[:-1]
    named = [folders[plain(part)] for part in parts if plain(part) in folders]
    return named[-1] if named and not set(named) & set(clip.labels) else None


def _is_elsewhere(
    clip: Expected, file: File, index: MediaIndex, folders: Mapping[str, str]
) -> bool:
    """Whether a file is in another class's folder, and not because the annotations say so."""
    return _other_class(clip, file.path, folders) is not None and not any(
        index.is_at(file.path, name) for name in clip.names
    )


def _place(clip: Expected, path: str, folders: Mapping[str, str]) -> list[tuple[Flag, str]]:
    """A remark where the file lies in the folder of another class."""
    other = _other_class(clip, path, folders)
    return [("other_folder", f"it is in the folder of class {other!r}")] if other else []


def _once_by_id(judged: Sequence[Judged]) -> list[Judged]:
    """A file that is called by an id alone, and is no whole video, is one clip of that video."""
    by_id = [one for one in judged if _is_clip_by_id(one)]
    rows = _several((one.path, one.clip.cut_seconds, one.clip.clip_id) for one in by_id)
    out = []
    for one in judged:
        cuts = rows.get(one.path, {}) if _is_clip_by_id(one) else {}
        if len(cuts) > 1:
            assert one.entry is not None
            first, name = next(iter(cuts.items()))
            said = f"its name has no seconds, and {len(cuts)} clips are of its video"
            if one.clip.cut_seconds == first:
                remarks: list[tuple[Flag, str]] = [(flag, one.reason) for flag in one.flags]
                one = _kept(one.clip, [*remarks, ("id_alone", said)], one.entry, one.others)
            else:
                reason = f"{one.path} was taken for {name}: {said}"
                one = Judged(clip=one.clip, status="missing", reason=reason, path=one.path)
        out.append(one)
    return out


K = TypeVar("K")


def _several(found: Iterable[tuple[str, K, str]]) -> dict[str, dict[K, str]]:
    """Of (what, which of them, clip): the clip of each, the first there is, of what has several of
    them. One dictionary for all that have one: of millions of files nearly all do."""
    only: dict[str, tuple[K, str]] = {}
    several: dict[str, dict[K, str]] = {}
    for what, which, clip_id in found:
        first, of_first = only.setdefault(what, (which, clip_id))
        if which != first:
            several.setdefault(what, {first: of_first}).setdefault(which, clip_id)
    return several


def _is_clip_by_id(one: Judged) -> bool:
    return (
        one.entry is not None
        and one.clip.cut_seconds is not None
        and one.entry.start_seconds == 0.0
        and one.entry.end_seconds == _length(one.entry)
        and is_by_id(one.clip, one.path)
    )


def _kept(
    clip: Expected,
    remarks: Sequence[tuple[Flag, str]],
    entry: Entry,
    others: tuple[tuple[str, str], ...],
) -> Judged:
    return Judged(
        clip=clip,
        status="found",
        reason="; ".join(dict.fromkeys(text for _, text in remarks)),
        flags=tuple(flag for flag in FLAGS if any(flag == f for f, _ in remarks)),
        path=entry.path,
        others=others,
        entry=entry,
    )


def _audio(of_file: Probed) -> list[tuple[Flag, str]]:
    if of_file.video is None:
        return [("audio_only", f"{_NO_FRAMES}: kept for its audio")]
    if of_file.audio is None:
        return [("no_audio", "no audio stream")]
    return [("silent", "its audio is below -80 dBFS throughout")] if of_file.audio.silent else []


def _times(clip: Expected, of_file: Probed, start: float, end: float) -> list[tuple[Flag, str]]:
    remarks: list[tuple[Flag, str]] = []
    if of_file.video is not None and of_file.audio is not None:
        apart = of_file.audio.start_seconds - of_file.video.start_seconds
        if abs(apart) > OFFSET_SECONDS:
            order = "after" if apart > 0 else "before"
            remarks.append(("av_offset", f"audio begins {abs(apart):.3f} s {order} the frames"))
    should = clip.seconds
    if should is None and clip.end_seconds is not None:
        should = clip.end_seconds - (clip.start_seconds or 0.0)
    if should is not None:
        tolerance = max(LENGTH_SECONDS, LENGTH_SHARE * should)
        if abs(end - start - should) > tolerance:
            remarks.append(("wrong_duration", f"{end - start:.2f} s long instead of {should:.2f}"))
    return remarks


def _why_not(file: File, taken: File, probed: Mapping[File, Probed]) -> str:
    this, that = probed[file], probed[taken]
    if this.problem:
        return f"unreadable: {this.problem}"
    if this.in_part and not that.in_part:
        return this.in_part
    if this.sha256 and this.sha256 == that.sha256:
        return f"the same content as {taken.path}, which was taken"
    return f"{taken.path} was taken: by folder, name, then size"


def _with_same_content(judged: Sequence[Judged]) -> list[Judged]:
    """Clips of different files whose content is the same, remarked upon."""
    paths = _several(
        (one.entry.sha256, one.path, one.clip.clip_id) for one in judged if one.entry is not None
    )
    out = []
    for one in judged:
        same = paths.get(one.entry.sha256, {}) if one.entry is not None else {}
        if one.entry is not None and len(same) > 1:
            other = next(clip_id for path, clip_id in same.items() if path != one.path)
            remarks: list[tuple[Flag, str]] = [(flag, one.reason) for flag in one.flags]
            remarks.append(("duplicate", f"the same content as clip {other}"))
            one = _kept(one.clip, remarks, one.entry, one.others)
        out.append(one)
    return out
