"""`avmix.load`: a network from its file alone, the same to the bit; files are not trusted."""

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import avmix
from avmix.augment.video_transforms import apply_video, centred
from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    DataConfig,
    FrontendConfig,
    ModelConfig,
    TrainConfig,
    VideoEncoderConfig,
)
from avmix.models import build_model
from avmix.models.encoder import Encoder, VideoSpec
from avmix.models.frontend import Frontend
from avmix.training import checkpoint
from avmix.training.checkpoint import Checkpoint, CheckpointError
from avmix.training.trained import TrainedNetwork
from avmix.types import Batch

safetensors = pytest.importorskip("safetensors.torch")
ROOT = Path(__file__).parents[1]
CLIP = ClipConfig(num_frames=2, crop=16, short_side=20, duration_seconds=0.3, sample_rate=8000)
CONFIG = TrainConfig(
    data=DataConfig(root="no/such/folder"),
    clip=CLIP,
    frontend=FrontendConfig(num_mels=16, n_fft=256, hop_length=128, mel_mean=-1.5, mel_std=2.5),
    model=ModelConfig(
        fusion="gated", missing="learned", shared_width=6,
        video=VideoEncoderConfig(channels=[4, 6]), audio=AudioEncoderConfig(channels=[4, 5]),
    ),
)  # fmt: skip
CLASSES = ["clap", "ä", "x"]


def write(folder: Path, config: TrainConfig = CONFIG, classes: list[str] = CLASSES) -> Path:
    """A checkpoint of a network with statistics that are not those of the start."""
    torch.manual_seed(0)
    model = build_model(config.model, len(classes), clip=config.clip, frontend=config.frontend)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.add_(0.1 * torch.rand(value.shape) if name.endswith("var")
                       else 0.1 * torch.randn(value.shape))  # fmt: skip
    checkpoint.save(folder / "last.pt", Checkpoint(
        config=config, classes=classes, split_sha256="", num_steps=2, epoch=1, step=0, best=-1.0,
        model=model.state_dict(), optimizer={},
    ))  # fmt: skip
    return folder / "last.pt"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with its checkpoint, and the same as safetensors."""
    folder = tmp_path_factory.mktemp("run")
    avmix.load(write(folder)).save(folder / "net.safetensors")
    return folder


def clips(size: int = 4, side: int = 16) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return (torch.randint(0, 256, (size, 2, side, side, 3), dtype=torch.uint8, generator=draw),
            torch.randn(size, 2400, generator=draw))  # fmt: skip


def same(first: Any, second: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_what_is_loaded_says_what_evaluation_computes(run: Path) -> None:
    state = checkpoint.load(run / "last.pt")
    model = build_model(state.config.model, 3, clip=state.config.clip,
                        frontend=state.config.frontend)  # fmt: skip
    checkpoint.load_weights(run / "last.pt", state, model)
    model.eval()
    frontend = Frontend(state.config.frontend, 8000, model.pixels)
    video, audio = clips()
    audio[1] = 0
    here, heard = torch.ones(4).bool(), torch.tensor([True, False, True, True])
    batch = Batch(video=video, audio=audio, has_video=here, has_audio=heard,
                  target=torch.zeros(4, 3), row=torch.arange(4),
                  source=torch.arange(4))  # fmt: skip
    expected = model.fusion(*model.encode(*frontend(batch)), here, heard)
    for path in (run, run / "last.pt", run / "net.safetensors", str(run / "net.safetensors")):
        net = avmix.load(path)
        assert not any(module.training for module in net.modules())
        assert (net.config, net.classes, net.clip) == (CONFIG, ("clap", "ä", "x"), CLIP)
        assert same(net(video, audio), expected)
        assert expected.fused.std() > 0.01


def test_a_modality_may_be_left_out_and_frames_be_larger(run: Path) -> None:
    net, (video, audio) = avmix.load(run), clips(side=20)
    cut = torch.stack(
        [torch.from_numpy(apply_video(clip.numpy(), centred(20, 20), 16)) for clip in video]
    )
    whole, here = net(cut, audio), torch.ones(4).bool()
    assert same(net(video, audio), whole)
    assert same(net(cut, None), net(cut, audio, has_audio=~here))
    assert same(net(None, audio), net(cut, audio, has_video=~here))
    assert not torch.equal(net(cut, None).fused, whole.fused)


def test_an_average_of_the_weights_is_the_network(run: Path, tmp_path: Path) -> None:
    kept = checkpoint.load(run / "last.pt")
    average = {
        name: value * 0.5 if value.is_floating_point() else value
        for name, value in kept.model.items()
    }
    checkpoint.save(tmp_path / "last.pt", replace(kept, average=average))
    loaded = avmix.load(tmp_path).network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in average.items())
    not_finite = {name: value / 0 for name, value in average.items()}
    with pytest.raises(CheckpointError, match="not finite"):
        checkpoint.save(tmp_path / "last.pt", replace(kept, average=not_finite))


@pytest.mark.parametrize(
    ("video", "audio", "says"),
    [
        ((4, 3, 16, 16, 3), (4, 2400), r"^video must be uint8 \(b, 2, h, w, 3\), h and w >= 16"),
        ((4, 2, 16, 15, 3), (4, 2400), r"got uint8 \(4, 2, 16, 15, 3\)$"),
        ((4, 2, 16, 16, 3), (4, 2, 2400), r"^audio must be float \(4, 2400\): 0\.3 s at 8000 Hz"),
        ((4, 2, 16, 16, 3), (3, 2400), r"got float32 \(3, 2400\)$"),
    ],
)  # fmt: skip
def test_clips_of_another_shape_are_refused(run: Path, video, audio, says) -> None:
    net = avmix.load(run)
    with pytest.raises(ValueError, match=says):
        net(torch.zeros(video, dtype=torch.uint8), torch.zeros(audio))
    with pytest.raises(ValueError, match=r"^video must be uint8 .* got float32"):
        net(torch.zeros(4, 2, 16, 16, 3), torch.zeros(4, 2400))
    with pytest.raises(ValueError, match=r"^video or audio must be given"):
        net(None, None)


def test_the_lines_of_the_page_run(run: Path, toy_set: Path, monkeypatch) -> None:
    (block,) = re.findall(
        r"```python\n(import avmix\n.*?)```", (ROOT / "docs/models.md").read_text(), re.DOTALL
    )
    names: dict[str, Any] = {}
    (run / "clip.mp4").write_bytes(next(iter(sorted(toy_set.rglob("*.mp4")))).read_bytes())
    (run / "runs/demo").mkdir(parents=True)
    (run / "runs/demo/best.pt").write_bytes((run / "last.pt").read_bytes())
    monkeypatch.chdir(run)
    exec(compile(block, "docs/models.md", "exec"), names)
    assert names["net"].classes == ("clap", "ä", "x")
    assert names["heads"].fused.shape == (1, 3)


# Files that say something else --------------------------------------------------------------------


def described(change: Callable[[dict[str, Any]], Any] | None) -> Callable[[str], dict[str, str]]:
    """The metadata with the description changed; without one for None."""

    def metadata(text: str) -> dict[str, str]:
        if change is None:
            return {"format": "pt"}
        said = json.loads(text)
        found = change(said)
        return {"avmix": found if isinstance(found, str) else json.dumps(found)}

    return metadata


def with_option(path: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    def change(said: dict[str, Any]) -> dict[str, Any]:
        *sections, name = path.split(".")
        part = said["config"]
        for section in sections:
            part = part[section]
        part[name] = value
        return said

    return change


HOSTILE: dict[str, tuple[Any, str]] = {
    "none": (None, "its metadata do not describe a network of avmix"),
    "no json": (lambda said: "{", "its metadata are not those of a network of avmix"),
    "deep json": (lambda said: "[" * 100_000, "its metadata are not those"),
    "a list": (lambda said: [said], "its metadata are not those"),
    "long": (lambda said: " " * 4_000_001, "its metadata are not those"),
    "more": (lambda said: {**said, "x": 1}, "its metadata are not those"),
    "less": (lambda said: {k: v for k, v in said.items() if k != "digest"}, "are not those"),
    "classes": (lambda said: {**said, "classes": 3}, "classes in its metadata must be list"),
    "names": (lambda said: {**said, "classes": ["a", 1, "c"]}, "must be names, each once"),
    "no names": (lambda said: {**said, "classes": []}, "must be names, each once"),
    "twice": (lambda said: {**said, "classes": ["a", "a", "c"]}, "must be names, each once"),
    "format": (lambda said: {**said, "format": 2}, "format 2; this version reads 1"),
    "damaged": (
        lambda said: {**said, "classes": ["a", "b", "c"]},
        "damaged: its digest does not match",
    ),
    "config": (lambda said: {**said, "config": []}, "config in its metadata must be dict"),
}
FORGED: dict[str, tuple[Any, str]] = {
    "unknown": (with_option("model.width", 3), "unexpected keyword argument 'width'"),
    "section": (with_option("model.video", 3), "not a configuration of this version of avmix"),
    "type": (with_option("clip.crop", "16"), "crop must not be '16'"),
    "bool": (with_option("clip.num_frames", True), "num_frames must not be True"),
    "inner type": (with_option("model.video.channels", [4, "6"]), r"channels must not be \[4, '6'"),
    "choice": (with_option("model.fusion", "sums"), "fusion must not be 'sums'"),
    "range": (with_option("model.dropout", 3.0), r"model\.dropout must be in \[0, 1\)"),
    "shape": (with_option("model.video.channels", [4, 8]), "its weights are of another network"),
    "classes": (lambda said: {**said, "classes": ["a", "b"]}, "its weights are of another network"),
    "code": (with_option("model.video.encoder", "python:os:system"), r"own_code=True"),
    "encoder": (with_option("model.video.encoder", "torchvision:no"), "cannot be built: .*"),
}  # fmt: skip
"""With a digest that is right."""


def forged(run: Path, change: Any, path: Path) -> Path:
    with safetensors.safe_open(run / "net.safetensors", framework="pt") as file:
        text = file.metadata()["avmix"]
    state = safetensors.load_file(run / "net.safetensors")
    safetensors.save_file(state, path, described(change)(text))
    return path


@pytest.mark.parametrize("case", HOSTILE)
def test_metadata_that_are_not_ours_are_refused(run: Path, case: str, tmp_path: Path) -> None:
    change, says = HOSTILE[case]
    path = forged(run, change, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: .*{says}"):
        avmix.load(path)


@pytest.mark.parametrize("case", FORGED)
def test_a_configuration_that_is_not_of_the_weights_is_refused(run, case, tmp_path) -> None:
    change, says = FORGED[case]

    def and_sign(said: dict[str, Any]) -> dict[str, Any]:
        from avmix.training.trained import _digest

        said = change(said)
        return {**said, "digest": _digest(said, safetensors.load_file(run / "net.safetensors"))}

    path = forged(run, and_sign, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: .*{says}"):
        avmix.load(path)


def test_other_files_are_refused_and_none_is_unpickled(run: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    for name in ("x.safetensors", "x.pt"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
        with pytest.raises(CheckpointError, match=rf"{name}: not a readable"):
            avmix.load(tmp_path / name)
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(CheckpointError, match=rf"{name}: not a readable"):
            avmix.load(tmp_path / name)
        with pytest.raises(CheckpointError, match=rf"no_{name}: no such"):
            avmix.load(tmp_path / f"no_{name}")
    assert not (tmp_path / "ran").exists()
    whole = bytearray((run / "net.safetensors").read_bytes())
    whole[-3] ^= 4
    (tmp_path / "flipped.safetensors").write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"flipped\.safetensors: damaged"):
        avmix.load(tmp_path / "flipped.safetensors")


class Mine(Encoder):
    """An encoder of somebody's own."""

    def __init__(self) -> None:
        super().__init__()
        self.stages, self.num_features = nn.ModuleList([nn.Conv3d(3, 4, 1)]), 4
        self.spec = VideoSpec(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))

    def pool(self, x: Tensor) -> Tensor:
        return x.mean((2, 3, 4))


def test_own_code_runs_only_where_it_is_asked_for(tmp_path: Path) -> None:
    name = f"python:{__name__}:Mine"
    model = replace(CONFIG.model, video=VideoEncoderConfig(encoder=name))
    path = write(tmp_path, replace(CONFIG, model=model))
    with pytest.raises(CheckpointError, match=r"a module that would be imported"):
        avmix.load(path)
    net = avmix.load(path, own_code=True)
    net.save(tmp_path / "net.safetensors")
    again = avmix.load(tmp_path / "net.safetensors", own_code=True)
    assert same(net(*clips()), again(*clips()))
    assert isinstance(again, TrainedNetwork)
    assert again.network.pixels == VideoSpec(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))


def test_a_network_that_was_trained_with_a_kernel_of_cuda_runs_here(run: Path, tmp_path) -> None:
    path = write(tmp_path, replace(CONFIG, frontend=replace(CONFIG.frontend, kernel="triton")))
    assert same(avmix.load(path)(*clips()), avmix.load(run)(*clips()))


def test_what_cannot_be_saved_is_said(run: Path, tmp_path: Path) -> None:
    net = avmix.load(run)
    with pytest.raises(ValueError, match=r"x\.pt: the name of such a file ends with \.safetensors"):
        net.save(tmp_path / "x.pt")
    with torch.no_grad():
        net.network.fusion.norm_video.weight[0] = float("nan")
    with pytest.raises(CheckpointError, match=r"x\.safetensors: fusion\.norm_video\.weight of the"):
        net.save(tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_the_weights_are_readable_by_anyone(run: Path) -> None:
    state = safetensors.load_file(run / "net.safetensors")
    expected = checkpoint.load(run / "last.pt").model
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    with safetensors.safe_open(run / "net.safetensors", framework="pt") as file:
        said = json.loads(file.metadata()["avmix"])
    assert said["config"] == asdict(CONFIG)
    assert said["classes"] == CLASSES


@pytest.mark.parametrize(
    "option", ["trust_remote_code", "checkpoint_path", "pretrained", "weights", "code_revision"]
)
def test_a_file_cannot_ask_for_code_or_files(option: str) -> None:
    for modality, kind in (("video", VideoEncoderConfig), ("audio", AudioEncoderConfig)):
        with pytest.raises(ValueError, match=f"model.{modality}.options must not hold {option}"):
            kind(encoder="transformers:folder", options={option: True})


def test_code_beside_a_configuration_is_not_imported(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps(
        {"model_type": "evil", "auto_map": {"AutoConfig": "evil.EvilConfig"}}
    ))  # fmt: skip
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    model = ModelConfig(video=VideoEncoderConfig(encoder=f"transformers:{tmp_path}"))
    with pytest.raises(ValueError, match="no configuration"):
        build_model(model, 3)
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_type_and_negative_variances_are_refused(run: Path) -> None:
    kept = checkpoint.load(run / "last.pt")
    name = next(name for name in kept.model if name.endswith("running_var"))
    with pytest.raises(CheckpointError, match="a variance below 0"):
        checkpoint.check_finite(run, {name: -torch.ones(3)})
    with pytest.raises(CheckpointError, match="not finite"):
        checkpoint.check_finite(run, {name: torch.tensor([torch.nan]).to(torch.float8_e5m2)})
    weight = next(name for name in kept.model if kept.model[name].is_floating_point())
    other = {**kept.model, weight: kept.model[weight].to(torch.float16)}
    checkpoint.save(run / "half.pt", replace(kept, model=other))
    with pytest.raises(CheckpointError, match="float16; the network has torch"):
        avmix.load(run / "half.pt")
