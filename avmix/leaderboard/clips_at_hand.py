"""Clips of a protocol on this machine: made or listed where that needs no download, their features
computed once, and compared with what the card says of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from avmix.data.kept_features import read_header
from avmix.data.manifest import Manifest, read_manifest
from avmix.leaderboard.card import Card, CardError
from avmix.leaderboard.child_command import run_avmix
from avmix.leaderboard.plan import EXTRA, config_of, nested
from avmix.leaderboard.strict_record import Option
from avmix.prepare.csv_table import prepare_table
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where things are on this machine."""

    root: Path
    """Media folder."""
    manifest: Path | None
    """Folder with dataset.json, where it is not made here; of a card with several splits the
    parent of one folder each."""
    features: tuple[Path, ...] = ()
    """Folders that `avmix features` wrote, in place of what the card computes."""
    work: Path
    """For everything that is made."""
    threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Clips:
    """One split of the card, ready to be trained on."""

    options: dict[str, Option]
    """Of training: the folders."""
    folders: tuple[Path, ...]
    """Of the features that a probe is fitted to; of others that of the manifest."""
    split_sha256: dict[str, str]
    media_sha256: dict[str, str]
    test_ids: tuple[str, ...]
    """Of clips and sources of the split that is judged."""
    classes: int
    extra: str = ""
    """Folder of additional training clips, where they were asked for."""


def is_made(card: Card, places: Places) -> bool:
    """Whether the dataset needs nothing but `avmix prepare`, and is not there yet."""
    return bool(card.dataset.prepare) and not (places.root / "dataset.json").exists()


def make_dataset(card: Card, places: Places) -> None:
    """Run `avmix prepare` as the card says, once. Raises `CardError` where it fails."""
    if not is_made(card, places):
        return
    words = [one.replace("{root}", str(places.root)) for one in card.dataset.prepare]
    _run(["prepare", card.dataset.recipe, *words], f"{card.id}: avmix prepare")


def clips_of(card: Card, split: str, places: Places, *, extra: bool = False) -> Clips:
    """The clips of a split of the card; `extra`: with the additional ones.

    Raises ValueError (`CardError`, `ManifestError`, `FeaturesError`), also where they are not those
    of the card.
    """
    if places.features:
        return _found(card, split, places, list(places.features), _features_of(places.features))
    folder, data = _manifest(card, split, places)
    if not card.features:
        found = _found(card, split, places, [folder], {"data.root": str(places.root), **data})
        return replace(found, extra=_extra(card, split, places, folder)) if extra else found
    kept = places.work / "features" / card.id / split
    compute_features(card, split, kept, {"data.root": str(places.root), **data}, places.threads)
    return _found(card, split, places, [kept], {"data.features": str(kept)})


def _extra(card: Card, split: str, places: Places, manifest: Path) -> str:
    """Folder of the additional clips of a split, generated once."""
    if not card.dataset.extra:
        raise CardError(f"{card.id}: an option names {EXTRA}, and dataset.extra does not say how "
                        "the clips are generated")  # fmt: skip
    folder = places.work / "extra" / card.id / split
    if not (folder / "dataset.json").exists():
        names = {"{root}": str(places.root), "{manifest}": str(manifest), EXTRA: str(folder)}
        _run([names.get(word, word) for word in card.dataset.extra], f"{card.id}: additional clips")
    return str(folder)


def _features_of(folders: Sequence[Path]) -> dict[str, Option]:
    return {"data.features": str(folders[0])} if len(folders) == 1 else {}


def _manifest(card: Card, split: str, places: Places) -> tuple[Path, dict[str, Option]]:
    """Folder of the manifest of a split, and options that are not in the card."""
    several = len(card.dataset.splits) > 1
    if places.manifest is not None:
        folder = places.manifest / split if several else places.manifest
        return folder, {"data.manifest": str(folder)}
    options = {**(card.features or card.options), **card.dataset.splits[split].options}
    if not options.get("data.table"):
        return places.root, {}
    folder = places.work / "manifests" / card.id / split
    given: dict[str, Option] = {key: value for key, value in options.items()
                                if key.startswith("data.table")}  # fmt: skip
    given |= {"data.root": str(places.root), "data.manifest": str(folder)}
    prepare_table(config_of(given, f"{card.id}, {split}").data)
    return folder, {"data.manifest": str(folder)}


def compute_features(
    card: Card, split: str, folder: Path, data: dict[str, Option], threads: int
) -> None:
    """Run `avmix features` with the options of the card into `folder`; what is there is not
    computed again. Raises `CardError` where it fails."""
    options = {**card.features, **card.dataset.splits[split].options, **data,
               "run.threads": threads}  # fmt: skip
    asked = hashlib.sha256(strict_json.dumps(options, sort_keys=True).encode()).hexdigest()
    mark = folder / "asked.txt"
    header = read_header(folder)
    whole = header is not None and header.splits and all(
        said["complete"] for said in header.splits.values()
    )  # fmt: skip
    if whole and mark.exists() and mark.read_text() == asked:
        return
    file = folder.with_name(f"{folder.name}.yaml")
    folder.parent.mkdir(parents=True, exist_ok=True)
    replace_text(file, yaml.safe_dump(nested(options), sort_keys=False, allow_unicode=True))
    _run(["features", "--config", str(file), "--out", str(folder)], f"{card.id}: avmix features")
    replace_text(mark, asked)


def _found(
    card: Card, split: str, places: Places, folders: list[Path], options: dict[str, Option]
) -> Clips:
    parts = {"train": read_manifest(folders[0], "train"),
             "test": read_manifest(folders[0], card.dataset.evaluated)}  # fmt: skip
    if why := differs(card, split, parts, of_features=bool(card.features or places.features)):
        raise CardError(f"{folders[0]}: {why}")
    test = parts["test"].entries
    hashes = {name: media_sha256(one) for name, one in parts.items()}
    return Clips(
        options=options, folders=tuple(folders),
        split_sha256={name: one.sha256 for name, one in parts.items()},
        media_sha256={name: one for name, one in hashes.items() if one},
        test_ids=tuple(sorted({e.clip_id for e in test} | {e.source_id for e in test})),
        classes=len(parts["test"].classes),
    )  # fmt: skip


def differs(
    card: Card, split: str, parts: dict[str, Manifest], *, of_features: bool = False
) -> str:
    """In what clips are not those of the card; empty where in nothing that the card says. Features
    list the clips that have some, in a file of their own: their number is compared, not the hash.
    """
    wanted = card.dataset.manifest_protocol
    for name, manifest in parts.items():
        part = card.dataset.splits[split].parts.get(
            card.dataset.evaluated if name == "test" else name
        )
        if wanted and manifest.protocol != wanted:
            return f"its protocol is {manifest.protocol!r}; {card.id} is of {wanted!r}"
        if len(manifest.classes) != card.dataset.classes:
            return f"it has {len(manifest.classes)} classes; {card.id} has {card.dataset.classes}"
        if part is None:
            continue
        if part.clips is not None and part.clips != len(manifest.entries):
            return f"{name} has {len(manifest.entries)} clips; {card.id}, {split}, has {part.clips}"
        if part.sha256 and not of_features and part.sha256 != manifest.sha256:
            return (
                f"{name} has the SHA-256 {manifest.sha256[:12]}; that of {card.id}, {split}, is "
                f"{part.sha256[:12]}: other clips, labels, files or facts about them"
            )
    return ""


def media_sha256(manifest: Manifest) -> str:
    """SHA-256 of the lines `PATH SHA256` of the files, sorted; empty where a file has none."""
    lines: set[str] = set()
    for entry in manifest.entries:
        if not entry.sha256:
            return ""
        lines.add(f"{entry.path} {entry.sha256}\n")
    return hashlib.sha256("".join(sorted(lines)).encode("utf-8", "surrogatepass")).hexdigest()


def _run(words: list[str], what: str) -> None:
    done = run_avmix(words)
    if done.code:
        raise CardError(f"{what} ended with exit code {done.code}: {done.last_line}")
