"""From what was measured to what is worth saying."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from avmix.decode.avi_index import LATE_SAMPLES
from avmix.doctor.full_decode import FullDecode, Packets
from avmix.doctor.report import (
    Damage,
    FileReport,
    Finding,
    Gap,
    VideoReport,
    WindowReport,
)
from avmix.media.judgement import Judgement

AV_START_MS = 20.0
"""Less is not seen: half a frame."""
SILENT_DBFS = -80.0
ENDS_EARLY_SECONDS = 0.1
LEAST_COVERED = 0.9
LONG_GOP_SECONDS = 12.5
"""Encoders put keyframes at most 250 apart if not told: 10 s at 25 frames a second."""
TRUNCATED_SECONDS = 0.5
ASPECT = 1.01
_SAYS_ALL = frozenset({"unreadable", "unsupported", "no_picture", "sound_broken"})
"""Findings after which it goes without saying that nothing can be used."""
LONG_READ_SECONDS = 30.0
"""A window costs the reading of everything before it, where seeking is not exact."""
_HDR = {16: "PQ (SMPTE ST 2084)", 18: "HLG (ARIB STD-B67)"}
"""Transfer curves, as AVColorTransferCharacteristic numbers them."""


def findings_of(
    file: FileReport,
    *,
    full_decode: FullDecode,
    packets: Packets,
    from_beginning: bool,
    missing_end_seconds: float,
) -> tuple[Finding, ...]:
    """All findings about a file that could be opened and decoded."""
    found: list[Finding] = []
    for damage in file.damage:
        found.append(_damage(damage))
    if file.video is None:
        found.append(Finding.of("no_picture", "has audio, but no video"))
    else:
        found += _frame(file.video, full_decode, packets)
        found += _truncated(file.video, packets, missing_end_seconds)
        found += _windows(file.windows, damaged=any(f.level == "error" for f in found))
    found += _audio(file)
    found += _streams(file)
    if from_beginning and packets.end_seconds > LONG_READ_SECONDS:
        found.append(Finding.of("from_beginning", "this container is read from its beginning"))
    return tuple(found)


def agreeing(findings: Sequence[Finding], judged: Judgement) -> tuple[Finding, ...]:
    """The findings with what the file is worth, and no error of damage where it is whole: what
    libav complains of need not concern any frame."""
    if judged.worth == "whole":
        return tuple(
            replace(f, level="note") if f.code == "damaged_picture" else f for f in findings
        )
    known = any(f.level == "error" and f.code in _SAYS_ALL for f in findings)
    if judged.worth == "part":
        return (*findings, Finding.of("in_part", judged.said()))
    return tuple(findings) if known else (*findings, Finding.of("unusable", judged.said()))


def _damage(damage: Damage) -> Finding:
    code = "damaged_picture" if damage.stream == "picture" else "damaged_sound"
    places = "1 place" if damage.num == 1 else f"{damage.num} places"
    return Finding.of(
        code, f"damaged {damage.stream}: {places}, first at {damage.first_seconds:.2f} s"
    )


def _frame(video: VideoReport, full_decode: FullDecode, packets: Packets) -> list[Finding]:
    found = []
    if video.key_seconds[1] > LONG_GOP_SECONDS:
        found.append(Finding.of("long_gop", f"keyframes up to {video.key_seconds[1]:.1f} s apart"))
    # What comes before time 0 was cut away by an edit list, or lies before the first key frame.
    before = max(-float(packets.seconds[0]), 0.0) if packets.seconds.size else 0.0
    is_cut = before > 0.001 and packets.key_seconds.size and packets.key_seconds[0] > -0.001
    if full_decode.num_cut or full_decode.video_scan.seconds[0] > 0.001 or is_cut:
        begin = full_decode.video_scan.seconds[0] + (before if is_cut else 0.0)
        found.append(
            Finding.of("cut_start", f"the first frame that can be decoded is at {begin:.2f} s")
        )
    if video.vfr:
        least, _, most = video.frame_ms
        found.append(Finding.of("vfr", f"variable frame rate ({least:.0f} to {most:.0f} ms)"))
    if video.mirrored:
        found.append(Finding.of("rotated", "mirrored"))
    elif video.rotation:
        found.append(Finding.of("rotated", f"rotated by {video.rotation} degrees"))
    if video.gaps:
        found.append(Finding.of("picture_gaps", f"frames stand still: {_gaps(video.gaps)}"))
    if video.num_without_pts:
        share = video.num_without_pts / max(video.num_frames, 1)
        found.append(
            Finding.of("no_pts", f"{min(share, 1):.0%} of the frames have no time of their own")
        )
    if before > 0.001 and not is_cut:
        found.append(Finding.of("trimmed", f"an edit list cuts the first {before:.3f} s away"))
    if not 1 / ASPECT < float(Fraction(video.pixel_aspect.replace(":", "/"))) < ASPECT:
        found.append(Finding.of("aspect", f"pixels are {video.pixel_aspect}, not square"))
    if video.interlaced:
        found.append(Finding.of("interlaced", "interlaced frames"))
    frame = full_decode.video_scan.first
    if frame is not None and (curve := _HDR.get(int(frame.color_trc))):
        found.append(Finding.of("hdr", f"high dynamic range, {curve}"))
    return found


def _truncated(video: VideoReport, packets: Packets, missing_end_seconds: float) -> list[Finding]:
    declared, data = video.declared_seconds, packets.end_seconds
    if packets.seconds.size:
        data = packets.end_seconds - min(float(packets.seconds[0]), 0.0)
    if declared is not None and declared > data + TRUNCATED_SECONDS:
        return [Finding.of("truncated", f"says {declared:.2f} s, the data end at {data:.2f} s")]
    if declared is None and missing_end_seconds > TRUNCATED_SECONDS:
        return [Finding.of("truncated", f"the last {missing_end_seconds:.2f} s are missing")]
    return []


def _windows(windows: Sequence[WindowReport], *, damaged: bool) -> list[Finding]:
    found, total = [], len(windows)
    differs = [w for w in windows if w.outcome == "differs"]
    refused = [w for w in windows if w.outcome == "refused"]
    if differs:
        found.append(
            Finding.of(
                "seek_differs",
                f"{len(differs)} of {total} windows differ, first at "
                f"{differs[0].start_seconds:.2f} s: {differs[0].detail}",
            )
        )
    if noisy := [w for w in windows if w.outcome == "same" and w.detail]:
        found.append(
            Finding.of("noise_drawn", f"{len(noisy)} of {total} windows: {noisy[0].detail}")
        )
    if refused and not damaged:
        found.append(
            Finding.of(
                "refused",
                f"{len(refused)} of {total} windows refused, first at "
                f"{refused[0].start_seconds:.2f} s: {refused[0].detail}",
            )
        )
    return found


def _audio(file: FileReport) -> list[Finding]:
    has_stream = any(s.type == "audio" and s.chosen for s in file.streams)
    audio = file.audio
    if audio is None:
        text = "the audio stream holds nothing that decodes" if has_stream else "no audio"
        return [Finding.of("no_sound", text)]
    found = []
    if audio.peak_dbfs < SILENT_DBFS:
        quiet = "digital silence" if audio.digital_silence else f"peak {audio.peak_dbfs:.0f} dBFS"
        found.append(Finding.of("silent", f"silent: {quiet}"))
    elif audio.mono_cancels:
        text = f"the mono mix is {audio.rms_dbfs:.0f} dBFS, its channels cancel each other"
        found.append(Finding.of("mono_cancels", text))
    if audio.num_broken:
        text = f"{audio.num_broken} samples are not finite, or far beyond full scale"
        found.append(Finding.of("sound_broken", text))
    if file.video is None or audio.covers is None:
        return found
    assert file.av_start_ms is not None
    assert file.av_end_ms is not None
    if audio.covers < LEAST_COVERED:
        found.append(Finding.of("sound_short", f"audio covers {audio.covers:.0%} of the frames"))
    elif file.av_end_ms < -1000 * ENDS_EARLY_SECONDS:
        found.append(
            Finding.of("sound_ends_early", f"audio ends {-file.av_end_ms / 1000:.2f} s early")
        )
    if abs(file.av_start_ms) > AV_START_MS:
        found.append(Finding.of("av_start", f"audio starts {_later(file.av_start_ms)}"))
    if audio.gaps:
        found.append(Finding.of("sound_gaps", f"gaps in the audio: {_gaps(audio.gaps)}"))
    late = LATE_SAMPLES.get(audio.codec.removesuffix("float"), 0)
    if late and "AVI" in (file.container or ""):
        milliseconds = 1000 * late / audio.rate_hz
        found.append(
            Finding.of(
                "late_in_avi",
                f"{audio.codec} in AVI: audio may be about {milliseconds:.0f} ms late",
            )
        )
    return found


def _streams(file: FileReport) -> list[Finding]:
    found = []
    for kind in ("video", "audio"):
        alike = [s for s in file.streams if s.type == kind and s.why != "cover art"]
        if len(alike) > 1:
            chosen = next(s for s in alike if s.chosen)
            found.append(
                Finding.of(
                    "several_streams",
                    f"{len(alike)} {kind} streams, number {chosen.index} taken: {chosen.why}",
                )
            )
    if any(s.why == "cover art" for s in file.streams):
        found.append(Finding.of("cover_art", "holds cover art"))
    return found


def _later(milliseconds: float) -> str:
    return f"{abs(milliseconds):.0f} ms {'after' if milliseconds > 0 else 'before'} the frames"


def _gaps(gaps: Sequence[Gap]) -> str:
    longest = max(gaps, key=lambda g: abs(g.seconds))
    many = "" if len(gaps) == 1 else f"{len(gaps)} times, longest "
    return f"{many}{longest.seconds:.2f} s at {longest.start_seconds:.2f} s"
