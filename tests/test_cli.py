"""The `avmix` command: what it lists, what it says of a word it does not know, and its help."""

import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import avmix
from avmix import cli
from avmix.commands import prepare
from avmix.commands.catalogue import COMMANDS, GROUPS
from avmix.config import TrainConfig
from avmix.config.command_line import options_of

ROOT = Path(__file__).parents[1]
OF_SYNTH = ("repair", "compose", "external")


def said(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    """What the command prints, to the standard output or, where it fails, to the error."""
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == code
    out, error = capsys.readouterr()
    assert (out, error)[code == 0] == ""
    return error or out


def test_alone_it_lists_the_commands_in_their_groups(capsys: pytest.CaptureFixture[str]) -> None:
    text = said([], capsys)
    assert text == said(["--help"], capsys)
    paragraphs = [p.splitlines() for p in text.split("\n\n")]
    found = {
        lines[0].split(":")[0]: [line.split()[0] for line in lines[1:]]
        for lines in paragraphs
        if lines[0].split(":")[0] in GROUPS
    }
    assert found == {
        "data": ["prepare", "synth", "events"],
        "train": [
            "train",
            "evaluate",
            "predict",
            "export",
            "push",
            "compare",
            "guard",
            "features",
            "probe",
            "leaderboard",
        ],
        "look": ["doctor", "preview", "explore", "model"],
        "tools": ["download", "leaks", "transcode", "shards", "completion"],
    }
    assert max(map(len, text.splitlines())) <= 100


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(["--version"], capsys) == f"avmix {avmix.__version__}\n"
    assert f'version = "{avmix.__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("words", "beginning"),
    [
        (["trian"], "error: unknown command 'trian'; did you mean 'train'? Commands: prepare, "),
        (["--versoin"], "error: unknown option '--versoin'. Commands: "),
        (["qqq"], "error: unknown command 'qqq'. Commands: "),
        (["prepare", "ufc101"],
         "error: unknown dataset 'ufc101'; did you mean 'ucf101'? Datasets: audioset, "),
        (["train", "--mix.alhpa", "1"], "error: no option 'mix.alhpa'; did you mean 'mix.alpha'?"),
        (["evaluate"], "error: the following arguments are required: --checkpoint"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_one_line_with_what_is_near(
    words: list[str], beginning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(words, capsys, code=2)
    assert text.startswith(beginning)
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [*([c.name] for c in COMMANDS), *(["synth", method] for method in OF_SYNTH)],
    ids=" ".join,
)
def test_the_help_of_a_command_has_a_description_an_example_and_its_exit_codes(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = said([*words, "--help"], capsys)
    usage, _, body = text.partition("\n\n")
    assert usage.startswith(f"usage: avmix {' '.join(words)}")
    assert re.match(r"[A-Z][^.]{10,}\.", body.replace("\n", " ")), "no sentence says what it does"
    assert re.search(rf"^example:\n  avmix {' '.join(words)}\b", text, re.MULTILINE)
    codes = re.search(r"^exit: +0 \w+.*\b2 wrong\s+usage", text, re.MULTILINE | re.DOTALL)
    assert codes, "no exit codes"


@pytest.mark.parametrize("name", prepare.names())
def test_a_recipe_is_listed_and_has_a_script_and_a_card(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = said(["prepare"], capsys)
    assert re.search(rf"^  {name} +{re.escape(prepare.summary(name))}$", listed, re.MULTILINE)
    text = said(["prepare", name, "--help"], capsys)
    assert text.startswith(f"usage: avmix prepare {name} ")
    assert f"\n    avmix prepare {name} --" in text
    assert re.search(r"^exit: +0 \w+", text, re.MULTILINE)
    # The script at the top level is the same command, and its help shows how it is called.
    path = f"datasets/{name}/{'make' if name == 'toy' else 'prepare'}.py"
    monkeypatch.setattr(sys, "argv", [path, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / path), run_name="__main__")
    assert end.value.code == 0
    of_script = capsys.readouterr().out
    assert of_script.startswith(f"usage: python {path} ")
    after = of_script.partition("\n\n")[2].replace(f"python {path}", f"avmix prepare {name}")
    assert after == text.partition("\n\n")[2]
    assert (ROOT / f"datasets/{name}/README.md").exists()


def test_every_folder_of_datasets_has_a_recipe() -> None:
    folders = {path.parent.name for path in (ROOT / "datasets").glob("*/README.md")}
    assert folders == set(prepare.names())


def test_help_that_needs_no_torch_does_not_import_it() -> None:
    asked = [["train", "--help"], ["evaluate", "--help"], ["train", "--mix.alhpa", "1"],
             ["prepare"], ["preview", "--help"], ["completion", "--help"],
             ["predict", "--help"]]  # fmt: skip
    code = f"""
import sys
from avmix.cli import main
import avmix, avmix.commands.prepare
for words in {asked!r}:
    try:
        main(words)
    except SystemExit:
        print(words, "torch" in sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    found = [line for line in done.stderr.splitlines() if line.startswith("[")]
    assert found == [f"{words} False" for words in asked]


def test_the_functions_are_those_of_the_commands() -> None:
    from avmix.commands.evaluate import evaluate
    from avmix.commands.train import TrainResult, train

    assert (avmix.train, avmix.evaluate) == (train, evaluate)
    assert avmix.TrainResult is TrainResult


@pytest.fixture(scope="module")
def completion() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "avmix", "completion", "bash"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tra"], ["train", "transcode"]),
        (["prepare", "kin"], ["kinetics", "kinetics_sounds"]),
        (["synth", ""], ["repair", "compose", "external"]),
        (["train", "--mix.me"], ["--mix.method"]),
        (["train", "--mix.law", ""], ["beta", "uniform", "fixed"]),
        (["evaluate", "--verify", "f"], ["first"]),
        (["prepare", "folder", "--check", ""], ["fast", "full"]),
        (["completion", "ba"], ["bash"]),
    ],
    ids=" ".join,
)
def test_bash_completes(completion: str, words: list[str], expected: list[str]) -> None:
    line = ["avmix", *words]
    ask = f"""{completion}
COMP_WORDS=({" ".join(repr(word) for word in line)}) COMP_CWORD={len(line) - 1}
_shtab_avmix
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash"], input=ask, capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected


def test_every_option_of_training_is_completed(completion: str) -> None:
    keys = [option.flag for option in options_of(TrainConfig)]
    assert len(keys) > 100
    (line,) = re.findall(r"^_shtab_avmix_train_option_strings=\((.*)\)$", completion, re.MULTILINE)
    assert set(keys) <= set(line.split())


def test_paths_are_completed_as_files(completion: str) -> None:
    for name in ("train___data_root", "train___run_out", "evaluate___checkpoint", "shards___out",
                 "prepare_folder___annotations"):  # fmt: skip
        assert f"_shtab_avmix_{name}_COMPGEN=_shtab_compgen_files" in completion


@pytest.mark.parametrize("words", [["model", "--config"], ["evaluate", "--config"],
                                   ["train", "--config"]], ids=lambda words: words[0])  # fmt: skip
def test_ctrl_c_ends_every_command_with_130_and_a_line(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fifo = tmp_path / "waits.yaml"
    os.mkfifo(fifo)

    def interrupt() -> None:
        end = os.open(fifo, os.O_WRONLY)  # returns once the command has begun to read
        os.kill(os.getpid(), signal.SIGINT)
        main_is_through.wait()
        os.close(end)

    main_is_through = threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, str(fifo)])
    finally:
        main_is_through.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == 130
    assert capsys.readouterr().err.strip().startswith(("stopped", "interrupted"))
