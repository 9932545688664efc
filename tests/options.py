"""Another value of every option, for the tests that go through all of them."""

from typing import Any

import yaml

# Another value of each option, what lets it act, and what the message asks for without that. Both
# are empty where the option always acts, and then the second holds what the value itself needs.
ALWAYS: dict[str, Any] = {}
SGD = {"optim.name": "sgd"}
STEP = {"optim.schedule": "step"}
TABLE = {"data.table": "clips.csv"}
NO_MIX = {"mix.method": "none"}
TIMM_VIDEO = {"model.video.encoder": "timm:resnet18"}
TIMM_AUDIO = {"model.audio.encoder": "timm:resnet18"}
VIDEO_WEIGHTS = {"model.video.weights": "x.pt"}
AUDIO_WEIGHTS = {"model.audio.weights": "x.pt"}
MIX_FEATURES = {"mix.method": "mixup@feature"}
JOINT = {"model.joint.encoder": "avmix:mbt"}
TEACHERS = {"balance.video_teacher": "x.pt", "balance.audio_teacher": "x.pt"}
JOINT_WEIGHTS = {**JOINT, "model.joint.weights": "x.pt"}
OPTIONS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "data.root": ("x", ALWAYS, ""),
    "data.manifest": ("x", ALWAYS, ""),
    "data.features": ("x", MIX_FEATURES, ""),
    "data.table": ("x.csv", ALWAYS, ""),
    "data.table_label": ("x", TABLE, "data.table"),
    "data.table_split": ("x", TABLE, "data.table"),
    "data.table_source": (["x"], TABLE, "data.table"),
    "data.train_split": ("x", ALWAYS, ""),
    "data.holdout": (0.3, ALWAYS, ""),
    "data.holdout_seed": (2, {"data.holdout": 0.3}, "data.holdout > 0"),
    "data.balance": ("class", ALWAYS, ""),
    "data.shots": (2, ALWAYS, ""),
    "data.shots_seed": (2, {"data.shots": 1}, "data.shots > 0"),
    "data.shots_by": ("source", {"data.shots": 1}, "data.shots > 0"),
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
    "augment.invert": (
        0.2, {"mix.audio_domain": "waveform"}, "mix.audio_domain waveform",
    ),
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
    "frontend.window_length": (200, ALWAYS, ""),
    "frontend.exponent": (1, {"frontend.mel_mean": 0.0, "frontend.mel_std": 1.0}, ""),
    "frontend.log_offset": (1e-4, ALWAYS, ""),
    "frontend.centred": (True, ALWAYS, ""),
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
    "mix.neighbours": (
        2, {"mix.pairing": "nearest", "data.features": "x", **MIX_FEATURES}, "mix.pairing nearest",
    ),
    "mix.partners": (2, MIX_FEATURES, ""),
    "mix.share_power": (0.5, {"mix.method": "by_share"}, "a mix.method by_share"),
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
    "mix.audio_label": (
        "energy", {"mix.method": "cutmix_temporal"}, "a mix.method that cuts audio",
    ),
    "model.modalities": ("video", ALWAYS, ""),
    "model.fusion": ("sum", ALWAYS, ""),
    "model.guard": (True, ALWAYS, ""),
    "model.missing": ("learned", ALWAYS, ""),
    "model.heads": ("shared", ALWAYS, ""),
    "model.dropout": (0.1, ALWAYS, ""),
    "model.shared_width": (4, ALWAYS, ""),
    "model.sync_norm": (True, ALWAYS, ""),
    "model.video.encoder": ("timm:resnet18", ALWAYS, ""),
    "model.video.options": ({"x": 1}, TIMM_VIDEO, "model.video.encoder other than avmix:r2plus1d"),
    "model.video.weights": ("x.pt", ALWAYS, ""),
    "model.video.may_lack": (["x"], VIDEO_WEIGHTS, "model.video.weights"),
    "model.video.frozen": (True, VIDEO_WEIGHTS, ""),
    "model.video.lr_scale": (0.5, ALWAYS, ""),
    "model.video.layer_decay": (0.5, ALWAYS, ""),
    "model.video.frozen_norm": (True, VIDEO_WEIGHTS, ""),
    "model.video.gradient_checkpointing": (True, ALWAYS, ""),
    "model.video.channels": ([4, 4, 4], ALWAYS, ""),
    "model.video.pooling": ("max", TIMM_VIDEO, "model.video.encoder of torchvision or timm"),
    "model.audio.encoder": ("timm:resnet18", ALWAYS, ""),
    "model.audio.options": ({"x": 1}, TIMM_AUDIO, "model.audio.encoder other than avmix:r2plus1d"),
    "model.audio.weights": ("x.pt", ALWAYS, ""),
    "model.audio.may_lack": (["x"], AUDIO_WEIGHTS, "model.audio.weights"),
    "model.audio.frozen": (True, AUDIO_WEIGHTS, ""),
    "model.audio.lr_scale": (0.5, ALWAYS, ""),
    "model.audio.layer_decay": (0.5, ALWAYS, ""),
    "model.audio.frozen_norm": (True, AUDIO_WEIGHTS, ""),
    "model.audio.gradient_checkpointing": (True, ALWAYS, ""),
    "model.audio.channels": ([4, 4, 4], ALWAYS, ""),
    "model.joint.encoder": ("avmix:mbt", ALWAYS, ""),
    "model.joint.options": ({"x": 1}, JOINT, "model.joint.encoder"),
    "model.joint.weights": ("x.pt", JOINT, "model.joint.encoder"),
    "model.joint.may_lack": (["x"], JOINT_WEIGHTS, "model.joint.encoder"),
    "model.joint.frozen": (True, JOINT_WEIGHTS, ""),
    "model.joint.lr_scale": (0.5, JOINT, "model.joint.encoder"),
    "model.joint.layer_decay": (0.5, JOINT, "model.joint.encoder"),
    "model.joint.frozen_norm": (True, JOINT_WEIGHTS, ""),
    "model.joint.gradient_checkpointing": (True, JOINT, "model.joint.encoder"),
    "loss.labels": ("multi", ALWAYS, ""),
    "loss.set_weights": ({"verb": 0.5}, ALWAYS, ""),
    "loss.kind": ("binary", ALWAYS, ""),
    "loss.class_weights": ("counts", ALWAYS, ""),
    "loss.fused": (0.5, ALWAYS, ""),
    "loss.video": (0.2, ALWAYS, ""),
    "loss.audio": (0.2, ALWAYS, ""),
    "loss.translation": (0.2, {"model.missing": "translate"}, "model.missing translate"),
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
    "balance.method": ("ogm_ge", ALWAYS, ""),
    **{
        f"balance.{name}": (value, {"balance.method": method, **more}, f"balance.method {method}")
        for method, more, values in (
            ("ogm_ge", {}, {"alpha": 0.7, "noise": 0.5}),
            ("mmpareto", {}, {"gamma": 2.0}),
            ("opm", {}, {"drop": 0.6, "drop_rise": 0.2, "drop_batches": 1.0}),
            ("umt", TEACHERS, {"video_teacher": "y.pt", "audio_teacher": "y.pt", "distill": 3.0}),
            ("g_blend", {}, {"super_epoch": 1}),
        )
        for name, value in values.items()
    },
    "optim.name": ("sgd", ALWAYS, ""),
    "optim.momentum": (0.5, SGD, "optim.name sgd"),
    "optim.nesterov": (True, SGD, "optim.name sgd"),
    "optim.epochs": (4, ALWAYS, ""),
    "optim.batch_size": (4, ALWAYS, ""),
    "optim.accumulate": (2, ALWAYS, ""),
    "optim.lr": (0.1, ALWAYS, ""),
    "optim.schedule": ("step", ALWAYS, ""),
    "optim.milestones": ([0.5], STEP, "optim.schedule step"),
    "optim.gamma": (0.5, STEP, "optim.schedule step"),
    "optim.decay_share": (0.5, {"optim.schedule": "wsd"}, "optim.schedule wsd"),
    "optim.weight_decay": (0.1, ALWAYS, ""),
    "optim.no_decay": (["bias"], ALWAYS, ""),
    "optim.warmup_epochs": (2.0, ALWAYS, ""),
    "optim.clip_norm": (1.0, ALWAYS, ""),
    "optim.ema_decay": (0.5, ALWAYS, ""),
    "optim.precise_bn_batches": (2, ALWAYS, ""),
    "run.out": ("x", ALWAYS, ""),
    "run.seed": (1, ALWAYS, ""),
    "run.device": ("cpu", ALWAYS, ""),
    "run.precision": ("bf16", ALWAYS, ""),
    "run.compile": (True, ALWAYS, ""),
    "run.threads": (1, ALWAYS, ""),
    "run.log_every": (2, ALWAYS, ""),
    "run.save_every": (2, ALWAYS, ""),
    "run.save_plans": (True, ALWAYS, ""),
    "run.check_input": (True, ALWAYS, ""),
}  # fmt: skip

_OF_CLIPS = ("clip", "augment", "frontend", "model.video", "model.audio")
OF_CLIPS = [
    *(key for key in OPTIONS if key.rpartition(".")[0] in _OF_CLIPS),
    "data.root", "data.manifest", "data.table", "data.extra", "data.num_workers",
    "data.clip_seconds", "data.max_bad_share", "model.sync_norm", "run.check_input",
]  # fmt: skip
"""Options that have nothing to do on kept features (test_on_features.py)."""


def words(options: dict[str, Any]) -> list[str]:
    """As they are written on the command line."""
    return [
        f"--{key}={value if isinstance(value, str) else flow(value)}"
        for key, value in options.items()
    ]


def flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=999).removesuffix("...\n").strip()
