"""`avmix leaderboard`: protocols, their runs, tables of results that can be scored again."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from avmix.leaderboard.card import PROTOCOLS, Card, CardError, card_ids, card_of
from avmix.leaderboard.clips_at_hand import Places
from avmix.system.argument_types import at_least_one
from avmix.system.printing import echo

if TYPE_CHECKING:
    from avmix.leaderboard.run_protocol import Asked

WORK = Path("runs/leaderboard")
EPILOG = """\
exit:   0 done   1 something cannot be read or run, or a cell failed: it is named, the others are
        done   2 wrong usage   130 interrupted; the same command continues
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--protocols", type=Path, default=PROTOCOLS, metavar="DIR",
                        help="folder of cards (those of avmix)")  # fmt: skip
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="name all protocols")
    _add_protocol(actions.add_parser("show", help="tell all that a card says"))
    check = actions.add_parser("check", help="tell whether this machine can run it, and the cost")
    run_ = actions.add_parser("run", help="train and judge what is missing, and write results")
    for one in (check, run_):
        _add_protocol(one)
        _add_cells(one)
        _add_places(one)
    run_.add_argument("--ray", metavar="ADDRESS",
                      help="run on the Ray cluster there; `local` starts one here")  # fmt: skip
    run_.add_argument("--out", type=Path, metavar="DIR",
                      help="folder of results (WORK/results)")  # fmt: skip
    table = actions.add_parser("table", help="compute the tables of results again")
    table.add_argument("protocol", nargs="?", default="", help="name of a card (all with results)")
    table.add_argument("--variant", metavar="NAME", help="variant of the card (all)")
    table.add_argument("--format", choices=("markdown", "json", "csv", "latex"),
                       default="markdown", help="(markdown)")  # fmt: skip
    _add_results(table)
    page = actions.add_parser("page", help="write the tables as one file of HTML")
    page.add_argument("protocol", nargs="?", default="", help="name of a card (all with results)")
    page.add_argument("--variant", metavar="NAME", help="variant of the card (all)")
    page.add_argument("--to", type=Path, metavar="FILE", help="(RESULTS/leaderboard.html)")
    _add_results(page)
    export = actions.add_parser("export", help="write results in the formats of others")
    _add_protocol(export)
    export.add_argument("format", choices=("mteb", "eval-results", "card"),
                        help="JSON as of mteb; .eval_results/*.yaml of the Hub; "
                        "model card")  # fmt: skip
    export.add_argument("--variant", metavar="NAME", help="variant of the card (the first)")
    export.add_argument("--method", metavar="NAME", help="row (the first of the card)")
    export.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to write to")
    export.add_argument("--name", default="avmix", help="of the model (avmix)")
    _add_results(export)


def _add_protocol(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("protocol", help="name of a card, as `avmix leaderboard list` has it")


def _add_cells(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variant", metavar="NAME", help="variant of the card (the first)")
    for name, what in (("methods", "rows"), ("splits", "splits of the dataset")):
        parser.add_argument(f"--{name}", nargs="+", default=[], metavar="NAME",
                            help=f"{what} (all)")  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, default=[], metavar="N",
                        help="seeds, or draws of a probe (those of the card)")  # fmt: skip


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, metavar="DIR",
                        help="media folder; where avmix makes a set: WORK/data")  # fmt: skip
    parser.add_argument("--manifest", type=Path, metavar="DIR",
                        help="folder with dataset.json; of several splits one folder each in it "
                        "(made from the table of the card, or --root)")  # fmt: skip
    parser.add_argument("--features", type=Path, nargs="+", default=[], metavar="DIR",
                        help="what `avmix features` wrote, in place of what the card "
                        "computes")  # fmt: skip
    parser.add_argument("--work", type=Path, default=WORK, metavar="DIR",
                        help=f"folder for everything that is made ({WORK})")  # fmt: skip
    parser.add_argument("--jobs", type=at_least_one, default=1, metavar="N",
                        help="cells at a time (1)")  # fmt: skip
    parser.add_argument("--threads", type=at_least_one, default=1, metavar="N",
                        help="CPU threads of a cell (1)")  # fmt: skip


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=WORK / "results", metavar="DIR",
                        help=f"folder of results ({WORK / 'results'})")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    try:
        return _ACTIONS[args.action](args)
    except (ValueError, OSError) as error:
        echo(f"error: {error}", error=True)
        return 1
    except KeyboardInterrupt:
        echo("stopped; the same command continues", error=True)
        return 130


def _list(args: argparse.Namespace) -> int:
    from avmix.leaderboard.card_text import listed

    for line in listed([card_of(name, args.protocols) for name in card_ids(args.protocols)]):
        echo(line)
    return 0


def _show(args: argparse.Namespace) -> int:
    from avmix.leaderboard.card_text import shown

    echo(shown(card_of(args.protocol, args.protocols), args.protocols), keep="\n")
    return 0


def _check(args: argparse.Namespace) -> int:
    from avmix.leaderboard.machine_check import check

    card = card_of(args.protocol, args.protocols)
    found = check(_asked(args, card))
    for line in found.lines:
        echo(line)
    return 0 if found.can_run else 1


def _run(args: argparse.Namespace) -> int:
    from avmix.leaderboard.run_protocol import run_protocol

    card = card_of(args.protocol, args.protocols)
    asked = _asked(args, card)
    counts = run_protocol(asked)
    echo(f"{card.id}, {asked.variant}: {counts.done} cells done, {counts.before} before, "
         f"{len(counts.failures)} failed; results: {asked.out}")  # fmt: skip
    for why in counts.failures:
        echo(f"failed: {why}", error=True)
    if counts.failures:
        echo("the same command runs what failed again", error=True)
    return 1 if counts.failures else 0


def _asked(args: argparse.Namespace, card: Card) -> "Asked":
    from avmix.leaderboard.run_protocol import Asked

    work: Path = args.work.resolve()
    variant = args.variant or next(iter(card.all_variants))
    if args.root is None and not (card.dataset.prepare or args.features or card.cannot_run):
        raise CardError(f"{card.id} needs --root DIR: {card.dataset.how}")
    root = args.root or work / "data" / card.id
    places = Places(
        root=root.resolve(), manifest=args.manifest and args.manifest.resolve(),
        features=tuple(folder.resolve() for folder in args.features), work=work,
        threads=args.threads,
    )  # fmt: skip
    return Asked(
        card=card, cards=args.protocols, variant=variant, methods=tuple(args.methods),
        seeds=tuple(args.seeds), splits=tuple(args.splits), places=places,
        out=getattr(args, "out", None) or args.work / "results", at_once=args.jobs,
        ray=getattr(args, "ray", None) or "",
    )  # fmt: skip


def _table(args: argparse.Namespace) -> int:
    from avmix.leaderboard.table_text import text_of
    from avmix.leaderboard.tables import tables_of

    found, refused = tables_of(args.results, args.protocol, args.variant or "", args.protocols)
    for one in refused:
        echo(f"refused: {one.why}", error=True)
    if not found:
        raise ValueError(f"{args.results}: no result of {args.protocol or 'any protocol'}")
    echo(text_of(found, args.format), keep="\n")
    return 1 if refused else 0


def _page(args: argparse.Namespace) -> int:
    from avmix.leaderboard.board import board_page
    from avmix.leaderboard.tables import tables_of
    from avmix.system.atomic_files import replacing

    found, refused = tables_of(args.results, args.protocol, args.variant or "", args.protocols)
    for one in refused:
        echo(f"refused: {one.why}", error=True)
    if not found:
        raise ValueError(f"{args.results}: no result of {args.protocol or 'any protocol'}")
    path: Path = args.to or args.results / "leaderboard.html"
    content = board_page(found, refused, args.results)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content)
    echo(f"wrote {path}")
    return 1 if refused else 0


def _export(args: argparse.Namespace) -> int:
    from avmix.leaderboard.exports import export

    card = card_of(args.protocol, args.protocols)
    written = export(
        card, variant=args.variant or next(iter(card.all_variants)),
        method=args.method or next(iter(card.methods)), results=args.results, to=args.to,
        format=args.format, name=args.name, cards=args.protocols,
    )  # fmt: skip
    echo(f"wrote {written}")
    return 0


_ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list, "show": _show, "check": _check, "run": _run, "table": _table,
    "page": _page, "export": _export,
}  # fmt: skip
