"""The page of an evaluation: what is on it, that it escapes, that it is bounded, that it works."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import chromium
import numpy as np
import pytest
from kept import clips_of, drawn, drawn_several, kept_of_arrays

from avmix.commands.evaluation_report import result_of, write_page
from avmix.config import EvalConfig
from avmix.data.sample import BadClip
from avmix.evaluation.class_order import clustered_order
from avmix.evaluation.clip_shots import (
    NAME,
    Shot,
    Shots,
    frame_jpeg,
    read_shots,
    spectrogram_png,
    write_shots,
)
from avmix.evaluation.kept_predictions import KeptPredictions
from avmix.evaluation.metrics import all_scores, confusion_matrix
from avmix.evaluation.most_wrong import most_wrong
from avmix.evaluation.report_page import fusion_words, page_of, robustness_charts
from avmix.evaluation.score_table import score_table
from avmix.system import strict_json

HOSTILE = (
    "<script>alert(1)</script>", '"onmouseover="alert(1)', "'><b>bold</b>", "</script><b>x</b>",
    "a \u202ebidi", "{{ 7 * 7 }}{% x %}", "]]>-->", "lone \udcff", "\x1b[31mred\0", "& &amp; &#60;",
    "عربى", "a long name of a class that goes on and on " * 9,
)  # fmt: skip
VOID = {"meta", "link", "input", "img", "br", "hr"}


def result(kept: KeptPredictions, resamples: int = 100) -> dict[str, Any]:
    """As it is read from result.json."""
    table = score_table(kept, num_resamples=resamples)
    found = result_of(kept, all_scores(kept.predictions()), table, EvalConfig(checkpoint="x"))
    return json.loads(strict_json.dumps(found))


def confusion(kept: KeptPredictions) -> np.ndarray | None:
    return confusion_matrix(*kept.predictions().of("fused")).numpy() if kept.single else None


class Parsed(HTMLParser):
    """A page, taken apart; an unbalanced one is refused."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data: list[tuple[str, str, str]] = []
        self.stray: list[str] = []
        """Digits in cells of numbers that are not in a `data` element; but for 0, of no clip."""
        self.scripts: list[str] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.decode())
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self._open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "script":
            self.scripts.append(data)
            return
        if tag == "data":
            self.data.append((attributes["data-of"] or "", attributes["value"] or "", data))
        elif any(t == "td" and a.get("class") == "number" for t, a in self._open):
            self.stray += re.findall(r"[1-9]\S*", data)
        self.text += data


def at(found: Any, pointer: str) -> Any:
    for key in pointer.split("/")[1:]:
        found = found[int(key) if isinstance(found, list) else key]
    return found


@cache
def case(name: str) -> tuple[KeptPredictions, dict[str, Any], bytes]:
    if name == "several":
        kept = drawn_several(classes=(*HOSTILE[:6],), missing=(BadClip(3, HOSTILE[0], HOSTILE[1]),))
    else:
        k = int(name)
        names = tuple(f"{HOSTILE[c % len(HOSTILE)]} {c}" for c in range(k))
        kept = drawn(n=2 * k + 30, k=k, classes=names)
        paths = [replace(c, clip_id=f"{HOSTILE[i % 12]}{i}", path=f"{HOSTILE[i % 12]}/{i}.mp4")
                 for i, c in enumerate(kept.clips)]  # fmt: skip
        kept = replace(kept, clips=tuple(paths), protocol=HOSTILE[0], missing=tuple(
            BadClip(i, HOSTILE[i % 12], HOSTILE[(i + 1) % 12]) for i in range(30)))  # fmt: skip
    found = result(kept, 0 if name == "700" else 100)
    return kept, found, page_of(found, Path("out"), confusion=confusion(kept))


CASES = pytest.mark.parametrize("name", ["3", "60", "700", "several"])


@CASES
def test_every_number_is_that_of_the_result(name: str) -> None:
    _, found, page = case(name)
    parsed = Parsed(page)
    for pointer, value, shown in parsed.data:
        number = at(found, pointer)
        assert float(value) == number, pointer
        digits = len(shown.partition(".")[2])
        errors = [abs(float(shown) - scale * number) for scale in (1, 100)]
        assert min(errors) <= 0.5001 * 10**-digits, pointer
    assert not parsed.stray
    pointers = {pointer for pointer, _, _ in parsed.data}
    assert {f"/per_class/{k}/clips" for k in range(len(found["per_class"]))} <= pointers
    assert {f"/most_wrong/{k}/loss" for k in range(len(found["most_wrong"]))} <= pointers
    assert {f"/intervals/rows/{row}/nll/value" for row in found["scores"]} <= pointers
    assert {f"/fusion/{key}/value" for key in found["fusion"]} <= pointers


@CASES
def test_names_of_any_kind_are_text(name: str) -> None:
    kept, _, page = case(name)
    parsed = Parsed(page)
    assert not {tag for tag, _ in parsed.tags} & {"b", "iframe", "object"}
    assert [a for tag, a in parsed.tags if tag == "script"] == (
        [{"type": "application/json", "id": "heat"}] if kept.single else []) + [{}]  # fmt: skip
    assert not [a for _, attrs in parsed.tags for a in attrs if a.startswith("on")]
    assert "\u202e" not in page.decode()
    assert "\x1b" not in page.decode()
    for shown in ("<script>alert(1)</script>", r"a \u202ebidi"):
        assert shown in parsed.text
    if kept.single:
        heat = json.loads(parsed.scripts[0])
        assert len(heat["names"]) == len(kept.classes)
        cells = np.zeros((len(kept.classes),) * 2, int)
        for true, said, clips in np.reshape(heat["cells"], (-1, 3)):
            cells[true, said] = clips
        counted = confusion(kept)
        assert counted is not None
        assert np.array_equal(cells, counted)
        assert sorted(heat["order"]) == list(range(len(kept.classes)))


@CASES
def test_it_needs_no_other_file_and_is_the_same_again(name: str) -> None:
    kept, found, page = case(name)
    for tag, attributes in Parsed(page).tags:
        for key in ("src", "href", "action", "data", "poster", "srcset"):
            link = attributes.get(key) or "#"
            assert link.startswith(("#", "data:,", "data:image/")), (tag, link)
    assert b"://" not in page
    assert b"@import" not in page
    assert b"url(" not in page
    again = json.loads(strict_json.dumps(found))
    assert page_of(again, Path("out"), confusion=confusion(kept)) == page


def test_its_size_is_bounded() -> None:
    kept, found, _ = case("700")
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    shot = Shot(frame=frame_jpeg(noise), spectrogram=spectrogram_png(noise[..., 0] * 1.0))
    shots = Shots(root=Path("media"), clips={c.clip_id: shot for c in most_wrong(kept)})
    lost = [{"row": i, "path": "p" * 900, "reason": "r" * 900} for i in range(10_000)]
    page = page_of({**found, "missing": lost}, Path("out"), shots=shots,
                   confusion=np.random.default_rng(0).integers(0, 9, (700, 700)))  # fmt: skip
    assert 600_000 < len(page) < 3_000_000
    parsed = Parsed(page)
    assert sum(tag == "img" for tag, _ in parsed.tags) == 48
    assert "and 9500 more" in parsed.text


def test_the_clips_it_is_most_wrong_about() -> None:
    p = {"fused": np.array([[0.5, 0.5, 0], [0.1, 0.8, 0.1], [0.2, 0.8, 0], [0.1, 0.8, 0.1]])}
    p |= {"video head": p["fused"][:, ::-1], "audio head": p["fused"]}
    counted = {"audio head": np.array([True, False, True, True])}
    kept = kept_of_arrays(p, np.array([0, 0, 1, 2]), counted=counted)
    found = most_wrong(kept, 3)
    assert [clip.clip_id for clip in found] == ["clip 1", "clip 3", "clip 0"]
    assert [clip.loss for clip in found] == pytest.approx(-np.log([0.1, 0.1, 0.5]), rel=1e-6)
    assert found[0].labels == ("class 0",)
    assert found[0].rows["audio head"] is None
    says = found[1].rows["video head"]
    assert says is not None
    assert (says.answer, says.labels) == ("class 1", pytest.approx((0.1,)))


def test_of_several_labels_unknown_ones_do_not_count() -> None:
    target = np.array([[1, np.nan, 0], [np.nan] * 3, [1, 1, 0]], np.float32)
    p = np.array([[0.5, 0.9, 0.5], [0.1] * 3, [0.2, 0.4, 0.0]])
    kept = kept_of_arrays({"fused": p, "video head": p, "audio head": p}, target={"fused": target})
    found = most_wrong(kept)
    assert [clip.clip_id for clip in found] == ["clip 2", "clip 0"]
    assert found[0].loss == pytest.approx((-np.log(0.2) - np.log(0.4)) / 3)
    assert found[1].labels == ("class 0",)
    says = found[0].rows["fused"]
    assert says is not None
    assert says.labels == pytest.approx((0.2, 0.4))


def test_classes_that_are_taken_for_each_other_stand_together() -> None:
    confused = np.eye(6, dtype=int) * 10
    confused[0, 3] = confused[3, 0] = 5
    confused[5, 1] = 4
    confused[3, 4] = 1
    assert clustered_order(confused).tolist() == [0, 3, 4, 1, 5, 2]
    assert clustered_order(np.zeros((3, 3), int)).tolist() == [0, 1, 2]
    assert clustered_order(np.ones((1001, 1001), int)).tolist() == list(range(1001))


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [((0.1, 0.05, 0.2), "fusion helps"), ((-0.1, -0.2, -0.05), "fusion hurts"),
     ((0.1, -0.1, 0.2), "cannot tell"), ((0.1, None, None), "better on these clips"),
     ((0.0, None, None), "the same on these clips"), ((None, None, None), "nothing can be")],
)  # fmt: skip
def test_what_fusion_is_worth_in_words(gain: tuple, verdict: str) -> None:
    value, low, high = gain
    figure = {"value": value, "low": low, "high": high, "num_clips": 7}
    (sentence,) = fusion_words({"fusion": {"gain": figure}})
    assert verdict in sentence
    assert (low is not None) == ("95 % interval" in sentence)
    assert fusion_words({"fusion": {}}) == ["No clip has both modalities: nothing is fused."]


# Robustness ---------------------------------------------------------------------------------------


def robustness_of(kept: KeptPredictions) -> dict[str, Any]:
    """As `avmix evaluate --robustness` writes it: one curve, without a value in the middle."""

    def head(*values: float | None) -> list[Any]:
        return [v and {"top1": {"value": v, "low": v - 0.1, "high": v + 0.1}} for v in values]

    heads = {"fused": head(0.5, 0.25, 0.125), "video": head(0.5, None, 0.5),
             "audio": head(None, None, None)}  # fmt: skip
    row = {"kind": "curve", "title": "noise <b>", "unit": "dB", "levels": [20.0, 10.0, 0.0],
           "heads": heads}  # fmt: skip
    return {"split_sha256": kept.split_sha256, "checkpoint_digest": kept.origin.checkpoint,
            "weights": kept.origin.weights, "rows": {"noise": row}, "chance": 0.25}  # fmt: skip


def test_robustness_has_curves() -> None:
    kept, found, _ = case("3")
    page = page_of(found, Path(), robustness=robustness_charts(robustness_of(kept)))
    parsed = Parsed(page)
    assert "noise <b>: top-1 %" in parsed.text
    assert "fused, 10: 25 (15 to 35)" in parsed.text
    assert "video, 0: 50 (40 to 60)" in parsed.text
    lines = [a["d"] for tag, a in parsed.tags if tag == "path" and a["class"] == "line"]
    assert [(d or "").count("M") for d in lines] == [1, 2, 0]  # broken where there is no value


def test_robustness_of_something_else_is_not_shown(tmp_path: Path) -> None:
    kept, found, _ = case("3")
    report = robustness_of(kept)

    def shown(content: str) -> str:
        (tmp_path / "robustness.json").write_text(content)
        write_page(tmp_path, kept, found)
        return Parsed((tmp_path / "report.html").read_bytes()).text

    assert "noise <b>" in shown(json.dumps(report))
    other = shown(json.dumps({**report, "checkpoint_digest": "1" * 64}))
    assert "of another split or checkpoint" in other
    assert "noise <b>" not in other
    rows = {"noise": {**report["rows"]["noise"], "heads": {"fused": [{"top1": "x"}]}}}
    for broken in ("{", "[]", "null", json.dumps({**report, "rows": 3}),
                   json.dumps({**report, "rows": rows})):  # fmt: skip
        assert "robustness.json cannot be read" in shown(broken)


# Frames -------------------------------------------------------------------------------------------


def shots_of(kept: KeptPredictions, root: Path) -> Shots:
    one, two, *_ = [clip.clip_id for clip in most_wrong(kept)]
    frame = np.zeros((9, 12, 3), np.uint8)
    shot = Shot(frame=frame_jpeg(frame), spectrogram=spectrogram_png(np.eye(4)))
    return Shots(root=root, clips={one: shot, two: Shot(reason="damaged <b>")})


def test_frames_are_kept_beside_the_predictions(tmp_path: Path) -> None:
    kept, found, _ = case("60")
    here, there = tmp_path / "run" / "eval", tmp_path / "elsewhere"
    for folder in (here, there):
        folder.mkdir(parents=True)
    shots = shots_of(kept, tmp_path / "media")
    write_shots(here, shots, kept)
    assert read_shots(here, kept).clips == shots.clips
    write_page(here, kept, found)
    write_page(there, kept, found, beside=here)
    path = found["most_wrong"][0]["path"]
    for folder in (here, there):
        parsed = Parsed((folder / "report.html").read_bytes())
        assert sum(tag == "img" for tag, _ in parsed.tags) == 2
        assert "cannot be shown: damaged <b>" in parsed.text
        assert "1 of them cannot be shown" in parsed.text
        ((_, video),) = [one for one in parsed.tags if one[0] == "video"]
        way, _, seconds = (video["src"] or "").partition("#")
        assert seconds == "t=0.5,2"
        asked = (folder / unquote(way, errors="surrogateescape")).parent
        assert asked.resolve() == (tmp_path / "media" / path).parent.resolve()
    changed = replace(kept, origin=replace(kept.origin, checkpoint="1" * 64))
    assert read_shots(here, changed) == Shots()


def test_a_link_is_a_path_and_nothing_else(tmp_path: Path) -> None:
    shots = Shots(root=tmp_path / "m")
    link = shots.link("javascript:alert(1)?a=b#c%41 é\udcff.mp4", 1.0, 2.5, tmp_path / "m")
    assert link == "javascript%3Aalert%281%29%3Fa%3Db%23c%2541%20%C3%A9%FF.mp4#t=1,2.5"
    assert shots.link("a/b.mp4", 0.0, 1.0, tmp_path / "o" / "p") == "../../m/a/b.mp4#t=0,1"
    assert Shots().link("a", 0.0, 1.0, tmp_path) is None


@pytest.mark.parametrize(
    "change",
    [{"clips": {"a": {"frame": "PHNjcmlwdD4=", "spectrogram": None, "reason": ""}}},
     {"clips": {"a": {"frame": "not base64", "spectrogram": None, "reason": ""}}},
     {"clips": {"a": {"frame": 3, "spectrogram": None, "reason": ""}}}, {"clips": {"a": {}}},
     {"clips": {str(i): {} for i in range(25)}}, {"clips": []}, {"split_sha256": "0" * 64}],
)  # fmt: skip
def test_files_of_frames_that_are_none_are_left_alone(change: Any, tmp_path: Path) -> None:
    kept = case("3")[0]
    write_shots(tmp_path, shots_of(kept, tmp_path), kept)
    content = json.loads((tmp_path / NAME).read_text())
    assert read_shots(tmp_path, kept) != Shots()
    (tmp_path / NAME).write_text(json.dumps({**content, **change}))
    assert read_shots(tmp_path, kept).clips == {}


def test_a_spectrogram_is_small_and_its_low_frequencies_are_at_the_bottom() -> None:
    from io import BytesIO

    from PIL import Image

    log_mel = np.zeros((128, 1000))
    log_mel[:64] = 1.0
    with Image.open(BytesIO(spectrogram_png(log_mel))) as image:
        assert image.size == (160, 64)
        light = np.asarray(image.convert("L")).mean(1)
    assert light[63] > 200 > 50 > light[0]
    assert spectrogram_png(np.full((2, 3), np.nan))[:4] == b"\x89PNG"


# In a browser -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    if chromium.PROGRAM is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium-headless-shell)")
    with chromium.browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.mark.long
@CASES
def test_it_works_in_a_browser(name: str, browser: chromium.Page, tmp_path: Path) -> None:
    kept, found, _ = case(name)
    shots = shots_of(kept, tmp_path)
    curves = robustness_charts(robustness_of(kept))
    (tmp_path / "report.html").write_bytes(
        page_of(found, tmp_path, confusion=confusion(kept), shots=shots, robustness=curves)
    )
    browser.said.clear()
    browser.open(tmp_path / "report.html")
    seen = {}
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        seen[scheme] = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert seen == {"light": "rgb(255, 255, 255)", "dark": "rgb(15, 20, 25)"}
    assert browser.evaluate("document.querySelector('#wrong img').naturalWidth > 0")
    # The heading of the clips of a class: from the keyboard, twice.
    heads = "document.querySelectorAll('#class-table thead th')"
    for button, order in ((1, "descending"), (1, "ascending"), (2, "descending")):
        browser.evaluate(f"{heads}[{button}].querySelector('button').focus()")
        browser.press("Enter")
        assert browser.evaluate(f"{heads}[{button}].getAttribute('aria-sort')") == order
    values = browser.evaluate(
        "[...document.querySelectorAll('#class-table tbody tr')].map("
        "row => row.cells[2].querySelector('data')?.value ?? null).map(v => v && Number(v))"
    )
    fused = [one["fused"] for one in found["per_class"]]
    known = sorted((v for v in fused if v is not None), reverse=True)
    assert values == [*known, *[None] * fused.count(None)]
    browser.evaluate("filter.value = 'SCRIPT'; filter.dispatchEvent(new Event('input'))")
    shown = browser.evaluate(
        "[...document.querySelectorAll('#class-table tbody tr')].filter(r => !r.hidden).length"
    )
    assert shown == sum("script" in name.lower() for name in kept.classes)
    if kept.single:
        counted = confusion(kept)
        assert counted is not None
        k = len(counted)
        browser.evaluate("document.getElementById('matrix').focus()")
        browser.press("End")
        browser.press("ArrowLeft")
        said = browser.evaluate("document.getElementById('cell').textContent")
        assert f"{counted[k - 1, k - 2]} of {counted[k - 1].sum()} clips" in said
        assert browser.evaluate("document.getElementById('matrix').width") == k * max(1, 720 // k)
    width = browser.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert width <= 0
    assert browser.said == []


def test_clips_without_labels_have_a_page() -> None:
    p = np.full((2, 3), 0.5)
    target = np.array([[0, 0, 0], [np.nan] * 3], np.float32)
    kept = kept_of_arrays({"fused": p}, target={"fused": target}, clips=clips_of(2))
    found = result(kept)
    text = Parsed(page_of(found, Path())).text
    assert "no label" in text
    assert "No clip has both modalities" in text
