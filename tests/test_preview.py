"""The picture of a mix, made by the command that people run."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from media import write_flash_beep

from avmix.cli import main


def test_preview_writes_a_picture(toy_set: Path, tmp_path: Path) -> None:
    own, partner = sorted((toy_set / "test").iterdir())[:2]
    pictures = []
    for lam in ("1", "0.3"):
        out = tmp_path / f"{lam}.png"
        main(["preview", str(own), str(partner), "--lam", lam, "-o", str(out)])
        pictures.append(imread(out))
    assert pictures[0].shape == pictures[1].shape
    third = pictures[0].shape[0] // 3
    # The rows of the two clips are the same in both pictures, the row of the mix is not.
    upper = np.abs(pictures[0][60:third] - pictures[1][60:third]).mean()
    lower = np.abs(pictures[0][-third:] - pictures[1][-third:]).mean()
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
