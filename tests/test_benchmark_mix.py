import importlib
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).parents[1]
PARTNER = [2, 0, 1, 4, 3, 5]
"""Not an involution, and the last clip is its own partner."""
WEIGHT = torch.tensor([0.3, 0.8, 0.5, 0.0, 1.0, 0.4])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the benchmark: for clips this small, threads cost more than they save."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of benchmarks/, as the script that is run there does."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def blended(x: Tensor, weight: Tensor = WEIGHT) -> Tensor:
    share = weight.view(-1, *[1] * (x.ndim - 1))
    return share * x + (1 - share) * x[PARTNER]


def by_hand(load: Any, mix: Callable[[Tensor, Any], Any]) -> Any:
    """A mixer that normalises by the book and mixes as it is told."""
    Mixer, normalised = load("mixing.mixers").Mixer, load("mixing.recovered_weights").normalised
    return lambda: Mixer(lambda video: normalised(video, torch.float32), mix)


def judged(load: Any, mix: Callable[[Tensor, Any], Any], kind: str = "mixup") -> Any:
    return load("mixing.recovered_weights").judge(by_hand(load, mix), kind, num_draws=1)


def test_a_right_mixer_is_right(load: Any) -> None:
    Mixed = load("mixing.mixers").Mixed
    found = judged(load, lambda x, i: Mixed(blended(x), blended(i.audio), blended(i.target)))
    assert found.right
    assert found.input_changed == ()
    # Of the clips, the one that is mixed most evenly is shown.
    assert found.own_label == pytest.approx(0.5)
    assert found.own_video == pytest.approx(0.5, abs=1e-4)
    assert found.own_audio == pytest.approx(0.5, abs=1e-4)
    assert found.as_json() == {
        "right": True, **{f"own_{name}": 0.5 for name in
        ("label", "video", "audio", "video_label", "audio_label")},
    }  # fmt: skip


def test_all_weights_are_recovered(load: Any) -> None:
    mixers = load("mixing.mixers")
    mixer = by_hand(
        load, lambda x, i: mixers.Mixed(blended(x), blended(i.audio), blended(i.target))
    )
    inputs = mixers.make_inputs(6, 2, 8, "planar", num_classes=7)
    shares = load("mixing.recovered_weights").recover(mixer, inputs, 0)
    expected = torch.zeros(6, 6)
    for i, j in enumerate(PARTNER):
        expected[i, i] += WEIGHT[i]
        expected[i, j] += 1 - WEIGHT[i]
    for found in (shares.video, shares.audio, shares.label):
        torch.testing.assert_close(found, expected)


def test_audio_left_unmixed_is_seen(load: Any) -> None:
    Mixed = load("mixing.mixers").Mixed
    found = judged(load, lambda x, i: Mixed(blended(x), i.audio, blended(i.target)))
    assert (found.right, found.audio_unmixed, found.audio_wrong) == (False, True, False)
    assert not found.label_wrong  # it is the audio that is wrong
    assert found.own_audio == pytest.approx(1.0)
    assert found.own_label == pytest.approx(0.0)  # the clip for which it matters most


def test_audio_mixed_by_another_weight_is_seen(load: Any) -> None:
    Mixed = load("mixing.mixers").Mixed
    found = judged(load, lambda x, i: Mixed(blended(x), blended(i.audio, 1 - WEIGHT),
                                            blended(i.target)))  # fmt: skip
    assert (found.right, found.audio_unmixed, found.audio_wrong) == (False, False, True)


def test_a_wrong_label_is_seen(load: Any) -> None:
    Mixed = load("mixing.mixers").Mixed
    for label in (lambda y: blended(y, 1 - WEIGHT), lambda y: y, lambda y: blended(y).flip(0)):
        found = judged(
            load, lambda x, i, label=label: Mixed(blended(x), blended(i.audio), label(i.target))
        )
        assert (found.right, found.label_wrong) == (False, True)


def test_labels_of_each_modality_are_held_against_it(load: Any) -> None:
    """Frames mixed and audio left alone is right where the labels say so, and the fused label is
    the mean."""
    Mixed = load("mixing.mixers").Mixed

    def mix(x: Tensor, i: Any, fused: Tensor) -> Any:
        return Mixed(blended(x), i.audio, blended(i.target, fused), blended(i.target), i.target)

    assert judged(load, lambda x, i: mix(x, i, (WEIGHT + 1) / 2)).right
    assert judged(load, lambda x, i: mix(x, i, WEIGHT)).label_wrong


def test_mixing_in_place_is_seen(load: Any) -> None:
    Mixed = load("mixing.mixers").Mixed

    def mix(x: Tensor, i: Any) -> Any:
        return Mixed(x.copy_(blended(x)), i.audio.copy_(blended(i.audio)), blended(i.target))

    found = judged(load, mix)
    assert found.right  # what it gives is right all the same
    assert found.input_changed == ("frames", "audio")


def test_pixels_in_the_wrong_place_are_seen(load: Any) -> None:
    Mixed = load("mixing.mixers").Mixed
    found = judged(load, lambda x, i: Mixed(blended(x).mT, blended(i.audio), blended(i.target)))
    assert (found.right, found.label_wrong, found.pixels_wrong) == (False, False, True)


def test_boxes_are_judged_by_their_share(load: Any) -> None:
    """A box of 9 of 36 rows of every frame is a quarter; of 2 of 5 frames it is not."""
    Mixed = load("mixing.mixers").Mixed

    def mix(x: Tensor, i: Any, box: Any, own: float) -> Any:
        cut, weight = x.clone(), torch.full((6,), own)
        cut[box] = x[PARTNER][box]
        return Mixed(cut, blended(i.audio, weight), blended(i.target, weight))

    everything = slice(None)
    rows = (*[everything] * 3, slice(0, 9))
    assert judged(load, lambda x, i: mix(x, i, rows, 0.75), "cutmix").right
    frames = (*[everything] * 2, slice(0, 2))
    found = judged(load, lambda x, i: mix(x, i, frames, 0.75), "cutmix")
    assert (found.label_wrong, found.own_label) == (True, pytest.approx(0.75))
    assert found.own_video == pytest.approx(0.6, abs=1e-4)


def test_pixels_are_held_against_what_the_label_tells_of(load: Any) -> None:
    pixels_off = load("mixing.recovered_weights").pixels_off
    own = torch.tensor([1.0, 3.0, 7.0]).view(3, 1, 1, 1, 1).expand(3, 3, 1, 2, 2)
    shares = torch.tensor([[0.25, 0.75, 0.0]])

    def off(value: float, kind: str) -> float:
        return pixels_off(torch.full((1, 3, 1, 2, 2), value), own, shares, kind)

    assert off(2.5, "mixup") == 0  # 1/4 of 1 and 3/4 of 3
    assert off(3.0, "mixup") == 0.5
    assert off(1.0, "cutmix") == off(3.0, "cutmix") == 0
    assert off(2.5, "cutmix") == 0.5
    assert off(7.0, "cutmix") == 4  # the third clip has no part in this


def test_a_refusal_is_said(load: Any) -> None:
    def refuse(x: Tensor, i: Any) -> Any:
        raise ValueError("no\nmore")

    found = judged(load, refuse)
    assert found.as_json() == {"right": False, "error": "ValueError: no"}


@pytest.mark.parametrize("layout", ["planar", "decoded"])
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("name", ["avmix", "avmix_fresh", "avmix_torch"])
def test_avmix_is_right_and_leaves_its_input(load: Any, name: str, kind: str, layout: str) -> None:
    mixers = load("mixing.mixers")
    task = mixers.Task(kind=kind, num_classes=9)
    found = load("mixing.recovered_weights").judge(
        lambda: mixers.CANDIDATES[name].load(task), kind, layout, num_draws=2
    )
    assert found.right, found
    assert found.input_changed == ()
    assert found.own_label is not None
    assert 0 < found.own_label < 1


def peer(load: Any, name: str, kind: str) -> Any:
    mixers = load("mixing.mixers")
    task = mixers.Task(kind=kind, num_classes=9)
    return load("mixing.recovered_weights").judge(
        lambda: mixers.CANDIDATES[name].load(task), kind, num_draws=3
    )


def test_what_is_said_of_peers_that_are_always_installed(load: Any) -> None:
    assert peer(load, "lerp", "mixup").right
    for kind in ("mixup", "cutmix"):
        assert peer(load, "torchvision", kind).audio_unmixed
    found = peer(load, "pytorchvideo", "mixup")
    assert found.right
    assert found.input_changed == ("frames", "audio")
    assert peer(load, "pytorchvideo", "cutmix").audio_wrong
    # It was imported without its package, which nobody else may find.
    assert "pytorchvideo.transforms" not in sys.modules


def test_what_is_said_of_timm(load: Any) -> None:
    pytest.importorskip("timm")
    for name in ("timm", "timm_pair", "timm_elem"):
        assert peer(load, name, "mixup").right
        assert peer(load, name, "cutmix").label_wrong
    # On its own kind of input its boxes are right.
    assert not peer(load, "timm_images", "cutmix").label_wrong


class CountedBytes(TorchDispatchMode):
    """Counts what every operation reads and writes of tensors that are not small."""

    def __init__(self, at_least: int) -> None:
        super().__init__()
        self.at_least, self.total = at_least, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        read = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        made = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        places = {x.untyped_storage().data_ptr() for x in read}
        writes = any(a.alias_info and a.alias_info.is_write for a in func._schema.arguments)
        is_view = all(x.untyped_storage().data_ptr() in places for x in made) and not writes
        if not is_view and not func._schema.name.startswith("aten::empty"):
            if func._schema.name == "aten::copy_":
                read = read[1:]  # its first is only written
            self.total += sum(self._size(x) for x in read + made)
        return out

    def _size(self, x: Tensor) -> int:
        """In memory: what is expanded is there once."""
        strides = zip(x.shape, x.stride(), strict=True)
        size = math.prod(n for n, stride in strides if stride) * x.element_size()
        return size if size >= self.at_least else 0


NAMES = ["floor", "avmix_torch", "lerp", "timm", "timm_pair", "timm_elem", "torchvision",
         "torchvision_image", "pytorchvideo", "kornia"]  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # of kornia's dependencies
@pytest.mark.parametrize("name", NAMES)
def test_bytes_are_counted_rightly(load: Any, name: str) -> None:
    """What README says a candidate reads and writes, held against its operations. (avmix's kernels
    work on tiles that stay in the cache: their operations say nothing of memory.)"""
    mixers = load("mixing.mixers")
    if name.partition("_")[0] in ("timm", "kornia"):
        pytest.importorskip(name.partition("_")[0])
    candidate = mixers.CANDIDATES[name]
    inputs = mixers.make_inputs(4, 8, 32, "decoded", num_classes=9, mels=4, columns=4)
    mixer = candidate.load(mixers.Task(num_classes=9))
    mixer.stage(inputs)
    num_elements = inputs.video.numel()
    with CountedBytes(at_least=num_elements // 16) as counted:
        mixer.stage(inputs)
    assert counted.total / num_elements == candidate.bytes_per_element


def test_what_is_not_installed_is_named(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("timm", "kornia"):
        for name in [n for n in sys.modules if n.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
    found, absent = load("mix").present(["floor", "timm", "lerp", "kornia"], "cpu")
    assert found == ["floor", "lerp"]
    assert list(absent) == ["timm", "kornia"]
    assert all("timm" in said or "kornia" in said for said in absent.values())


def test_ratios_are_of_the_same_round(load: Any) -> None:
    def row(name: str, number: int, cpu_ms: float) -> dict[str, Any]:
        return {"workload": "w", "round": number, "candidate": name, "cpu_ms": cpu_ms,
                "wall_ms": 2 * cpu_ms, "page_faults": number}  # fmt: skip

    summary = load("mix").summarise(
        [
            *(row("timm", n, ms) for n, ms in enumerate([10.0, 20.0, 30.0])),
            *(row("avmix", n, ms) for n, ms in enumerate([5.0, 2.0, 30.0])),
        ]
    )["w"]
    assert summary["timm"]["ratio_to_timm"] == 1
    assert summary["avmix"]["ratio_to_timm"] == 2  # of 2, 10 and 1
    assert summary["avmix"]["ratio_to_floor"] is None
    assert (summary["avmix"]["cpu_ms"], summary["avmix"]["wall_ms"]) == (5, 10)
    assert summary["avmix"]["page_faults"] == 1


MADE: dict[str, Any] = {
    "kind": "mix",
    "candidates": {
        "floor": {"label": "the floor", "bytes_per_element": 5},
        "avmix": {"label": "avmix", "bytes_per_element": 5},
        "timm": {"label": "timm", "bytes_per_element": 57},
        "other": {"label": "other", "bytes_per_element": None},
        "gone": {"label": "gone", "bytes_per_element": 9},
    },
    "absent": {"gone": "No module named 'gone'"},
    "workloads": {
        "a": {"kind": "mixup", "batch": 4, "num_frames": 2, "side": 16, "layout": "planar"},
        "b": {"kind": "cutmix", "batch": 4, "num_frames": 2, "side": 16, "layout": "decoded"},
    },
    "speed": {
        malloc: {
            load: {
                "floor": {"cpu_ms": ms / 20, "ratio_to_timm": 20.0, "ratio_to_floor": 1.0},
                "avmix": {"cpu_ms": ms / 5, "ratio_to_timm": 5.0, "ratio_to_floor": 0.25},
                "timm": {"cpu_ms": ms, "ratio_to_timm": 1.0, "ratio_to_floor": 0.05},
            } | ({"other": {"cpu_ms": 2 * ms, "ratio_to_timm": 0.5, "ratio_to_floor": 0.025}}
                 if load == "a" else {})
            for load in ("a", "b")
        }
        for malloc, ms in (("default", 40.0), ("keep", 10.0))
    },
    "refused": {"a": {}, "b": {"other": "ValueError: no"}},
    "memory": {"a": {"floor": 1.0, "avmix": 1.1, "timm": 2.0, "other": 3.04}},
    "truth": {
        "mixup": {
            "avmix": {"right": True, "own_label": 0.6, "own_video": 0.6, "own_audio": 0.6},
            "timm": {"right": False, "audio_unmixed": True, "input_changed": ["frames"],
                     "own_label": 0.3, "own_video": 0.3, "own_audio": 1.0},
        },
        "cutmix": {
            "avmix": {"right": True, "own_label": 0.5, "own_video": 0.5, "own_audio": 0.5},
            "timm": {"right": False, "label_wrong": True, "audio_wrong": True,
                     "own_label": 0.2, "own_video": 0.9, "own_audio": 0.7},
            "other": {"right": False, "error": "ValueError: no"},
        },
    },
    "step": {"config": "c.yaml", "extra_percent": 0.52, "extra_ms": 1.24, "rest_of_step_ms": 239.1},
    "cuda": None,
    "speed_rounds": {"default": [{"round": 0}, {"round": 1}]},
    "environment": {"cpu": "a cpu", "cores": 2, "versions": {"timm": "1.0", "kornia": None}},
}  # fmt: skip


def test_the_table_of_a_made_result(load: Any) -> None:
    text = load("paste").table(MADE)
    speed, truth, last = text.rstrip("\n").split("\n\n")
    assert speed.splitlines() == [
        "| speed, timm = 1: malloc as it is / keeping its pages | 4x3x2x16x16, planar "
        "| CutMix 4x3x2x16x16, as decoded | bytes per element | most memory |",
        "|---|--:|--:|--:|--:|",
        "| the floor | 20.0 / 20.0 | 20.0 / 20.0 | 5 | 1.0 x |",
        "| avmix | 5.0 / 5.0 | 5.0 / 5.0 | 5 | 1.1 x |",
        "| timm | **1** (40 / 10 ms) | **1** (40 / 10 ms) | 57 | 2.0 x |",
        "| other | 0.5 / 0.5 | refuses |  | 3.0 x |",
    ]
    assert truth.splitlines()[2:] == [
        "| avmix | 0.60 / 0.60 / 0.60 | right | 0.50 / 0.50 / 0.50 | right |  |",
        "| timm | 0.30 / 0.30 / 1.00 | **audio unmixed** | 0.20 / 0.90 / 0.70 "
        "| **label wrong for the frames**, **audio mixed otherwise** | frames |",
        "| other |  |  |  | refuses |  |",
    ]
    assert "medians of 2 rounds" in last
    assert "avmix takes 4.0 times as long as the floor" in last
    assert "adds 0.5 % to a training step of `c.yaml` (1.2 ms to 239 ms" in last
    assert "On CUDA: not yet measured." in last
    assert "Not installed, not measured: gone." in last
    assert last.endswith("a cpu, 2 cores; timm 1.0.")
    environment = {**MADE["environment"], "load_average_at_the_start": 0.51}
    loaded = {**MADE, "environment": environment, "load_average_at_the_end": 1.04}
    assert load("paste").table(loaded).endswith("Load average: 0.5 before, 1.0 after.\n")
    assert "Wrong" not in last
    checks = {"a": {"timm": {"right": True}, "other": {"right": False}}}
    assert "**Wrong pixels in a: other.**" in load("paste").table({**MADE, "checks": checks})


def test_the_table_of_a_gpu(load: Any) -> None:
    row = {"device_ms": 0.0834, "share_of_copy_bandwidth": 0.912, "num_launches": 1,
           "num_syncs": 0, "peak_mib": 147.0}  # fmt: skip
    cuda = {"device": "a gpu", "workload": "mixup_32x3x16x224x224_decoded",
            "copy_gb_per_second": 3012.3, "bfloat16": {"avmix": row, "timm": {"error": "no"}},
            "float32": {"avmix": row | {"device_ms": 0.14}}}  # fmt: skip
    text = load("paste").table({**MADE, "cuda": cuda})
    lines = text.split("\n\n")[2].splitlines()
    assert lines[0].startswith("| a gpu, 32x3x16x224x224 | bfloat16 ms | of copying | launches |")
    assert lines[2] == "| avmix | 0.083 | 91 % | 1 | 0 | 147 | 0.140 | 91 % | 1 | 0 | 147 |"
    assert lines[3] == "| timm | fails |  |  |  |  |  |  |  |  |  |"
    assert {line.count("|") for line in lines} == {12}
    assert "at the measured 3012 GB/s" in text
    assert "not yet measured" not in text


@pytest.mark.long
def test_a_quick_run_measures_everything_once(tmp_path: Path, load: Any) -> None:
    out = tmp_path / "mix.json"
    out.write_text(json.dumps({"cuda": {"device": "kept"}}))
    command = [sys.executable, "benchmarks/mix.py", "--quick", "--device", "cpu", "--only",
               "timm", "lerp", "--allow-uncommitted", "--out", str(out)]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(out.read_text())
    has_timm = find_spec("timm") is not None
    assert list(result["absent"]) == ([] if has_timm else ["timm"])
    measured = {"floor", "avmix", "lerp"} | ({"timm"} if has_timm else set())
    for malloc in ("default", "keep"):
        for load_name, by_name in result["speed"][malloc].items():
            mixup_only = set() if load_name.startswith("mixup") else {"lerp"}
            assert set(by_name) == measured - mixup_only
            assert all(entry["cpu_ms"] > 0 for entry in by_name.values())
            assert by_name["floor"]["ratio_to_floor"] == 1
    assert set(result["truth"]["mixup"]) == measured - {"floor"}
    assert result["truth"]["mixup"]["avmix"]["right"]
    for checks in result["checks"].values():
        assert all(check["right"] for check in checks.values())
    assert result["step"]["rest_of_step_ms"] > result["step"]["stage_with_ms"] > 0
    # One round and two that warm up, each once with mixing and once without.
    assert (result["step"]["rounds"], result["step"]["num_mixed"]) == (1, 3)
    assert result["cuda"] == {"device": "kept"}  # of another machine: not thrown away
    assert str(tmp_path) not in json.dumps(result)
    text = load("paste").table({**result, "cuda": None})
    assert text.count("\n| avmix | ") == 2


def test_cuda_is_asked_for_in_vain_where_there_is_none(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device: the refusal where there is none was not tested")
    out = tmp_path / "mix.json"
    command = [sys.executable, "benchmarks/mix.py", "--device", "cuda", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == "error: --device cuda: there is no CUDA device here"
    assert not out.exists()


@pytest.mark.needs_cuda
def test_a_quick_run_on_a_gpu(tmp_path: Path, load: Any) -> None:
    out = tmp_path / "mix.json"
    command = [sys.executable, "benchmarks/mix.py", "--quick", "--device", "cuda", "--only", "lerp",
               "torchvision", "pytorchvideo", "--allow-uncommitted", "--out", str(out)]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    cuda = json.loads(out.read_text())["cuda"]
    assert cuda["copy_gb_per_second"] > 0
    for dtype, tolerance in (("float32", 0.001), ("bfloat16", 0.1)):
        assert set(cuda[dtype]) == {"floor", "avmix", "lerp", "torchvision", "pytorchvideo"}
        for name, row in cuda[dtype].items():
            assert row["device_ms"] > 0, (name, row)
            assert row.get("largest_error", 0) < tolerance, (name, row)
        assert cuda[dtype]["avmix"]["num_launches"] < cuda[dtype]["torchvision"]["num_launches"]
        assert cuda[dtype]["avmix"]["num_syncs"] == 0
        assert cuda[dtype]["pytorchvideo"]["num_syncs"] > 0
    assert "| avmix | " in load("paste").table(json.loads(out.read_text()))
