"""Options of commands that are set and cannot act are errors that name what would let them act."""

import argparse
from pathlib import Path

import pytest

from avmix.cli import main
from avmix.commands import preview
from avmix.commands.catalogue import BY_NAME
from avmix.prepare import after_prepare
from avmix.prepare.command import run_recipe
from avmix.system.unused_arguments import unused_argument
from tests.recipes_media import load_recipe

SET = ["--root", ".", "--out", "o"]
EXTERNAL = ["synth", "external", *SET, "--jobs", "j", "--command", "c", "--kind", "text-to-speech"]
PREDICT = ["predict", "a.mp4", "--checkpoint", "c"]
IDLE = [
    (["leaks", "--root", "."], ["--max-frame-bits", "3"], ["--near"]),
    (["leaks", "--root", "."], ["--max-audio-share", "0.1"], ["--near"]),
    (["leaks", "--root", "."], ["--cache", "c"], ["--near"]),
    (["leaks", "--root", "."], ["--workers", "2"], ["--near"]),
    (["doctor"], ["--seconds", "5"], ["a.mp4"]),
    (["doctor"], ["--workers", "2"], ["a.mp4"]),
    (["doctor"], ["--all"], ["a.mp4"]),
    (["doctor", "a.mp4", "--json", "-"], ["--all"], ["--json", "x"]),
    (["synth", "repair", *SET], ["--shots-seed", "1"], ["--shots", "2"]),
    (EXTERNAL, ["--shots-seed", "1"], ["--shots", "2"]),
    (PREDICT, ["--step", "2"], ["--along-time"]),
    (PREDICT, ["--figures", "d"], ["--along-time"]),
    (["synth", "compose", "--background-root", ".", "--out", "o"], ["--shots-seed", "1"],
     ["--shots", "2"]),
]  # fmt: skip
"""A command, an option that cannot act there, and what lets it act."""


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    BY_NAME[words[0]].add_arguments(parser)
    return parser.parse_args(words[1:])


@pytest.mark.parametrize(("command", "option", "more"), IDLE)
def test_an_option_that_cannot_act_is_refused(
    command: list[str], option: list[str], more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command, *option])
    assert end.value.code == 2
    assert f"error: {option[0]} cannot act without " in capsys.readouterr().err
    needs = BY_NAME[command[0]].needs
    assert unused_argument(parsed(command), needs) == ""  # its default is no use of it
    assert unused_argument(parsed([*command, *option, *more]), needs) == ""


@pytest.mark.parametrize(
    ("option", "needs"), [(["--short-side", "64"], "--transcode"), (["--per-shard", "5"],
                                                                    "--shards")]
)  # fmt: skip
def test_what_follows_a_recipe_has_options_of_its_own(
    option: list[str], needs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--root", str(tmp_path), "--out", str(tmp_path / "out")]
    assert run_recipe("x", "", lambda options: [], argv=[*argv, *option]) == 2
    assert f"error: {option[0]} cannot act without {needs}" in capsys.readouterr().err
    parser = argparse.ArgumentParser()
    after_prepare.add_follow_arguments(parser)
    assert unused_argument(parser.parse_args([]), after_prepare.NEEDS) == ""
    assert unused_argument(parser.parse_args([*option, needs, "d"]), after_prepare.NEEDS) == ""


@pytest.mark.parametrize("share", ["--val", "--test"])
def test_shares_of_splits_that_are_given_are_refused(
    share: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "test"):
        (tmp_path / "media" / split / "x").mkdir(parents=True)
        (tmp_path / "media" / split / "x/a.mp4").write_bytes(b"no video")
    recipe = load_recipe("folder")
    argv = ["--root", str(tmp_path / "media"), "--out", str(tmp_path / "out"), share, "0.3"]
    code = run_recipe("folder", "", recipe.protocols, arguments=recipe.arguments, argv=argv)
    assert code == 1
    assert f"error: {share} cannot act: every clip has its split" in capsys.readouterr().err


KINDS = {"a mix": ["a.mp4", "b.mp4"], "--plan": ["a.mp4", "b.mp4", "--plan", "p"],
         "--run": ["--run", "r"], "--augment": ["a.mp4", "--augment", "{}"],
         "--grid": ["a.mp4", "b.mp4", "--grid", "g"]}  # fmt: skip
PREVIEW = {
    "--method energy": ["a mix"],
    "--audio-domain power": ["a mix"],
    "--lam 0.3": ["a mix"],
    "--seed 4": ["a mix", "--augment", "--grid"],
    "--config c.yaml": ["a mix", "--plan", "--augment", "--grid"],
    "--line 2": ["--plan", "--run"],
    "--clip 2": ["--plan", "--run"],
    "--rank 2": ["--run"],
    "--save-plan s": ["a mix", "--plan", "--run"],
    "--start 0.5": ["a mix", "--plan", "--run"],
    "--labels x y": ["a mix", "--plan", "--run"],
    "--epoch 2": ["--augment"],
    "--no-videos": ["--augment"],
    "--out o.png": ["a mix", "--plan", "--run", "--augment"],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("option", PREVIEW)
def test_a_preview_refuses_what_means_nothing_for_it(option: str, kind: str) -> None:
    parser = argparse.ArgumentParser()
    preview.add_arguments(parser)
    args = parser.parse_args([*KINDS[kind], *option.split()])
    if kind in PREVIEW[option]:
        preview._check_preview(args)
    else:
        name = option.split()[0]
        with pytest.raises(ValueError, match=f"{name} means nothing for {kind}, only for "):
            preview._check_preview(args)


def test_every_option_of_a_preview_is_in_the_table() -> None:
    parser = argparse.ArgumentParser()
    preview.add_arguments(parser)
    options = {"--" + name.replace("_", "-") for name in vars(parser.parse_args([]))}
    kinds = {kind for kind in KINDS if kind.startswith("--")}
    assert options - kinds - {"--own", "--partner"} == {word.split()[0] for word in PREVIEW}
