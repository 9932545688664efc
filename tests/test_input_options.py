"""Options of clips and front end that were not set are as the encoders expect; others stay."""

import copy
import pickle
import re
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avmix.commands import train
from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    EvalConfig,
    FrontendConfig,
    ModelConfig,
    TrainConfig,
    VideoEncoderConfig,
    from_yaml,
    load_config,
    to_yaml,
)
from avmix.config.unset import is_unset, plain, unset
from avmix.models import build_model
from avmix.models.encoder import AudioSpec, Encoder, VideoSpec
from avmix.models.input_options import in_words, with_expected_input
from avmix.training import checkpoint, runtime, training_setup

ROOT = Path(__file__).parents[1]
OF_LOG_MEL = {"centred": False, "exponent": 2, "log_offset": 1e-6, "window_length": 0}
"""Options that other kinds of front end leave alone."""
HIDDEN = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
          "intermediate_size": 32}  # fmt: skip


def folder_of(
    folder: Path, kind: str, processor: str = "", said: Any = None, **options: Any
) -> str:
    """`transformers:FOLDER` with the configuration of a network, and of its processor."""
    library = import_module("transformers")
    getattr(library, kind)(**options).save_pretrained(folder)
    if processor:
        getattr(library, processor)(**(said or {})).save_pretrained(folder)
    return f"transformers:{folder}"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Small networks with the inputs of the published ones."""
    pytest.importorskip("transformers")
    at = tmp_path_factory.mktemp("networks")
    clap = {"spec_size": 256, "num_mel_bins": 64, "patch_size": 4, "patch_stride": [4, 4],
            "window_size": 8, "depths": [1, 1], "num_attention_heads": [1, 2],
            "patch_embeds_hidden_size": 8, "hidden_size": 16, "enable_fusion": False}  # fmt: skip
    return {
        "videomae": folder_of(
            at / "videomae", "VideoMAEConfig", "VideoMAEImageProcessor", patch_size=56, **HIDDEN
        ),
        "ast": folder_of(at / "ast", "ASTConfig", "ASTFeatureExtractor", **HIDDEN),
        "clap": folder_of(
            at / "clap", "ClapAudioConfig", "ClapFeatureExtractor",
            {"frequency_min": 50, "truncation": "rand_trunc"}, **clap
        ),
    }  # fmt: skip


def loaded(*words: str, **encoders: str) -> TrainConfig:
    said = [f"--model.{modality}.encoder={name}" for modality, name in encoders.items()]
    return load_config(TrainConfig, [*said, *words])


def build(config: TrainConfig) -> Any:
    return build_model(config.model, 4, clip=config.clip, frontend=config.frontend)


# Set, or not -----------------------------------------------------------------------------------


def unset_of(section: Any) -> set[str]:
    return {f.name for f in fields(section) if is_unset(getattr(section, f.name))}


def test_what_was_given_can_be_told_from_the_same_default() -> None:
    every = {"duration_seconds", "num_frames", "sample_rate", "short_side", "crop"}
    assert unset_of(ClipConfig()) == every
    assert unset_of(ClipConfig(num_frames=8)) == every - {"num_frames"}
    assert ClipConfig(num_frames=8) == ClipConfig()
    kept = replace(ClipConfig(num_frames=8), crop=64)
    assert unset_of(pickle.loads(pickle.dumps(copy.deepcopy(kept)))) == every - {
        "num_frames",
        "crop",
    }
    words = ["--clip.num_frames=8", "--clip.duration_seconds", "2", "--frontend", "{n_fft: 512}"]
    config = load_config(TrainConfig, words)
    assert unset_of(config.clip) == every - {"num_frames", "duration_seconds"}
    assert unset_of(config.frontend) == {"kind", "num_mels", "hop_length", "mel_mean", "mel_std"}


def test_a_file_sets_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("clip: {crop: 64}\nfrontend: {kind: log_mel}\n")
    config = load_config(TrainConfig, ["--config", str(tmp_path / "own.yaml")])
    assert not is_unset(config.clip.crop)
    assert not is_unset(config.frontend.kind)
    assert is_unset(config.clip.short_side)
    again = from_yaml(TrainConfig, to_yaml(TrainConfig()))
    assert again == TrainConfig()
    assert not unset_of(again.clip) | unset_of(again.frontend)


@pytest.mark.parametrize("value", [3, 2.5, "measured"])
def test_a_default_is_a_value_like_any_other(value: Any) -> None:
    marked = unset(value)
    assert (marked, str(marked), repr(marked)) == (value, str(value), repr(value))
    assert is_unset(marked)
    assert not is_unset(value)
    assert type(plain(marked)) is type(value)
    assert plain([value]) == [value]


# What encoders expect --------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_published_configurations_stay_as_they_are(path: Path) -> None:
    config = load_config(TrainConfig, ["--config", str(path)])
    if config.model.video.encoder.startswith("timm:"):
        pytest.importorskip("timm")
    found = with_expected_input(config)
    assert found == config
    assert in_words(config, found) == ""
    assert to_yaml(found) == to_yaml(config)
    assert not unset_of(found.clip) | unset_of(found.frontend)


def test_what_was_not_set_is_as_the_encoders_expect(names: dict[str, str]) -> None:
    config = loaded(video=names["videomae"], audio=names["ast"])
    found = with_expected_input(config)
    # 1024 columns of 400 samples, 160 apart.
    assert asdict(found.clip) == {
        "duration_seconds": (1023 * 160 + 400) / 16_000, "num_frames": 16, "sample_rate": 16_000,
        "stereo": False, "short_side": 256, "crop": 224,
    }  # fmt: skip
    assert asdict(found.frontend) == {
        "kind": "kaldi", "num_mels": 128, "n_fft": 400, "hop_length": 160, "mel_mean": -4.2677393,
        "mel_std": 2 * 4.5689974, "kernel": "auto", **OF_LOG_MEL,
    }  # fmt: skip
    said = in_words(config, found)
    assert said.startswith(
        "as the encoders expect: clip.duration_seconds 10.255, clip.num_frames 1"
    )
    assert said.endswith("frontend.mel_mean -4.2677393, frontend.mel_std 9.1379948")
    assert replace(found, clip=config.clip, frontend=config.frontend) == config
    assert build(found).audio.spec.num_columns == 1024
    assert with_expected_input(found) == found


def test_clap_gets_its_own_decibels(names: dict[str, str]) -> None:
    found = with_expected_input(loaded(audio=names["clap"]))
    assert (found.clip.sample_rate, found.clip.duration_seconds) == (48_000, 10)
    assert (found.clip.num_frames, found.clip.crop, found.clip.short_side) == (8, 64, 72)
    assert asdict(found.frontend) == {
        "kind": "panns", "num_mels": 64, "n_fft": 1024, "hop_length": 480, "mel_mean": 0.0,
        "mel_std": 1.0, "kernel": "auto", **OF_LOG_MEL,
    }  # fmt: skip
    build(found)
    # Any length is taken.
    build(with_expected_input(loaded("--clip.duration_seconds=2", audio=names["clap"])))


@pytest.mark.parametrize(
    ("processor", "mean", "std"),
    [({"mean": -3.0, "std": 2.0}, -3.0, 4.0), ({"do_normalize": False}, 0.0, 1.0)],
)
def test_spectrograms_are_normalised_as_the_processor_does(
    processor: dict[str, Any], mean: float, std: float, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    options = {**HIDDEN, "max_length": 98, "num_mel_bins": 64}
    name = folder_of(tmp_path, "ASTConfig", "ASTFeatureExtractor", processor, **options)
    other = "--frontend={kind: kaldi, mel_mean: -2, mel_std: 3}"  # of other data
    found = with_expected_input(loaded(other, audio=name))
    assert (found.frontend.mel_mean, found.frontend.mel_std) == (-2, 3)
    found = with_expected_input(loaded(audio=name))
    assert (found.frontend.mel_mean, found.frontend.mel_std) == (mean, std)
    assert (found.frontend.num_mels, found.clip.duration_seconds) == (64, 0.995)


def test_options_of_the_network_count(names: dict[str, str]) -> None:
    found = with_expected_input(
        loaded("--model.audio.options={max_length: 198}", "--model.video.options={num_frames: 4}",
               audio=names["ast"], video=names["videomae"])
    )  # fmt: skip
    assert (found.clip.duration_seconds, found.clip.num_frames) == (1.995, 4)


def test_networks_that_take_any_size_decide_nothing() -> None:
    config = loaded(video="torchvision:resnet18", audio="torchvision:resnet18")
    assert with_expected_input(config) == config


def test_networks_of_libraries_with_one_size_decide_it() -> None:
    found = with_expected_input(loaded(video="torchvision:mvit_v2_s"))
    assert (found.clip.num_frames, found.clip.crop, found.clip.short_side) == (16, 224, 256)


class Own(Encoder):
    """Takes five frames of 16 pixels; or, for audio, decibels of 32 kHz."""

    def __init__(self, audio: bool = False) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Conv2d(1, 2, 1) if audio else nn.Conv3d(3, 2, 1)])
        self.num_features = 2
        float(torch.rand(1))  # which has no value on the device without memory
        self.spec = (
            AudioSpec(front_end="librosa", sample_rate=32_000, mel_mean=-30.0, mel_std=20.0)
            if audio
            else VideoSpec(num_frames=5, size=16)
        )

    def pool(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(2)


def own(**clip: Any) -> TrainConfig:
    name = f"python:{__name__}:Own"
    return TrainConfig(
        clip=ClipConfig(**clip),
        model=ModelConfig(
            video=VideoEncoderConfig(encoder=name),
            audio=AudioEncoderConfig(encoder=name, options={"audio": True}),
        ),
    )


def test_an_encoder_of_ones_own_decides_in_python_too() -> None:
    torch.manual_seed(4)
    expected = torch.rand(1)
    torch.manual_seed(4)
    found = with_expected_input(own())
    assert torch.rand(1) == expected
    assert (found.clip.num_frames, found.clip.crop, found.clip.short_side) == (5, 16, 18)
    assert (found.frontend.kind, found.frontend.mel_mean) == ("librosa", -30)
    build(found)


# What was set stays ----------------------------------------------------------------------------


def test_what_was_set_in_python_is_not_overruled() -> None:
    found = with_expected_input(own(num_frames=8))  # the default, and said
    assert found.clip.num_frames == 8
    with pytest.raises(ValueError, match=r"Own takes 5 frames, clip\.num_frames gives 8$"):
        build(found)


CONTRADICTIONS = [
    ("clip.num_frames=8", "video", "16 frames", "8$"),
    ("clip.crop=64", "video", "224 pixels", "64$"),
    ("clip.short_side=128", "video", "224 pixels", "128$"),
    ("clip.sample_rate=8000", "audio", "16000 samples a second", "8000$"),
    ("clip.stereo=true", "audio", "1 channels", "2$"),
    ("clip.duration_seconds=2", "audio", "1024 columns", r"198; 10\.255 seconds have as many$"),
    ("frontend.kind=log_mel", "audio", "kaldi spectrograms", "log_mel$"),
    ("frontend.num_mels=64", "audio", "128 mel bins", "64$"),
    ("frontend.n_fft=512", "audio", "400 samples of a window", "512$"),
    ("frontend.mel_mean=-0.3", "audio", "kaldi spectrograms", "-0.3 for those of log_mel"),
    ("frontend.mel_std=3.7", "audio", "kaldi spectrograms", "3.7 for those of log_mel"),
    ("frontend.hop_length=256", "audio", "160 samples from column to column", "256$"),
]


@pytest.mark.parametrize(("word", "modality", "wanted", "given"), CONTRADICTIONS)
def test_a_contradiction_names_both(
    word: str, modality: str, wanted: str, given: str, names: dict[str, str]
) -> None:
    config = loaded(f"--{word}", video=names["videomae"], audio=names["ast"])
    key = re.escape(word.partition("=")[0])
    says = rf"^model\.{modality}\.encoder transformers:\S+ takes {wanted}.*, {key}.* gives {given}"
    with pytest.raises(ValueError, match=says):
        build(with_expected_input(config))


def test_an_option_that_cannot_be_filled_names_the_encoder(names: dict[str, str]) -> None:
    config = loaded("--frontend.n_fft=128", "--frontend.hop_length=100", audio=names["ast"])
    with pytest.raises(
        ValueError, match=r"takes 400 samples of a window, frontend\.n_fft gives 12"
    ):
        build(with_expected_input(config))
    config = loaded("--frontend.hop_length=480", audio=names["ast"])
    with pytest.raises(
        ValueError, match=r"encoder transformers:\S+ does not go .*frontend\.hop_len"
    ):
        with_expected_input(config)


# Runs ------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_run_says_and_keeps_what_was_taken(
    tmp_path: Path, toy_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    small: dict[str, Any] = {**HIDDEN, "image_size": 16, "patch_size": 8, "num_frames": 2}
    video = folder_of(tmp_path / "video", "VideoMAEConfig", **small)
    short: dict[str, Any] = {"num_mel_bins": 32, "max_length": 24, "patch_size": 8,
                             "frequency_stride": 8, "time_stride": 8}  # fmt: skip
    audio = folder_of(tmp_path / "audio", "ASTConfig", **HIDDEN, **short)
    words = [f"--data.root={toy_set}", f"--run.out={tmp_path / 'run'}", "--data.num_workers=0",
             "--optim.epochs=1", "--optim.batch_size=20", "--mix.ramp_epochs=0"]  # fmt: skip
    config = loaded(*words, video=video, audio=audio)
    train.train(config)
    assert "as the encoders expect: clip.duration_seconds 0.255, clip.num_frames 2" in (
        capsys.readouterr().out
    )
    kept = from_yaml(TrainConfig, (tmp_path / "run/config.yaml").read_text())
    assert (kept.clip.crop, kept.clip.num_frames, kept.frontend.kind) == (16, 2, "kaldi")
    assert checkpoint.load(tmp_path / "run/last.pt").config.clip == kept.clip
    # The same command goes on, and so does the configuration that was kept.
    for again in (config, load_config(TrainConfig, ["--config", f"{tmp_path}/run/config.yaml"])):
        assert train.train(again).epochs == 1
    from avmix.commands.evaluate import evaluate

    evaluate(EvalConfig(checkpoint=str(tmp_path / "run"), split="test", num_workers=0))


def test_a_run_without_a_choice_says_nothing(tmp_path: Path, toy_set: Path) -> None:
    words = ["--config", str(ROOT / "configs/smoke.yaml"), f"--data.root={toy_set}",
             f"--run.out={tmp_path / 'run'}", "--data.num_workers=0"]  # fmt: skip
    config = load_config(TrainConfig, words)
    with runtime.start(device="cpu", threads=1) as here, ExitStack() as stack:
        run = training_setup.build(config, here, stack)
    assert run.expected == ""
    assert (run.config.clip, run.config.frontend) == (config.clip, config.frontend)
    assert FrontendConfig() == with_expected_input(TrainConfig()).frontend
