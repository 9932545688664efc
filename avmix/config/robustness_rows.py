"""Names of what `avmix evaluate --robustness` measures; `avmix.evaluation.robustness_table` says
what each of them is."""

ROBUSTNESS_ROWS = (
    "clean",
    "audio_missing",
    "video_missing",
    "noise_white",
    "noise_babble",
    "reverb",
    "low_pass",
    "blur",
    "jpeg",
    "h264",
    "darkness",
    "frame_loss",
    "shift",
    "shift_edges",
    "conflict",
    "lambda_sweep",
    "retrieval",
)
ALL = "all"


def rows_asked_for(text: str) -> tuple[str, ...]:
    """The rows that an option names: `all`, or some with commas between them, each once, in the
    order of `ROBUSTNESS_ROWS`. Raises ValueError, with the choices, for one that there is not."""
    names = [name.strip() for name in text.split(",")]
    if names == [ALL]:
        return ROBUSTNESS_ROWS
    if unknown := [name for name in names if name not in ROBUSTNESS_ROWS]:
        raise ValueError(
            f"robustness: no row {unknown[0]!r}; `all`, or some of {', '.join(ROBUSTNESS_ROWS)} "
            "with commas between them"
        )
    return tuple(name for name in ROBUSTNESS_ROWS if name in names)
