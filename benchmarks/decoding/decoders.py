"""Ways to get video and audio of a window out of a file, each as its users write it.

Every candidate returns the same: `num_frames` RGB frames and a mono waveform of exactly the
window. Each opens the file again and uses one thread if it can. Libraries are imported by `load`,
in the process that uses them, so that one cannot disturb another.
"""

import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A window of a file, and the form its clip should have."""

    path: str
    start_seconds: float
    duration_seconds: float
    num_frames: int
    grid: Literal["middles", "starts"] = "middles"
    """Where in `num_frames` equal parts of the window the wanted times lie."""
    size: tuple[int, int] | None = None
    """Width and height wanted, pixels; None for frames as they are stored."""
    sample_rate: int = 16_000

    @property
    def fractions(self) -> np.ndarray:
        """Wanted times as shares of the window."""
        shift = 0.5 if self.grid == "middles" else 0.0
        return (np.arange(self.num_frames) + shift) / self.num_frames

    @property
    def times(self) -> np.ndarray:
        """Wanted times, seconds; 0 is the first frame."""
        return self.start_seconds + self.fractions * self.duration_seconds

    @property
    def end_seconds(self) -> float:
        """End of the window."""
        return self.start_seconds + self.duration_seconds

    @property
    def num_samples(self) -> int:
        """Of the waveform."""
        return round(self.duration_seconds * self.sample_rate)


Decoded = tuple[np.ndarray, np.ndarray]
"""Frames (t, h, w, 3) uint8, and the waveform (s,) float32."""
Decode = Callable[[Job], Decoded]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to decode."""

    label: str
    load: Callable[[], Decode]
    """Imports what it needs; raises when that is not installed."""
    delivers: bool = True
    """False when it only does the work, for its cost, and returns nothing."""
    note: str = ""


def _fit(wave: np.ndarray, job: Job, at: int = 0) -> np.ndarray:
    """`wave` from sample `at` of the window on, cut and filled with zeros to its length."""
    out = np.zeros(job.num_samples, np.float32)
    wave, at = wave[max(-at, 0) :], max(at, 0)
    part = wave[: max(len(out) - at, 0)]
    out[at : at + len(part)] = part
    return out


def _spread(num_found: int, job: Job) -> np.ndarray:
    """Which of the frames found in a window are wanted, taking them to fill it evenly."""
    if not num_found:
        raise RuntimeError("no video in the window")
    return np.minimum((job.fractions * num_found).astype(int), num_found - 1)


def _avmix(backend: str) -> Callable[[], Decode]:
    def load() -> Decode:
        import importlib

        from avmix.decode import decode_clip

        importlib.import_module(f"avmix.decode.{backend}")

        def decode(job: Job) -> Decoded:
            grid: dict[str, Any] = {"num_frames": job.num_frames}
            if job.grid == "starts":
                grid = {"fps": job.num_frames / job.duration_seconds}
            clip = decode_clip(
                job.path,
                start_seconds=job.start_seconds,
                duration_seconds=job.duration_seconds,
                sample_rate=job.sample_rate,
                short_side=min(job.size) if job.size else None,
                backend=backend,  # pyright: ignore[reportArgumentType]  one of the choices
                **grid,
            )
            return clip.video, clip.audio

        return decode

    return load


def _load_floor() -> Decode:
    """The work that is always needed: no conversion, no scaling, no resampling."""
    import av

    def decode(job: Job) -> Decoded:
        nothing = np.zeros(0, np.uint8), np.zeros(0, np.float32)
        with av.open(job.path) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            for stream in container.streams:
                if stream not in (video, audio):
                    stream.discard = "all"  # pyright: ignore[reportAttributeAccessIssue]
            context = video.codec_context
            context.thread_count = audio.codec_context.thread_count = 1
            tick = float(video.time_base or 0)
            zero = video.start_time or 0
            if job.start_seconds > 0.3:
                ticks = int((job.start_seconds - 0.2) / tick) + zero
                container.seek(ticks, stream=video, backward=True)
            wanted_ticks = (job.times + 0.0005) / tick + zero
            held: list[Any] = []
            video_done = audio_done = False
            for packet in container.demux(video, audio):
                if packet.size == 0:
                    continue
                assert packet.pts is not None
                if packet.stream_index == audio.index:
                    at = float(packet.pts * packet.time_base) - zero * tick
                    if not audio_done and at >= job.start_seconds - 0.2:
                        audio.codec_context.decode(packet)
                    audio_done = at >= job.end_seconds
                elif not video_done:
                    if packet.is_keyframe and packet.pts <= wanted_ticks[0]:
                        held.clear()
                    held.append(packet)
                    at = packet.pts if packet.dts is None else packet.dts
                    video_done = at > wanted_ticks[-1]
                if video_done and audio_done:
                    break
            pts = np.sort([packet.pts for packet in held])
            shown = np.maximum(np.searchsorted(pts, wanted_ticks, side="right") - 1, 0)
            wanted = set(pts[shown].tolist())
            left = set(wanted)
            for packet in [*held, None]:
                if not left:
                    break
                if packet is not None:
                    context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
                left.difference_update(frame.pts for frame in context.decode(packet))
            if left:
                raise RuntimeError(f"{len(left)} frames did not come out")
        return nothing

    return decode


def _load_plain_pyav() -> Decode:
    import av

    def decode(job: Job) -> Decoded:
        with av.open(job.path) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            video.codec_context.thread_count = audio.codec_context.thread_count = 1
            assert video.time_base is not None
            assert audio.time_base is not None
            container.seek(int(job.start_seconds / video.time_base), stream=video)
            frames = []
            for frame in container.decode(video):
                assert frame.time is not None
                if frame.time >= job.end_seconds:
                    break
                if frame.time >= job.start_seconds:
                    frames.append(frame)
            width, height = job.size or (None, None)
            images = [
                frames[i].to_ndarray(format="rgb24", width=width, height=height)
                for i in _spread(len(frames), job)
            ]
            container.seek(int(job.start_seconds / audio.time_base), stream=audio)
            resampler = av.AudioResampler(format="flt", layout="mono", rate=job.sample_rate)
            parts = [np.zeros(0, np.float32)]
            for frame in container.decode(audio):
                assert frame.time is not None
                if frame.time >= job.end_seconds:
                    break
                if frame.time >= job.start_seconds:
                    parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
            parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
        return np.stack(images), _fit(np.concatenate(parts), job)

    return decode


def _load_decord(package: str) -> Decode:
    import decord

    _check_owner("decord", package)

    def decode(job: Job) -> Decoded:
        width, height = job.size or (-1, -1)
        images = decord.VideoReader(
            job.path, ctx=decord.cpu(0), width=width, height=height, num_threads=1
        )
        fps = images.get_avg_fps()
        indices = np.minimum(np.floor(job.times * fps + 1e-6).astype(int), len(images) - 1)
        video = images.get_batch(indices.tolist()).asnumpy()
        audio = decord.AudioReader(
            job.path, ctx=decord.cpu(0), sample_rate=job.sample_rate, mono=True
        )
        first = round(job.start_seconds * job.sample_rate)
        last = min(first + job.num_samples, audio.shape[1])
        return video, _fit(audio[first:last].asnumpy()[0], job)

    return decode


def _load_decord_av(package: str) -> Decode:
    import decord

    _check_owner("decord", package)

    def decode(job: Job) -> Decoded:
        width, height = job.size or (-1, -1)
        both = decord.AVReader(
            job.path,
            ctx=decord.cpu(0),
            sample_rate=job.sample_rate,
            mono=True,
            width=width,
            height=height,
            num_threads=1,
        )
        fps = getattr(both, "_AVReader__video_reader").get_avg_fps()  # noqa: B009  it has no other
        first = math.floor(job.start_seconds * fps + 1e-6)
        last = min(math.ceil(job.end_seconds * fps - 1e-6), len(both))
        audio, video = both[first:last]
        indices = np.minimum(np.floor(job.times * fps + 1e-6).astype(int), last - 1) - first
        wave = np.concatenate([part.asnumpy()[0] for part in audio])
        late = round((first / fps - job.start_seconds) * job.sample_rate)
        return video.asnumpy()[indices], _fit(wave, job, late)

    return decode


def _check_owner(module: str, package: str) -> None:
    """Raise where a module was not installed by `package`: two packages have it."""
    found = sys.modules[module].__version__
    if found != version(package):
        raise ModuleNotFoundError(f"`{module}` is {found}, not that of {package}")


def _torchcodec(seek_mode: Literal["exact", "approximate"]) -> Callable[[], Decode]:
    """As its documentation shows it."""

    def load() -> Decode:
        from torchcodec.decoders import AudioDecoder, VideoDecoder
        from torchcodec.transforms import Resize

        def decode(job: Job) -> Decoded:
            video = VideoDecoder(
                job.path,
                seek_mode=seek_mode,
                dimension_order="NHWC",
                transforms=[Resize(job.size[::-1])] if job.size else None,
            )
            images = video.get_frames_played_at(job.times.tolist()).data.numpy()
            audio = AudioDecoder(job.path, sample_rate=job.sample_rate, num_channels=1)
            samples = audio.get_samples_played_in_range(job.start_seconds, job.end_seconds)
            return images, _fit(samples.data[0].numpy(), job)

        return decode

    return load


def _load_torchcodec_careful() -> Decode:
    """Counting from the first frame, and the audio placed where its time says."""
    from torchcodec.decoders import AudioDecoder, VideoDecoder
    from torchcodec.transforms import Resize

    def decode(job: Job) -> Decoded:
        video = VideoDecoder(
            job.path,
            seek_mode="exact",
            dimension_order="NHWC",
            transforms=[Resize(job.size[::-1])] if job.size else None,
        )
        zero = video.metadata.begin_stream_seconds or 0.0
        last = (video.metadata.end_stream_seconds or math.inf) - 1e-4
        times = np.minimum(zero + job.times + 1e-4, last)
        images = video.get_frames_played_at(times.tolist()).data.numpy()
        audio = AudioDecoder(job.path, sample_rate=job.sample_rate, num_channels=1)
        begin, end = zero + job.start_seconds, zero + job.end_seconds
        first = max(begin, audio.metadata.begin_stream_seconds_from_header or 0.0)
        wave, late = np.zeros(0, np.float32), 0
        if first < end:
            try:
                samples = audio.get_samples_played_in_range(first, end)
                wave = samples.data[0].numpy()
                late = round((samples.pts_seconds - begin) * job.sample_rate)
            except RuntimeError as error:
                if "No audio frames were decoded" not in str(error):
                    raise
        return images, _fit(wave, job, late)

    return decode


def _load_torchcodec_blocks() -> Decode:
    """Its demuxer, decoders and converters: one pass over the packets of both streams.

    Exact, as the documentation of its index shows; with 0.1 s of audio before the window, for the
    decoder to settle, and only the wanted frames converted. These blocks do not scale.
    """
    import torch
    from torchcodec.decoders import (  # pyright: ignore[reportAttributeAccessIssue]  from 0.17 on
        AudioConverter,
        ColorConverter,
        Demuxer,
    )
    from torchvision.transforms.v2.functional import resize

    def decode(job: Job) -> Decoded:
        demuxer = Demuxer(job.path, streams=("video", "audio"))
        video, audio = demuxer.streams
        index = video.scan()
        begin = index.begin_stream_seconds_from_content + job.start_seconds
        end = begin + job.duration_seconds
        times = torch.from_numpy(job.times - job.start_seconds + begin + 1e-4)
        seconds = index.pts_seconds[index.index_at(times)].tolist()
        demuxer.seek(index.key_frame_seconds_for(min(seconds[0], begin - 0.1)))
        decoders = {video.index: video.make_decoder(), audio.index: audio.make_decoder()}
        to_rgb = ColorConverter()
        to_mono = AudioConverter(sample_rate=job.sample_rate, num_channels=1)
        wanted: dict[float, Any] = {}
        pieces: list[Any] = []
        left, latest = set(seconds), -math.inf

        def take(stream_index: int, found: list[Any]) -> None:
            nonlocal latest
            for one in found:
                if stream_index == audio.index:
                    latest = one.pts_seconds
                    if latest + one.duration_seconds > begin - 0.1 and latest < end + 0.1:
                        pieces.append(to_mono.convert(one))
                elif one.pts_seconds in left:
                    wanted[one.pts_seconds] = to_rgb.convert(one).data
                    left.discard(one.pts_seconds)

        for packet in demuxer:
            if left if packet.stream_index == video.index else latest < end + 0.1:
                take(packet.stream_index, decoders[packet.stream_index].decode(packet))
            elif not left and latest >= end + 0.1:
                break
        else:
            for stream_index, decoder in decoders.items():
                take(stream_index, decoder.drain())
        frames = torch.stack([wanted[at] for at in seconds])
        if job.size:
            frames = resize(frames, list(job.size[::-1]))
        wave, late = np.zeros(0, np.float32), 0
        if pieces:
            late = round((pieces[0].pts_seconds - begin) * job.sample_rate)
            parts = [*(part.data for part in pieces), to_mono.drain().data]
            wave = torch.cat(parts, dim=1)[0].numpy()
        return frames.permute(0, 2, 3, 1).numpy(), _fit(wave, job, late)

    return decode


def _pytorchvideo(decoder: Literal["pyav", "decord"]) -> Callable[[], Decode]:
    def load() -> Decode:
        import torch
        import torchaudio.functional
        from pytorchvideo.data.encoded_video import EncodedVideo, select_video_class

        select_video_class(decoder)  # imports the library

        def decode(job: Job) -> Decoded:
            video = EncodedVideo.from_path(job.path, decode_audio=True, decoder=decoder)
            rate = 44_100  # what its class for decord asks for
            if decoder == "pyav":
                rate = video._container.streams.audio[0].rate
            clip = video.get_clip(job.start_seconds, job.end_seconds)
            video.close()
            if clip["video"] is None or clip["audio"] is None:
                raise RuntimeError("nothing in the window")
            frames = clip["video"].transpose(0, 1)
            frames = frames[torch.from_numpy(_spread(len(frames), job))]
            if job.size:  # what its ShortSideScale does
                frames = torch.nn.functional.interpolate(
                    frames, size=job.size[::-1], mode="bilinear", align_corners=False
                )
            images = frames.permute(0, 2, 3, 1).to(torch.uint8).numpy()
            wave = torchaudio.functional.resample(clip["audio"], rate, job.sample_rate)
            return images, _fit(wave.numpy(), job)

        return decode

    return load


def _load_ffmpeg() -> Decode:
    program = shutil.which("ffmpeg")
    if program is None:
        raise ModuleNotFoundError("no program `ffmpeg` on the path")

    def decode(job: Job) -> Decoded:
        width, height = job.size or _stored_size(job.path)
        rate = job.num_frames / job.duration_seconds
        late = job.fractions[0] * job.duration_seconds
        filters = f"setpts=PTS-{late:.6f}/TB,fps={rate:.9f}:round=up:start_time=0"
        if job.size:
            filters += f",scale={width}:{height}:flags=bilinear"
        with tempfile.NamedTemporaryFile(suffix=".f32") as audio:
            command = [program, "-v", "error", "-nostdin", "-y", "-threads", "1",
                       "-ss", f"{job.start_seconds:.6f}", "-t", f"{job.duration_seconds:.6f}",
                       "-i", job.path, "-filter_threads", "1", "-map", "0:v:0", "-vf", filters,
                       "-frames:v", str(job.num_frames), "-f", "rawvideo", "-pix_fmt", "rgb24",
                       "pipe:1", "-map", "0:a:0", "-af", "aresample=async=1:first_pts=0",
                       "-ac", "1", "-ar", str(job.sample_rate), "-f", "f32le",
                       audio.name]  # fmt: skip
            done = subprocess.run(command, capture_output=True, timeout=30)
            if done.returncode:
                raise RuntimeError(done.stderr.decode(errors="replace").strip()[-200:])
            wave = np.fromfile(audio.name, np.float32)
        frames = np.frombuffer(done.stdout, np.uint8)
        frames = frames[: len(frames) - len(frames) % (3 * width * height)]
        frames = frames.reshape(-1, height, width, 3)
        if not len(frames):
            raise RuntimeError("no video in the window")
        rows = np.minimum(np.arange(job.num_frames), len(frames) - 1)
        return frames[rows], _fit(wave, job)

    return decode


def _stored_size(path: str) -> tuple[int, int]:
    """Width and height as ffmpeg shows them."""
    import av

    with av.open(path) as container:
        frame = next(container.decode(video=0))
    turned = round(frame.rotation / 90) % 2
    return (frame.height, frame.width) if turned else (frame.width, frame.height)


CANDIDATES: dict[str, Candidate] = {
    "floor": Candidate(
        label="floor: libav, only the packets needed, nothing converted",
        load=_load_floor,
        delivers=False,
    ),
    "avmix": Candidate(label="avmix", load=_avmix("pyav")),
    "avmix_decord": Candidate(label='avmix, backend "decord"', load=_avmix("decord")),
    "avmix_torchcodec": Candidate(label='avmix, backend "torchcodec"', load=_avmix("torchcodec")),
    "decord": Candidate(
        label="decord VideoReader + AudioReader",
        load=partial(_load_decord, "decord"),
        note="frame index = t * fps",
    ),
    "decord_av": Candidate(
        label="decord AVReader",
        load=partial(_load_decord_av, "decord"),
        note="frame index = t * fps",
    ),
    "decord2": Candidate(
        label="decord2 VideoReader + AudioReader",
        load=partial(_load_decord, "decord2"),
        note="frame index = t * fps",
    ),
    "decord2_av": Candidate(
        label="decord2 AVReader",
        load=partial(_load_decord_av, "decord2"),
        note="frame index = t * fps",
    ),
    "torchcodec_exact": Candidate(
        label="torchcodec exact",
        load=_torchcodec("exact"),
        note="as its documentation shows it",
    ),
    "torchcodec_careful": Candidate(
        label="torchcodec exact, with care",
        load=_load_torchcodec_careful,
        note="counted from the first frame, audio placed by its time",
    ),
    "torchcodec_approximate": Candidate(
        label="torchcodec approximate",
        load=_torchcodec("approximate"),
        note="as its documentation shows it",
    ),
    "torchcodec_blocks": Candidate(
        label="torchcodec blocks",
        load=_load_torchcodec_blocks,
        note="demuxer, decoders and converters; both streams in one pass, exact by its index",
    ),
    "pytorchvideo_pyav": Candidate(
        label="pytorchvideo (pyav)", load=_pytorchvideo("pyav"), note="EncodedVideo.get_clip"
    ),
    "pytorchvideo_decord": Candidate(
        label="pytorchvideo (decord)", load=_pytorchvideo("decord"), note="EncodedVideo.get_clip"
    ),
    "plain_pyav": Candidate(
        label="PyAV as usually written",
        load=_load_plain_pyav,
        note="seek, whole frames with start <= time < end, to_ndarray for each wanted one",
    ),
    "ffmpeg": Candidate(label="ffmpeg command line", load=_load_ffmpeg, note="-ss before -i"),
}
"""By name; `avmix` and `floor` are what the others are compared with."""
