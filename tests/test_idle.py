"""Every option acts, or is refused: alone, with what lets it act, and as nan or infinity."""

import math
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from avmix.config import (
    AugmentConfig,
    LossConfig,
    MixConfig,
    TrainConfig,
    _keys,
    load_config,
    to_yaml,
)
from avmix.idle import NEEDS, idle_options, value_at, without_idle

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
PRESETS = sorted((CONFIGS / "augment").glob("*.yaml"))

# Another value of each option, what lets it act, and what the message asks for without that. Both
# are empty where the option always acts, and then the second holds what the value itself needs.
ALWAYS: dict[str, Any] = {}
TABLE = {"data.table": "clips.csv"}
NO_MIX = {"mix.method": "none"}
TIMM_VIDEO = {"model.video.encoder": "timm:resnet18"}
TIMM_AUDIO = {"model.audio.encoder": "timm:resnet18"}
OPTIONS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "data.root": ("x", ALWAYS, ""),
    "data.manifest": ("x", ALWAYS, ""),
    "data.table": ("x.csv", ALWAYS, ""),
    "data.table_label": ("x", TABLE, "data.table"),
    "data.table_split": ("x", TABLE, "data.table"),
    "data.table_source": (["x"], TABLE, "data.table"),
    "data.train_split": ("x", ALWAYS, ""),
    "data.shots": (2, ALWAYS, ""),
    "data.shots_seed": (2, {"data.shots": 1}, "data.shots > 0"),
    "data.extra": (["x"], ALWAYS, ""),
    "data.val_split": ("x", ALWAYS, ""),
    "data.num_workers": (2, ALWAYS, ""),
    "data.clip_seconds": (2.0, ALWAYS, ""),
    "data.verify": ("never", ALWAYS, ""),
    "data.max_bad_share": (0.5, ALWAYS, ""),
    "clip.duration_seconds": (3.0, ALWAYS, ""),
    "clip.num_frames": (4, ALWAYS, ""),
    "clip.sample_rate": (8000, ALWAYS, ""),
    "clip.stereo": (True, ALWAYS, ""),
    "clip.short_side": (80, ALWAYS, ""),
    "clip.crop": (32, ALWAYS, ""),
    "augment.window": ("uniform", ALWAYS, ""),
    "augment.repeats": (2, ALWAYS, ""),
    "augment.min_seconds": (0.5, ALWAYS, ""),
    "augment.speed": (1.5, ALWAYS, ""),
    "augment.speed_keeps_pitch": (True, {"augment.speed": 1.2}, "augment.speed > 1"),
    "augment.reverse": (0.5, ALWAYS, ""),
    "augment.hide_seconds": (0.5, ALWAYS, ""),
    "augment.binding": ("window", {"augment.jitter_seconds": 0.1}, ""),
    "augment.jitter_seconds": (0.2, {"augment.binding": "window"}, "augment.binding window"),
    "augment.crop": ("centre", ALWAYS, ""),
    "augment.min_area": (0.7, {"augment.crop": "resized"}, "augment.crop resized"),
    "augment.max_aspect": (1.5, {"augment.crop": "resized"}, "augment.crop resized"),
    "augment.scales": ([1.1, 1.2], {"augment.crop": "multiscale"}, "augment.crop multiscale"),
    "augment.flip": (0.2, ALWAYS, ""),
    "augment.never_flip": (["x"], {"augment.flip": 0.5}, "augment.flip > 0"),
    "augment.brightness": (0.2, ALWAYS, ""),
    "augment.contrast": (0.2, ALWAYS, ""),
    "augment.saturation": (0.2, ALWAYS, ""),
    "augment.hue": (0.2, ALWAYS, ""),
    "augment.policy": ("trivialaugment", ALWAYS, ""),
    "augment.policy_ops": (3, {"augment.policy": "randaugment"}, "augment.policy randaugment"),
    "augment.policy_probability": (
        0.5, {"augment.policy": "randaugment"}, "augment.policy randaugment",
    ),
    "augment.policy_strength": (
        0.5, {"augment.policy": "randaugment"}, "augment.policy randaugment",
    ),
    "augment.erase": (0.2, ALWAYS, ""),
    "augment.gain_db": (3.0, ALWAYS, ""),
    "augment.invert": (0.2, ALWAYS, ""),
    "augment.filter": (0.2, ALWAYS, ""),
    "augment.reverb": (0.2, ALWAYS, ""),
    "augment.noise": (0.2, ALWAYS, ""),
    "augment.noise_snr_db": ([1.0, 2.0], {"augment.noise": 0.1}, "augment.noise > 0"),
    "augment.background": (0.2, ALWAYS, ""),
    "augment.background_snr_db": (
        [1.0, 2.0], {"augment.background": 0.1}, "augment.background > 0",
    ),
    "augment.background_label": ("soften", {"augment.background": 0.1}, "augment.background > 0"),
    "augment.time_masks": (1, ALWAYS, ""),
    "augment.time_mask_seconds": (0.1, {"augment.time_masks": 1}, "augment.time_masks > 0"),
    "augment.mel_masks": (1, ALWAYS, ""),
    "augment.mel_mask_share": (0.1, {"augment.mel_masks": 1}, "augment.mel_masks > 0"),
    "frontend.kind": ("kaldi", {"frontend.mel_mean": -4.3, "frontend.mel_std": 9.1}, ""),
    "frontend.num_mels": (32, ALWAYS, ""),
    "frontend.n_fft": (256, ALWAYS, ""),
    "frontend.hop_length": (128, ALWAYS, ""),
    "frontend.mel_mean": (-1.0, ALWAYS, ""),
    "frontend.mel_std": (2.0, ALWAYS, ""),
    "frontend.kernel": ("torch", ALWAYS, ""),
    "mix.method": ("video", ALWAYS, ""),
    "mix.switch": ({"mixup": 0.5, "none": 0.5}, ALWAYS, ""),
    "mix.probability": (0.5, ALWAYS, ""),
    "mix.ramp_epochs": (1, ALWAYS, ""),
    "mix.off_epochs": (1, ALWAYS, ""),
    "mix.law": ("uniform", ALWAYS, ""),
    "mix.alpha": (0.5, ALWAYS, ""),
    "mix.lam": (0.3, {"mix.law": "fixed"}, "mix.law fixed"),
    "mix.dominant": (True, ALWAYS, ""),
    "mix.per": ("batch", ALWAYS, ""),
    "mix.pairing": ("roll", ALWAYS, ""),
    "mix.audio_domain": ("power", ALWAYS, ""),
    "mix.layers": ([1], {"mix.method": "mixup@layer"}, "a mix.method at @layer (mixup@layer)"),
    "mix.energy_limit_db": (
        9.0, {"mix.method": "energy", "mix.audio_domain": "power"}, "mix.method energy",
    ),
    "mix.drop_video": (0.2, {"mix.method": "dropout"}, "a mix.method with +dropout"),
    "mix.drop_audio": (0.2, {"mix.switch": {"mixup+dropout": 1.0}}, "a mix.method with +dropout"),
    "mix.cross_with": (
        "partner", {"mix.method": "cross", "model.shared_width": 4}, "mix.method cross",
    ),
    "mix.cross_path": (
        "linear", {"mix.method": "cross", "model.shared_width": 4}, "mix.method cross",
    ),
    "mix.labels": ("max", {"loss.kind": "binary"}, ""),
    "model.dropout": (0.1, ALWAYS, ""),
    "model.shared_width": (4, ALWAYS, ""),
    "model.video.encoder": ("timm:resnet18", ALWAYS, ""),
    "model.video.channels": ([4, 4, 4], ALWAYS, ""),
    "model.video.options": ({"x": 1}, TIMM_VIDEO, "model.video.encoder of another library"),
    "model.video.weights": ("x.pt", ALWAYS, ""),
    "model.video.may_lack": (["x"], {"model.video.weights": "x.pt"}, "model.video.weights"),
    "model.video.frozen": (True, {"model.video.weights": "x.pt"}, ""),
    "model.video.lr_scale": (0.5, ALWAYS, ""),
    "model.video.pooling": ("max", TIMM_VIDEO, "model.video.encoder of torchvision or timm"),
    "model.audio.encoder": ("timm:resnet18", ALWAYS, ""),
    "model.audio.channels": ([4, 4, 4], ALWAYS, ""),
    "model.audio.options": ({"x": 1}, TIMM_AUDIO, "model.audio.encoder of another library"),
    "model.audio.weights": ("x.pt", ALWAYS, ""),
    "model.audio.may_lack": (["x"], {"model.audio.weights": "x.pt"}, "model.audio.weights"),
    "model.audio.frozen": (True, {"model.audio.weights": "x.pt"}, ""),
    "model.audio.lr_scale": (0.5, ALWAYS, ""),
    "loss.kind": ("binary", ALWAYS, ""),
    "loss.fused": (0.5, ALWAYS, ""),
    "loss.video": (0.2, ALWAYS, ""),
    "loss.audio": (0.2, ALWAYS, ""),
    "loss.label_smoothing": (0.1, ALWAYS, ""),
    "loss.agreement": (0.2, ALWAYS, ""),
    "loss.agreement_kind": ("symmetric_kl", {"loss.agreement": 0.1}, "loss.agreement > 0"),
    "loss.agreement_temperature": (2.0, {"loss.agreement": 0.1}, "loss.agreement > 0"),
    "loss.agreement_confidence": (0.5, {"loss.agreement": 0.1}, "loss.agreement > 0"),
    "loss.interpolation": (0.2, ALWAYS, ""),
    "loss.contrastive": (0.2, {"model.shared_width": 4}, ""),
    "loss.contrastive_temperature": (
        0.2, {"loss.contrastive": 0.1, "model.shared_width": 4}, "loss.contrastive > 0",
    ),
    "optim.epochs": (4, ALWAYS, ""),
    "optim.batch_size": (4, ALWAYS, ""),
    "optim.accumulate": (2, ALWAYS, ""),
    "optim.lr": (0.1, ALWAYS, ""),
    "optim.weight_decay": (0.1, ALWAYS, ""),
    "optim.warmup_epochs": (2.0, ALWAYS, ""),
    "optim.clip_norm": (1.0, ALWAYS, ""),
    "run.out": ("x", ALWAYS, ""),
    "run.seed": (1, ALWAYS, ""),
    "run.device": ("cpu", ALWAYS, ""),
    "run.precision": ("bf16", ALWAYS, ""),
    "run.threads": (1, ALWAYS, ""),
    "run.log_every": (2, ALWAYS, ""),
    "run.save_every": (2, ALWAYS, ""),
    "run.save_plans": (True, ALWAYS, ""),
    "run.check_input": (True, ALWAYS, ""),
}  # fmt: skip
WEIGHTS = {"model.video.weights": "x.pt"}
NEEDY = sorted(key for key, (_, _, asks) in OPTIONS.items() if asks)
# Options whose defaults let them act: what switches them off, and what the message asks for.
SWITCHED_OFF: list[tuple[str, dict[str, Any], str]] = [
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
    ("mix.audio_domain", {"mix.method": "mixup@feature"}, "audio at input level"),
    ("mix.audio_domain", {"mix.method": "video"}, "audio at input level"),
    ("mix.layers", {"mix.method": "mixup@feature"}, "a mix.method at @layer"),
    ("mix.labels", {"loss.kind": "binary", "mix.method": "none"}, "a mix.method that mixes"),
    ("model.video.channels", TIMM_VIDEO, "of avmix (avmix:NAME)"),
    ("model.audio.channels", TIMM_AUDIO, "of avmix (avmix:NAME)"),
    ("model.video.lr_scale", {**WEIGHTS, "model.video.frozen": True}, "model.video.frozen false"),
    (
        "model.audio.lr_scale",
        {"model.audio.weights": "x.pt", "model.audio.frozen": True},
        "model.audio.frozen false",
    ),
]


def words(options: dict[str, Any]) -> list[str]:
    """As they are written on the command line."""
    return [
        f"--{key}={value if isinstance(value, str) else flow(value)}"
        for key, value in options.items()
    ]


def flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=999).removesuffix("...\n").strip()


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
    with_a_need = {*NEEDY, *(key for key, _, _ in SWITCHED_OFF)}
    assert with_a_need == {*NEEDS}
    assert all(value != value_at(TrainConfig(), key) for key, (value, _, _) in OPTIONS.items())


@pytest.mark.parametrize("key", OPTIONS)
def test_an_option_is_taken_with_what_lets_it_act(key):
    value, enables, _ = OPTIONS[key]
    config = load_config(TrainConfig, words({**enables, key: value}))
    assert value_at(config, key) == value
    assert idle_options(config) == {}


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
    if isinstance(value, dict) and key != "mix.switch":
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
    assert without_idle(config).augment.min_area == AugmentConfig().min_area
    assert load_config(TrainConfig, [*files, "--augment.crop", "resized"]).augment.min_area == 0.8


@pytest.mark.parametrize(
    "preset", sorted((CONFIGS / "augment").glob("*.yaml")), ids=lambda p: p.stem
)
@pytest.mark.parametrize("base", sorted(CONFIGS.glob("**/*.yaml")), ids=lambda p: p.stem)
def test_presets_can_be_combined_with_every_configuration(base, preset, tmp_path):
    config = load_config(TrainConfig, ["--config", str(base), "--config", str(preset)])
    for key, value in yaml.safe_load(preset.read_text())["augment"].items():
        assert getattr(config.augment, key) == value
    (tmp_path / "config.yaml").write_text(to_yaml(without_idle(config)))
    again = load_config(TrainConfig, ["--config", str(tmp_path / "config.yaml")])
    assert again == without_idle(config)


def test_an_override_may_switch_off_what_a_file_set():
    demo = ["--config", str(CONFIGS / "demo.yaml")]
    assert load_config(TrainConfig, demo).mix.ramp_epochs == 3
    config = load_config(TrainConfig, [*demo, "--mix.method", "none"])
    assert list(idle_options(config)) == ["mix.ramp_epochs"]
    assert without_idle(config).mix.ramp_epochs == 0


@pytest.mark.parametrize(
    "after",
    [["--augment.min_area", "0.7"], ["--augment.min_area", "0.8"], ["--augment.min_area=0.8"]],
)
def test_what_is_set_after_it_was_switched_off_is_refused(after, capsys):
    files = ["--config", str(CONFIGS / "demo.yaml"), "--config", str(CONFIGS / "augment/none.yaml")]
    assert "augment.min_area cannot act without augment.crop" in refused(capsys, [*files, *after])


def commands() -> list[str]:
    """What the pages and the heads of the configurations say to run, from `train.py` on."""
    pages = [ROOT / "README.md", ROOT / "train.py", *ROOT.glob("docs/*.md")]
    pages += [*ROOT.glob("datasets/**/*.md"), *ROOT.glob("configs/**/*.yaml")]
    text = "\n".join(page.read_text() for page in pages)
    found = re.findall(r"train\.py (--(?:config|data)[^`\n]*)", text)
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
    assert sorted(idle_options(config)) == ["loss.contrastive_temperature", "mix.lam", "mix.method"]
    found = without_idle(config)
    assert found == replace(
        config,
        mix=MixConfig(switch={"mixup": 1.0}, alpha=0.7),
        loss=LossConfig(agreement_temperature=2.0, agreement=0.1),
    )
    assert idle_options(found) == {}
