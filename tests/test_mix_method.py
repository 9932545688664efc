"""Words that mean a way of mixing."""

import itertools

import pytest
from jaxtyping import TypeCheckError

from avmix.config import MixConfig
from avmix.config.mix_method import (
    BLENDS,
    LEVELS,
    METHODS,
    Level,
    Method,
    MixMethod,
    parse_mix_method,
)

WORDS: list[tuple[str, Method, Level, bool]] = [
    ("none", "none", "input", False),
    ("none@input", "none", "input", False),
    ("mixup", "mixup", "input", False),
    ("mixup@input", "mixup", "input", False),
    ("mixup@layer", "mixup", "layer", False),
    ("mixup@feature", "mixup", "feature", False),
    ("independent@feature", "independent", "feature", False),
    ("video@layer+dropout", "video", "layer", True),
    ("audio+dropout", "audio", "input", True),
    ("cutmix_temporal", "cutmix_temporal", "input", False),
    ("cutmix_spatial@input+dropout", "cutmix_spatial", "input", True),
    ("cutmix_spatiotemporal", "cutmix_spatiotemporal", "input", False),
    ("cutmix_frequency", "cutmix_frequency", "input", False),
    ("energy", "energy", "input", False),
    ("cross", "cross", "feature", False),
    ("cross@feature+dropout", "cross", "feature", True),
    ("dropout", "none", "input", True),
    ("none+dropout", "none", "input", True),
]


@pytest.mark.parametrize(("word", "method", "level", "dropout"), WORDS)
def test_a_word_means(word: str, method: Method, level: Level, dropout: bool) -> None:
    assert parse_mix_method(word) == MixMethod(method, level, dropout)


def test_every_method_is_at_the_levels_at_which_it_has_a_meaning() -> None:
    boxes = {name for name in METHODS if name.startswith("cutmix")}
    assert set(BLENDS) == set(METHODS) - boxes - {"none", "energy", "cross"}
    for method, level, dropout in itertools.product(METHODS, LEVELS, ("", "+dropout")):
        word = f"{method}@{level}{dropout}"
        if method in BLENDS or level == ("feature" if method == "cross" else "input"):
            assert parse_mix_method(word) == MixMethod(method, level, dropout != ""), word
        else:
            with pytest.raises(ValueError, match=f"{method} happens at .* level, not '{level}'"):
                parse_mix_method(word)


@pytest.mark.parametrize(
    "word",
    ["", "mix", "Mixup", "mixup@", "mixup@+dropout", "@input", "mixup+dropout@layer", "+dropout",
     "mixup +dropout", " mixup", "mixup\n", "mixup+dropouts", "mixup+dropout+dropout",
     "dropout+dropout", "dropout@layer", "cutmix", "mixup@layer@layer"],
)  # fmt: skip
def test_other_words_mean_nothing(word: str) -> None:
    with pytest.raises(
        ValueError, match=r"unknown mixing method .*; expected METHOD.*mixup.*cross.*layer"
    ):
        parse_mix_method(word)


@pytest.mark.parametrize("word", ["mixup@pixels", "cross@input", "cutmix_spatial@layer"])
def test_a_level_without_meaning_is_named_beside_those_that_have_one(word: str) -> None:
    method = word.split("@")[0]
    allowed = {"mixup": "input or layer or feature", "cross": "feature"}.get(method, "input")
    with pytest.raises(ValueError, match=f"'{word}': {method} happens at {allowed} level, not"):
        parse_mix_method(word)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "mixup@pixels"}, r"mix\.method: 'mixup@pixels'"),
        ({"switch": {"mixup": 0.5, "mixop": 0.5}}, r"mix\.switch: unknown mixing method 'mixop'"),
        ({"switch": {"mixup": 0.5, "none": 0.4}}, r"mix\.switch needs probabilities.*0\.4"),
        ({"switch": {"mixup": 1.5, "none": -0.5}}, r"mix\.switch needs probabilities.*-0\.5"),
        *(
            ({"alpha": alpha}, rf"mix\.alpha must be > 0 and finite, got {alpha}")
            for alpha in (0.0, -1.0, float("nan"), float("inf"))
        ),
        ({"law": "fixed", "lam": 1.5}, r"mix\.lam must be in \[0, 1\], got 1\.5"),
        ({"law": "fixed", "lam": -0.1}, r"mix\.lam must be in \[0, 1\], got -0\.1"),
        ({"probability": 1.1}, r"mix\.probability must be in \[0, 1\], got 1\.1"),
        ({"drop_video": 0.7, "drop_audio": 0.6}, r"mix\.drop_video must be <= 1 .*0\.6.* got 0\.7"),
        ({"layers": []}, r"mix\.layers needs at least one"),
        ({"method": "energy"}, r"mix\.audio_domain must be power or waveform .* got 'log_mel'"),
        ({"switch": {"cutmix_frequency": 1.0}, "audio_domain": "waveform"},
         r"mix\.audio_domain must be log_mel or power for mix\.switch .* got 'waveform'"),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixConfig(**options)


def test_what_is_not_a_choice_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        MixConfig(pairing="flip")  # pyright: ignore[reportArgumentType]
