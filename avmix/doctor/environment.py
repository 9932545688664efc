"""Installed versions of dependencies, and those that are known not to work."""

import importlib.util
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from avmix.doctor.file_pool import imports
from avmix.doctor.report import Finding, Level
from avmix.system.portability import usable_cores

PACKAGES = ("avmix", "torch", "torchvision", "torchaudio", "av", "decord", "torchcodec",
            "pytorchvideo", "numpy")  # fmt: skip
_TORCHCODEC: dict[tuple[int, ...], tuple[int, int]] = {
    (0, 0): (2, 4), (0, 1): (2, 5), (0, 2): (2, 6), (0, 3): (2, 7), (0, 4): (2, 7), (0, 5): (2, 7),
    (0, 6): (2, 8), (0, 7): (2, 8), (0, 8): (2, 9), (0, 9): (2, 9), (0, 10): (2, 10),
    (0, 11): (2, 11),
}  # fmt: skip
"""Version of torch that each torchcodec was built for; from 0.12 on any from 2.11 (its README)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What avmix runs on here."""

    python: str
    platform: str
    packages: dict[str, str | None]
    """Version of each, None where it is not installed."""
    ffmpeg: str
    """That PyAV brings along."""
    ffmpeg_libraries: dict[str, str]
    num_cpus: int
    """That this process may use."""
    cuda: str
    findings: tuple[Finding, ...]


def environment() -> Environment:
    """Look around; imports torch and PyAV, nothing else."""
    import av

    packages = {name: _version(name) for name in PACKAGES}
    libraries = {name: ".".join(map(str, v)) for name, v in av.library_versions.items()}
    findings = version_findings({k: v for k, v in packages.items() if v is not None})
    if packages["torchcodec"] is not None:
        findings += _torchcodec_loads()
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        packages=packages,
        ffmpeg=str(getattr(av, "ffmpeg_version_info", "not said")),
        ffmpeg_libraries=libraries,
        num_cpus=usable_cores(),
        cuda=_cuda(),
        findings=tuple(findings),
    )


def version_findings(packages: Mapping[str, str]) -> list[Finding]:
    """What is known about these versions; the worst first."""
    found: list[Finding] = []
    have = {name: _numbers(text) for name, text in packages.items()}
    torch, vision, audio = (have.get(n) for n in ("torch", "torchvision", "torchaudio"))
    if "av" in have and (14, 0) <= have["av"][:2] <= (14, 2):
        text = f"av {packages['av']}: a race in its FFmpeg 7.1.0 hangs on HEVC"
        found.append(_note("error", text, "pip install 'av>=16'"))
    elif "av" in have and have["av"] < (16,):
        text = f"av {packages['av']} is older than what avmix is tested with"
        found.append(_note("warning", text, "pip install 'av>=16'"))
    if torch and audio and audio[:2] == (2, 11) and torch[:2] >= (2, 15):
        text = f"torchaudio {packages['torchaudio']} cannot be imported beside torch "
        hint = "use torch < 2.15; constraints.txt holds versions that fit"
        found.append(_note("error", text + packages["torch"], hint))
    if torch and torch[:2] == (2, 13) and "+cpu" in packages["torch"] and (vision or audio):
        text = f"torchvision and torchaudio cannot be imported beside torch {packages['torch']}"
        hint = "use the ordinary build from PyPI: it runs without a GPU"
        found.append(_note("error", text, hint))
    if torch and "torchcodec" in have:
        need = _TORCHCODEC.get(have["torchcodec"][:2])
        fits = torch[:2] >= (2, 11) if need is None else torch[:2] == need
        if not fits:
            wanted = "2.11 or newer" if need is None else f"{need[0]}.{need[1]}"
            text = f"torchcodec {packages['torchcodec']} is built for torch {wanted}"
            hint = f"here is torch {packages['torch']}: install the torchcodec that fits, or none"
            found.append(_note("error", text, hint))
    if "decord" in have and have["decord"] <= (0, 6, 0):
        text = f"decord {packages['decord']}: leaks memory when reading audio, has no AV1"
        hint = 'no action needed; backend="decord" takes only frames from it'
        found.append(_note("note", text, hint))
    if vision and vision >= (0, 26):
        text = f"torchvision {packages['torchvision']} has no video reading any more"
        found.append(_note("note", text, "no action needed; avmix does not use it, other code may"))
    return found


def _note(level: Level, text: str, hint: str) -> Finding:
    return Finding(level=level, code="version", text=text, hint=hint)


def _numbers(text: str) -> tuple[int, ...]:
    """`2.11.0+cu130` -> (2, 11, 0)."""
    numbers = []
    for part in text.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _torchcodec_loads() -> list[Finding]:
    """Loading it is the test: it looks for FFmpeg on the system."""
    if importlib.util.find_spec("torchcodec") is None or imports("torchcodec.decoders"):
        return []
    hint = "it needs FFmpeg's shared libraries on the system, and the torch it was built for"
    return [_note("warning", "torchcodec cannot be loaded", hint)]


def _cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"none here (torch is built for {torch.version.cuda or 'CPUs only'})"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    each = ", ".join(f"{names.count(n)} x {n}" for n in dict.fromkeys(names))
    return f"{each} (CUDA {torch.version.cuda})"
