"""Frames are written, with all that they are given, and leave it as it was."""

from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from avmix.evaluation.figures import Strip, draw_confusion, draw_strips, in_lines


def strip(title: str, value: int) -> Strip:
    frames = np.full((3, 6, 8, 3), value, np.uint8)
    return Strip(
        title=title,
        frames=frames,
        frame_seconds=np.array([0.25, 0.75, 1.25]),
        log_mel=np.arange(20.0).reshape(4, 5) + value,
        column_seconds=np.linspace(0.1, 1.4, 5),
        labels=[("clap", 0.3, "#2a6f97"), ("drum", 0.7, "#e07a1f")],
    )


def pixels(path: Path) -> np.ndarray:
    frame = matplotlib.image.imread(path)
    assert frame.std() > 0.02
    return frame


def test_strips_are_drawn_below_each_other(tmp_path):
    for number in (1, 3):
        strips = [strip(f"clip {i}", 40 * i) for i in range(number)]
        draw_strips(strips, 0.0, 1.5, "a mix", tmp_path / f"{number}.png")
    one, three = (pixels(tmp_path / f"{number}.png") for number in (1, 3))
    assert one.shape[1] == three.shape[1]
    assert three.shape[0] > 2 * one.shape[0]


def test_other_frames_give_another_frame_and_the_same_the_same(tmp_path):
    for name, value in (("a", 10), ("b", 10), ("c", 200)):
        draw_strips([strip("clip", value)], 0.0, 1.5, "t", tmp_path / f"{name}.png")
    a, b, c = (pixels(tmp_path / f"{name}.png") for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("classes", [2, 45])
def test_a_confusion_matrix_is_darker_where_more_clips_are(tmp_path, classes):
    names = [f"class {k}" for k in range(classes)]
    confusion = torch.eye(classes, dtype=torch.int64) * 5
    confusion[1] = 0  # a class without clips
    before = confusion.clone()
    draw_confusion(confusion, names, "some", tmp_path / "some.png")
    draw_confusion(torch.zeros_like(confusion), names, "some", tmp_path / "none.png")
    some, none = (pixels(tmp_path / f"{name}.png")[..., :3].mean() for name in ("some", "none"))
    assert some < none
    assert torch.equal(confusion, before)


LONG = "a class with a name that $never_ends$ and that [/] nobody would give to a class " * 3


def test_labels_of_a_mix_are_in_lines_that_fit():
    assert in_lines("clap") == "clap"
    assert in_lines("playing_the_violin_badly") == "playing_the_\nviolin_badly"
    lines = in_lines(LONG).split("\n")
    assert len(lines) == 4
    assert max(map(len, lines)) <= 14
    assert in_lines("x" * 30) == "x" * 14 + "\n" + "x" * 14 + "\nxx"


def test_strips_with_long_names_are_as_large_as_with_short_ones(tmp_path):
    labels = [(LONG, 0.98, "#2a6f97"), (LONG, 0.02, "#e07a1f")]
    draw_strips([replace(strip(LONG, 9), labels=labels)], 0.0, 1.5, LONG, tmp_path / "long.png")
    draw_strips([strip("s", 9)], 0.0, 1.5, "t", tmp_path / "short.png")
    assert pixels(tmp_path / "long.png").shape == pixels(tmp_path / "short.png").shape


def test_a_confusion_matrix_is_square(tmp_path):
    with pytest.raises(TypeCheckError):
        draw_confusion(torch.zeros(2, 3, dtype=torch.int64), ["a", "b"], "t", tmp_path / "x.png")
