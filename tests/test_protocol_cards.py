"""The cards of published protocols: what they say can be built, and trains; published rows are
data that can be checked."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from media import write_flash_beep

import avmix
from avmix.config import TrainConfig
from avmix.leaderboard.card import PROTOCOLS, CardError, card_ids, card_of, published_rows
from avmix.leaderboard.plan import cell_options, cells_of, config_of
from avmix.models.encoder_names import audio_encoder, video_encoder
from avmix.models.frontend import Frontend
from avmix.recipes.vggsounder import FILES
from avmix.types import Batch

CARDS = {name: card_of(name) for name in card_ids()}
PUBLISHED = {name: card for name, card in CARDS.items()
             if name.split("/")[0] not in ("toy", "ucf101_av8")}  # fmt: skip
"""Cards of protocols of others."""
TRAINED = [
    (name, variant, method)
    for name, card in PUBLISHED.items()
    if card.kind == "train" and not card.cannot_run
    for variant, found in card.all_variants.items()
    for method in card.methods
    if not found.methods or method in found.methods
]
SMALL = {"clip.duration_seconds": 0.5, "clip.num_frames": 2, "clip.short_side": 36,
         "clip.crop": 32, "optim.batch_size": 2, "optim.epochs": 1, "data.val_split": "",
         "data.num_workers": 0, "data.holdout": 0.0, "run.device": "cpu",
         "run.threads": 1}  # fmt: skip
"""The miniature's: the spectrogram, the networks, the losses and the optimizer stay the card's."""


def options_of(name: str, variant: str, method: str) -> dict[str, Any]:
    """Of training, of a cell of the card."""
    return cell_options(CARDS[name], cells_of(CARDS[name], variant, methods=[method])[-1])


def has_balance(options: dict[str, Any]) -> bool:
    """Whether this version of avmix has the options; where not, its message names the section."""
    if hasattr(TrainConfig(), "balance") or not any(key.startswith("balance.") for key in options):
        return True
    with pytest.raises(CardError, match="balance"):
        config_of(options, "the card")
    return False


def distinct() -> dict[str, tuple[str, str, str]]:
    """A row for each miniature training that differs from all others."""
    found: dict[str, tuple[str, str, str]] = {}
    for row in TRAINED:
        options = {k: v for k, v in (options_of(*row) | SMALL).items() if not k.startswith("data.")}
        found.setdefault(json.dumps(options, sort_keys=True), row)
    return found


DISTINCT = list(distinct().values())


@pytest.mark.parametrize("row", TRAINED, ids="-".join)
def test_the_options_of_every_row_are_options_that_act(row: tuple[str, str, str]) -> None:
    options = options_of(*row)
    if has_balance(options):
        config_of(options, row[0])


def test_the_protocols_are_there() -> None:
    """P1 to P16, the tasks of MVEB, and VGGSounder."""
    assert {"ogm_ge/crema_d", "ogm_ge/vggsound", "ogm_ge/kinetics_sounds", "mmpareto/crema_d",
            "bml/crema_d", "balance_benchmark/crema_d", "pmr/crema_d", "agm/crema_d",
            "avslowfast/kinetics400", "mbt/audioset_mini", "cav_mae/vggsound",
            "tbn/epic_kitchens_100", "auditory_slowfast/vggsound", "vggsound/resnet18_audio",
            "multibench/av_mnist", "av_superb/kinetics_sounds", "vggsounder/vggsounder",
            *(f"mveb/{task}" for task in ("ucf101_sound51", "kinetics400", "kinetics700",
                                          "vggsound", "ave", "ravdess", "meld",
                                          "music_avqa"))} <= {*PUBLISHED}  # fmt: skip
    for name, card in PUBLISHED.items():
        assert card.about, name
        assert card.source, name
        assert card.cannot_run or card.defects or card.kind == "probe", name
    assert CARDS["ogm_ge/crema_d"].selection == "oracle on test"
    leaks = [d.what for d in CARDS["ogm_ge/crema_d"].defects if d.leak]
    assert len(leaks) == 2
    assert "91 of 91 actors" in leaks[0]


def resnet18(channels: int) -> int:
    """Parameters without the classifier: He et al., "Deep residual learning" (CVPR 2016)."""
    count, width = channels * 64 * 7 * 7 + 2 * 64, 64
    for stage in (64, 128, 256, 512):
        for block in range(2):
            inputs = width if block == 0 else stage
            count += inputs * stage * 9 + stage * stage * 9 + 2 * 2 * stage
            if inputs != stage:
                count += inputs * stage + 2 * stage
        width = stage
    return count


def test_parameters_are_those_of_the_original() -> None:
    """Two ResNets, that of audio with one channel, and a layer on both features; avmix normalises
    the features before it."""
    assert (resnet18(1), resnet18(3)) == (11_170_240, 11_176_512)
    config = config_of(options_of("ogm_ge/crema_d", "as_published", "concat"), "the card")
    net = avmix.build_model(config.model, 6, clip=config.clip, frontend=config.frontend)
    counts = {name: sum(p.numel() for p in getattr(net, name).parameters())
              for name in ("video", "audio")}  # fmt: skip
    assert counts == {"video": resnet18(3), "audio": resnet18(1)}
    heads, norms = 6 * (512 + 512) + 6, 2 * (512 + 512)
    assert sum(p.numel() for p in net.parameters()) == sum(counts.values()) + heads + norms


SHAPES = {
    "ogm_ge/crema_d": (257, 188), "ogm_ge/vggsound": (129, 626),
    "ogm_ge/kinetics_sounds": (128, 1024), "tbn/epic_kitchens_100": (256, 256),
    "avslowfast/kinetics400": (80, 128), "auditory_slowfast/vggsound": (128, 512),
    "vggsound/resnet18_audio": (257, 1004),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_spectrograms_have_the_published_size(name: str) -> None:
    """The formulas are compared in test_published_front_ends.py."""
    card = CARDS[name]
    config = config_of(options_of(name, next(iter(card.all_variants)), next(iter(card.methods))),
                       name)  # fmt: skip
    seconds, rate = config.clip.duration_seconds, config.clip.sample_rate
    audio = 0.1 * torch.randn(1, round(seconds * rate), generator=torch.Generator().manual_seed(0))
    found = Frontend(config.frontend, rate).log_mel(audio)
    assert tuple(found.shape) == (1, 1, *SHAPES[name])
    assert found.isfinite().all()


@pytest.mark.parametrize("name", [n for n, c in PUBLISHED.items() if c.kind == "probe"])
def test_probes_build_their_encoders(name: str) -> None:
    pytest.importorskip("timm")
    card = CARDS[name]
    if card.cannot_run:
        pytest.skip(card.cannot_run)
    config = config_of(card.features, name)
    video = video_encoder(config.model.video, config.clip, load_weights=False)
    audio = audio_encoder(config.model.audio, config.clip, config.frontend, load_weights=False)
    assert (video.num_features, audio.num_features) == (2 * 1280, 1280)


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training clips of two classes, each of another source."""
    folder = tmp_path_factory.mktemp("miniature")
    lines = ["path,label,split,source"]
    for number in range(4):
        write_flash_beep(folder / f"{number}.mp4", seconds=1, events_seconds=(0.2 + 0.1 * number,),
                         size=(48, 40))  # fmt: skip
        lines.append(f"{number}.mp4,{'ab'[number % 2]},train,s{number}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder


def trains(row: tuple[str, str, str], data: Path, out: Path) -> None:
    """Two steps of two clips: finite losses, and weights of both encoders that have changed."""
    options = options_of(*row)
    if not has_balance(options):
        pytest.skip("this version of avmix has no section balance")
    options = {k: v for k, v in options.items() if not k.startswith("data.")} | SMALL
    options |= {"data.root": str(data), "data.table": "clips.csv", "run.out": str(out)}
    result = avmix.train(config_of(options, row[0]))
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [step["loss"] for step in steps if step["kind"] == "step"]
    assert len(losses) == 2
    assert all(0 < loss < 1e3 for loss in losses)
    assert result.epochs == 1


@pytest.mark.long
def test_the_protocol_on_data_at_hand_trains(miniature: Path, tmp_path: Path) -> None:
    trains(("ogm_ge/ucf101_av8", "last_epoch", "concat"), miniature, tmp_path / "run")


@pytest.mark.long
@pytest.mark.parametrize("row", DISTINCT, ids="-".join)
def test_every_protocol_trains(row: tuple[str, str, str], miniature: Path, tmp_path: Path) -> None:
    trains(row, miniature, tmp_path / "run")


@pytest.mark.parametrize("name", dict.fromkeys(row[0] for row in TRAINED))
def test_every_pipeline_has_a_gradient(name: str) -> None:
    """From waveforms and frames of the card's own formulas to the first layer of both encoders."""
    card = CARDS[name]
    options = options_of(name, next(iter(card.all_variants)), next(iter(card.methods)))
    config = config_of(options | SMALL, name)
    draw = torch.Generator().manual_seed(0)
    samples = round(config.clip.duration_seconds * config.clip.sample_rate)
    here = torch.ones(2, dtype=torch.bool)
    batch = Batch(
        video=torch.randint(0, 256, (2, 2, 32, 32, 3), dtype=torch.uint8, generator=draw),
        audio=0.1 * torch.randn(2, samples, generator=draw), has_video=here, has_audio=here,
        target=torch.eye(2), row=torch.arange(2), source=torch.arange(2),
    )  # fmt: skip
    net = avmix.build_model(config.model, 2, clip=config.clip, frontend=config.frontend)
    stage = Frontend(config.frontend, config.clip.sample_rate, net.pixels)
    logits = net(*stage(batch), here, here).logits
    torch.nn.functional.cross_entropy(logits.fused, batch.target).backward()
    for encoder in (net.video, net.audio):
        gradient = next(encoder.parameters()).grad
        assert gradient is not None
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


def test_published_rows_belong_to_one_card_each() -> None:
    files = {path.relative_to(PROTOCOLS) for path in PROTOCOLS.rglob("published*.yaml")}
    used = [Path(name).parent / card.published for name, card in CARDS.items() if card.published]
    assert Counter(used) == Counter(files)
    for name, card in PUBLISHED.items():
        rows = published_rows(card)
        keys = [(row.method, row.metric, row.source) for row in rows]
        assert len(keys) == len({*keys}), name
        assert all(0 < row.value < 1 for row in rows), name
        assert all(row.variant in ("", *card.all_variants) for row in rows), name


def test_published_rows_by_hand() -> None:
    by_card = {name: published_rows(card) for name, card in PUBLISHED.items()}
    tables = {name: rows for name, rows in by_card.items() if name.startswith("balance_benchmark/")}
    assert sorted(map(len, tables.values())) == [19, 20, 20, 20, 20]  # one row is empty in one
    best = {name: max(rows, key=lambda row: row.value) for name, rows in tables.items()}
    assert {name.split("/")[1]: (row.method, row.value) for name, row in best.items()} == {
        "kinetics_sounds": ("MMPareto", 0.7455), "crema_d": ("MMPareto", 0.7997),
        "ucf101_flow": ("AMCo", 0.8691), "balanced_av": ("AGM", 0.7549),
        "vggsound": ("UMT", 0.5158),
    }  # fmt: skip
    assert sum(row.value for row in by_card["balance_benchmark/crema_d"]) == pytest.approx(13.9151)
    crema = {row.method: row for row in by_card["ogm_ge/crema_d"]}
    assert crema["concat"].value == 0.517
    assert not crema["concat"].verified
    assert crema["concat, a user of LFM"].verified
    mveb = {row.method: row.value for row in by_card["mveb/ucf101_sound51"]}
    assert mveb["PE-AV large, video"] - mveb["PE-AV large, video and audio"] == pytest.approx(0.057)
    unverified = [row for rows in by_card.values() for row in rows if not row.verified]
    assert len(unverified) == 24


def test_vggsounder_is_the_recipe_of_its_wheel() -> None:
    """The card and the recipe mean the same file."""
    card = CARDS["vggsounder/vggsounder"]
    assert FILES[card.dataset.manifest_protocol] in card.dataset.how
    assert card.dataset.splits["only"].parts["test"].clips == 12_014
