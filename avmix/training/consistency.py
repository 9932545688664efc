"""Consistency losses for mixed clips: agreement between views of one mixture, interpolation,
contrastive.

Axis letters: b clips, n mixed clips (the first n of the b), k classes, d features.

Three pure functions, each a mean over the clips that count, in float32 whatever comes in. When no
clip counts the loss is exactly 0 and so is its gradient; a clip that does not count is blanked at
the door, so that not even inf or nan in it reaches the loss or the gradient. nan in a clip that
counts does come out: a broken network must not look like a small loss. Nothing here waits for the
device, so a `partner` that is not a row is left to torch to refuse (an IndexError or RuntimeError
on a CPU, a device assertion on CUDA; negative places are refused, too).
"""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

Agreement = Literal["js", "symmetric_kl"]

SHORTEST = 1e-6
"""Features of less than this length have no direction: dividing by it would give any gradient."""


def same_label(
    lam_video: Float[Tensor, " b"],
    lam_audio: Float[Tensor, " b"],
    has_video: Bool[Tensor, " b"],
    has_audio: Bool[Tensor, " b"],
    tolerance: float,
) -> Bool[Tensor, " b"]:
    """Mask of the clips that have both modalities and the same label for both heads.

    `lam_video` and `lam_audio` are the weights of the own label that each head is trained on, with
    the same partner in both modalities; they may differ by `tolerance` at most, compared in the
    precision they come in. Raises ValueError for a tolerance outside [0, 1] or lengths that differ.
    """
    if not 0 <= tolerance <= 1:
        raise ValueError(f"tolerance must be in [0, 1], like the weights, got {tolerance}")
    _same_rows(lam_video=lam_video, lam_audio=lam_audio, has_video=has_video, has_audio=has_audio)
    return has_video & has_audio & ((lam_video - lam_audio).abs() <= tolerance)


def agreement(
    video_logits: Float[Tensor, "b k"],
    audio_logits: Float[Tensor, "b k"],
    counts: Bool[Tensor, " b"],
    *,
    kind: Agreement,
    temperature: float,
    confidence: float,
    binary: bool = False,
) -> Float32[Tensor, ""]:
    """Divergence of the video and the audio head on the same mixed clips, in nats.

    With p and q the softmax of the two heads' logits / temperature, and m = (p + q) / 2:

        js             (KL(p || m) + KL(q || m)) / 2, in [0, ln 2]: bounded, so the safer one
        symmetric_kl   (KL(p || q) + KL(q || p)) / 2, the mean of both directions: half of Jeffreys'

    times temperature**2, as the gradient of softened distributions shrinks with temperature**-2
    (Hinton et al. 2015, Distilling the Knowledge in a Neural Network). Rounding may leave js at
    -1e-7. Both heads learn from it.

    `binary`: p and q are sigmoids, a distribution over (yes, no) for each class; the divergence is
    the mean over classes, as the binary loss is.

    `counts` says which clips have both modalities and the same label for both heads (`same_label`).
    Of those, a clip counts only where the more confident head gives its best class a probability of
    at least `confidence` at temperature 1; 0 means all (after the mask of LeMDA, Liu et al. 2023,
    who look at one of the two, and whose mean is over all clips).

    Raises ValueError for another kind, a temperature that is not positive and finite, a confidence
    outside [0, 1] or shapes that do not fit.
    """
    if kind not in get_args(Agreement):
        raise ValueError(f"kind must be one of {get_args(Agreement)}, got {kind!r}")
    _positive(temperature)
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence must be in [0, 1], it is a probability, got {confidence}")
    _same_rows(video_logits=video_logits, audio_logits=audio_logits, counts=counts)
    _same_columns(video_logits=video_logits, audio_logits=audio_logits)
    video, audio = video_logits.float(), audio_logits.float()
    best = torch.maximum(_best(video, binary), _best(audio, binary))
    counts = counts & ~(best < confidence)  # not `best >= confidence`, which would hide nan
    log_p = _log_probability(_kept(video, counts) / temperature, binary)
    log_q = _log_probability(_kept(audio, counts) / temperature, binary)
    apart = _js(log_p, log_q) if kind == "js" else _symmetric_kl(log_p, log_q)
    return _mean(_of_clip(apart, binary), counts) * temperature**2


def interpolation(
    mixed_logits: Float[Tensor, "n k"],
    clean_logits: Float[Tensor, "b k"],
    partner: Int[Tensor, " n"],
    lam: Float[Tensor, " n"],
    counts: Bool[Tensor, " n"],
    *,
    temperature: float = 1.0,
    binary: bool = False,
) -> Float32[Tensor, ""]:
    """Interpolation consistency: divergence of the prediction for a mix from the mix of the
    predictions, in nats.

    KL(lam * p[i] + (1 - lam) * p[partner[i]] || q[i]) with p and q the softmax of the clean and of
    the mixed logits / temperature, times temperature**2 as in `agreement`. The first is the target:
    no gradient reaches `clean_logits`. Interpolation consistency training (Verma et al. 2019) with
    KL in the place of the squared error. `binary`: of sigmoids, the mean over classes, as in
    `agreement`.

    `counts` says which mixed clips the head can see, before and after: the clip, and its partner
    where lam is below 1. Raises ValueError for a temperature that is not positive and finite or
    shapes that do not fit, among them more mixed clips than clean ones.
    """
    _positive(temperature)
    _same_rows(mixed_logits=mixed_logits, partner=partner, lam=lam, counts=counts)
    _same_columns(mixed_logits=mixed_logits, clean_logits=clean_logits)
    _first_of(mixed_logits=mixed_logits, clean_logits=clean_logits)
    clean = _probability(clean_logits.detach().float() / temperature, binary)
    share = lam.detach().float().view(-1, *[1] * (clean.ndim - 1))
    # `clean[partner]` would take -1 for the last clip; index_select refuses it.
    target = share * clean[: len(lam)] + (1 - share) * clean.index_select(0, partner.long())
    log_q = _log_probability(_kept(mixed_logits, counts) / temperature, binary)
    apart = (torch.xlogy(target, target) - target * log_q).sum(1)
    return _mean(_of_clip(apart, binary), counts) * temperature**2


def mixed_contrastive(
    queries: Float[Tensor, "n d"],
    keys: Float[Tensor, "b d"],
    partner: Int[Tensor, " n"],
    lam: Float[Tensor, " n"],
    query_present: Bool[Tensor, " n"],
    key_present: Bool[Tensor, " b"],
    *,
    temperature: float,
) -> Float32[Tensor, ""]:
    """Contrastive loss of retrieving both clips of a mix in the other modality, in nats.

    `queries` are features of mixed clips in one modality, `keys` those of the unmixed clips in the
    other. Row i is the cross-entropy of softmax(cosine(queries[i], keys) / temperature) over the
    keys that are present, against lam at key i and 1 - lam at key partner[i], both where these are
    one. A source whose key is absent leaves the target and the other takes its place; a row whose
    target is left empty does not count, nor does one without a query. Both sides learn. One
    direction of the loss of M3CoL (Kumar et al. 2024); the other has the modalities changed over.

    A feature vector shorter than `SHORTEST` has no direction: its cosine with everything is 0, and
    it gets no gradient. Raises ValueError for a temperature that is not positive and finite or
    shapes that do not fit, among them more queries than keys.
    """
    _positive(temperature)
    _same_rows(queries=queries, partner=partner, lam=lam, query_present=query_present)
    _same_rows(keys=keys, key_present=key_present)
    _same_columns(queries=queries, keys=keys)
    _first_of(queries=queries, keys=keys)
    share = lam.detach().float().unsqueeze(1)
    own = torch.arange(len(lam), device=lam.device).unsqueeze(1)
    target = share.new_zeros(len(queries), len(keys))
    target = target.scatter_add(1, own, share)
    target = target.scatter_add(1, partner.long().unsqueeze(1), 1 - share)
    target = target.masked_fill(~key_present, 0)
    total = target.sum(1, keepdim=True)
    counts = query_present & (total.squeeze(1) > 0)
    target = target / total.masked_fill(total == 0, 1)
    # Autocast would multiply in bf16, whose cosines are off by 0.004: times 1 / temperature, that
    # is no longer small.
    with torch.autocast(queries.device.type, enabled=False):
        cosine = _direction(_kept(queries, counts)) @ _direction(_kept(keys, key_present)).T
    # The lowest number and not -inf: a row without any key would be nan, and so its gradient.
    lowest = torch.finfo(torch.float32).min
    log_p = (cosine / temperature).masked_fill(~key_present, lowest).log_softmax(1)
    return _mean(-(target * log_p).sum(1), counts)


def _kept(rows: Tensor, counts: Bool[Tensor, " rows"]) -> Float32[Tensor, "rows _"]:
    """The rows that count in float32, 0 for the others."""
    return rows.float().masked_fill(~counts.unsqueeze(1), 0)


def _mean(values: Float32[Tensor, " b"], counts: Bool[Tensor, " b"]) -> Float32[Tensor, ""]:
    # Without any clip the mean is 0, not 0 / 0.
    return values.masked_fill(~counts, 0).sum() / counts.sum().clamp(min=1)


def _best(logits: Float32[Tensor, "b k"], binary: bool) -> Float32[Tensor, " b"]:
    logits = logits.detach()
    return (logits.sigmoid() if binary else logits.softmax(1)).amax(1)


def _log_probability(logits: Float32[Tensor, "b k"], binary: bool) -> Float32[Tensor, "b *rest"]:
    """Logarithms of the softmax (b k); `binary`: of (yes, no) for each class, (b 2 k)."""
    if not binary:
        return logits.log_softmax(1)
    return torch.stack([logsigmoid(logits), logsigmoid(-logits)], 1)


def _probability(logits: Float32[Tensor, "b k"], binary: bool) -> Float32[Tensor, "b *rest"]:
    """As `_log_probability`, without the logarithm."""
    return torch.stack([logits.sigmoid(), (-logits).sigmoid()], 1) if binary else logits.softmax(1)


def _of_clip(apart: Float32[Tensor, "b *k"], binary: bool) -> Float32[Tensor, " b"]:
    """The divergence of a clip: the mean over its classes where each has its own."""
    return apart.mean(1) if binary else apart


def _js(
    log_p: Float32[Tensor, "b k *rest"], log_q: Float32[Tensor, "b k *rest"]
) -> Float32[Tensor, "b *rest"]:
    # log(p / m) = ln 2 - ln(1 + q / p): finite where p or q is 0, and 0 where they are the same.
    p_to_m = math.log(2) - softplus(log_q - log_p)
    q_to_m = math.log(2) - softplus(log_p - log_q)
    return (log_p.exp() * p_to_m + log_q.exp() * q_to_m).sum(1) / 2


def _symmetric_kl(
    log_p: Float32[Tensor, "b k *rest"], log_q: Float32[Tensor, "b k *rest"]
) -> Float32[Tensor, "b *rest"]:
    # Both directions in one sum, in which no term is negative.
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(1) / 2


def _direction(features: Float32[Tensor, "rows d"]) -> Float32[Tensor, "rows d"]:
    """Unit vectors; zeros, without a gradient, for what is too short to have a direction."""
    length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    short = length.detach() < SHORTEST
    return (features / length.masked_fill(short, 1)).masked_fill(short, 0)


def _positive(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be above 0 and finite, got {temperature}")


def _same_rows(**tensors: Tensor) -> None:
    rows = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(f"these need the same number of rows: {_listed(rows)}")


def _same_columns(**tensors: Tensor) -> None:
    columns = {name: tensor.shape[1] for name, tensor in tensors.items()}
    if len(set(columns.values())) > 1:
        raise ValueError(f"these need the same number of columns: {_listed(columns)}")


def _first_of(**tensors: Tensor) -> None:
    (mixed, num_mixed), (clean, num_clean) = ((name, len(t)) for name, t in tensors.items())
    if num_mixed > num_clean:
        raise ValueError(
            f"{mixed} are of the first clips of {clean}, so there cannot be {num_mixed} of the one"
            f" and {num_clean} of the other"
        )


def _listed(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} has {number}" for name, number in numbers.items())
