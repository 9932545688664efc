"""Names of the figures of an evaluation and how they are written: factor and digits."""

PERCENT, PLAIN = (100, 1), (1, 3)
COLUMNS: dict[str, tuple[str, tuple[int, int]]] = {
    "top1": ("top-1 %", PERCENT),
    "top5": ("top-5 %", PERCENT),
    "mean_class": ("mean class %", PERCENT),
    "exact": ("exact %", PERCENT),
    "map": ("mAP %", PERCENT),
    "f1": ("F1 %", PERCENT),
    "auc": ("AUC", PLAIN),
    "d_prime": ("d'", PLAIN),
    **{f"hit_at_{k}": (f"hit@{k} %", PERCENT) for k in (3, 10)},
    **{f"f1_at_{k}": (f"F1@{k} %", PERCENT) for k in (1, 3, 5, 10)},
    "nll": ("NLL", PLAIN),
    "brier": ("Brier", PLAIN),
    "ece": ("ECE", PLAIN),
    "ks": ("KS", PLAIN),
}
"""Heading, and factor and digits, of each of `avmix.evaluation.clip_statistics.statistics`."""
UNITS = {"points": PERCENT, "%": PERCENT, "nats": PLAIN}
"""Of `avmix.evaluation.fusion_gain.MEANINGS`."""
