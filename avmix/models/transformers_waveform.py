"""Networks of transformers that take waveforms: Wav2Vec2 and HuBERT.

Baevski et al., "wav2vec 2.0" (NeurIPS 2020); Hsu et al., "HuBERT" (2021). Their feature extractor
brings each waveform to mean 0 and deviation 1: that is done here, of what was mixed. They are run
without the masks and the dropped layers that they have in pre-training.
"""

from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from avmix.models.encoder import AudioSpec
from avmix.models.library_encoder import Cut, chain, groups


def normalised(waves: Float[Tensor, "b 1 s"]) -> Float[Tensor, "b s"]:
    """Mean 0 and deviation 1, as of `Wav2Vec2FeatureExtractor`; silence stays zeros."""
    x = waves.squeeze(1)
    x = x - x.mean(1, keepdim=True)
    return x / (x.square().mean(1, keepdim=True) + 1e-7).sqrt()


def by_wav2vec2(settings: Any, said: dict[str, Any]) -> AudioSpec:
    """`said`: the configuration of the feature extractor. Raises ValueError where that does not
    normalise."""
    if said.get("do_normalize", True) is False:
        raise ValueError(
            f"the feature extractor of {settings.model_type} does not normalise (do_normalize "
            "false); not supported"
        )
    return AudioSpec(
        front_end="waveform", sample_rate=said.get("sampling_rate", 16_000), channels=1
    )


def cut_wav2vec2(net: Any) -> Cut:
    """Convolutions, four groups of layers, and the mean over time."""
    if "masked_spec_embed" in dict(net.named_parameters()):
        del net.masked_spec_embed  # in place of what is masked
    inner, settings = net.encoder, net.config
    # Either before the layers or after them.
    last = [inner.layer_norm] if settings.do_stable_layer_norm else []
    begin = chain(normalised, net.feature_extractor, _columns_last, net.feature_projection,
                  partial(_with_positions, net))  # fmt: skip
    adapter = getattr(net, "adapter", None)
    if adapter is not None:
        adapter.layerdrop = 0.0  # drawn by numpy's global generator, which no seed of a run sets
    last += [] if adapter is None else [adapter]
    width = settings.hidden_size if adapter is None else settings.output_hidden_size
    return Cut(
        stages=[begin, *groups(inner.layers)],
        pool=chain(*last, _mean_over_time),
        num_features=width,
    )


def _columns_last(x: Float[Tensor, "b d f"]) -> Float[Tensor, "b f d"]:
    return x.transpose(1, 2)


def _with_positions(net: Any, x: Tensor) -> Tensor:
    inner = net.encoder
    x = x + inner.pos_conv_embed(x)
    return inner.dropout(x if net.config.do_stable_layer_norm else inner.layer_norm(x))


def _mean_over_time(x: Float[Tensor, "b f d"]) -> Float[Tensor, "b d"]:
    return x.mean(1)


WAVEFORM = {
    "wav2vec2": ("Wav2Vec2Model", cut_wav2vec2, by_wav2vec2),
    "hubert": ("HubertModel", cut_wav2vec2, by_wav2vec2),
}
"""By the `model_type` of the configuration: class, cut and what it expects."""
