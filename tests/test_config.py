"""Options: every mistake in a configuration ends the program with one line that helps."""

import ast
import re
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from avmix import config as module
from avmix.config import (
    AudioEncoderConfig,
    AugmentConfig,
    ClipConfig,
    DataConfig,
    EvalConfig,
    FrontendConfig,
    LossConfig,
    MixConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
    VideoEncoderConfig,
    differences,
    from_yaml,
    load_config,
    to_yaml,
)
from avmix.config.unused_options import value_at

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("**/*.yaml"))
SECTIONS: dict[str, Any] = {f.name: f.type for f in fields(TrainConfig)}


def fails(capsys: pytest.CaptureFixture[str], argv: list[str], cls: type = TrainConfig) -> str:
    """The one line that is left when `argv` is refused."""
    with pytest.raises(SystemExit) as stopped:
        load_config(cls, argv)
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def written(folder: Path, content: dict[str, Any], name: str = "some.yaml") -> list[str]:
    (folder / name).write_text(yaml.safe_dump(content))
    return ["--config", str(folder / name)]


def leaves(options: dict[str, Any], section: Any = TrainConfig) -> Iterator[tuple[str, Any]]:
    """Dotted path and value of every option that a file of YAML sets."""
    types = {f.name: f.type for f in fields(section)}
    for name, value in options.items():
        if is_dataclass(types[name]):
            yield from ((f"{name}.{key}", inner) for key, inner in leaves(value, types[name]))
        else:
            yield name, value


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_of_the_project_loads(path):
    config = load_config(TrainConfig, ["--config", str(path)])
    for key, value in leaves(yaml.safe_load(path.read_text())):
        assert value_at(config, key) == value


def test_without_arguments_every_option_has_its_default():
    assert load_config(TrainConfig, []) == TrainConfig()


@pytest.mark.parametrize("in_a_file", [True, False])
@pytest.mark.parametrize("section", SECTIONS)
def test_a_typo_names_the_key_and_the_choices(section, in_a_file, tmp_path, capsys):
    options = [f.name for f in fields(SECTIONS[section])]
    typo = f"{section}.{options[0]}x"
    file = written(tmp_path, {section: {f"{options[0]}x": 1}})
    message = fails(capsys, file if in_a_file else [f"--{typo}", "1"])
    assert f"no option {typo!r}; did you mean '{section}.{options[0]}'?" in message
    assert all(f"{section}.{option}" in message for option in options)


@pytest.mark.parametrize("in_a_file", [True, False])
def test_an_unknown_section_names_the_sections(in_a_file, tmp_path, capsys):
    file = written(tmp_path, {"optm": {"lr": 1}})
    message = fails(capsys, file if in_a_file else ["--optm.lr", "1"])
    assert "no option 'optm" in message
    assert all(section in message for section in SECTIONS)


def test_a_typo_in_the_options_of_evaluation_is_named(capsys):
    message = fails(capsys, ["--checkpoint", "x.pt", "--num_view", "3"], EvalConfig)
    assert "no option 'num_view'; did you mean 'num_views'?" in message


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("optim.lr", "fast", ["optim.lr", "float", "fast"]),
        ("optim.batch_size", "2.5", ["optim.batch_size", "int", "2.5"]),
        ("model.video.channels", "[8, wide]", ["model.video.channels", "int"]),
        ("mix.method", "cutmix", ["mix.method", "cutmix", "none", "mixup"]),
        ("run.precision", "fp16", ["run.precision", "fp16", "fp32", "bf16"]),
    ],
)
def test_a_wrong_type_or_choice_names_key_and_value(key, value, parts, capsys):
    message = fails(capsys, [f"--{key}", value])
    assert all(part in message for part in parts), message


def test_the_beginning_of_a_key_is_not_the_key(capsys):
    assert "no option 'optim.warmup'" in fails(capsys, ["--optim.warmup", "0"])


@pytest.mark.parametrize("content", [{"optim": None}, {"optim": 3}, {"mix": {"alpha": None}}])
def test_a_value_in_place_of_another_kind_names_the_key(content, tmp_path, capsys):
    message = fails(capsys, written(tmp_path, content))
    assert next(iter(content)) in message


def test_numbers_beyond_a_float_and_files_that_are_no_text_end_in_one_line(tmp_path, capsys):
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe")
    for words in (["--optim.lr", "1" + "0" * 400], ["--run.log_every", "1" + "0" * 400],
                  ["--config", str(tmp_path / "bad.yaml")]):  # fmt: skip
        with pytest.raises(SystemExit) as end:
            load_config(TrainConfig, words)
        assert end.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_an_infinite_window_is_out_of_range(capsys):
    assert "clip.duration_seconds" in fails(capsys, ["--clip.duration_seconds", ".inf"])


def test_seeds_are_as_large_as_an_address_can_hold(capsys):
    assert "run.seed" in fails(capsys, ["--run.seed", str(2**32)])


OUT_OF_RANGE = [
    (MixConfig, "layers", [0, -1]),
    (MixConfig, "energy_limit_db", -1.0),
    (MixConfig, "drop_video", -0.1),
    (MixConfig, "drop_audio", 1.1),
    (MixConfig, "lam", -0.3),
    (MixConfig, "switch", {"mixup": 0.5}),
    (ModelConfig, "shared_width", -1),
    (LossConfig, "agreement", -1.0),
    (LossConfig, "interpolation", -1.0),
    (LossConfig, "contrastive", -1.0),
    (LossConfig, "agreement_temperature", 0.0),
    (LossConfig, "contrastive_temperature", float("inf")),
    (LossConfig, "agreement_confidence", 1.1),
    (DataConfig, "num_workers", -1),
    (DataConfig, "clip_seconds", 0.0),
    (DataConfig, "clip_seconds", float("inf")),
    (DataConfig, "max_bad_share", 1.01),
    (DataConfig, "max_bad_share", -0.1),
    (DataConfig, "table_source", []),
    (ClipConfig, "duration_seconds", 0.0),
    (ClipConfig, "duration_seconds", float("nan")),
    (ClipConfig, "num_frames", 0),
    (ClipConfig, "sample_rate", 999),
    (ClipConfig, "crop", 7),
    (ClipConfig, "short_side", 63),
    (AugmentConfig, "min_area", 0.0),
    (AugmentConfig, "min_area", 1.1),
    (AugmentConfig, "max_aspect", 0.9),
    (AugmentConfig, "max_aspect", float("inf")),
    (AugmentConfig, "flip", 1.5),
    (AugmentConfig, "repeats", 0),
    (AugmentConfig, "min_seconds", -0.1),
    (AugmentConfig, "speed", 0.9),
    (AugmentConfig, "speed", 4.1),
    (AugmentConfig, "reverse", -0.1),
    (AugmentConfig, "hide_seconds", float("inf")),
    (AugmentConfig, "jitter_seconds", -0.1),
    (AugmentConfig, "scales", [0.9, 1.2]),
    (AugmentConfig, "scales", [1.3, 1.2]),
    (AugmentConfig, "scales", [1.3]),
    (AugmentConfig, "brightness", 1.1),
    (AugmentConfig, "contrast", -0.1),
    (AugmentConfig, "saturation", 1.1),
    (AugmentConfig, "hue", 0.6),
    (AugmentConfig, "policy_ops", 0),
    (AugmentConfig, "policy_strength", 1.1),
    (AugmentConfig, "policy_probability", -0.1),
    (AugmentConfig, "erase", 1.1),
    (AugmentConfig, "gain_db", -1.0),
    (AugmentConfig, "invert", 1.1),
    (AugmentConfig, "filter", 1.1),
    (AugmentConfig, "reverb", -0.1),
    (AugmentConfig, "noise", 1.1),
    (AugmentConfig, "noise_snr_db", [10.0, 5.0]),
    (AugmentConfig, "background", 1.1),
    (AugmentConfig, "background_snr_db", [float("nan"), 5.0]),
    (AugmentConfig, "time_masks", -1),
    (AugmentConfig, "time_mask_seconds", 0.0),
    (AugmentConfig, "mel_masks", -1),
    (AugmentConfig, "mel_mask_share", 1.1),
    (FrontendConfig, "num_mels", 0),
    (FrontendConfig, "n_fft", 15),
    (FrontendConfig, "hop_length", 0),
    (FrontendConfig, "hop_length", 513),
    (FrontendConfig, "mel_std", 0.0),
    (MixConfig, "alpha", 0.0),
    (MixConfig, "probability", 1.5),
    (MixConfig, "off_epochs", -1),
    (MixConfig, "ramp_epochs", -1),
    (ModelConfig, "dropout", 1.0),
    (LossConfig, "fused", -1.0),
    (LossConfig, "video", -1.0),
    (LossConfig, "audio", -1.0),
    (LossConfig, "label_smoothing", 1.0),
    (OptimConfig, "epochs", 0),
    (OptimConfig, "batch_size", 1),
    (OptimConfig, "accumulate", 0),
    (OptimConfig, "lr", 0.0),
    (OptimConfig, "weight_decay", -0.1),
    (OptimConfig, "warmup_epochs", -0.5),
    (OptimConfig, "warmup_epochs", 10.5),
    (OptimConfig, "clip_norm", 0.0),
    (OptimConfig, "momentum", 1.0),
    (OptimConfig, "milestones", []),
    (OptimConfig, "milestones", [0.5, 0.4]),
    (OptimConfig, "milestones", [0.0, 0.5]),
    (OptimConfig, "milestones", [0.5, 1.0]),
    (OptimConfig, "gamma", 1.0),
    (OptimConfig, "decay_share", 0.0),
    (OptimConfig, "decay_share", 1.1),
    (OptimConfig, "no_decay", ["1d", ""]),
    (OptimConfig, "ema_decay", 1.0),
    (OptimConfig, "precise_bn_batches", -1),
    (RunConfig, "seed", -1),
    (RunConfig, "threads", -1),
    (RunConfig, "log_every", 0),
    (RunConfig, "save_every", -1),
    (RunConfig, "device", "tpu"),
    (RunConfig, "device", "cuda:x"),
]


@pytest.mark.parametrize(("section", "key", "value"), OUT_OF_RANGE)
def test_a_value_out_of_range_names_the_key(section, key, value):
    name = next(n for n, cls in SECTIONS.items() if cls is section)
    with pytest.raises(ValueError, match=rf"^{name}\.{key} .*got {re.escape(repr(value))}$"):
        replace(section(), **{key: value})


def test_filterbanks_of_kaldi_need_numbers():
    with pytest.raises(ValueError, match=r"^frontend\.mel_mean must be a number .*'measured'$"):
        FrontendConfig(kind="kaldi", mel_std=9.0)


def test_jitter_and_binding_go_together():
    with pytest.raises(ValueError, match=r"^augment.jitter_seconds must be > 0 .*, got 0.0"):
        AugmentConfig(binding="window")


@pytest.mark.parametrize("key", ["num_views", "batch_size"])
def test_evaluation_needs_one_of_each(key):
    with pytest.raises(ValueError, match=f"^{key} must be >= 1, got 0"):
        EvalConfig(**{"checkpoint": "x.pt", key: 0})


def test_evaluation_needs_time_for_a_clip():
    with pytest.raises(ValueError, match=r"^clip_seconds must be in \(0, 86400\], got nan"):
        EvalConfig(checkpoint="x.pt", clip_seconds=float("nan"))


def test_a_value_out_of_range_ends_the_program(capsys):
    assert "optim.lr must be > 0, got -1.0" in fails(capsys, ["--optim.lr", "-1"])


def test_a_window_must_hold_one_spectrum(capsys):
    message = fails(capsys, ["--clip.duration_seconds", "0.01"])
    assert "clip.duration_seconds must hold one spectrum of frontend.n_fft (=512)" in message


def test_values_on_the_edge_of_their_range_are_accepted():
    TrainConfig(
        clip=ClipConfig(crop=72, short_side=72, num_frames=1, duration_seconds=0.032),
        augment=AugmentConfig(min_area=1.0, max_aspect=1.0, flip=1.0),
        mix=MixConfig(probability=0.0),
        optim=OptimConfig(epochs=3, warmup_epochs=3.0, batch_size=2),
        run=RunConfig(device="cuda:7"),
    )


def test_later_files_win_and_overrides_win_over_files(tmp_path):
    first = written(tmp_path, {"optim": {"lr": 0.5, "epochs": 3}, "run": {"seed": 1}}, "a.yaml")
    second = written(tmp_path, {"optim": {"lr": 0.25}, "run": {"seed": 2}}, "b.yaml")
    config = load_config(TrainConfig, [*first, *second, "--run.seed", "9"])
    assert (config.optim.lr, config.optim.epochs, config.run.seed) == (0.25, 3, 9)
    config = load_config(TrainConfig, ["--run.seed", "9", *second, *first])
    assert (config.optim.lr, config.optim.epochs) == (0.5, 3)


def test_numbers_may_be_written_with_an_exponent(tmp_path):
    (tmp_path / "a.yaml").write_text("optim:\n  lr: 2e-3\n")
    assert load_config(TrainConfig, ["--config", str(tmp_path / "a.yaml")]).optim.lr == 0.002


def test_a_resolved_configuration_comes_back(tmp_path):
    config = replace(
        TrainConfig(),
        optim=OptimConfig(lr=1e-5, epochs=7),
        model=ModelConfig(video=VideoEncoderConfig(channels=[8, 16])),
        data=DataConfig(root="ä: b #c", table="t.csv", table_source=["a", "b"]),
    )
    assert from_yaml(TrainConfig, to_yaml(config)) == config
    assert yaml.safe_load(to_yaml(config)) == asdict(config)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_config(TrainConfig, ["--config", str(tmp_path / "config.yaml")]) == config


def test_differences_are_named_by_their_path():
    a = TrainConfig()
    b = replace(
        a, optim=OptimConfig(lr=1.0), model=ModelConfig(audio=AudioEncoderConfig(channels=[4]))
    )
    assert differences(a, TrainConfig()) == {}
    assert differences(a, b) == {
        "optim.lr": (0.002, 1.0),
        "model.audio.channels": ([16, 32, 64, 128], [4]),
    }


def test_every_option_is_documented_and_there_are_not_too_many():
    files = sorted(Path(str(module.__file__)).parent.glob("*_config.py"))
    nodes = [node for file in files for node in ast.parse(file.read_text()).body]
    classes = {n.name: n for n in nodes if isinstance(n, ast.ClassDef) and "Config" in n.name}
    encoders = {"EncoderConfig", "ModalityEncoderConfig", "VideoEncoderConfig",
                "AudioEncoderConfig", "JointEncoderConfig"}  # fmt: skip
    assert {*classes} == {*(s.__name__ for s in SECTIONS.values()), *encoders, "TrainConfig",
                          "EvalConfig"}  # fmt: skip
    number = 0
    for cls in classes.values():
        for option, after in zip(cls.body, [*cls.body[1:], None], strict=True):
            if not isinstance(option, ast.AnnAssign) or "Config" in ast.unparse(option.annotation):
                continue  # a section is documented by its class
            number += 1
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            assert documented, f"{cls.name}.{ast.unparse(option.target)} has no docstring"
        assert ast.get_docstring(cls)
    assert all(is_dataclass(section) for section in SECTIONS.values())
    assert 40 < number < 200


ENCODERS_OUT_OF_RANGE: list[tuple[str, dict[str, Any], str]] = [
    ("video", {"channels": []}, "channels needs at least one stage of width >= 1, got []"),
    ("audio", {"channels": [8, 0]}, "channels needs at least one stage of width >= 1, got [8, 0]"),
    ("video", {"encoder": "vit"}, "encoder must be LIBRARY:NAME, LIBRARY one of avmix, torch"),
    ("audio", {"encoder": "timm:"}, "encoder must be LIBRARY:NAME, LIBRARY one of avmix, torch"),
    ("video", {"frozen": True}, "frozen needs model.video.weights"),
    ("audio", {"lr_scale": 0.0}, "lr_scale must be > 0, got 0.0"),
    ("video", {"layer_decay": 0.0}, "layer_decay must be in (0, 1], got 0.0"),
    ("audio", {"layer_decay": 1.5}, "layer_decay must be in (0, 1], got 1.5"),
    ("video", {"frozen_norm": True}, "frozen_norm needs model.video.weights"),
]


@pytest.mark.parametrize(("section", "options", "says"), ENCODERS_OUT_OF_RANGE)
def test_an_option_of_an_encoder_out_of_range_is_named(section, options, says):
    cls = {"video": VideoEncoderConfig, "audio": AudioEncoderConfig}[section]
    with pytest.raises(ValueError, match="^" + re.escape(f"model.{section}.{says}")):
        cls(**options)


@pytest.mark.parametrize("in_a_file", [True, False])
@pytest.mark.parametrize("modality", ["video", "audio"])
def test_an_option_that_was_renamed_says_its_new_name(modality, in_a_file, tmp_path, capsys):
    old = f"{modality}_channels"
    file = written(tmp_path, {"model": {old: [4, 8]}})
    message = fails(capsys, file if in_a_file else [f"--model.{old}", "[4, 8]"])
    assert f"no option 'model.{old}'; it is 'model.{modality}.channels' now." in message


def test_a_configuration_of_before_options_were_renamed_is_read():
    new = replace(
        TrainConfig(), model=ModelConfig(video=VideoEncoderConfig(channels=[4, 8]), dropout=0.1)
    )
    values = asdict(new)
    values["model"] = {"dropout": 0.1, "shared_width": 0, "video_channels": [4, 8],
                       "audio_channels": [16, 32, 64, 128]}  # fmt: skip
    assert from_yaml(TrainConfig, yaml.safe_dump(values)) == new


def test_a_configuration_of_before_fine_tuning_had_options_is_read():
    """What it computes is the same: all of them are off by default."""
    values = asdict(TrainConfig())
    of_encoders = ["layer_decay", "frozen_norm", "gradient_checkpointing"]
    since = {
        ("optim",): ["name", "momentum", "nesterov", "schedule", "milestones", "gamma",
                     "decay_share", "no_decay", "ema_decay", "precise_bn_batches"],
        ("model",): ["sync_norm"],
        ("model", "video"): of_encoders,
        ("model", "audio"): of_encoders,
        ("run",): ["compile"],
    }  # fmt: skip
    for path, names in since.items():
        section = values
        for name in path:
            section = section[name]
        for name in names:
            del section[name]
    found = from_yaml(TrainConfig, yaml.safe_dump(values))
    assert found == TrainConfig()
    assert (found.optim.name, found.optim.schedule, found.optim.no_decay) == (
        "adamw", "cosine", ["1d"],
    )  # fmt: skip


def test_options_of_a_library_are_a_mapping(tmp_path):
    words = ["--model.video.encoder", "timm:resnet18",
             "--model.video.options", "{drop_path_rate: 0.1, img_size: [32, 48]}"]  # fmt: skip
    config = load_config(TrainConfig, words)
    assert config.model.video.options == {"drop_path_rate": 0.1, "img_size": [32, 48]}
    assert from_yaml(TrainConfig, to_yaml(config)) == config
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_config(TrainConfig, ["--config", str(tmp_path / "config.yaml")]) == config


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"loss": LossConfig(contrastive=0.1)},
            r"^model\.shared_width must be > 0 for loss\.contrastive, got 0$",
        ),
        (
            {"mix": MixConfig(switch={"mixup": 0.5, "cross": 0.5})},
            r"^model\.shared_width must be > 0 for mixing method cross, got 0$",
        ),
        (
            {"mix": MixConfig(labels="max")},
            r"^mix\.labels must be sum for loss\.kind cross_entropy \(.* multi\), got 'max'$",
        ),
        (
            {"augment": AugmentConfig(min_seconds=2.5)},
            r"^augment\.min_seconds must be <= clip\.duration_seconds \(=2\.0\), got 2\.5$",
        ),
        (
            {"augment": AugmentConfig(hide_seconds=2.5)},
            r"^augment\.hide_seconds must be <= clip\.duration_seconds \(=2\.0\), got 2\.5$",
        ),
        (
            {"augment": AugmentConfig(repeats=16)},
            r"^augment\.repeats must be < optim\.batch_size \(=16\) where clips are mixed.*got 16$",
        ),
        (
            {"augment": AugmentConfig(repeats=3)},
            r"^augment\.repeats must divide optim\.batch_size \(=16\), got 3$",
        ),
        (
            {"augment": AugmentConfig(repeats=2), "mix": MixConfig(pairing="roll")},
            r"^mix\.pairing must not be roll with augment\.repeats \(=2\): .*, got 'roll'$",
        ),
        (
            {
                "run": RunConfig(compile=True),
                "model": ModelConfig(audio=AudioEncoderConfig(gradient_checkpointing=True)),
            },
            r"^run\.compile does not go with model\.audio\.gradient_checkpointing, .*, got True$",
        ),
        (
            {
                "loss": LossConfig(labels="multi", interpolation=0.5),
                "mix": MixConfig(labels="max"),
            },
            r"^loss\.interpolation mixes predictions by lambda, .* must be 0, got 0\.5$",
        ),
    ],
)
def test_sections_that_do_not_fit_each_other_name_the_key(sections, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**sections)
