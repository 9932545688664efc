"""A miniature of EPIC-KITCHENS-100 for tests: long videos with many labelled segments, and the
official annotation files.

The noun of a segment is only visible, as a coloured patch, the verb only audible: a network can
tell both, and so the action, from both modalities together, and from one modality never.
"""

from pathlib import Path

import av
import numpy as np
from several_labels import COLOURS, FPS, NUM_FRAMES, RATE, SIZE, SOUNDS, frames_of, wave_of

SEGMENT_SECONDS = NUM_FRAMES / FPS
NOUNS, VERBS = tuple(COLOURS), SOUNDS
HEADER = (
    "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n"
)


def write_epic(root: Path, videos: dict[str, tuple[str, int]]) -> tuple[Path, Path]:
    """Annotations and media of these videos, `{"P01_01": (split, segments)}`; the participant is
    what comes before the underline. Verb 2 and noun 0 are of the tail; P09 is unseen."""
    lists, media = root / "annotations", root / "EPIC-KITCHENS"
    lists.mkdir(parents=True)
    rows: dict[str, list[str]] = {"train": [], "val": []}
    for number, (video, (split, segments)) in enumerate(videos.items()):
        person = video.partition("_")[0]
        draw = np.random.default_rng(number)
        said = [(int(draw.integers(3)), int(draw.integers(3))) for _ in range(segments)]
        folder = media / person / "videos"
        folder.mkdir(parents=True, exist_ok=True)
        write_video(folder / f"{video}.MP4", said, number)
        for i, (verb, noun) in enumerate(said):
            start = i * SEGMENT_SECONDS
            times = [f"00:00:{t:06.3f}" for t in (start, start + SEGMENT_SECONDS - 0.01)]
            rows[split].append(f"{video}_{i},{person},{video},{','.join(times)},{verb},{noun}")
    names = {"train": "EPIC_100_train.csv", "val": "EPIC_100_validation.csv"}
    for split, lines in rows.items():
        (lists / names[split]).write_text(HEADER + "\n".join(lines) + "\n")
    for kind, classes in (("verb", VERBS), ("noun", NOUNS)):
        text = "id,key\n" + "".join(f"{i},{name}\n" for i, name in enumerate(classes))
        (lists / f"EPIC_100_{kind}_classes.csv").write_text(text)
    (lists / "EPIC_100_tail_verbs.csv").write_text("verb\n2\n")
    (lists / "EPIC_100_tail_nouns.csv").write_text("noun\n0\n")
    (lists / "EPIC_100_unseen_participant_ids_validation.csv").write_text("participant_id\nP09\n")
    return lists, media


def write_video(path: Path, segments: list[tuple[int, int]], number: int) -> None:
    """One file of all segments, given as (verb, noun), one after the other."""
    with av.open(path, "w", format="mp4") as container:
        video = container.add_stream("mpeg4", rate=FPS, options={"qscale": "2"})
        video.width = video.height = SIZE
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        parts = []
        for i, (verb, noun) in enumerate(segments):
            seed = 1000 * number + i
            for image in frames_of([NOUNS[noun]], seed):
                container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            stop = round((i + 1) * SEGMENT_SECONDS * RATE) - round(i * SEGMENT_SECONDS * RATE)
            parts.append(wave_of([VERBS[verb]], np.random.default_rng(seed))[:stop])
        wave = (np.concatenate(parts) * 20_000).clip(-32_767, 32_767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(wave[None], "s16", "mono")
        frame.sample_rate = RATE
        container.mux([*video.encode(), *audio.encode(frame), *audio.encode()])
