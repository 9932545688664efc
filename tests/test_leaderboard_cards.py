"""Cards of protocols: strict to read, and every cell of them is options of avmix."""

from pathlib import Path

import pytest
from leaderboard_case import CARD, PUBLISHED, write_cards

from avmix.config import TrainConfig, load_config
from avmix.leaderboard.card import CardError, card_ids, card_of, published_rows
from avmix.leaderboard.card_text import listed, shown
from avmix.leaderboard.plan import SEED, cell_options, cells_of, config_of

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", card_ids())
def test_every_cell_of_a_card_is_options_that_act(name: str) -> None:
    card = card_of(name)
    for variant in card.all_variants:
        cells = cells_of(card, variant)
        assert cells
        # One cell of each row: seeds and splits differ in nothing that could be refused.
        cells = tuple({(cell.method, cell.candidate): cell for cell in cells}.values())
        for cell in cells if card.kind == "train" else ():
            options = cell_options(card, cell)
            assert SEED not in options.values()
            if card.features:
                options["data.features"] = "features"
            config_of(options, cell.name)
    assert card.title in shown(card)
    published_rows(card)


def test_the_full_toy_protocol_is_the_configuration_of_the_demo() -> None:
    card = card_of("toy")
    (cell,) = cells_of(card, "full", ["mixup"], [0])
    ours = config_of({**cell_options(card, cell), "data.root": "data/toy", "run.out": "runs/demo",
                      "data.val_split": "val"}, "toy")  # fmt: skip
    assert ours == load_config(TrainConfig, ["--config", str(ROOT / "configs/demo.yaml")])


def test_the_list_names_every_card() -> None:
    lines = list(listed([card_of(name) for name in card_ids()]))
    assert all(any(line.split()[:1] == [name] for line in lines) for name in card_ids())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title: Two", "titel: Two", "did you mean 'title'"),
        ("version: 3", "version: three", "'version' must be a whole number"),
        ("version: 3", "version: 3\nversion: 4", "'version' is there twice"),
        ("seeds: [0, 1]", "seeds: [0, 1.5]", r"'seeds\[1\]' must be a whole number"),
        ("seeds: [0, 1]", "seeds: [-1]", "seeds must be"),
        ("seeds: [0, 1]\n", "", "'seeds' is missing"),
        ("selection: last epoch", "selection: best epoch", "'selection' must be one of last epoch"),
        ("classes: 3", "classes: &n 3\n  gigabytes: *n", "aliases"),
        ("mix.method: mixup", "mix.method: .nan", "'methods.mixed.options.mix.method'"),
        ("{plain: {}", "{../plain: {}", "cannot name a file"),
        ("published: published_mini.yaml", "published: ../x.yaml", "name of a file"),
        ("published: published_mini.yaml", "published: x.yaml", "no file x.yaml"),
        ("id: mini", "id: other", "must be named other.yaml"),
        ("methods: {plain: {}", "methods: {plain: {head: video}", "belongs to a probe"),
        ("methods: {plain: {}", "methods: {plain: {grid: [{}]}", "cannot act without tuning"),
        ("title: Two", "title: !!python/object:os.system {}\nx: Two", "not YAML|could not"),
    ],
)  # fmt: skip
def test_a_card_that_is_wrong_is_refused_by_file_and_key(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    write_cards(tmp_path)
    assert old in CARD
    (tmp_path / "mini.yaml").write_text(CARD.replace(old, new, 1))
    with pytest.raises(CardError, match=said) as error:
        card_of("mini", tmp_path)
    assert "mini.yaml" in str(error.value)


def test_published_rows_are_shares_and_unverified_ones_are_known(tmp_path: Path) -> None:
    card = card_of("mini", write_cards(tmp_path))
    assert [one.verified for one in published_rows(card, tmp_path)] == [True, True, False]
    (tmp_path / "published_mini.yaml").write_text(PUBLISHED.replace("0.61", "61"))
    with pytest.raises(CardError, match="value is a share"):
        published_rows(card, tmp_path)


def test_cells_are_of_the_names_that_the_card_has() -> None:
    card = card_of("toy")
    with pytest.raises(CardError, match="no method 'mixdown'"):
        cells_of(card, "short", methods=["mixdown"])
    with pytest.raises(CardError, match="no split 'third'"):
        cells_of(card, "short", splits=["third"])
    with pytest.raises(CardError, match="no variant 'long'"):
        cells_of(card, "long")
    assert not any(cell.method == "repaired" for cell in cells_of(card, "few_shot"))
    some = cells_of(card, "few_shot", ["none"], [7])
    assert [cell_options(card, cell)["data.shots_seed"] for cell in some] == [7]
