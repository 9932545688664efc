"""Configuration: one frozen dataclass per section, named after the package that reads it.

The default and the documentation of an option live here and nowhere else. `load_config` reads YAML
files and `--dotted.overrides`; nothing else in avmix knows the library that does it.
"""

from avmix.config.augment_config import AugmentConfig
from avmix.config.balance_config import BalanceConfig, BalanceMethod
from avmix.config.checks import LARGEST
from avmix.config.clip_config import ClipConfig
from avmix.config.command_line import as_key_values, load_config, load_files
from avmix.config.data_config import Balance, DataConfig
from avmix.config.eval_config import EvalConfig
from avmix.config.frontend_config import MEL_MEAN, MEL_STD, FrontEnd, FrontendConfig
from avmix.config.loss_config import LossConfig
from avmix.config.mix_config import AudioDomain, Labels, Law, MixConfig, Pairing, Per
from avmix.config.model_config import (
    LIBRARIES,
    AudioEncoderConfig,
    EncoderConfig,
    Fusion,
    JointEncoderConfig,
    Missing,
    Modalities,
    ModalityHeads,
    ModelConfig,
    Pooling,
    VideoEncoderConfig,
)
from avmix.config.optim_config import OptimConfig
from avmix.config.run_config import RunConfig
from avmix.config.train_config import TrainConfig
from avmix.config.yaml_files import (
    RENAMED,
    C,
    differences,
    from_values,
    from_yaml,
    read_yaml,
    renamed,
    to_yaml,
)

__all__ = [
    "LARGEST",
    "LIBRARIES",
    "MEL_MEAN",
    "MEL_STD",
    "RENAMED",
    "AudioDomain",
    "AudioEncoderConfig",
    "AugmentConfig",
    "Balance",
    "BalanceConfig",
    "BalanceMethod",
    "C",
    "ClipConfig",
    "DataConfig",
    "EncoderConfig",
    "EvalConfig",
    "FrontEnd",
    "FrontendConfig",
    "Fusion",
    "JointEncoderConfig",
    "Labels",
    "Law",
    "LossConfig",
    "Missing",
    "MixConfig",
    "Modalities",
    "ModalityHeads",
    "ModelConfig",
    "OptimConfig",
    "Pairing",
    "Per",
    "Pooling",
    "RunConfig",
    "TrainConfig",
    "VideoEncoderConfig",
    "as_key_values",
    "differences",
    "from_values",
    "from_yaml",
    "load_config",
    "load_files",
    "read_yaml",
    "renamed",
    "to_yaml",
]
