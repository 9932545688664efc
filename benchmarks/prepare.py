"""What preparing a dataset costs, and what it gives back when it is read.

`python benchmarks/prepare.py --ucf ../shared/data/ucf101_orig --work DIR [--ffmpeg PROGRAM]` probes
files, transcodes them with PyAV and, where there is the program, with plain ffmpeg calls over the
same files and with ffmpeg under avmix (compared with the source afterwards), and reads one epoch
through `TrainSet` before and after. Sets: originals of UCF101 (MPEG-4 AVI, 320x240), and synthetic
clips of 10 s as downloads are, H.264 with a keyframe every 250: 340x256 and 1280x720. All times are
seconds of one core of this process and its children, so that others on the machine count little.
Writes benchmarks/results/prepare.json.
"""

import argparse
import shutil
import subprocess
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from decoding.footage import made_clips
from shared import machine, provenance, result_files
from shared.paths import RESULTS
from shared.processes import cpu_seconds

from avmix.config import AugmentConfig, ClipConfig
from avmix.data.dataset import TrainSet
from avmix.data.manifest import read_manifest, write_manifest
from avmix.media.judgement import entry_of
from avmix.tools.transcode import transcode
from avmix.tools.transcode_clip import TargetFormat
from avmix.types import Entry

CLIP = ClipConfig(duration_seconds=2.0, num_frames=8, short_side=128, crop=112)
VISITS = 3
"""Epochs that are read, each with other windows."""


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ucf", type=Path, help="folder of AVI files of UCF101")
    parser.add_argument("--work", type=Path, required=True, help="folder for files, kept")
    parser.add_argument("--ffmpeg", default=shutil.which("ffmpeg") or "", help="the program")
    parser.add_argument("--files", type=int, default=6, help="of each set (6)")
    parser.add_argument("--out", type=Path, default=RESULTS / "prepare.json", help="the JSON")
    provenance.add_option(parser)
    args = parser.parse_args()
    origin, started = provenance.measured(args, "prepare"), machine.facts(["av", "numpy", "torch"])
    made = made_clips(args.work / "made", 250, args.files)
    sets = {"made_340x256": made, "made_1280x720": _enlarged(args.work / "large", made)}
    if args.ucf:
        sets = {"ucf101_originals": sorted(args.ucf.glob("*.avi"))[:: 40 // args.files], **sets}
    result = {
        "kind": "prepare",
        "command": f"python benchmarks/prepare.py --ucf DIR --work DIR --files {args.files}",
        "measured": origin,
        "form": {"short_side": TargetFormat().short_side, "gop": TargetFormat().gop,
                 "crf": TargetFormat().crf},
        "epoch": {"windows_per_clip": VISITS, "seconds": CLIP.duration_seconds,
                  "pictures": CLIP.num_frames, "short_side": CLIP.short_side},
        "sets": {name: _measure(args.work / name, paths, args.ffmpeg)
                 for name, paths in sets.items()},
        "ffmpeg": _version(args.ffmpeg) if args.ffmpeg else None,
        "environment": started,
        "load_average_at_the_end": machine.load_average(),
    }  # fmt: skip
    result_files.write(args.out, result)
    print(result_files.text_of(result))


def _measure(work: Path, paths: Sequence[Path], ffmpeg: str) -> dict[str, Any]:
    shutil.rmtree(work, ignore_errors=True)
    root = paths[0].parent
    entries: list[Entry] = []

    def probe_all() -> None:
        entries.extend(
            entry_of(p, root, clip_id=p.stem, labels=("x",), source_id=p.stem) for p in paths
        )

    probing = _cpu(probe_all)
    write_manifest(work / "m", classes=("x",), protocol="b", splits={"train": entries})
    seconds = sum(e.duration_seconds for e in entries)
    result: dict[str, Any] = {
        "files": len(paths),
        "seconds_of_video": round(seconds, 2),
        "probe_files_per_cpu_second": round(len(paths) / probing, 2),
        "transcode_cpu_seconds_per_video_second": {},
    }
    speed = result["transcode_cpu_seconds_per_video_second"]
    counts: dict[str, Any] = {}

    def by(name: str, form: TargetFormat) -> Callable[[], None]:
        return lambda: counts.update({name: transcode(work / "m", root, work / name, form)})

    speed["pyav"] = round(_cpu(by("pyav", TargetFormat())) / seconds, 4)
    if ffmpeg:
        speed["plain_ffmpeg_calls"] = round(
            _cpu(lambda: _plain(ffmpeg, paths, work / "plain")) / seconds, 4
        )
        speed["ffmpeg_checked"] = round(
            _cpu(by("ffmpeg", TargetFormat(ffmpeg=ffmpeg))) / seconds, 4
        )
        result["by_ffmpeg_of_all"] = [counts["ffmpeg"]["by_ffmpeg"], counts["ffmpeg"]["made"]]
    result["excluded"] = counts["pyav"]["excluded"]
    result["bytes_before"] = counts["pyav"]["bytes_before"]
    result["bytes_after"] = counts["pyav"]["bytes"]
    before, after = _reader(work / "m", root), _reader(work / "pyav", work / "pyav")
    for reader in (before, after):
        _epoch(reader, 0)  # the files are in memory then
    reads = [(_cpu(lambda: _epochs(before)), _cpu(lambda: _epochs(after))) for _ in range(2)]
    best = [min(x) for x in zip(*reads, strict=True)]
    clips = VISITS * len(paths)
    result["read_cpu_seconds_per_clip"] = {
        "before": round(best[0] / clips, 5),
        "after": round(best[1] / clips, 5),
        "times_faster": round(best[0] / best[1], 2),
    }
    return result


def _reader(folder: Path, root: Path) -> TrainSet:
    return TrainSet(manifest=read_manifest(folder, "train"), root=root, clip=CLIP,
                    augment=AugmentConfig(), seed=0, verify="never")  # fmt: skip


def _epochs(reader: TrainSet) -> None:
    for epoch in range(1, VISITS + 1):
        _epoch(reader, epoch)


def _epoch(reader: TrainSet, epoch: int) -> None:
    samples = reader.samples(
        [(epoch, position) for position in range(len(reader.manifest.entries))]
    )
    if any(sample.bad for sample in samples):
        raise RuntimeError("a clip cannot be read")


def _plain(ffmpeg: str, paths: Sequence[Path], out: Path) -> None:
    """As everybody does it: scaled, the same encoders and settings, nothing checked."""
    out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        command = [
            ffmpeg, "-nostdin", "-v", "error", "-y", "-i", str(path),
            "-vf", "scale='if(gt(iw,ih),-2,min(256,iw))':'if(gt(iw,ih),min(256,ih),-2)'",
            "-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-g", "12", "-bf", "0",
            "-pix_fmt", "yuv420p", "-threads", "1", "-c:a", "aac", "-b:a", "128k",
            str(out / f"{path.stem}.mp4"),
        ]  # fmt: skip
        subprocess.run(command, check=True)


def _enlarged(folder: Path, sources: Sequence[Path]) -> list[Path]:
    """The same clips with 1280x720 frames; audio is copied."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / p.name for p in sources]
    for source, path in zip(sources, paths, strict=True):
        if path.exists():
            continue
        part = path.with_suffix(".part.mp4")
        with av.open(str(source)) as file, av.open(str(part), "w") as new:
            video: Any = new.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
            video.width, video.height, video.pix_fmt = 1280, 720, "yuv420p"
            video.gop_size, video.thread_count = 250, 1
            audio = new.add_stream_from_template(file.streams.audio[0])
            number = 0
            for packet in file.demux():
                if packet.stream.type == "audio" and packet.dts is not None:
                    packet.stream = audio
                    new.mux(packet)
                elif packet.stream.type == "video":
                    for frame in packet.decode():
                        large = frame.reformat(1280, 720, "yuv420p")
                        large.pts, large.time_base = number, Fraction(1, 30)
                        number += 1
                        new.mux(video.encode(large))
            new.mux(video.encode(None))
        part.rename(path)
    return paths


def _cpu(work: Callable[[], Any]) -> float:
    """Seconds of a core, of this process and the children that have ended."""
    began = cpu_seconds()
    work()
    return cpu_seconds() - began


def _version(ffmpeg: str) -> str:
    done = subprocess.run([ffmpeg, "-version"], capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[0].split(" Copyright")[0]


if __name__ == "__main__":
    main()
