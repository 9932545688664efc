"""Every option acts, or is refused: alone, with what lets it act, and as nan or infinity."""

import math
import re
import shlex
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from options import (
    AUDIO_WEIGHTS,
    JOINT,
    JOINT_WEIGHTS,
    NO_MIX,
    OF_CLIPS,
    OPTIONS,
    TIMM_AUDIO,
    TIMM_VIDEO,
    VIDEO_WEIGHTS,
    words,
)

from avmix.config import (
    LARGEST,
    AudioEncoderConfig,
    AugmentConfig,
    EvalConfig,
    LossConfig,
    MixConfig,
    TrainConfig,
    VideoEncoderConfig,
    from_yaml,
    load_config,
    to_yaml,
)
from avmix.config.command_line import _keys
from avmix.config.unused_options import NEEDS, unused_options, value_at, without_unused

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
PRESETS = sorted((CONFIGS / "augment").glob("*.yaml"))
OF_FRAMES = [p for p in sorted(CONFIGS.glob("**/*.yaml")) if "  features: " not in p.read_text()]
"""Configurations of clips: kept features are not augmented."""

WAVEFORM = {"frontend.kind": "waveform", "mix.audio_domain": "waveform"}
NEEDY = sorted(key for key, (_, _, asks) in OPTIONS.items() if asks)
# Options whose defaults let them act: what switches them off, and what the message asks for.
SWITCHED_OFF: list[tuple[str, dict[str, Any], str]] = [
    ("loss.video", {"model.modalities": "audio"}, "model.modalities both or video"),
    ("loss.audio", {"model.modalities": "video"}, "model.modalities both or audio"),
    ("loss.set_weights", {"loss.labels": "multi"}, "loss.labels auto or sets"),
    ("augment.min_area", {"augment.crop": "centre"}, "augment.crop resized"),
    ("augment.max_aspect", {"augment.crop": "multiscale"}, "augment.crop resized"),
    ("augment.never_flip", {"augment.flip": 0.0}, "augment.flip > 0"),
    ("augment.policy_ops", {"augment.policy": "trivialaugment"}, "augment.policy randaugment"),
    ("mix.method", {"mix.switch": {"mixup": 1.0}}, "an empty mix.switch"),
    ("mix.probability", NO_MIX, "a mix.method that mixes or drops"),
    ("mix.ramp_epochs", NO_MIX, "a mix.method that mixes or drops"),
    ("mix.off_epochs", {"mix.probability": 0.0}, "mix.probability > 0"),
    ("mix.law", NO_MIX, "a mix.method that mixes"),
    ("mix.alpha", {"mix.law": "uniform"}, "mix.law beta"),
    ("mix.alpha", {"mix.law": "fixed"}, "mix.law beta"),
    ("mix.alpha", {"mix.method": "dropout"}, "a mix.method that mixes"),
    ("mix.dominant", {"mix.probability": 0.0}, "a mix.method that mixes"),
    ("mix.per", {"mix.switch": {"none": 1.0, "mixup": 0.0}}, "a mix.method that mixes"),
    ("mix.pairing", {"mix.method": "cross", "model.shared_width": 4}, "with a partner"),
    ("mix.partners", {"mix.method": "dropout"}, "with a partner"),
    ("mix.audio_domain", {"mix.method": "mixup@feature"}, "audio at input level"),
    ("mix.audio_domain", {"mix.method": "video"}, "audio at input level"),
    ("mix.layers", {"mix.method": "mixup@feature"}, "a mix.method at @layer"),
    ("mix.labels", {"loss.kind": "binary", "mix.method": "none"}, "a mix.method that mixes"),
    ("model.missing", {"model.fusion": "weighted"}, "a model.fusion other than weighted"),
    ("model.heads", {"model.fusion": "weighted"}, "a model.fusion that joins features"),
    ("model.heads", {"model.fusion": "average"}, "a model.fusion that joins features"),
    ("model.heads", {"model.fusion": "product"}, "a model.fusion that joins features"),
    ("model.video.channels", TIMM_VIDEO, "avmix:r2plus1d or avmix:cnn"),
    ("model.audio.channels", TIMM_AUDIO, "avmix:r2plus1d or avmix:cnn"),
    (
        "model.video.lr_scale",
        {**VIDEO_WEIGHTS, "model.video.frozen": True},
        "model.video.frozen false",
    ),
    (
        "model.audio.lr_scale",
        {**AUDIO_WEIGHTS, "model.audio.frozen": True},
        "model.audio.frozen false",
    ),
    (
        "model.video.layer_decay",
        {**VIDEO_WEIGHTS, "model.video.frozen": True},
        "model.video.frozen false",
    ),
    (
        "model.video.frozen_norm",
        {**VIDEO_WEIGHTS, "model.video.frozen": True},
        "model.video.frozen false",
    ),
    (
        "model.video.gradient_checkpointing",
        {**VIDEO_WEIGHTS, "model.video.frozen": True},
        "model.video.frozen false",
    ),
    (
        "model.audio.layer_decay",
        {**AUDIO_WEIGHTS, "model.audio.frozen": True},
        "model.audio.frozen false",
    ),
    (
        "model.audio.frozen_norm",
        {**AUDIO_WEIGHTS, "model.audio.frozen": True},
        "model.audio.frozen false",
    ),
    (
        "model.audio.gradient_checkpointing",
        {**AUDIO_WEIGHTS, "model.audio.frozen": True},
        "model.audio.frozen false",
    ),
    *(
        (f"model.{section}.{f.name}", JOINT, "an empty model.joint.encoder")
        for section, part in (("video", VideoEncoderConfig), ("audio", AudioEncoderConfig))
        for f in fields(part)
        if not f.name.startswith("frozen")  # which without weights is refused before that
    ),
    *(
        (
            f"model.{section}.{name}",
            {**JOINT, f"model.{section}.weights": "x.pt"},
            "an empty model.joint.encoder",
        )
        for section in ("video", "audio")
        for name in ("frozen", "frozen_norm")
    ),
    *(
        (
            f"model.joint.{name}",
            {**JOINT_WEIGHTS, "model.joint.frozen": True},
            "model.joint.frozen false",
        )
        for name in ("lr_scale", "layer_decay", "frozen_norm", "gradient_checkpointing")
    ),
    *(
        (f"model.joint.{name}", {"model.joint.weights": "x.pt"}, "model.joint.encoder")
        for name in ("frozen", "frozen_norm")
    ),
    *(
        (f"frontend.{name}", WAVEFORM, "another frontend.kind than waveform")
        for name in ("num_mels", "n_fft", "hop_length", "mel_mean", "mel_std")
    ),
    ("optim.nesterov", {"optim.name": "sgd", "optim.momentum": 0.0}, "optim.momentum > 0"),
    ("optim.no_decay", {"optim.weight_decay": 0.0}, "optim.weight_decay > 0"),
]


def refused(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        load_config(TrainConfig, argv)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_every_option_is_in_the_table_of_this_test():
    assert [*OPTIONS] == _keys(TrainConfig)
    with_a_need = {*NEEDY, *(key for key, _, _ in SWITCHED_OFF), *OF_CLIPS}
    assert with_a_need == {*NEEDS}
    assert all(value != value_at(TrainConfig(), key) for key, (value, _, _) in OPTIONS.items())


@pytest.mark.parametrize("key", OPTIONS)
def test_an_option_is_taken_with_what_lets_it_act(key):
    value, enables, _ = OPTIONS[key]
    config = load_config(TrainConfig, words({**enables, key: value}))
    assert value_at(config, key) == value
    assert unused_options(config) == {}


@pytest.mark.parametrize("key", NEEDY)
def test_an_option_without_what_lets_it_act_is_refused(key, capsys):
    value, _, asks = OPTIONS[key]
    off = {"augment.crop": "centre"} if key in ("augment.min_area", "augment.max_aspect") else {}
    off = {"augment.flip": 0.0} if key == "augment.never_flip" else off
    message = refused(capsys, words({key: value, **off}))
    assert message.startswith(f"error: {key} cannot act without {asks}")
    assert message.endswith(f"got {value!r}\n")


@pytest.mark.parametrize(("key", "off", "asks"), SWITCHED_OFF)
def test_an_option_beside_what_switches_it_off_is_refused(key, off, asks, capsys):
    message = refused(capsys, words({key: OPTIONS[key][0], **off}))
    assert message.startswith(f"error: {key} cannot act without ")
    assert asks in message


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "key", [key for key, (value, _, _) in OPTIONS.items() if type(value) in (float, list, dict)]
)
def test_no_number_is_nan_or_infinite(key, number, capsys):
    value, enables, _ = OPTIONS[key]
    if isinstance(value, list) and not isinstance(value[0], float):
        return
    broken: Any = number
    if isinstance(value, list):
        broken = [value[0], number]
    elif isinstance(value, dict):
        broken = {**value, "mixup": number}
    message = refused(capsys, words({**enables, key: broken}))
    assert message.startswith(f"error: {key} ")
    assert ("inf" if math.isinf(number) else "nan") in message


def test_a_preset_may_switch_off_what_an_earlier_file_set():
    files = ["--config", str(CONFIGS / "demo.yaml"), "--config", str(CONFIGS / "augment/none.yaml")]
    assert load_config(TrainConfig, files[:2]).augment.min_area == 0.8
    config = load_config(TrainConfig, files)
    assert (config.augment.crop, config.augment.min_area) == ("centre", 0.8)
    # It does not act any more, and so the resolved configuration does not say it.
    assert without_unused(config).augment.min_area == AugmentConfig().min_area
    assert load_config(TrainConfig, [*files, "--augment.crop", "resized"]).augment.min_area == 0.8


@pytest.mark.long
@pytest.mark.parametrize(
    "preset", sorted((CONFIGS / "augment").glob("*.yaml")), ids=lambda p: p.stem
)
@pytest.mark.parametrize("base", OF_FRAMES, ids=lambda p: p.stem)
def test_presets_can_be_combined_with_every_configuration(base, preset, tmp_path):
    config = load_config(TrainConfig, ["--config", str(base), "--config", str(preset)])
    for key, value in yaml.safe_load(preset.read_text())["augment"].items():
        assert getattr(config.augment, key) == value
    (tmp_path / "config.yaml").write_text(to_yaml(without_unused(config)))
    again = load_config(TrainConfig, ["--config", str(tmp_path / "config.yaml")])
    assert again == without_unused(config)


def test_an_override_may_switch_off_what_a_file_set():
    demo = ["--config", str(CONFIGS / "demo.yaml")]
    assert load_config(TrainConfig, demo).mix.ramp_epochs == 3
    config = load_config(TrainConfig, [*demo, "--mix.method", "none"])
    assert list(unused_options(config)) == ["mix.ramp_epochs"]
    assert without_unused(config).mix.ramp_epochs == 0


@pytest.mark.parametrize(
    "after",
    [["--augment.min_area", "0.7"], ["--augment.min_area", "0.8"], ["--augment.min_area=0.8"]],
)
def test_what_is_set_after_it_was_switched_off_is_refused(after, capsys):
    files = ["--config", str(CONFIGS / "demo.yaml"), "--config", str(CONFIGS / "augment/none.yaml")]
    assert "augment.min_area cannot act without augment.crop" in refused(capsys, [*files, *after])


def commands() -> list[str]:
    """Options of training in the lines that the pages and the heads of the configurations show."""
    pages = [ROOT / "README.md", ROOT / "train.py", *ROOT.glob("docs/*.md")]
    pages += [*ROOT.glob("datasets/**/*.md"), *ROOT.glob("configs/**/*.yaml")]
    text = "\n".join(re.sub(r"\\\n\s*", "", page.read_text()) for page in pages)
    found = re.findall(r"(?:train\.py|avmix train) (--(?:config|data)[^`\n]*)", text)
    return sorted({line.split("  ")[0].strip() for line in found})


@pytest.mark.parametrize("command", commands())
def test_the_commands_of_the_pages_load(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    load_config(TrainConfig, shlex.split(command.replace("CONFIG", "configs/demo.yaml")))


def test_the_commands_of_the_pages_are_found():
    assert "--config configs/demo.yaml --config configs/augment/videomae.yaml" in commands()
    assert len(commands()) > 10


def test_a_later_file_may_let_an_option_of_an_earlier_one_act(tmp_path):
    (tmp_path / "a.yaml").write_text("mix: {drop_audio: 0.5}")
    (tmp_path / "b.yaml").write_text("mix: {method: mixup+dropout}")
    files = [word for name in "ab" for word in ("--config", str(tmp_path / f"{name}.yaml"))]
    assert load_config(TrainConfig, files).mix.drop_audio == 0.5


@pytest.mark.parametrize("form", ["--config {}", "--config={}"])
@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("mix:\n  alpha: 0.3\noptim:\n  lr: 0.1\nmix:\n  per: batch\n", "mix"),
        ("mix:\n  alpha: 0.3\n  per: batch\n  alpha: 0.2\n", "mix.alpha"),
        ("mix: {switch: {mixup: 0.5, none: 0.5, mixup: 0.5}}\n", "mix.switch.mixup"),
    ],
)
def test_a_key_that_is_there_twice_is_named(form, text, key, tmp_path, capsys):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    message = refused(capsys, form.format(path).split())
    assert f"a.yaml: the key {key!r} is there twice" in message


def test_a_key_that_is_there_twice_on_the_command_line_is_named(capsys):
    message = refused(capsys, ["--mix.switch", "{mixup: 0.5, mixup: 0.5}"])
    assert "mix.switch: the key 'mixup' is there twice" in message


def test_what_cannot_act_is_set_back_and_nothing_else():
    config = TrainConfig(
        mix=MixConfig(switch={"mixup": 1.0}, method="cross", lam=0.3, alpha=0.7),
        loss=LossConfig(agreement_temperature=2.0, contrastive_temperature=0.2, agreement=0.1),
    )
    assert sorted(unused_options(config)) == [
        "loss.contrastive_temperature",
        "mix.lam",
        "mix.method",
    ]
    found = without_unused(config)
    assert found == replace(
        config,
        mix=MixConfig(switch={"mixup": 1.0}, alpha=0.7),
        loss=LossConfig(agreement_temperature=2.0, agreement=0.1),
    )
    assert unused_options(found) == {}


def others() -> list[tuple[str, Any]]:
    """For every option nothing, and more than there is room for."""
    found: list[tuple[str, Any]] = []
    for key, (value, _, _) in OPTIONS.items():
        if isinstance(value, list):
            huge = [type(value[0])(10**300)] if isinstance(value[0], float) else []
            found += [(key, []), *((key, many * 2) for many in [huge] if huge)]
        elif isinstance(value, dict):
            found += [(key, {}), (key, {"mixup": 1e300})]
        elif isinstance(value, str):
            found += [(key, "''"), (key, "x" * 5000)]
        elif not isinstance(value, bool):
            found += [(key, "''"), (key, 1e300 if isinstance(value, float) else 10**15)]
    return found


@pytest.mark.parametrize(("key", "value"), others(), ids=lambda x: str(x)[:30])
def test_nothing_and_too_much_are_taken_or_refused_in_one_line(key, value, capsys):
    name = key.partition(".")[2]
    enables = {k: v for k, v in OPTIONS[key][1].items() if k != key}
    argv = words({**enables, key: value})
    try:
        config = load_config(TrainConfig, argv)
    except SystemExit:
        capsys.readouterr()
        assert name in refused(capsys, argv)
    else:
        assert from_yaml(TrainConfig, to_yaml(config)) == config


@pytest.mark.parametrize("key", LARGEST)
def test_what_no_machine_has_room_for_is_refused(key):
    section, _, name = key.rpartition(".")
    part = value_at(TrainConfig(), section) if section else None
    kind = type(part) if section else partial(EvalConfig, checkpoint="x")
    default = getattr(kind(), name)
    element = default[0] if isinstance(default, list) else default
    more: Any = type(element)(LARGEST[key] + 1)
    more = [type(element)(1), more] if isinstance(default, list) else more
    also = {"short_side": more} if key == "clip.crop" else {}
    with pytest.raises(ValueError, match=rf"^{key} must be <= {LARGEST[key]}, got "):
        kind(**{name: more, **also})
