"""Text form of reports: tables for a terminal, one line per file in a pipe."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from avmix.doctor.environment import Environment
from avmix.doctor.report import KINDS, LEVELS, Code, FileReport, Finding, Level, VideoReport
from avmix.system.printing import counted, printable

_STYLES: dict[Level, str] = {
    "error": "bold red", "warning": "yellow", "note": "cyan", "ok": "green",
}  # fmt: skip


_STREAM = {"picture": "frames", "sound": "audio"}
"""Names of `Damage.stream` in text."""
_WORTH = {"whole": "all of it can be used", "part": "a part can be used", "nothing": "nothing"}


def show_file(console: Console, file: FileReport) -> None:
    """Everything about one file."""
    console.print(_title(console, file))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True, min_width=12)
    facts.add_column(overflow="fold")
    for name, text in _facts(file):
        facts.add_row(name, printable(text))
    if facts.row_count:
        console.print(Padding(facts, (0, 0, 1, 2)))
    if file.findings:
        console.print(Padding(_findings(file.findings), (0, 0, 1, 2)))


def show_files(console: Console, files: Sequence[FileReport], *, all_files: bool) -> None:
    """One line per file, errors first; without `all_files` only those with a finding."""
    order = {level: k for k, level in enumerate(LEVELS)}
    ranked = sorted(files, key=lambda f: order[f.level])
    listed = [f for f in ranked if all_files or f.findings]
    if not console.is_terminal:
        for file in listed:
            text = "; ".join(f.text for f in file.findings)
            line = f"{file.level:8}{printable(file.path)}  {printable(text)}".rstrip()
            console.print(line, soft_wrap=True)
    elif listed:
        table = Table(box=SIMPLE_HEAD, expand=False, pad_edge=False)
        table.add_column("level", no_wrap=True)
        table.add_column("file", no_wrap=True)
        table.add_column("findings", overflow="fold")
        folder = _common_folder([f.path for f in listed])
        names = [os.path.relpath(f.path, folder) if folder else f.path for f in listed]
        width = min(max(map(len, names)), max(console.width * 2 // 5, 20))
        for file, name in zip(listed, names, strict=True):
            text = "; ".join(f.text for f in file.findings)
            table.add_row(_level(file.level), _tail(name, width), printable(text))
        if folder:
            console.print(f"in {printable(folder)}", style="bold")
        console.print(table)
    if listed:
        console.print()


def show_totals(
    console: Console,
    files: Sequence[FileReport],
    others: Mapping[str, int],
    seconds: float,
) -> None:
    """How many of what, and what to do about it."""
    levels = Counter(f.level for f in files)
    line = Text(f"{counted(len(files), 'file')} in {seconds:.0f} s: ")
    parts = [
        Text(f"{levels[lvl]} ok" if lvl == "ok" else counted(levels[lvl], lvl), style=_STYLES[lvl])
        for lvl in LEVELS
        if levels[lvl]
    ]
    console.print(line + Text(", ").join(parts), soft_wrap=True)
    if others:
        some = sorted(others.items(), key=lambda item: (-item[1], item[0]))
        named = ", ".join(f"{count} {printable(ending)}" for ending, count in some[:12])
        more = f", {len(some) - 12} more endings" if len(some) > 12 else ""
        total = counted(sum(others.values()), "file")
        console.print(f"not looked at: {total} of other types ({named}{more})")
    kinds: Counter[tuple[Level, Code]] = Counter()
    for file in files:
        kinds.update({(f.level, f.code) for f in file.findings})
    if kinds:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("files", justify="right", no_wrap=True)
        table.add_column("level", no_wrap=True)
        table.add_column("finding", no_wrap=True)
        table.add_column("what to do", overflow="fold")
        rank = {level: k for k, level in enumerate(LEVELS)}
        for (level, code), count in sorted(kinds.items(), key=lambda i: (rank[i[0][0]], -i[1])):
            table.add_row(str(count), _level(level), KINDS[code].title, KINDS[code].hint)
        console.print(table)
    console.print()


def show_environment(console: Console, env: Environment) -> None:
    """Versions, and what is known about them."""
    libraries = ", ".join(f"{name} {v}" for name, v in env.ffmpeg_libraries.items())
    rows = [("python", f"{env.python}, {env.platform}")]
    rows += [
        (name, (v or "not installed") + (f" with FFmpeg {env.ffmpeg}" if name == "av" else ""))
        for name, v in env.packages.items()
    ]
    rows += [("libraries", libraries), ("CPUs", str(env.num_cpus)), ("CUDA", env.cuda)]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=12)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, text)
    console.print(Text("environment", style="bold"))
    console.print(Padding(table, (0, 0, 1, 2)))
    if env.findings:
        console.print(Padding(_findings(env.findings), (0, 0, 1, 2)))


def _title(console: Console, file: FileReport) -> Text:
    room = console.width - len(file.level) - 2
    title = Text(_tail(file.path, room) if console.is_terminal else printable(file.path), "bold")
    return title + Text("  ") + _level(file.level)


def _findings(findings: Sequence[Finding]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=7)
    table.add_column(overflow="fold")
    for finding in findings:
        said = Text(printable(finding.text)) + Text(f"\n-> {finding.hint}", style="dim")
        table.add_row(_level(finding.level), said)
    return table


def _facts(file: FileReport) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if file.container is not None:
        num = counted(len(file.streams), "stream")
        rows.append(("container", f"{file.container}, {_size(file.bytes or 0)}, {num}"))
    kinds = Counter(s.type for s in file.streams)
    if any(kinds[s.type] > 1 or not s.chosen for s in file.streams):
        for s in file.streams:
            taken = "taken" if s.chosen else "left"
            rows.append(("", f"{s.index}: {s.type}, {s.codec}, {taken} ({s.why})"))
    if file.video is not None:
        rows += _frame_facts(file.video)
    audio = file.audio
    if audio is not None:
        level = f"RMS {audio.rms_dbfs:.1f} dBFS, peak {audio.peak_dbfs:.1f} dBFS"
        if audio.digital_silence:
            level = "digital silence: every sample is 0"
        rows.append(("audio", f"{audio.codec}, {audio.rate_hz} Hz, {audio.layout}; {level}"))
        cover = "" if audio.covers is None else f", covers {audio.covers:.1%} of the frames"
        rows.append(
            ("", f"starts at {audio.start_seconds:.3f} s, {audio.duration_seconds:.3f} s{cover}")
        )
        rows += [
            ("", f"gap of {g.seconds:.3f} s at {g.start_seconds:.3f} s") for g in audio.gaps[:5]
        ]
    if file.av_start_ms is not None and file.av_end_ms is not None:
        rows.append(
            ("A/V", f"audio starts {_apart(file.av_start_ms)}, ends {_apart(file.av_end_ms)}")
        )
    rows += [("edit list" if not k else "", text) for k, text in enumerate(file.edits)]
    if file.video is not None or file.audio is not None:
        rows += _reading_facts(file)
    return rows


def _frame_facts(video: VideoReport) -> list[tuple[str, str]]:
    size = f"{video.width}x{video.height}"
    rows = [
        ("video", f"{video.codec}, {size}, {video.fps:.2f} / s, {video.pixel_format}"),
        ("", f"starts at {video.start_seconds:.3f} s, {video.duration_seconds:.3f} s, "
             f"{counted(video.num_frames, 'frame')}"),
    ]  # fmt: skip
    least, median, most = video.frame_ms
    apart = f"{median:.1f} ms apart"
    if video.vfr:
        apart = f"{least:.1f} to {most:.1f} ms apart, median {median:.1f}: variable"
    rows.append(("", apart))
    shown = []
    if video.rotation:
        turned = video.rotation % 180 != 0
        size = f"{video.height}x{video.width}" if turned else size
        shown.append(f"turned by {video.rotation} degrees to {size}")
    if video.mirrored:
        shown.append("mirrored")
    if video.pixel_aspect != "1:1":
        shown.append(f"pixels {video.pixel_aspect}")
    if video.interlaced:
        shown.append("interlaced")
    if shown:
        rows.append(("", ", ".join(shown)))
    said = "" if video.color_tagged else " (unstated values as players assume them)"
    rows.append(("colour", f"matrix {video.color_matrix}, range {video.color_range}{said}"))
    median, most = video.key_seconds
    rows.append(("keyframes", f"{median:.2f} s apart (median), {most:.2f} s at most"))
    rows += [
        ("", f"stands still for {g.seconds:.3f} s at {g.start_seconds:.3f} s")
        for g in video.gaps[:5]
    ]
    return rows


def _reading_facts(file: FileReport) -> list[tuple[str, str]]:
    rows = [
        ("damage", f"{_STREAM[d.stream]}: {counted(d.num, 'error')}, "
                   f"first at {d.first_seconds:.3f} s: {d.first}")
        for d in file.damage
    ] or [("damage", "none: decoded from beginning to end without an error")]  # fmt: skip
    if file.judgement is not None:
        rows.append(("worth", _WORTH[file.judgement.worth]))
        rows += [("", f"good from {begin:.2f} to {end:.2f} s") for begin, end in
                 file.judgement.good if file.judgement.worth == "part"]  # fmt: skip
    if file.windows:
        same = sum(w.outcome == "same" for w in file.windows)
        text = f"{same} of {len(file.windows)} equal the file decoded from beginning to end"
        rows.append(("windows", text))
        rows += [
            ("", f"at {w.start_seconds:.3f} s {w.outcome}: {w.detail}")
            for w in file.windows
            if w.outcome != "same"
        ]
    if file.clip_ms is not None:
        rows.append(("speed", f"{file.clip_ms:.0f} ms for a clip of 2 s (16 frames at 224 pixels)"))
    return rows


def _level(level: Level) -> Text:
    return Text(level, style=_STYLES[level])


def _tail(path: str, width: int) -> str:
    """The end of a path, which tells files apart."""
    path = printable(path)
    return path if len(path) <= width else "..." + path[len(path) - width + 3 :]


def _common_folder(paths: Sequence[str]) -> str:
    try:
        return os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # absolute and relative ones
        return ""


def _size(num_bytes: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes} bytes"


def _apart(milliseconds: float) -> str:
    if abs(milliseconds) < 0.5:
        return "with the frames"
    return f"{abs(milliseconds):.0f} ms {'after' if milliseconds > 0 else 'before'} them"
