"""`avmix push` and `avmix.load` of what it wrote: the same to the bit; folders are not trusted."""

import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import main
from hub_server import Hub, serving
from media import write_flash_beep
from test_trained import CLASSES, CONFIG, clips, same, write

import avmix
from avmix.exporting.file_formats import ExportError
from avmix.exporting.model_card import card
from avmix.exporting.push import push
from avmix.training import checkpoint
from avmix.training.checkpoint import CheckpointError

ROOT = Path(__file__).parents[1]
safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "mine"
    folder.mkdir()
    write(folder)
    return folder


@pytest.fixture(scope="module")
def folder(run: Path) -> Path:
    """What the command wrote."""
    main(["push", str(run), str(run.parent / "pushed"), "--license", "apache-2.0"])
    return run.parent / "pushed"


def test_a_folder_gives_the_network_back_to_the_bit(run: Path, folder: Path) -> None:
    assert sorted(os.listdir(folder)) == ["README.md", "config.json", "model.safetensors"]
    own, loaded = avmix.load(run), avmix.load(folder)
    assert (loaded.config, loaded.classes) == (CONFIG, tuple(CLASSES))
    assert same(own(*clips()), loaded(*clips()))
    states = own.network.state_dict(), loaded.network.state_dict()
    assert states[0].keys() == states[1].keys()
    assert same(states[0].values(), states[1].values())
    said = json.loads((folder / "config.json").read_text())
    assert (said["classes"], said["library_name"]) == (CLASSES, "avmix")
    assert said["config"]["clip"]["num_frames"] == 2


def test_what_was_pushed_can_be_pushed_and_pushed_again(folder: Path, tmp_path: Path) -> None:
    push(folder, tmp_path / "again")
    done = push(folder, tmp_path / "again")
    assert done.num_bytes == (folder / "model.safetensors").stat().st_size
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_json_says_what_was_written_and_nothing_else(folder: Path, tmp_path: Path, capsys) -> None:
    main(["push", str(folder), str(tmp_path / "again"), "--json"])
    num_bytes = (tmp_path / "again" / "model.safetensors").stat().st_size
    said = json.loads(capsys.readouterr().out)
    assert said == {"folder": str(tmp_path / "again"), "num_bytes": num_bytes, "url": ""}


def test_a_folder_with_other_files_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"it has other files \(mine\.txt\); name a new folder"):
        push(run, tmp_path)
    assert os.listdir(tmp_path) == ["mine.txt"]
    with pytest.raises(ExportError, match=r"mine\.txt is a file; name a folder"):
        push(run, tmp_path / "mine.txt")


# Cards --------------------------------------------------------------------------------------------


def header(text: str) -> dict[str, Any]:
    _, found, _ = text.split("---\n", 2)
    return yaml.safe_load(found)


def test_a_card_states_what_is_not_known(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert header(text) == {
        "library_name": "avmix", "pipeline_tag": "video-classification", "license": "apache-2.0",
        "tags": ["audio-visual", "action-recognition"],
    }  # fmt: skip
    for line in ("# mine", "* Protocol: `not stated`", "* This network: apache-2.0",
                 "* Training data: not stated", "* video: avmix:r2plus1d: trained from random "
                 "weights", "Not stated: the checkpoint has not been evaluated."):  # fmt: skip
        assert f"\n{line}\n" in text


def result(path: Path) -> dict[str, Any]:
    figure = {"value": 0.8125, "low": 0.7, "high": 0.9, "num_clips": 16}
    nll = {"value": 0.5, "low": None, "high": None, "num_clips": 16}
    return {
        "protocol": "toy/v1/seed0", "split": "test", "num_evaluated": 16, "num_missing": 1,
        "num_views": 3, "weights": "last", "checkpoint_digest": checkpoint.load(path).digest,
        "intervals": {"rows": {"fused": {"top1": figure, "nll": nll}, "video head": None}},
    }  # fmt: skip


def test_a_card_has_the_metrics_of_this_checkpoint_alone(tmp_path: Path) -> None:
    path = write(tmp_path)
    net = avmix.load(path)
    (tmp_path / "eval_test").mkdir()
    kept = tmp_path / "eval_test/result.json"
    kept.write_text(json.dumps(result(path)))
    text = card(net, tmp_path, files=("model.safetensors",))
    (found,) = header(text)["model-index"][0]["results"]
    assert found["metrics"] == [
        {"type": "accuracy", "name": "top-1 accuracy, fused", "value": 0.8125}
    ]
    assert found["dataset"] == {"type": "toy", "name": "toy/v1/seed0", "split": "test"}
    assert "| fused | 16 | 81.2 (70.0 to 90.0) | 0.500 |" in text
    assert "16 clips evaluated, 1 missing, 3 views" in text
    assert "* Training data: Apache-2.0: generated by avmix\n" in text
    for other in ({"checkpoint_digest": "0" * 64}, {"weights": "average"}):
        kept.write_text(json.dumps({**result(path), **other}))
        text = card(net, tmp_path, files=("model.safetensors",))
        assert "Not stated: the evaluations beside it are of another checkpoint, or of" in text
        assert "model-index" not in header(text)


def test_the_hub_can_read_the_header(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    path = write(tmp_path)
    (tmp_path / "eval_test").mkdir()
    (tmp_path / "eval_test/result.json").write_text(json.dumps(result(path)))
    data = hub.ModelCard(card(avmix.load(path), path, files=("model.safetensors",))).data
    assert (data.library_name, data.pipeline_tag) == ("avmix", "video-classification")
    (found,) = data.eval_results
    assert (found.metric_type, found.metric_value) == ("accuracy", 0.8125)


def test_names_of_classes_cannot_write_the_card(tmp_path: Path) -> None:
    classes = ["a\n# b", "c`d|e", "<f>"]
    text = card(avmix.load(write(tmp_path, CONFIG, classes)), tmp_path, files=())
    assert r"Classes: `a\n# b`, `c'd/e`, `<f>`" in text


# Folders that say something else ------------------------------------------------------------------


def changed(**values: Any) -> Callable[[Path], None]:
    """config.json with other values; `weights__bytes` is a value of `weights`."""

    def change(folder: Path) -> None:
        said = json.loads((folder / "config.json").read_text())
        for key, value in values.items():
            inner, _, last = key.rpartition("__")
            (said[inner] if inner else said)[last] = value
        (folder / "config.json").write_text(json.dumps(said))

    return change


def flipped(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-3] ^= 4
    (folder / "model.safetensors").write_bytes(content)


def longer(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"more")


def linked(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).rename(folder.parent / "secret")
        (folder / name).symlink_to(folder.parent / "secret")

    return change


def circle(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("config.json")


def pipe(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


class Trap:
    """Touches `ran` when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def pickled(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(pickle.dumps(Trap(folder / "ran")))
        about = (folder / name).stat().st_size
        changed(weights__bytes=about)(folder)

    return change


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def other_weights(folder: Path) -> None:
    """A whole network, and config.json of another."""
    net = avmix.load(folder)
    net.classes = ("p", "q", "r")
    net.save(folder / "model.safetensors")
    import hashlib

    content = (folder / "model.safetensors").read_bytes()
    changed(weights__bytes=len(content), weights__sha256=hashlib.sha256(content).hexdigest())(
        folder
    )  # fmt: skip


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped": (flipped, r"model\.safetensors: damaged: config\.json states another SHA-256"),
    "hash": (changed(weights__sha256="0" * 64), r"model\.safetensors: damaged"),
    "longer": (longer, r"model\.safetensors: it has \d+ bytes, more than \d+"),
    "shorter": (changed(weights__bytes=10**15), r"config\.json states 1000000000000000"),
    "weights outside": (linked("model.safetensors"), r"model\.safetensors: leads out of its"),
    "config outside": (linked("config.json"), r"config\.json: leads out of its folder"),
    "circle": (circle, r"config\.json: cannot be read"),
    "pipe": (pipe, r"config\.json: not a regular file"),
    "large": (
        lambda folder: (folder / "config.json").write_bytes(b" " * 4_000_001),
        r"config\.json: it has 4000001 bytes, more than 4000000",
    ),
    "deep": (
        lambda folder: (folder / "config.json").write_text("[" * 100_000),
        r"config\.json: not the config\.json of a network of avmix",
    ),
    "library": (changed(library_name="timm"), r"not the config\.json of a network of avmix"),
    "format": (changed(format=2), "format 2; this version reads 1"),
    "bytes": (changed(weights__bytes=True), r"does not state the file, bytes and sha256"),
    "path": (changed(weights__file="../secret"), r"does not state the file, bytes and sha256"),
    "classes": (changed(classes=["a", "b", "c"]), r"config\.json beside it describes another"),
    "config": (changed(config={}), r"config\.json beside it describes another network"),
    "other": (other_weights, r"config\.json beside it describes another network"),
    "pickle": (pickled("pytorch_model.bin"),
               r"it has no model\.safetensors; it has pytorch_model\.bin, a pickle"),
    "no config": (without_config, r"it has no config\.json$"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_folder_that_is_not_what_it_says_is_refused(case: str, folder: Path, tmp_path) -> None:
    change, says = HOSTILE[case]
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    change(copy)
    with pytest.raises(CheckpointError, match=says):
        avmix.load(copy)
    assert not (copy / "ran").exists()


def test_a_pickle_under_the_name_of_weights_is_not_unpickled(folder: Path, tmp_path: Path) -> None:
    import hashlib

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    content = pickle.dumps(Trap(copy / "ran"))
    (copy / "model.safetensors").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    changed(weights__bytes=len(content), weights__sha256=digest)(copy)
    with pytest.raises(CheckpointError, match="not a readable file of safetensors"):
        avmix.load(copy)
    assert not (copy / "ran").exists()


# The Hub, by a server of its own ------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A server in place of the Hub's, and an empty cache."""
    library = pytest.importorskip("huggingface_hub")
    with serving() as found:
        template = library.constants.HUGGINGFACE_CO_URL_TEMPLATE
        template = template.replace(library.constants.ENDPOINT, found.url)
        monkeypatch.setattr(library.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(library.constants, "ENDPOINT", found.url)
        monkeypatch.setattr(library.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        yield found


def test_what_is_pushed_to_the_hub_is_loaded_from_it(run, hub: Hub, tmp_path, monkeypatch) -> None:
    done = push(run, tmp_path / "net", hub="some/net", private=True)
    assert done.url == f"{hub.url}/some/net/commit/{hub.commit}"
    assert hub.private
    names = ["README.md", "config.json", "model.safetensors"]
    assert sorted(hub.files) == names
    assert hub.files == {name: (tmp_path / "net" / name).read_bytes() for name in names}
    assert hub.files["README.md"].count(b"\n# net\n") == 1

    hub.files["evil.bin"] = b"x"
    hub.asked.clear()
    commit = hub.commit
    for reference in ("hub:some/net", f"hub:some/net@{commit}"):
        assert same(avmix.load(reference)(*clips()), avmix.load(run)(*clips()))
    assert not [one for one in hub.asked if "evil" in one or "README" in one]
    # A commit that is in the cache needs no server.
    hub.files.clear()
    assert same(avmix.load(f"hub:some/net@{commit}")(*clips()), avmix.load(run)(*clips()))


def test_what_the_hub_lacks_is_said_with_where_it_belongs(hub: Hub, run: Path, tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"hub:some/net: config\.json cannot be fetched from "
                       rf"{hub.url}/some/net/resolve/main/config\.json into {tmp_path}/cache: .*"
                       "put both into a folder, and load that folder"):  # fmt: skip
        avmix.load("hub:some/net")
    push(run, tmp_path / "net", hub="some/net")
    del hub.files["model.safetensors"]
    with pytest.raises(CheckpointError, match=r"hub:some/net: model\.safetensors cannot be fet"):
        avmix.load("hub:some/net")


def test_files_of_the_hub_that_are_too_large_are_not_fetched(hub: Hub, run, tmp_path) -> None:
    push(run, tmp_path / "net", hub="some/net")
    hub.files["model.safetensors"] += b"more"
    with pytest.raises(CheckpointError, match=r"model\.safetensors has \d+ bytes, more than \d+"):
        avmix.load("hub:some/net")
    assert not [one for one in hub.asked if one.startswith("GET") and "model.safetensors" in one]


@pytest.mark.parametrize("reference", ["hub:", "hub:net", "hub:a/b/c", "hub:a/b@", "hub:a/b c"])
def test_references_that_are_none_are_refused(reference: str) -> None:
    with pytest.raises(CheckpointError, match=r"must be hub:USER/NAME or hub:USER/NAME@REVISION"):
        avmix.load(reference)


def test_without_the_extra_it_is_said_what_to_install(run: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: avmix.load("hub:a/b"), lambda: push(run, tmp_path / "net", hub="a/b")):
        with pytest.raises(ValueError, match=r"huggingface_hub is not .* '\.\[hub\]'"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_offline_it_is_said_what_to_put_where(tmp_path: Path, monkeypatch) -> None:
    library = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(library.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(library.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match=r"^hub:a/b@v1: config\.json cannot be fetched from "
                       r"https?://\S+/a/b/resolve/v1/config\.json into \S+/cache: .* Without a "
                       r"network, fetch config\.json and model\.safetensors of a/b"):  # fmt: skip
        avmix.load("hub:a/b@v1")


def test_a_hub_that_refuses_leaves_the_folder_whole(run: Path, tmp_path, monkeypatch) -> None:
    library = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(library.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ExportError, match=r"/some/net: cannot be written: .*net is whole"):
        push(run, tmp_path / "net", hub="some/net")
    assert same(avmix.load(tmp_path / "net")(*clips()), avmix.load(run)(*clips()))
    with pytest.raises(ExportError, match="--hub net: must be USER/NAME"):
        push(run, tmp_path / "other", hub="net")
    assert not (tmp_path / "other").exists()


def test_the_python_of_the_page_runs(run: Path, tmp_path: Path, monkeypatch) -> None:
    """What pushes and loads; what exports is in tests/test_export.py."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/exporting.md").read_text(), re.DOTALL)
    (block,) = [one for one in blocks if "avmix.push" in one]
    (tmp_path / "runs/demo").mkdir(parents=True)
    shutil.copy(run / "last.pt", tmp_path / "runs/demo")
    write_flash_beep(tmp_path / "clip.mp4", seconds=1, events_seconds=(0.4,), size=(48, 32))
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/exporting.md", "exec"), {})
    assert (tmp_path / "published/again/config.json").exists()
