"""Examination of one file, run in a child process that may be killed at any moment."""

import math
import os
import time
from dataclasses import dataclass, replace

import av
import numpy as np
from av.stream import Disposition

from avmix.decode import ClipError, Limits, NoVideoStreamError, UnsupportedMediaError
from avmix.decode.container import open_media
from avmix.decode.mono_track import cancels, track_of
from avmix.decode.open_file import Media
from avmix.decode.parquet_cells import cells_of
from avmix.decode.source import as_file
from avmix.doctor.audio_scan import AudioScan
from avmix.doctor.edit_list_reader import Edit, presented_of, read_edits
from avmix.doctor.findings import agreeing, findings_of
from avmix.doctor.full_decode import Packets, decode_all, read_packets
from avmix.doctor.manifest_check import row_findings
from avmix.doctor.report import (
    AudioReport,
    FileReport,
    Finding,
    JudgementReport,
    StreamReport,
    VideoReport,
    worst,
)
from avmix.doctor.video_scan import VideoScan, display_matrix, frame_gaps
from avmix.doctor.window_check import clip_ms, compare, windows_of
from avmix.media.judgement import judge_file
from avmix.types import Entry

_FLOOR_DBFS = -120.0
_MATRICES = {0: "RGB", 1: "BT.709", 4: "FCC", 5: "BT.601", 6: "BT.601", 7: "SMPTE 240M",
             9: "BT.2020", 10: "BT.2020"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One file to examine."""

    path: str
    seconds: float
    """Limit for reading one window; the whole is limited from outside."""
    entries: tuple[Entry, ...] = ()
    """Rows of a manifest that this file belongs to."""


def examine(task: Task) -> FileReport:
    """Everything about one file; problems of the file are findings, never exceptions."""
    if cells_of(task.path) is None:
        return _examined(task)
    try:
        with as_file(task.path, Limits()) as copy:
            return replace(_examined(replace(task, path=copy)), path=task.path)
    except (ClipError, OSError, ImportError) as error:
        what = error.problem if isinstance(error, ClipError) else str(error)
        return _only(task, Finding.of("unreadable", what))


def _examined(task: Task) -> FileReport:
    began = time.perf_counter()
    try:
        report = _examine(task)
    except FileNotFoundError:
        report = _only(task, Finding.of("missing", "there is no such file"))
    except NoVideoStreamError as error:
        report = _only(task, Finding.of("no_picture", error.problem))
    except UnsupportedMediaError as error:
        report = _only(task, Finding.of("unsupported", error.problem))
    except ClipError as error:
        report = _only(task, Finding.of("unreadable", error.problem))
    except OSError as error:
        report = _only(task, Finding.of("unreadable", error.strerror or type(error).__name__))
    if report.bytes is not None:
        report = _judged(task, report)
    findings = report.findings
    if task.entries and not any(f.code == "missing" for f in findings):
        findings = row_findings(task.path, task.entries, report)
    order = {"error": 0, "warning": 1, "note": 2, "ok": 3}
    findings = tuple(sorted(findings, key=lambda f: order[f.level]))
    seconds = time.perf_counter() - began
    return replace(
        report, findings=findings, level=worst(findings), examined_seconds=round(seconds, 3)
    )


def _judged(task: Task, report: FileReport) -> FileReport:
    """The report with the judgement that preparing comes to, and findings that agree with it."""
    try:
        # The rows of one file speak of one track: a dataset is prepared with one choice.
        track = track_of(task.entries[0].audio) if task.entries else None
        judged = judge_file(task.path, "full", audio_track=track)
    except OSError:
        return report
    worth = JudgementReport(worth=judged.worth, good=judged.good, reasons=judged.reasons)
    return replace(report, judgement=worth, findings=agreeing(report.findings, judged))


def _only(task: Task, finding: Finding) -> FileReport:
    size = os.path.getsize(task.path) if os.path.isfile(task.path) else None
    return FileReport(path=task.path, level=finding.level, findings=(finding,), bytes=size)


def _examine(task: Task) -> FileReport:
    with open_media(task.path) as media:
        streams, container = _streams(media), media.container.format.long_name
        if media.video is None and media.audio is None:
            raise NoVideoStreamError(task.path, "has neither video nor audio")
        packets = read_packets(media)
    with open_media(task.path) as media:
        edits = read_edits(task.path) if "mov" in container.lower() else ()
        video_edit, audio_edit = (
            presented_of(edits, -1 if s is None else s.id) for s in (media.video, media.audio)
        )
        end = min(packets.end_seconds, video_edit.end_seconds - media.zero_seconds)
        windows = windows_of(task.path, end) if media.video is not None else ()
        full_decode = decode_all(media, windows, video_edit, audio_edit)
        video = _video(media, full_decode.video_scan, packets, end)
        audio = _audio(media, full_decode.audio_scan, video)
        facts = FileReport(
            path=task.path,
            level="ok",
            findings=(),
            bytes=os.path.getsize(task.path),
            container=container,
            streams=streams,
            video=video,
            audio=audio,
            damage=tuple(full_decode.damage),
            edits=tuple(_edit_text(edit, media) for edit in edits),
        )
        from_beginning = not media.indexed
        missing = 0.0
        declares = media.container.format.name.split(",")[0] in ("matroska", "flv", "asf")
        if media.container.duration is not None and declares and all(s.chosen for s in streams):
            missing = media.container.duration / av.time_base - packets.data_end_seconds
    if video is not None and audio is not None:
        begin = audio.start_seconds - video.start_seconds
        end = begin + audio.duration_seconds - video.duration_seconds
        ends = [stop for _, stop in full_decode.audio_scan.runs]
        end = max(ends) - video.duration_seconds if ends else end
        facts = replace(facts, av_start_ms=1000 * begin, av_end_ms=1000 * end)
    if video is not None:
        limits = Limits(seconds=task.seconds)
        compared = tuple(
            compare(task.path, limits, k, window, full_decode) for k, window in enumerate(windows)
        )
        facts = replace(facts, windows=compared, clip_ms=clip_ms(task.path, limits, windows))
    findings = findings_of(
        facts,
        full_decode=full_decode,
        packets=packets,
        from_beginning=from_beginning,
        missing_end_seconds=missing,
    )
    return replace(facts, findings=findings)


def _streams(media: Media) -> tuple[StreamReport, ...]:
    chosen = {s.index for s in (media.video, media.audio) if s is not None}
    reports = []
    for stream in media.container.streams:
        context = stream.codec_context
        cover = bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))
        alike = [s for s in media.container.streams if s.type == stream.type]
        default = bool(stream.disposition & Disposition.default)
        if cover:
            why = "cover art"
        elif stream.type not in ("video", "audio"):
            why = "not used"
        elif len(alike) == 1:
            why = "the only one"
        elif stream.index in chosen:
            why = "marked as default" if default else "the first, none is marked as default"
        else:
            why = "not the default" if not default else "not the first"
        reports.append(
            StreamReport(
                index=stream.index,
                type=stream.type,
                codec="unknown" if context is None else context.name,
                chosen=stream.index in chosen,
                why=why,
            )
        )
    return tuple(reports)


def _video(media: Media, video_scan: VideoScan, packets: Packets, end: float) -> VideoReport | None:
    stream, frame = media.video, video_scan.first
    if stream is None:
        return None
    if frame is None:
        raise ClipError(media.path, "none of its frames can be decoded")
    assert stream.time_base is not None
    tick, times = float(stream.time_base), np.array(video_scan.seconds)
    steps = np.diff(times) * 1000
    duration = max(end, 0.0)
    keys = np.append(packets.key_seconds, packets.end_seconds)
    distances = np.diff(keys) if len(keys) > 1 else np.array([duration])
    a, b, c, d = display_matrix(frame)
    shown = int(np.sum(times >= -tick / 2)) or len(times)
    aspect = stream.sample_aspect_ratio
    # Elsewhere libav takes it from the whole file; of AVI it shortens it to what is there.
    own = media.container.format.name.split(",")[0]
    declared = None
    if own in ("mov", "avi") and stream.duration is not None:
        declared = tick * max(stream.duration, stream.frames if own == "avi" else 0)
    return VideoReport(
        codec=stream.codec_context.name,
        width=frame.width,
        height=frame.height,
        pixel_format=frame.format.name,
        fps=shown / duration if duration > 0 else 0.0,
        num_frames=len(times),
        start_seconds=media.zero_seconds,
        duration_seconds=duration,
        declared_seconds=declared,
        frame_ms=(
            (float(steps.min()), float(np.median(steps)), float(steps.max()))
            if len(steps)
            else (0.0, 0.0, 0.0)
        ),
        # Rounding to the tick makes neighbouring steps differ by up to two.
        vfr=bool(len(steps) and np.ptp(steps) > max(2500 * tick, 1.0)),
        rotation=round(frame.rotation / 90) % 4 * 90,
        mirrored=a * d - b * c < 0,
        pixel_aspect=f"{aspect.numerator}:{aspect.denominator}" if aspect else "1:1",
        interlaced=bool(frame.interlaced_frame),
        color_range={1: "limited", 2: "full"}.get(int(frame.color_range), "not said"),
        color_matrix=_MATRICES.get(int(frame.colorspace), "not said"),
        color_tagged=int(frame.color_range) in (1, 2) and int(frame.colorspace) in _MATRICES,
        key_seconds=(float(np.median(distances)), float(distances.max())),
        num_without_pts=video_scan.num_untimed,
        gaps=frame_gaps(times),
    )


def _audio(media: Media, audio_scan: AudioScan, video: VideoReport | None) -> AudioReport | None:
    if media.audio is None or not audio_scan.rate:
        return None
    seconds = None if video is None else video.duration_seconds
    return AudioReport(
        codec=media.audio.codec_context.name,
        rate_hz=audio_scan.rate,
        channels=audio_scan.channels,
        layout=audio_scan.layout,
        start_seconds=min(begin for begin, _ in audio_scan.runs) + media.zero_seconds,
        duration_seconds=audio_scan.num_samples / audio_scan.rate,
        covers=min(audio_scan.seconds_within(seconds) / seconds, 1.0) if seconds else None,
        peak_dbfs=_dbfs(audio_scan.peak),
        rms_dbfs=_dbfs(math.sqrt(audio_scan.energy / max(audio_scan.num_samples, 1))),
        digital_silence=audio_scan.peak == 0,
        mono_cancels=audio_scan.peak > 0 and cancels(audio_scan.energy, audio_scan.each_energy),
        num_broken=audio_scan.num_broken,
        gaps=tuple(audio_scan.gaps),
    )


def _dbfs(level: float) -> float:
    return max(20 * math.log10(level), _FLOOR_DBFS) if level > 0 else _FLOOR_DBFS


def _edit_text(edit: Edit, media: Media) -> str:
    kinds = {s.id: s.type for s in media.container.streams}
    kind = kinds.get(edit.track, "")
    track = kind if kind in ("video", "audio") else f"track {edit.track}"
    if edit.media_time < 0:
        return f"{track}: nothing for {edit.seconds:.3f} s"
    return f"{track}: {edit.seconds:.3f} s from tick {edit.media_time}"
