"""A file decoded once from its first byte to its last, with plain PyAV: the truth for the doctor.

Only opening the file and choosing its streams is shared with `decode_clip`, which is checked
against this: nothing here seeks, skips or stops early, and frames are compared by their luma
plane, untouched by the conversion to RGB.
"""

import math
from dataclasses import dataclass, field

import av.error
import av.logging
import numpy as np
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.video.frame import VideoFrame
from jaxtyping import Float64

from avmix.decode.errors import DecodeError
from avmix.decode.open_file import Media
from avmix.doctor.audio_scan import AudioScan
from avmix.doctor.edit_list_reader import PresentedStretch
from avmix.doctor.report import Damage
from avmix.doctor.video_scan import VideoScan, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Packets:
    """What the packets of the chosen frames say; times on the clip clock, ascending."""

    seconds: Float64[np.ndarray, " n"]
    key_seconds: Float64[np.ndarray, " k"]
    end_seconds: float
    data_end_seconds: float
    """End of the last packet of frame or audio, on the container's clock."""


@dataclass(slots=True)
class FullDecode:
    """What came out of decoding the whole file."""

    video_scan: VideoScan
    audio_scan: AudioScan
    damage: list[Damage] = field(default_factory=list)
    num_cut: int = 0
    """Complaints before the first frame: the file was cut out of a longer one."""


def read_packets(media: Media) -> Packets:
    """Read the file without decoding it; ends where reading fails, as `decode_all` will report.

    Raises `UnsupportedMediaError` where one packet takes longer than the limit of time, as
    `decode_all`.
    """
    times, keys = [], []
    begins: dict[int, float] = {}
    data_end, last, last_length = -math.inf, -math.inf, 0.0
    in_order = "avi" in media.container.format.name.split(",")
    try:
        for packet in media.read():
            if not packet.size or packet.stream.type not in ("video", "audio"):
                continue
            begin = _packet_seconds(packet, False)
            end = begin + float((packet.duration or 0) * packet.time_base)
            # Where the file does not say how long a packet lasts, it is as long as the one before.
            step = 0.0 if packet.duration else begin - begins.get(packet.stream_index, begin)
            if math.isfinite(begin):
                begins[packet.stream_index] = begin
            data_end = max(data_end, end + step if step > 0 else end)
            if media.video is None or packet.stream_index != media.video.index:
                continue
            seconds = _packet_seconds(packet, in_order)
            if math.isfinite(seconds):
                times.append(seconds)
                if seconds > last:
                    last, last_length = seconds, end - begin
                if packet.is_keyframe:
                    keys.append(seconds)
    except (av.error.FFmpegError, DecodeError):
        pass
    zero = media.zero_seconds
    stream = media.video
    rate = None if stream is None else stream.average_rate or stream.guessed_rate
    period = 1 / float(rate) if rate else 0.04
    return Packets(
        seconds=np.sort(np.array(times, np.float64)) - zero,
        key_seconds=np.sort(np.array(keys, np.float64)) - zero,
        end_seconds=last + (last_length or period) - zero if times else 0.0,
        data_end_seconds=data_end,
    )


def decode_all(
    media: Media,
    windows: tuple[Window, ...],
    video_edit: PresentedStretch,
    audio_edit: PresentedStretch,
) -> FullDecode:
    """Decode the chosen streams from the beginning to the end, and note every complaint."""
    full_decode = FullDecode(
        VideoScan(media, windows, video_edit), AudioScan(media, windows, audio_edit)
    )
    complaints: dict[str, list[tuple[float, str]]] = {"picture": [], "sound": []}
    level, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # else damage that sounds like the last one goes unnoticed
    try:
        with av.logging.Capture() as log:
            _decode(media, full_decode, complaints, log)
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)
    full_decode.video_scan.finish()
    begin = full_decode.video_scan.seconds[0] if full_decode.video_scan.seconds else -math.inf
    late = [c for c in complaints["picture"] if c[0] >= begin - 0.001]
    full_decode.num_cut = len(complaints["picture"]) - len(late)
    if late:
        full_decode.damage.append(
            Damage(stream="picture", num=len(late), first_seconds=late[0][0], first=late[0][1])
        )
    if audio := complaints["sound"]:
        full_decode.damage.append(
            Damage(stream="sound", num=len(audio), first_seconds=audio[0][0], first=audio[0][1])
        )
    return full_decode


def _decode(
    media: Media,
    full_decode: FullDecode,
    complaints: dict[str, list[tuple[float, str]]],
    log: list[tuple[int, str, str]],
) -> None:
    streams = [s for s in (media.video, media.audio) if s is not None]
    zero, seconds = media.zero_seconds, 0.0
    try:
        for packet in media.read(*streams):
            if not packet.size and packet.dts is not None:
                continue  # AVI: the frame before is shown again
            kind = "picture" if packet.stream.type == "video" else "sound"
            at = _packet_seconds(packet, False) - zero
            seconds = at if math.isfinite(at) else seconds
            said = ["the packet is incomplete"] if packet.is_corrupt else []
            log.clear()
            frames = []
            try:
                frames = packet.decode()
            except av.error.EOFError:
                pass
            except av.error.FFmpegError as error:
                said.append(error.strerror or type(error).__name__)
            said = [" ".join(f"{name}: {message}".split()) for _, name, message in log] + said
            for frame in frames:
                if isinstance(frame, VideoFrame):
                    full_decode.video_scan.add(frame)
                    said += ["the frame is incomplete"] if frame.is_corrupt else []
                elif isinstance(frame, AudioFrame) and not said:
                    full_decode.audio_scan.add(
                        frame
                    )  # damaged audio is left out: zeros rather than noise
            if said:
                complaints[kind].append((seconds, said[0]))
    except av.error.FFmpegError as error:
        complaints["picture"].append((seconds, f"reading stops: {error.strerror}"))
    except DecodeError as error:
        complaints["picture"].append((seconds, f"reading stops: {error.problem}"))


def _packet_seconds(packet: Packet, in_order: bool) -> float:
    ticks = packet.dts if in_order or packet.pts is None else packet.pts
    return -math.inf if ticks is None else float(ticks * packet.time_base)
