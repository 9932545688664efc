"""The page of a leaderboard: its numbers are those of the tables, and what it does in a browser."""

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import chromium
import numpy as np
import pytest
from leaderboard_case import predictions, two_rows

from avmix.evaluation.page_charts import runs_svg
from avmix.evaluation.reliability import reliability
from avmix.leaderboard import leaderboard_command
from avmix.leaderboard.board import board_page, modality_of, pooled
from avmix.leaderboard.result import read_result, write_result
from avmix.leaderboard.tables import tables_of

pytestmark = pytest.mark.long

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>\u202e"


class Parsed(HTMLParser):
    """Elements with their attributes, and the text of the page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile(folder: Path) -> tuple[Path, Path]:
    """Two rows; texts of card, published rows and record are hostile."""
    cards, out = two_rows(folder)
    text = json.dumps(HOSTILE)
    card = (cards / "mini.yaml").read_text()
    card = card.replace("about: with | and % in it", f"about: {text}")
    (cards / "mini.yaml").write_text(card.replace("title: Two splits", f"title: {text} #"))
    (cards / "published_mini.yaml").write_text(
        f"rows:\n  - {{method: plain, metric: top1, value: 0.61, source: {text}, "
        "checked: read in a file}\n"
        f"  - {{method: other, metric: top1, value: 0.7, source: {text}, checked: in a thread}}\n"
        f"  - {{method: mixed, metric: top1, value: 0.99, source: {text}, checked: from memory}}\n"
    )
    return cards, out


def page_of(folders: tuple[Path, Path]) -> bytes:
    cards, out = folders
    found, refused = tables_of(out, cards=cards)
    return board_page(found, refused, out)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, bytes]:
    """Cards, results, page."""
    folders = two_rows(tmp_path_factory.mktemp("plain"))
    return *folders, page_of(folders)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """Results of hostile texts, and their page, with a record that is refused."""
    cards, out = hostile(tmp_path_factory.mktemp("bad"))
    record = read_result(out / "mini/default/mixed.json")
    runs = tuple(replace(one, environment={"machine": HOSTILE}, curves={"loss": (2.0, 1.0)})
                 for one in record.runs)  # fmt: skip
    write_result(out, replace(record, runs=runs, options={"mix.method": HOSTILE}))
    (out / "mini/default/broken.json").write_text("{}")
    return out, page_of((cards, out))


def cells(page: Parsed, row: int) -> dict[str, float]:
    """The values of a row by figure; of the difference under `minus`."""
    found: dict[str, float] = {}
    last = None
    for tag, attrs in page.found:
        if tag == "td" and attrs.get("data-row") == str(row):
            last = str(attrs["data-figure"])
            last = "minus" if last in found else last
        elif tag == "data" and last:
            found[last] = float(str(attrs["value"]))
            last = None
    return found


def test_its_numbers_are_those_of_the_tables(plain: tuple[Path, Path, bytes]) -> None:
    cards, out, data = plain
    (table,), _ = tables_of(out, cards=cards)
    page = Parsed(data)
    for number, row in enumerate(table.rows):
        found = cells(page, number)
        less = found.pop("minus", None)
        assert found == {name: one.value for name, one in row.figures.items()}
        assert less == (row.differences[table.metric].value if number else None)
    (detail,) = re.findall(r'id="details">(.*?)</script>', data.decode(), re.S)
    told = json.loads(detail)
    runs = read_result(out / "mini/default/plain.json").runs
    shown = told[0]["result"]["runs"]
    assert [r["split_sha256"] for r in shown] == [r.split_sha256 for r in runs]
    assert [r["figures"]["fused.top1"] for r in shown] == [r.figures["fused.top1"] for r in runs]
    # Of plain, 0.61 was published; of others nothing is compared.
    ours = table.rows[0].figures["fused.top1"]
    assert ours.low is not None
    assert ours.high is not None
    word = "agrees" if ours.low <= 0.61 <= ours.high else "differs"
    assert f"ours {100 * (ours.value - 0.61):+.1f}, {word}; a paper" in page.text
    before, after = page.text.split("From memory: the source was not looked at")
    assert "hearsay" not in before
    assert "hearsay" in after
    assert "a thread" in before


def test_nothing_is_loaded_and_no_text_is_markup(bad: tuple[Path, bytes]) -> None:
    _, data = bad
    page = Parsed(data)
    assert "owned" in page.text
    assert "\u202e" not in data.decode()
    assert [a for t, a in page.found if t == "img"] == []
    assert len([t for t, _ in page.found if t == "script"]) == 2
    policy = next(str(a["content"]) for t, a in page.found if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    links = {str(a.get(n)) for _, a in page.found for n in ("href", "src") if a.get(n)}
    assert links == {"data:,"}


def test_refused_records_are_named_without_folders(bad: tuple[Path, bytes]) -> None:
    text = Parsed(bad[1]).text
    assert "Refused records" in text
    assert "mini/default/broken.json:" in text


def test_the_modality_of_a_row(plain: tuple[Path, Path, bytes]) -> None:
    row = read_result(plain[1] / "mini/default/plain.json")
    assert modality_of(row) == "both"
    assert modality_of(replace(row, options={"model.modalities": "audio"})) == "audio"
    assert modality_of(replace(row, probe={"head": "video"})) == "video"
    assert modality_of(replace(row, probe={"head": "concat"})) == "both"


def test_reliability_of_several_runs_is_that_of_all_answers() -> None:
    kept = [predictions(seed) for seed in (0, 1)]
    answers = [one.answers("fused", one.clips_of("fused")) for one in kept]
    found = pooled([reliability(one) for one in answers])
    sure = np.concatenate([one.probability["fused"].max(1) for one in kept])
    right = np.concatenate(
        [one.probability["fused"].argmax(1) == one.label for one in kept]  # type: ignore[operator]
    )
    place = np.minimum((sure * len(found.share)).astype(int), len(found.share) - 1)
    for k in range(len(found.share)):
        inside = place == k
        assert found.share[k] == pytest.approx(inside.mean())
        if inside.any():
            assert found.share_right[k] == pytest.approx(right[inside].mean())
            assert found.confidence[k] == pytest.approx(sure[inside].mean(), abs=1e-6)


def test_curves_are_of_one_scale_from_zero() -> None:
    svg = str(runs_svg("loss", {"a": [4.0, 2.0, 0.0], "<b>": [2.0, 1.0, 1.0]}))
    lines = re.findall(r'points="([^"]*)"', svg)
    (a, b) = [[tuple(map(float, p.split(","))) for p in one.split()] for one in lines]
    assert a[0][0] == b[0][0]
    assert [y for _, y in a] == pytest.approx([10, 83, 156], abs=0.1)  # of 146 pixels from 10
    assert [y for _, y in b] == pytest.approx([83, 119.5, 119.5], abs=0.1)
    assert "<b>" not in svg


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    leaderboard_command.add_arguments(parser)
    return leaderboard_command.run(parser.parse_args(words))


def test_the_command_writes_it(
    plain: tuple[Path, Path, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cards, out, data = plain
    words = ("--protocols", str(cards), "page", "--results", str(out))
    assert run(*words, "--to", str(tmp_path / "new/page.html")) == 0
    assert (tmp_path / "new/page.html").read_bytes() == data
    assert run("--protocols", str(cards), "page", "--results", str(tmp_path / "none")) == 1
    assert "no folder of results" in capsys.readouterr().err


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    if chromium.PROGRAM is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium-headless-shell)")
    with chromium.browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.mark.long
def test_it_works_in_a_browser(
    bad: tuple[Path, bytes], browser: chromium.Page, tmp_path: Path
) -> None:
    out, data = bad
    record = read_result(out / "mini/default/mixed.json")
    (tmp_path / "page.html").write_bytes(data)
    browser.said.clear()
    browser.open(tmp_path / "page.html")
    seen = {}
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        seen[scheme] = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert seen == {"light": "rgb(255, 255, 255)", "dark": "rgb(15, 20, 25)"}
    rows = "[...document.querySelectorAll('#board tbody tr')]"
    methods = f"{rows}.filter(r => !r.hidden).map(r => r.cells[1].innerText)"
    assert browser.evaluate(methods) == ["plain", "mixed"]
    heads = "document.querySelectorAll('#board thead th')"
    for order, expected in (("descending", ["mixed", "plain"]), ("ascending", ["plain", "mixed"])):
        browser.evaluate(f"{heads}[2].querySelector('button').focus()")
        browser.press("Enter")
        assert browser.evaluate(f"{heads}[2].getAttribute('aria-sort')") == order
        assert browser.evaluate(methods) == expected
    # Words, then a choice that no row is of.
    for code, expected in (
        ("words.value = 'MIXED default'", ["mixed"]),
        ("words.value = 'nothing'", []),
        ("words.value = ''", ["plain", "mixed"]),
    ):
        browser.evaluate(f"{code}; filters.dispatchEvent(new Event('input'))")
        assert browser.evaluate(methods) == expected
    browser.evaluate(
        "document.querySelector('select[data-key=overlap]').value = 'unknown';"
        "filters.dispatchEvent(new Event('input'))"
    )
    assert browser.evaluate(methods) == ["plain", "mixed"]
    # From the keyboard: the first cell of a table is reached, the one below it opened.
    browser.evaluate("document.querySelector('#board .cell[tabindex=\"0\"]').focus()")
    browser.press("ArrowDown")
    at = "[document.activeElement.dataset.row, document.activeElement.dataset.figure]"
    assert browser.evaluate(at) == ["1", "fused.top1"]
    browser.press("Enter")
    assert browser.evaluate("document.getElementById('told').open")
    told = browser.evaluate("document.getElementById('told-content').innerText")
    for run_ in record.runs:
        assert f"{100 * run_.figures['fused.top1']:.1f}" in told
    for part in (record.card_sha256, record.runs[0].split_sha256["test"], "mix.method", "owned",
                 "last epoch", "ImageNet", record.runs[0].predictions.file):  # fmt: skip
        assert part in told
    assert browser.evaluate("document.querySelectorAll('#told-content figure').length") == 4
    browser.evaluate("document.querySelector('#told button').click()")
    browser.wait_for("!document.getElementById('told').open")
    assert browser.evaluate(at) == ["1", "fused.top1"]
    assert browser.evaluate("document.title") == "Leaderboard: mini"
    width = browser.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert width <= 0
    assert browser.said == []
