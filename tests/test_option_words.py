"""Options of a configuration are `--key VALUE`, `--key=VALUE` or `key=VALUE`, in every command."""

import json
from pathlib import Path

import pytest

from avmix.cli import main
from avmix.config import EvalConfig, TrainConfig, as_key_values, load_config, load_files
from avmix.training.runtime import omp_notice

FORMS = (
    ["--model.fusion", "sum", "--mix.alpha", "0.4", "--data.extra", "[a=b]"],
    ["--model.fusion=sum", "--mix.alpha=0.4", "--data.extra=[a=b]"],
    ["model.fusion=sum", "mix.alpha=0.4", "data.extra=[a=b]"],
    ["model.fusion=sum", "--mix.alpha", "0.4", "data.extra=[a=b]"],
)


@pytest.mark.parametrize("words", FORMS)
def test_all_forms_are_one_configuration(words: list[str], tmp_path: Path) -> None:
    found = load_config(TrainConfig, words)
    assert (found.model.fusion, found.mix.alpha, found.data.extra) == ("sum", 0.4, ["a=b"])
    (tmp_path / "a.yaml").write_text("optim: {epochs: 3}\n")
    config = ["--config", str(tmp_path / "a.yaml")]
    assert load_config(TrainConfig, [*config, *words]).optim.epochs == 3
    with_file = load_files(TrainConfig, [Path(config[1])], as_key_values(TrainConfig, words))
    assert with_file == load_config(TrainConfig, [*config, *words])


def test_the_value_of_an_option_may_look_like_one() -> None:
    assert load_config(TrainConfig, ["--data.root", "a=b"]).data.root == "a=b"
    assert load_config(TrainConfig, ["--data.root", "a", "data.table=b=c"]).data.table == "b=c"
    assert load_config(EvalConfig, ["checkpoint=x", "--split", "val"]).split == "val"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model.fusoin=sum"], "no option 'model.fusoin'; did you mean 'model.fusion'?"),
        (["model.fusion=sums"], "model.fusion"),
        (["--model.fusion"], "model.fusion"),
        (["sum"], "sum"),
    ],
)
def test_a_wrong_word_is_named(words: list[str], says: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        load_config(TrainConfig, words)
    error = capsys.readouterr().err
    assert (ended.value.code, says in error) == (2, True), error


@pytest.mark.parametrize(
    "words",
    [
        ["--model.fusion", "sum", "--classes", "4", "model.video.channels=[4,6]", "--json"],
        ["model.fusion=sum", "--json", "--model.video.channels=[4,6]", "--classes", "4"],
    ],
)
def test_a_command_with_options_of_its_own_takes_all_forms(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("clip: {num_frames: 2, crop: 16, short_side: 16}\n")
    with pytest.raises(SystemExit) as ended:
        main(["model", "--config", str(tmp_path / "a.yaml"), "--run.threads", "1", *words])
    captured = capsys.readouterr()
    assert ended.value.code == 0, captured.err
    said = json.loads(captured.out)
    assert said["fusion"] == "sum"
    assert said["stages"][-1]["shapes"] == [[4]] * 3
    assert said["stages"][1]["shapes"][0][0] == 6


def test_an_option_without_its_value_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["model", "--config", "x.yaml", "--model.fusion"])
    assert ended.value.code == 2
    assert "--model.fusion needs a value" in capsys.readouterr().err


def test_threads_that_the_environment_asks_for_in_vain_are_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert omp_notice(2, "run.threads") == (
        "OMP_NUM_THREADS=4 cannot act: run.threads sets the threads, 2 here"
    )
    assert omp_notice(4, "run.threads") == ""
    for other in ("", "4,2"):
        monkeypatch.setenv("OMP_NUM_THREADS", other)
        assert omp_notice(2, "run.threads") == ""
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert omp_notice(2, "run.threads") == ""
