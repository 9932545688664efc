"""What is written as JSON can be read by any program, and says the same when it is read."""

import json
import os

import pytest

from avmix.system import strict_json


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1.5, "b": None, "c": (1, 2)}, '{"a": 1.5, "b": null, "c": [1, 2]}'),
        ("ü 音 \U0001f600", '"ü 音 \U0001f600"'),
        (os.fsdecode(b"ca\xe9.mp4"), '"ca\\udce9.mp4"'),
        ({os.fsdecode(b"\xff"): "ü"}, '{"\\udcff": "ü"}'),
        ('"\n\x00', '"\\"\\n\\u0000"'),
    ],
)
def test_text_is_utf8_and_is_read_as_it_was(value: object, text: str) -> None:
    said = strict_json.dumps(value)
    assert said == text
    assert json.loads(said.encode("utf-8")) == json.loads(json.dumps(value))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        strict_json.dumps({"rows": [1.0, number]})


def test_rows_are_lines() -> None:
    assert strict_json.lines([{"b": 1, "a": "x\ny"}, 2]) == '{"b": 1, "a": "x\\ny"}\n2\n'
    assert strict_json.lines(iter(())) == ""
    assert strict_json.dumps({"b": 1, "a": [2]}, indent=1, sort_keys=True) == (
        '{\n "a": [\n  2\n ],\n "b": 1\n}'
    )
