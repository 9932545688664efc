"""The frame of a mix, made by the command that people run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from media import write_flash_beep

from avmix.config import DataConfig, TrainConfig, to_yaml
from avmix.data.manifest import read_manifest
from avmix.mix import MixPlan, Part, unmixed_plan
from avmix.preview import of_run
from tests.command_line import main


def test_preview_writes_a_frame(toy_set: Path, tmp_path: Path) -> None:
    own, partner = sorted((toy_set / "test").iterdir())[:2]
    frames = []
    for lam in ("1", "0.3"):
        out = tmp_path / f"{lam}.png"
        main(["preview", str(own), str(partner), "--lam", lam, "-o", str(out)])
        frames.append(imread(out))
    assert frames[0].shape == frames[1].shape
    third = frames[0].shape[0] // 3
    # The rows of the two clips are the same in both frames, the row of the mix is not.
    upper = np.abs(frames[0][60:third] - frames[1][60:third]).mean()
    lower = np.abs(frames[0][-third:] - frames[1][-third:]).mean()
    assert upper < 1e-3
    assert lower > 10 * max(upper, 1e-3)


@pytest.mark.parametrize(
    ("lam", "name", "message"),
    [
        ("1.5", "a.mp4", "must be in [0, 1]"),
        ("0.5", "missing.mp4", "missing.mp4"),
        ("0.5", "text.mp4", "text.mp4"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, lam: str, name: str, message: str) -> None:
    write_flash_beep(tmp_path / "a.mp4", seconds=1, events_seconds=(0.4,))
    (tmp_path / "text.mp4").write_text("no video")
    files = [str(tmp_path / "a.mp4"), str(tmp_path / name)]
    with pytest.raises(SystemExit) as end:
        main(["preview", *files, "--lam", lam, "-o", str(tmp_path / "x.png")])
    assert message in str(end.value.code)
    assert "\n" not in str(end.value.code)
    assert not (tmp_path / "x.png").exists()


@pytest.mark.long
def test_every_method_is_drawn_saved_and_replayed(toy_set: Path, tmp_path: Path) -> None:
    own, partner = (str(path) for path in sorted((toy_set / "test").iterdir())[:2])
    plans, whole = tmp_path / "plans.jsonl", tmp_path / "all.png"
    main(["preview", own, partner, "--method", "all", "--lam", "0.4", "-o", str(whole),
          "--save-plan", str(plans)])  # fmt: skip
    lines = plans.read_text().splitlines()
    made = [MixPlan.from_json(line) for line in lines]
    assert [plan.method for plan in made] == [
        "mixup", "cutmix_temporal", "cutmix_spatial", "cutmix_spatiotemporal", "cutmix_frequency",
        "energy",
    ]  # fmt: skip
    drawn, again = tmp_path / "drawn.png", tmp_path / "again.png"
    main(["preview", own, partner, "--method", "cutmix_spatial", "--lam", "0.4", "-o", str(drawn)])
    main(["preview", own, partner, "--plan", str(plans), "--line", "3", "-o", str(again)])
    assert np.array_equal(imread(drawn), imread(again))


def test_a_plan_of_a_run_shows_one_of_its_clips(toy_set: Path, tmp_path: Path) -> None:
    own, partner = (str(path) for path in sorted((toy_set / "test").iterdir())[:2])
    part = Part(name="video", domain="pixels", weight=(1.0, 0.25), present=(True, True))
    audio = Part(name="audio", domain="log_mel", weight=(1.0, 1.0), present=(True, False))
    plan = MixPlan(num_inputs=2, partner=(1, 0), method="mixup", level="input", parts=(part, audio))
    file, saved = tmp_path / "plans_rank0.jsonl", tmp_path / "one.json"
    file.write_text(json.dumps({"epoch": 0, "step": 3, "plan": json.loads(plan.to_json())}) + "\n")
    main(["preview", own, partner, "--plan", str(file), "--clip", "1", "-o",
          str(tmp_path / "x.png"), "--save-plan", str(saved)])  # fmt: skip
    one = MixPlan.from_json(saved.read_text())
    assert (one.size, one.num_inputs, one.partner) == (1, 2, (1,))
    assert (one.part("video").weight, one.part("audio").present) == ((0.25,), (False,))


def test_a_run_says_which_files_a_line_of_its_plans_is_about(
    toy_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = read_manifest(toy_set, "train")
    config = TrainConfig(data=DataConfig(root=str(toy_set)))
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    plan = replace(
        unmixed_plan({"video": [True] * 4, "audio": [True] * 4},
                     {"video": "pixels", "audio": "log_mel"}),
        partner=(1, 2, 3, 0), method="mixup",
    )  # fmt: skip
    rows = [9, 4, 21, 33]
    lines = [{"epoch": 0, "step": n, "rows": rows[::-1] if n else rows,
              "plan": json.loads(plan.to_json())} for n in (0, 1)]  # fmt: skip
    (tmp_path / "plans_rank0.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    command = ["preview", "--run", str(tmp_path), "-o", str(tmp_path / "x.png")]
    main([*command, "--line", "2", "--clip", "1"])
    own, partner = (toy_set / manifest.entries[row].path for row in (21, 4))
    assert capsys.readouterr().out == f"wrote {tmp_path / 'x.png'}: {own} with {partner}\n"
    found = of_run(tmp_path, 2, 1)
    assert found.labels == (manifest.entries[21].labels[0], manifest.entries[4].labels[0])
    for words, message in ((["--line", "3"], "2 lines, not a line 3"), (["--clip", "4"], "clip"),
                           (["--rank", "1"], "plans_rank1.jsonl: not found; training writes it"),
                           (["--plan", "x"], "--plan and --run exclude each other")):  # fmt: skip
        with pytest.raises(SystemExit) as end:
            main([*command, *words])
        assert message in str(end.value.code)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--plan", "PLAN", "--line", "3"], "has 1 lines, not a line 3"),
        (["--plan", "PLAN", "--clip", "5"], "the plan is of 1 clips, there is no clip 5"),
        (["--plan", "BROKEN"], "broken.json: not a plan"),
        (["--plan", "PLAN", "--config", "CONFIG"], "the plan cuts boxes from (8, 112, 112)"),
        (["--method", "mixup@layer"], "mixed at layer level, which cannot be drawn"),
        (["--plan", "INSIDE"], "mixup: mixed at feature level, which cannot be drawn"),
        (["--method", "mixdown"], "unknown mixing method 'mixdown'"),
    ],
)
def test_a_plan_that_does_not_fit_is_one_line(
    toy_set: Path, tmp_path: Path, more: list[str], message: str
) -> None:
    own, partner = (str(path) for path in sorted((toy_set / "test").iterdir())[:2])
    files = {
        name: str(tmp_path / f"{name.lower()}.json")
        for name in ("PLAN", "BROKEN", "CONFIG", "INSIDE")
    }
    main(["preview", own, partner, "--method", "cutmix_spatial", "-o", str(tmp_path / "x.png"),
          "--save-plan", files["PLAN"]])  # fmt: skip
    (tmp_path / "x.png").unlink()
    Path(files["BROKEN"]).write_text("{}")
    part = Part(name="video", domain="features", weight=(0.3,), present=(True,))
    inside = MixPlan(num_inputs=2, partner=(1,), method="mixup", level="feature",
                     parts=(part, replace(part, name="audio")))  # fmt: skip
    Path(files["INSIDE"]).write_text(inside.to_json())
    Path(files["CONFIG"]).write_text(to_yaml(TrainConfig()))
    with pytest.raises(SystemExit) as end:
        main(["preview", own, partner, "-o", str(tmp_path / "x.png"),
              *(files.get(word, word) for word in more)])  # fmt: skip
    assert message in str(end.value.code)
    assert "\n" not in str(end.value.code)
    assert not (tmp_path / "x.png").exists()


def drawn(tmp_path: Path, files: list[str], *more: str) -> np.ndarray:
    out = tmp_path / "drawn.png"
    main(["preview", *files, "-o", str(out), "--save-plan", str(tmp_path / "plan.json"), *more])
    return imread(out)[60:]


@pytest.mark.long
def test_options_of_the_command_reach_the_plan(toy_set: Path, tmp_path: Path) -> None:
    files = [str(path) for path in sorted((toy_set / "test").iterdir())[:2]]
    plans = []
    for more in (["--seed", "0"], ["--seed", "5"], ["--audio-domain", "power"]):
        drawn(tmp_path, files, "--method", "cutmix_spatial", *more)
        plans.append(MixPlan.from_json((tmp_path / "plan.json").read_text()))
    assert plans[0].part("video").box != plans[1].part("video").box
    assert [p.part("audio").domain for p in plans] == ["log_mel", "log_mel", "power"]
    assert not np.array_equal(drawn(tmp_path, files), drawn(tmp_path, files, "--start", "0.5"))
    for more, domain in (([], "waveform"), (["--audio-domain", "power"], "power")):
        drawn(tmp_path, files, "--method", "energy", *more)
        plan = MixPlan.from_json((tmp_path / "plan.json").read_text())
        assert plan.part("audio").domain == domain


def test_a_partner_without_audio_leaves_the_audio_alone(tmp_path: Path) -> None:
    files = [str(write_flash_beep(tmp_path / "a.mp4", seconds=3)),
             str(write_flash_beep(tmp_path / "b.mp4", seconds=3, audio_codec=None))]  # fmt: skip
    drawn(tmp_path, files, "--lam", "0.3")
    plan = MixPlan.from_json((tmp_path / "plan.json").read_text())
    assert (plan.part("video").weight, plan.part("audio").weight) == ((0.3,), (1.0,))
