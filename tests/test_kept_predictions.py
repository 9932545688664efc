"""The file of predictions: what is written is read, anything else is refused with the reason."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kept import ORIGIN, clips_of, drawn, drawn_several, kept_of_arrays

from avmix.data.tensor_file import Shape, open_tensors, write_tensors
from avmix.evaluation.kept_predictions import KeptPredictions, PredictionsError, kept_of
from avmix.evaluation.metrics import all_scores
from avmix.evaluation.prediction_file import (
    NAME,
    _digest,
    found_in,
    read_predictions,
    write_predictions,
)


def same(one: KeptPredictions, other: KeptPredictions) -> None:
    for name in ("protocol", "split", "split_sha256", "classes", "clips", "missing", "origin"):
        assert getattr(one, name) == getattr(other, name), name
    assert list(one.probability) == list(other.probability)
    for name, p in one.probability.items():
        np.testing.assert_array_equal(p, other.probability[name])
        np.testing.assert_array_equal(one.counted[name], other.counted[name])
    assert (one.label is None) == (other.label is None)
    if one.label is not None:
        np.testing.assert_array_equal(one.label, other.label)
    assert (one.target or {}).keys() == (other.target or {}).keys()
    for name, t in (one.target or {}).items():
        np.testing.assert_array_equal(t, (other.target or {})[name])


@pytest.mark.parametrize("make", [drawn, drawn_several])
def test_what_is_written_is_read(make, tmp_path: Path):
    kept = make(classes=tuple(f"é {c} \udcff" for c in range(make().probability["fused"].shape[1])))
    path = tmp_path / NAME
    write_predictions(path, kept)
    same(kept, read_predictions(path))
    same(kept, read_predictions(tmp_path))
    bytes_of_one = path.read_bytes()
    write_predictions(path, read_predictions(path))  # in its own place
    assert path.read_bytes() == bytes_of_one


def test_the_library_of_the_format_reads_it(tmp_path: Path):
    library = pytest.importorskip("safetensors.numpy")
    kept = drawn()
    write_predictions(tmp_path / NAME, kept)
    found = library.load_file(tmp_path / NAME)
    np.testing.assert_array_equal(found["probability"][0], kept.probability["fused"])
    lines = found["clips"].tobytes().decode().splitlines()
    assert json.loads(lines[3])["clip_id"] == "clip 3"


def test_predictions_keep_what_evaluation_found(make_entry: Any):
    from avmix.data.manifest import Manifest

    kept = drawn_several()
    entries = tuple(make_entry(str(i)) for i in range(200))
    manifest = Manifest(classes=kept.classes, protocol="p", split="test", entries=entries,
                        sha256="f" * 64)  # fmt: skip
    again = kept_of(manifest, kept.predictions(), (), ORIGIN)
    assert again.target is not None
    assert kept.target is not None
    assert [clip.row for clip in again.clips] == [2 * i for i in range(50)]
    for name in kept.target:
        np.testing.assert_array_equal(again.target[name], kept.target[name])
    one = replace(kept, target={"fused": kept.target["fused"]})
    assert list(kept_of(manifest, one.predictions(), (), ORIGIN).target or {}) == ["fused"]
    single = drawn()
    assert (
        all_scores(single.predictions())["fused"]
        == all_scores(kept_of(manifest, single.predictions(), (), ORIGIN).predictions())["fused"]
    )


def test_halved_numbers_would_be_another_table():
    """Why probabilities are float32: float16 makes different ones equal, and is off by 2e-4."""
    p = torch.tensor([[0.49999, 0.50001]])
    assert p.argmax() == 1
    assert p.half().float().argmax() == 0
    values = torch.linspace(0, 1, 100_001)
    off = (values.half().float() - values).abs().max()
    assert 2e-4 < off < 2.5e-4


def tampered(path: Path, change: Any, digest: bool = True) -> None:
    """A file with other tensors or another header, and its digest right."""
    write_predictions(path, drawn())
    found = open_tensors(path)
    tensors = {name: np.array(tensor) for name, tensor in found.tensors.items()}
    header = json.loads(found.metadata["avmix.predictions"])
    change(header, tensors)
    text = json.dumps(header)
    metadata = {"avmix.predictions": text, "digest": _digest(text, tensors)}
    shapes = {name: Shape(t.dtype, t.shape) for name, t in tensors.items()}
    write_tensors(path, shapes, lambda name: [tensors[name]], metadata)


def setting(**values: Any) -> Any:
    return lambda header, tensors: header.update(values)


def of_origin(**values: Any) -> Any:
    return lambda header, tensors: header["origin"].update(values)


def putting(name: str, place: Any, value: Any) -> Any:
    return lambda header, tensors: tensors[name].__setitem__(place, value)


def replacing(name: str, make: Any) -> Any:
    return lambda header, tensors: tensors.__setitem__(name, make(tensors[name]))


def lines(text: str) -> Any:
    return replacing("clips", lambda _: np.frombuffer(text.encode(), np.uint8))


CLIP = '{"row":0,"clip_id":"a","path":"a","start_seconds":0,"end_seconds":1,"source_id":"s",'


def _at(seconds: str) -> str:
    return CLIP.replace('"start_seconds":0', f'"start_seconds":{seconds}') + '"audible":true}\n'


HOSTILE = {
    "format": (setting(format=2), "format 2; this version reads 1"),
    "protocol": (setting(protocol=3), "protocol is not a word"),
    "classes": (setting(classes=["a", "a", "b", "c"]), "classes are not names, each once"),
    "rows": (setting(rows=["fused", "a", "b", "c", "d"]), "rows are not among"),
    "no fused": (setting(rows=["video head"]), "it has no row `fused`"),
    "missing": (setting(missing=[[1, "a"]]), "missing clips are not such"),
    "origin": (of_origin(more=1), "origin has other parts"),
    "weights": (of_origin(weights=None), "origin.weights must be str"),
    "epochs": (of_origin(epochs_trained=True), "origin.epochs_trained must be int"),
    "chance": (of_origin(chance=["x"]), "origin.chance are not numbers of epochs"),
    "nan": (putting("probability", (0, 0, 0), np.nan), "a probability is not in 0 to 1"),
    "above 1": (putting("probability", (0, 0, 0), 1.5), "a probability is not in 0 to 1"),
    "label": (putting("label", 0, 4), "a label is no class"),
    "shape": (replacing("label", lambda t: t[:-1]), "label is ((59,), 'int64'), not"),
    "kind": (replacing("label", lambda t: t.astype(np.float32)), "'float32'), not"),
    "half": (replacing("probability", lambda t: t.astype(np.float16)), "probability is"),
    "more": (lambda h, t: t.update(more=t["label"]), "its tensors are"),
    "no clips": (lambda h, t: t.pop("clips"), "KeyError('clips')"),
    "clip": (lines("[1]\n"), "clip 0 is not a clip"),
    "clip of another kind": (lines(CLIP + '"audible":1}\n'), "clip 0 is not a clip"),
    "clip twice": (lines((CLIP + '"audible":true}\n') * 2), "a clip occurs twice"),
    "too few": (lines(CLIP + '"audible":true}\n'), "not ((5, 1, 4), 'float32')"),
    "time nan": (lines(_at("NaN")), "the times of clip 0 are not finite"),
    "time inf": (lines(_at("1e999")), "the times of clip 0 are not finite"),
    "time huge": (lines(_at("1" + "0" * 400)), "OverflowError"),
    "deep": (lines("[" * 100_000 + "\n"), "recursion"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_the_reason(name, tmp_path: Path):
    change, reason = HOSTILE[name]
    path = tmp_path / NAME
    tampered(path, change)
    with pytest.raises(PredictionsError) as refused:
        read_predictions(path)
    assert str(path) in str(refused.value)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"x" * 5, b"\0" * 4096, struct.pack("<Q", 2**63) + b"{}", b"PK\x03\x04" + b"a" * 99,
     struct.pack("<Q", 200_000) + b"[" * 200_000],
)  # fmt: skip
def test_other_files_are_refused(content: bytes, tmp_path: Path):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(PredictionsError, match=r"x: not a readable file of tensors"):
        read_predictions(path)


def test_a_changed_byte_is_noticed(tmp_path: Path):
    path = tmp_path / NAME
    write_predictions(path, drawn())
    whole = bytearray(path.read_bytes())
    for place in (len(whole) - 3, len(whole) // 2):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(bytes(damaged))
        with pytest.raises(PredictionsError):
            read_predictions(path)
    path.write_bytes(bytes(whole[:-1]))
    with pytest.raises(PredictionsError, match="not a readable file of tensors"):
        read_predictions(path)


def test_predictions_are_found_in_the_folder_of_a_run(tmp_path: Path):
    with pytest.raises(PredictionsError, match=r"eval_val.*--split val` writes them"):
        found_in(tmp_path, "val")
    path = tmp_path / "eval_val" / NAME
    write_predictions(path, drawn())
    assert found_in(tmp_path, "val") == found_in(path.parent, "val") == found_in(path, "") == path
    with pytest.raises(PredictionsError, match="no predictions"):
        found_in(tmp_path / "nothing", "val")


def test_every_row_has_the_labels_of_its_modality():
    kept, everyone = drawn_several(), np.arange(50)
    assert kept.target is not None
    for row, of in (("fused", "fused"), ("video head", "video"), ("audio missing", "video"),
                    ("audio head", "audio"), ("video missing", "audio")):  # fmt: skip
        np.testing.assert_array_equal(kept.answers(row, everyone).target, kept.target[of])
    asked = kept.answers("audio head", everyone, "fused")
    np.testing.assert_array_equal(asked.target, kept.target["fused"])


def test_clips_are_those_of_all_the_rows():
    counted = {"fused": np.array([True, True, True]), "audio head": np.array([True, False, True])}
    p = {name: np.full((3, 2), 0.5) for name in counted}
    kept = kept_of_arrays(p, np.array([0, 1, 0]), counted=counted, clips=clips_of(3))
    assert kept.clips_of("fused", "audio head").tolist() == [0, 2]
