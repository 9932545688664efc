"""`avmix export`: one file that says what `predict` and `evaluate` say, checked before it is
published, and run without avmix and torch."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from command_line import main
from media import write_flash_beep
from test_trained import CLASSES, CONFIG, write
from torch import Tensor, nn

import avmix
from avmix.config import (
    AudioEncoderConfig,
    EvalConfig,
    FrontendConfig,
    JointEncoderConfig,
    ModelConfig,
    VideoEncoderConfig,
)
from avmix.data.eval_windows import view_windows
from avmix.data.manifest import write_manifest
from avmix.data.whole_files import entry_of_file
from avmix.decode import ClipError, Limits, decode_clips
from avmix.decode.clips import decode_audios
from avmix.evaluation.metrics import EVAL_ROWS
from avmix.evaluation.prediction_file import NAME, read_predictions
from avmix.exporting.check_clips import decoded_clips, largest_difference
from avmix.exporting.export_network import config_hash, export, target_of
from avmix.exporting.file_formats import (
    ExportError,
    Runner,
    description_of,
    onnx_runner,
    torch_runner,
    traced,
    write_torch,
)
from avmix.media.judgement import entry_of
from avmix.models.encoder import Encoder, VideoSpec
from avmix.types import Clip

pytest.importorskip("safetensors")
ROOT = Path(__file__).parents[1]
FILES = ("wide.mp4", "high.mp4", "mute.mp4", "only.mp4")
TOLERANCE = 1e-4


class Setup(NamedTuple):
    folder: Path
    run: Path


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """Two files with both modalities, one mute and one without frames; a network."""
    folder = tmp_path_factory.mktemp("export")
    for name, size in (("wide.mp4", (48, 32)), ("high.mp4", (26, 38))):
        write_flash_beep(folder / name, seconds=1, events_seconds=(0.2, 0.6), size=size)
    write_flash_beep(folder / "mute.mp4", seconds=1, events_seconds=(0.4,), size=(48, 32),
                     audio_codec=None)  # fmt: skip
    write_flash_beep(folder / "only.mp4", seconds=1, events_seconds=(0.4,), video_codec=None)
    (folder / "run").mkdir()
    write(folder / "run")
    return Setup(folder, folder / "run")


@pytest.fixture(scope="module")
def program(setup: Setup) -> Path:
    """The network as a file of torch.export, by the command."""
    main(["export", str(setup.run), "--out", str(setup.folder / "net.pt2"),
          "--clips", str(setup.folder / "wide.mp4"), str(setup.folder / "high.mp4")])  # fmt: skip
    return setup.folder / "net.pt2"


@pytest.fixture(scope="module")
def onnx_file(setup: Setup) -> Path:
    pytest.importorskip("onnxscript")
    out = setup.folder / "exported"
    assert export(setup.run, out).path == out / "model.onnx"
    return out / "model.onnx"


def predicted(run: Runner, path: Path, num_views: int) -> dict[str, np.ndarray]:
    """Of each head, averaged over the windows that evaluation takes, as in docs/exporting.md."""
    trained = avmix.load(path.parent / "run")
    entry, _ = entry_of_file(str(path), Limits())
    windows = view_windows(entry, trained.clip.duration_seconds, num_views)
    starts = [window.start_seconds for window in windows]
    size, side = len(starts), trained.clip.short_side
    if entry.video is None:
        options = {k: trained.decoding[k] for k in ("duration_seconds", "sample_rate")}
        video = np.zeros((size, trained.clip.num_frames, side, side, 3), np.uint8)
        read = decode_audios(path, starts_seconds=starts, needs_video=False, channels=1, **options)
    else:
        read = decode_clips(path, starts_seconds=starts, **trained.decoding)
        video = np.stack([clip.video for clip in read if isinstance(clip, Clip)])
    whole = [clip for clip in read if not isinstance(clip, ClipError)]
    assert len(whole) == size
    found = run([video, np.stack([clip.audio for clip in whole]),
                 np.full(size, entry.video is not None),
                 np.array([entry.audio is not None and clip.audio_valid > 0
                           for clip in whole])])  # fmt: skip
    heads = zip(("fused", "video", "audio"), found, strict=True)
    return {name: _mean(said.astype(np.float64)) for name, said in heads}


def _mean(said: np.ndarray) -> np.ndarray:
    """Over the windows that have what the head needs."""
    there = said[~np.isnan(said).any(1)]
    return there.mean(0) if len(there) else np.full(said.shape[1], np.nan)


def agree(run: Runner, setup: Setup, tmp_path: Path) -> None:
    """With `evaluate` and `predict`, on real files, two windows each."""
    entries = [
        entry_of(setup.folder / name, setup.folder, clip_id=name, labels=["x"], source_id=name)
        for name in FILES
    ]
    write_manifest(tmp_path / "set", classes=CLASSES, protocol="p", splits={"test": entries})
    avmix.evaluate(EvalConfig(
        checkpoint=str(setup.run), root=str(setup.folder), manifest=str(tmp_path / "set"),
        out=str(tmp_path / "eval"), num_views=2, num_workers=0, threads=1, resamples=0,
    ))  # fmt: skip
    kept = read_predictions(tmp_path / "eval" / NAME)
    net = avmix.load(setup.run)
    assert kept.probability["fused"].std(0).max() > 0.01  # it depends on the clip
    for i, name in enumerate(FILES):
        found = predicted(run, setup.folder / name, 2)
        said = net.predict(setup.folder / name, num_views=2)
        for (head, values), row in zip(found.items(), EVAL_ROWS, strict=False):
            own = getattr(said, head)
            assert (own is None) == bool(np.isnan(values).all()) == (not kept.counted[row][i])
            if own is not None:
                assert values == pytest.approx(own, abs=TOLERANCE)
                assert values == pytest.approx(kept.probability[row][i], abs=TOLERANCE)


@pytest.mark.long
def test_a_program_of_torch_says_what_prediction_and_evaluation_say(
    setup: Setup, program: Path, tmp_path: Path
) -> None:
    agree(torch_runner(program), setup, tmp_path)


@pytest.mark.long
def test_what_is_beside_the_file_describes_it(setup: Setup, program: Path) -> None:
    about = json.loads(program.with_suffix(".json").read_text())
    assert about["classes"] == CLASSES
    assert (about["window_seconds"], about["num_frames"], about["short_side"]) == (0.3, 2, 20)
    assert (about["sample_rate"], about["channels"], about["file_format"]) == (8000, 1, "torch")
    assert about["config_sha256"] == config_hash(CONFIG)
    assert about["avmix_version"] == avmix.__version__
    assert about["checked"]["num_clips"] == 2
    assert about["checked"]["synthetic"] is False
    assert about["checked"]["largest_difference"] < 1e-5
    assert "Not stated: the checkpoint has not been evaluated." in (
        program.with_suffix(".md").read_text()
    )  # fmt: skip


@pytest.mark.long
def test_a_file_that_computes_something_else_is_not_published(setup, tmp_path: Path) -> None:
    """Below 0 no difference is small enough."""
    with pytest.raises(ExportError, match=r"net\.pt2: what was written differs from the network"):
        export(setup.run, tmp_path / "net.pt2", tolerance=-1.0)
    assert list(tmp_path.iterdir()) == []


class Unexportable(Encoder):
    """Decides in Python by what is in the frames."""

    def __init__(self) -> None:
        super().__init__()
        self.stages, self.num_features = nn.ModuleList([nn.Conv3d(3, 4, 1)]), 4
        self.spec = VideoSpec()

    def pool(self, x: Tensor) -> Tensor:
        return x.mean((2, 3, 4)) if x.sum() > 0 else x.amax((2, 3, 4))


def test_an_encoder_that_cannot_be_exported_is_named(tmp_path: Path, capsys) -> None:
    name = f"python:{__name__}:Unexportable"
    model = replace(CONFIG.model, video=VideoEncoderConfig(encoder=name))
    path = write(tmp_path, replace(CONFIG, model=model))
    with pytest.raises(SystemExit) as end:
        main(["export", str(path), "--out", str(tmp_path / "net.pt2"), "--own-code"])
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: model.video.encoder {name} cannot be exported by torch.export:")
    assert said.count("\n") == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.pt"]


@pytest.mark.parametrize(
    ("out", "format", "expected"),
    [("a.onnx", None, ("a.onnx", "onnx")), ("a.pt2", None, ("a.pt2", "torch")),
     ("a", None, ("a/model.onnx", "onnx")), ("a.b", "torch", ("a.b/model.pt2", "torch"))],
)  # fmt: skip
def test_the_ending_says_the_format(out: str, format, expected: tuple[str, str]) -> None:
    path, found = target_of(Path(out), format)
    assert (path.as_posix(), found) == expected


@pytest.mark.parametrize(
    ("out", "format", "says"),
    [("a.onnx", "torch", r"a\.onnx ends with \.onnx, which is of --format onnx"),
     ("a.pt", None, r"a\.pt: name a folder, or a file that ends with \.onnx or \.pt2")],
)  # fmt: skip
def test_other_endings_are_refused(out: str, format, says: str) -> None:
    with pytest.raises(ExportError, match=says):
        target_of(Path(out), format)


@pytest.mark.parametrize("module", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_it_is_said_what_to_install(setup, module, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExportError, match=rf"^{module} is not installed .* '\.\[export\]'"):
        export(setup.run, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_without_a_clip_to_check_with_nothing_is_written(setup: Setup, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no clip to check the export with: .*no\.mp4"):
        export(setup.run, tmp_path / "out.pt2", clips=[tmp_path / "no.mp4"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_the_python_of_the_page_exports(setup: Setup, tmp_path: Path, monkeypatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/exporting.md").read_text(), re.DOTALL)
    (block,) = [one for one in blocks if "avmix.export" in one]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/demo").symlink_to(setup.run)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/exporting.md", "exec"), {})
    assert (tmp_path / "exported/demo.json").exists()


# ONNX: a conversion takes seconds -----------------------------------------------------------------


@pytest.mark.long
def test_onnx_says_what_prediction_and_evaluation_say(setup, onnx_file: Path, tmp_path) -> None:
    agree(onnx_runner(onnx_file, 1), setup, tmp_path)


@pytest.mark.long
def test_an_onnx_file_describes_itself_and_takes_any_batch(onnx_file: Path) -> None:
    beside = json.loads(onnx_file.with_suffix(".json").read_text())
    checked = beside.pop("checked")
    assert checked["largest_difference"] < 1e-5
    assert description_of(onnx_file) == beside
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_file))
    shapes = {value.name: value.shape for value in session.get_inputs()}
    assert shapes == {"video": ["batch", 2, "height", "width", 3], "audio": ["batch", 2400],
                      "has_video": ["batch"], "has_audio": ["batch"]}  # fmt: skip
    assert [value.shape for value in session.get_outputs()] == [["batch", 3]] * 3
    assert sorted(file.name for file in onnx_file.parent.iterdir()) == [
        "README.md", "model.json", "model.onnx"
    ]  # fmt: skip


WITHOUT = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "avmix"):
            raise ImportError(f"{name} must not be imported")
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.long
def test_the_example_runs_without_avmix_and_torch(setup: Setup, onnx_file: Path) -> None:
    """It says what avmix says of the first window; at the network's sample rate, for it resamples
    with another filter."""
    clip = write_flash_beep(setup.folder / "example.mp4", seconds=1, events_seconds=(0.08, 0.2),
                            size=(48, 32), sample_rate=8000)  # fmt: skip
    script = ROOT / "examples/run_onnx.py"
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(script), str(onnx_file), str(clip)],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    net = avmix.load(setup.run)
    read = avmix.decode_clip(clip, start_seconds=0, **net.decoding)
    heads = net(net.frames(read), net.waveform(read))
    lines = said.splitlines()
    for line, name, logits in zip(lines, ("fused", "video", "audio"), heads, strict=True):
        assert line.startswith(name)
        found = {key: float(value) for key, value in re.findall(r"'(.+?)': ([\d.]+)", line)}
        expected = dict(zip(net.classes, logits.softmax(1)[0].tolist(), strict=True))
        assert found == pytest.approx(expected, abs=TOLERANCE)
    code = script.read_text()
    assert set(re.findall(r"^(?:import|from) (\w+)", code, re.M)) <= {
        "av", "json", "numpy", "onnxruntime", "sys"
    }  # fmt: skip


MODELS: dict[str, ModelConfig] = {
    "bottleneck": ModelConfig(fusion="bottleneck"),
    "cross_attention": ModelConfig(fusion="cross_attention", missing="learned"),
    "average": ModelConfig(fusion="average"),
    "translate": ModelConfig(fusion="gated", missing="translate"),
    "video": ModelConfig(modalities="video"),
    "audio": ModelConfig(modalities="audio"),
    "eat": ModelConfig(audio=AudioEncoderConfig(
        encoder="avmix:eat", options={"width": 16, "depth": 2, "heads": 2})),
    "mbt": ModelConfig(joint=JointEncoderConfig(encoder="avmix:mbt", options={
        "width": 16, "depth": 4, "heads": 2, "fusion_layer": 2, "patch": 16})),
}  # fmt: skip
"""Whose code asks for the number of clips."""


@pytest.mark.long
@pytest.mark.parametrize("case", MODELS)
def test_no_network_of_avmix_is_bound_to_a_number_of_clips(case: str, tmp_path: Path) -> None:
    """A tensor's `len` is a number for torch.export, its `shape` is not."""
    small = {"channels": [4, 6]}
    model = MODELS[case]
    model = replace(model, video=replace(model.video, **small), audio=replace(model.audio, **small))
    frontend = FrontendConfig(n_fft=256, hop_length=64, num_mels=32, mel_mean=0.0, mel_std=1.0)
    if case == "eat":
        frontend = FrontendConfig(kind="kaldi", n_fft=400, hop_length=160, num_mels=128,
                                  mel_mean=-4.268, mel_std=9.138)  # fmt: skip
    clip = replace(CONFIG.clip, duration_seconds=0.5, sample_rate=16_000, crop=32, short_side=36)
    config = replace(CONFIG, model=model, frontend=frontend, clip=clip)
    net = avmix.load(write(tmp_path, config))
    write_torch(traced(net), {}, tmp_path / "net.pt2")
    found = largest_difference(net, torch_runner(tmp_path / "net.pt2"), decoded_clips(net, []))
    assert found < TOLERANCE
