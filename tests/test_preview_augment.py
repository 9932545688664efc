"""What `avmix preview --augment` and `--grid` show of files whose truth is known."""

import re
import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from media import beep_times, write_flash_beep

from avmix.augment import AugmentPlan
from avmix.config import AugmentConfig, ClipConfig, TrainConfig, to_yaml
from avmix.decode import decode_clip
from avmix.preview import augment_preview as preview
from avmix.preview import preview_augment
from avmix.preview.augment_gallery import EXAMPLES, UNSEEN
from avmix.types import Clip
from tests.command_line import main

PLAIN: dict[str, Any] = {"flip": 0.0, "min_area": 1.0, "max_aspect": 1.0}
CLIP = ClipConfig(duration_seconds=2.0, short_side=48, crop=48)
EVENTS = (0.28, 1.0, 1.6)
FRAME_SECONDS = 1 / preview.FPS
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.mp4 is as long as a window, so that reversing mirrors it; long.mp4 is longer."""
    root = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("media.draw_frame", still_or_flash)
        write_flash_beep(root / "a.mp4", seconds=2, events_seconds=EVENTS)
        write_flash_beep(root / "long.mp4", seconds=6, events_seconds=(0.4, 1.4, 3.0, 4.2, 5.2))
        write_flash_beep(root / "stereo.mp4", seconds=2, events_seconds=EVENTS, layout="stereo")
        write_flash_beep(root / "mute.mp4", seconds=2, events_seconds=EVENTS, audio_codec=None)
        write_flash_beep(root / "short.mp4", seconds=1, events_seconds=(0.4,))
    (root / "small.yaml").write_text(to_yaml(TrainConfig(clip=CLIP)))
    return root


def still_or_flash(_: int, *, size: tuple[int, int], flash: bool) -> np.ndarray:
    rows, columns = np.mgrid[: size[1], : size[0]]
    still = np.stack([40 + rows, 120 - columns / 2, 30 + columns], 2).astype(np.uint8)
    return np.full_like(still, 255) if flash else still


def touch(*args: Any) -> None:
    """Instead of drawing, which takes most of the time."""
    args[4].write_text(args[3])


@pytest.fixture
def strips(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is given to be drawn, instead of the drawing."""
    found: list[Any] = []

    def keep(drawn: list[Any], *_: Any) -> None:
        found[:] = drawn

    monkeypatch.setattr(preview, "draw_strips", keep)
    return found


def augmented(
    file: Path, out: Path, options: dict[str, Any], clip: ClipConfig = CLIP, **more: Any
) -> AugmentPlan:
    config = AugmentConfig(**(PLAIN | options))
    return preview_augment(file, more.pop("background", None), out=out, augment=config,
                           clip=clip, **more)  # fmt: skip


def test_the_command_writes_a_sheet_and_two_videos(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    main(["preview", str(files / "a.mp4"), "--augment", "{reverse: 1.0, flip: 0.0}", "--config",
          str(files / "small.yaml"), "-o", str(out)])  # fmt: skip
    assert imread(out).shape[1] == 1200
    for name in ("x_before.mp4", "x_after.mp4"):
        film = decode_clip(tmp_path / name, start_seconds=0, duration_seconds=2, num_frames=50,
                           sample_rate=16_000, audio="require")  # fmt: skip
        assert film.video.shape[1:] == (48, 48, 3)
        assert film.num_held == 0
        assert film.audio_valid == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ({"speed": 1.5}, "long.mp4"),
        ({"speed": 1.5, "speed_keeps_pitch": True}, "long.mp4"),
        ({"reverse": 1.0}, "long.mp4"),
        ({"hide_seconds": 0.9}, "long.mp4"),
        ({"window": "event"}, "long.mp4"),
        ({"binding": "window", "jitter_seconds": 0.4}, "long.mp4"),
        ({"reverse": 1.0}, "short.mp4"),
    ],
)
@pytest.mark.parametrize("seed", [0, 3])
def test_flash_and_beep_are_together_in_the_film(
    files: Path, tmp_path: Path, strips: list[Any], options: dict[str, Any], file: str, seed: int
) -> None:
    plan = augmented(files / file, tmp_path / "x.png", options, seed=seed)
    clip = decode_clip(tmp_path / "x_after.mp4", start_seconds=0, duration_seconds=2,
                       num_frames=50, sample_rate=16_000)  # fmt: skip
    light = clip.video.reshape(50, -1).mean(1)
    # A flash lasts one frame of the file: one or two of the film where it is played slower.
    bright = np.flatnonzero(light > light.min() + 0.6 * (light.max() - light.min()))
    groups = np.split(bright, np.flatnonzero(np.diff(bright) > 2) + 1)
    flashes = np.array([group.mean() + 0.5 for group in groups]) * FRAME_SECONDS
    beeps = beep_times(clip.audio, clip.sample_rate)
    # The beep is at the beginning of the frame of the file; audio of the file from `shift` later
    # is heard that much earlier.
    towards = -1 if plan.time.reverse else 1
    away = towards * (FRAME_SECONDS / 2 + plan.time.audio_shift_seconds) / plan.time.speed
    found = 0
    for flash in flashes:
        beep = flash - away
        hidden = any(a - 0.05 < t < b + 0.05 for a, b in plan.time.hidden for t in (flash, beep))
        if hidden or not 0.08 < beep < 1.92:
            continue
        assert np.abs(beeps - beep).min() <= FRAME_SECONDS, (flash, beeps, plan.time)
        found += 1
    assert found >= 1
    if options.get("binding"):
        assert 0 < abs(plan.time.audio_shift_seconds) <= 0.4


def test_backwards_is_the_mirror_image_in_time(
    files: Path, tmp_path: Path, strips: list[Any]
) -> None:
    augmented(files / "a.mp4", tmp_path / "x.png", {"reverse": 1.0}, videos=False)
    before, after = strips
    # Frames of the sheet: of 50 those numbered 3, 9, 15, 21, 28, 34, 40 and 46, and backwards.
    assert np.allclose(before.frame_seconds + after.frame_seconds[::-1], 2.0, atol=0.021)
    flash = [int(strip.frames.reshape(8, -1).mean(1).argmax()) for strip in strips]
    assert flash[0] == 7 - flash[1]
    # The columns of a spectrogram lie the same from both ends but for the rest of a hop.
    loud = [strip.log_mel[10:].mean(0) for strip in strips]
    peaks = [strip.column_seconds[beat(mel)] for strip, mel in zip(strips, loud, strict=True)]
    assert len(peaks[0]) == len(EVENTS)
    assert np.allclose(peaks[0], 2.0 - peaks[1][::-1], atol=0.03)
    assert np.allclose(peaks[0], EVENTS, atol=0.03)


def beat(level: np.ndarray) -> np.ndarray:
    """Columns that are the loudest for 0.2 s around, and loud."""
    near = [level[max(0, i - 6) : i + 7].max() for i in range(len(level))]
    return np.flatnonzero((level == near) & (level > (level.max() + level.min()) / 2))


def test_what_is_hidden_is_flat_grey_and_silent(
    files: Path, tmp_path: Path, strips: list[Any]
) -> None:
    options = {"hide_seconds": 1.9, "time_masks": 1, "time_mask_seconds": 0.3, "mel_masks": 1}
    plan = augmented(files / "a.mp4", tmp_path / "x.png", options, seed=2)
    ((start, stop),), ((a, b),) = plan.time.hidden, plan.audio.hidden_seconds
    assert stop - start > 0.5
    after = strips[1]
    seconds, mel = after.column_seconds, after.log_mel
    flat = ((seconds >= start) & (seconds < stop)) | ((seconds >= a) & (seconds < b))
    assert flat.any()
    assert (mel[:, flat] == 0).all()
    low, high = (round(share * len(mel)) for share in plan.audio.hidden_shares[0])
    assert (mel[low:high] == 0).all()
    kept = np.delete(mel[:, ~flat], np.s_[low:high], axis=0)
    assert (kept != 0).any(0).all()
    for frame, at in zip(after.frames, after.frame_seconds, strict=True):
        assert (frame == preview._GREY).all() == (start <= at < stop)
    film = decode_clip(tmp_path / "x_after.mp4", start_seconds=0, duration_seconds=2,
                       num_frames=50, sample_rate=16_000)  # fmt: skip
    at = (np.arange(50) + 0.5) * FRAME_SECONDS
    inside = film.video[(at > start + FRAME_SECONDS) & (at < stop - FRAME_SECONDS)]
    assert np.abs(inside.astype(int) - preview._GREY).max() < 12
    heard = film.audio[round((start + 0.05) * 16_000) : round((stop - 0.05) * 16_000)]
    assert np.abs(heard).max() < 1e-2 < np.abs(film.audio).max()


def test_a_background_is_heard_and_has_its_share_of_the_label(
    files: Path, tmp_path: Path, strips: list[Any]
) -> None:
    options = {"background": 1.0, "background_snr_db": [0.0, 0.0], "background_label": "soften"}
    plan = augmented(files / "a.mp4", tmp_path / "x.png", options, videos=False,
                     background=files / "long.mp4")  # fmt: skip
    assert plan.audio.background is not None
    before, after = strips
    assert [weight for _, weight, _ in before.labels] == [1.0]
    # The sheet shows the label of what is heard: half of each power.
    assert [round(weight, 3) for _, weight, _ in after.labels] == [0.5, 0.5]
    assert len(beat(after.log_mel[10:].mean(0))) > len(EVENTS)


def test_stereo_stays_stereo_and_a_flip_swaps_it(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strips: list[Any]
) -> None:
    from avmix.data.clip_reader import ClipReader

    right = ClipReader.decode

    def only_left(*args: Any) -> Any:
        clips = right(*args)
        left = np.array([[1], [0]], np.float32)
        return [replace(c, audio=c.audio * left) for c in clips if isinstance(c, Clip)]

    monkeypatch.setattr(ClipReader, "decode", only_left)
    stereo = replace(CLIP, stereo=True)
    augmented(files / "stereo.mp4", tmp_path / "x.png", {"flip": 1.0}, stereo)
    levels = []
    for name in ("x_before.mp4", "x_after.mp4"):
        film = decode_clip(tmp_path / name, start_seconds=0, duration_seconds=2, num_frames=50,
                           sample_rate=16_000, channels=2)  # fmt: skip
        levels.append(np.abs(film.audio).max(1))
    assert min(levels[0]) > 0.1  # decoded by itself: both channels
    assert levels[1][0] < 0.01 < 0.1 < levels[1][1]


def test_a_file_without_audio_and_a_short_one(
    files: Path, tmp_path: Path, strips: list[Any]
) -> None:
    augmented(files / "mute.mp4", tmp_path / "x.png", {"gain_db": 6.0, "speed": 1.2})
    for strip in strips:
        assert np.ptp(strip.log_mel) < 1e-5
    augmented(files / "short.mp4", tmp_path / "x.png", {})
    for strip in strips:
        # The last frame is held.
        assert (strip.frames[4:] == strip.frames[-1]).all()


def command(files: Path, tmp_path: Path, *words: str) -> None:
    main(["preview", *words, "-o", str(tmp_path / "x.png")])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["A"], "a mix needs a second file"),
        (["A", "--augment", "{}", "--grid", "g"], "--augment and --grid exclude each other"),
        (["A", "--augment", "{}", "--method", "cutmix_spatial"], "--method means nothing for"),
        (["A", "B", "--no-videos"], "--no-videos means nothing for a mix"),
        (["A", "--augment", "nowhere.yaml"], "nowhere.yaml"),
        (["A", "--augment", "NOT"], "not.yaml: has no section `augment`"),
        (["A", "--augment", "{background: 1.0}"], "augment.background needs a second file"),
        (["A", "B", "--augment", "{reverse: 1.0}"], "augment.background is 0"),
        (["A", "MUTE", "--augment", "{background: 1.0}"], "mute.mp4: a background needs audio"),
        (["A", "--augment", "{min_seconds: 5.0}"], "augment.min_seconds must be <= clip.dur"),
        (["A", "--augment", "{}", "--config", "RATE"], "AAC audio, which has no 10000 Hz"),
        (["MISSING", "--augment", "{}"], "missing.mp4"),
        (["A", "--augment", "{}", "--epoch", "-1"], "--epoch must be >= 0, got -1"),
    ],
)
def test_bad_input_is_one_line(files: Path, tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "not.yaml").write_text("mix: {method: mixup}\n")
    rate = TrainConfig(clip=replace(CLIP, sample_rate=10_000))
    (tmp_path / "rate.yaml").write_text(to_yaml(rate))
    names = {"A": files / "a.mp4", "B": files / "long.mp4", "MUTE": files / "mute.mp4",
             "MISSING": files / "missing.mp4", "NOT": tmp_path / "not.yaml",
             "RATE": tmp_path / "rate.yaml"}  # fmt: skip
    with pytest.raises(SystemExit) as end:
        command(files, tmp_path, *(str(names.get(word, word)) for word in words))
    assert message in str(end.value.code)
    assert "\n" not in str(end.value.code)
    assert not list(tmp_path.glob("x*"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{sped: 1.25}", "no option 'augment.sped'; did you mean 'augment.speed'? Choices:"),
        ("sped: 1.25", "no option 'augment.sped'; did you mean 'augment.speed'? Choices:"),
        ("{speed: 9}", "augment.speed must be in [1, 4], got 9.0"),
        ("{speed: fast}", "Expected a float. Got value: fast"),
    ],
)
def test_options_are_checked_as_in_training(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spec: str, message: str
) -> None:
    with pytest.raises(SystemExit) as end:
        command(files, tmp_path, str(files / "a.mp4"), "--augment", spec)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_run_and_a_preset_are_specs(files: Path, tmp_path: Path) -> None:
    run = tmp_path / "config.yaml"
    run.write_text(to_yaml(TrainConfig(augment=AugmentConfig(reverse=1.0, **PLAIN))))
    one = preview.preview_augment(files / "a.mp4", out=tmp_path / "a.png", clip=CLIP, videos=False,
                                  augment=read(run))  # fmt: skip
    assert one.time.reverse
    preset = ROOT / "configs/augment/videomae.yaml"
    assert (read(preset).repeats, read(preset).erase) == (2, 0.25)
    assert not list(tmp_path.glob("*.mp4"))


def read(path: Path) -> AugmentConfig:
    from avmix.preview import read_augment

    return read_augment(str(path))


def test_seed_and_epoch_choose_the_draw(files: Path, tmp_path: Path, strips: list[Any]) -> None:
    draws = [
        augmented(files / "long.mp4", tmp_path / "x.png", {}, videos=False, seed=s, epoch=e)
        for s, e in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    assert draws[0] == draws[1]
    assert len({plan.time.start_seconds for plan in draws}) == 3


def test_the_grid_has_a_frame_of_every_example(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "draw_strips", touch)
    main(["preview", str(files / "a.mp4"), str(files / "long.mp4"), "--config",
          str(files / "small.yaml"), "--grid", str(tmp_path / "grid")])  # fmt: skip
    assert {path.name for path in (tmp_path / "grid").iterdir()} == {f"{n}.jpg" for n in EXAMPLES}


def test_every_option_has_a_frame_or_a_reason() -> None:
    """Whoever adds an option adds an example of it, or says why it cannot be seen."""
    shown = {option for options in EXAMPLES.values() for option in options}
    assert not shown & set(UNSEEN)
    assert shown | set(UNSEEN) == {f.name for f in fields(AugmentConfig)}
    for options in EXAMPLES.values():
        AugmentConfig(**options)


def test_the_page_shows_every_example_and_names_every_option() -> None:
    page = (ROOT / "docs/augment.md").read_text()
    shown = re.findall(r"!\[[^]]+\]\(augment/(\w+)\.jpg\)", page)
    assert sorted(shown) == sorted(EXAMPLES)
    assert {path.stem for path in (ROOT / "docs/augment").iterdir()} == set(EXAMPLES)
    assert sum(path.stat().st_size for path in (ROOT / "docs/augment").iterdir()) < 1.2e6
    for option in (f.name for f in fields(AugmentConfig)):
        assert re.search(rf"`{option}[`:]", page), option


def test_the_presets_of_the_page_are_the_presets() -> None:
    """Every number of a preset is in its column of the table."""
    page = (ROOT / "docs/augment.md").read_text().split("## Presets")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    names = [cell.strip(" `") for cell in rows[0]]
    plain = AugmentConfig()
    for path in sorted((ROOT / "configs/augment").glob("*.yaml")):
        column = " ".join(row[names.index(path.stem)] for row in rows[1:])
        numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", column)]
        augment = read(path)
        if path.stem == "none":
            assert augment == replace(plain, crop="centre", flip=0.0)
            continue
        for f in fields(AugmentConfig):
            value = getattr(augment, f.name)
            if value == getattr(plain, f.name) and f.name != "flip":
                continue
            for number in value if isinstance(value, list) else [value]:
                assert number in numbers if isinstance(number, float) else True, f.name


def test_the_commands_of_the_page_run(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs/augment.md").read_text().split("## Preview")[1]
    commands = re.search(r"```sh\n(.*?)```", page, re.DOTALL)
    assert commands
    lines = commands[1].splitlines()
    assert all(line.startswith("avmix preview A ") for line in lines)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name, file in (("A", "a.mp4"), ("B", "long.mp4")):
        (tmp_path / name).symlink_to(files / file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preview, "draw_strips", touch)
    for line in lines:
        main(shlex.split(line)[1:])
    frames = {path.name for path in tmp_path.glob("*.png")}
    assert frames == {"videomae.png", "time.png", "background.png"}
    videos = {path.name for path in tmp_path.glob("*.mp4")}
    assert videos == {f"{n}_{w}.mp4" for n in ("videomae", "time") for w in ("before", "after")}
    assert len(list((tmp_path / "figures").iterdir())) == len(EXAMPLES)
