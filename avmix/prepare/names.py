"""What downloaders call the clips that were cut from videos of YouTube."""


def kinetics_stem(youtube_id: str, start_seconds: float, end_seconds: float) -> str:
    """`ID_%06d_%06d`, whole seconds: Kinetics, and its crawlers."""
    return f"{youtube_id}_{int(start_seconds):06d}_{int(end_seconds):06d}"


def kinetics_names(
    youtube_id: str, start_seconds: float, end_seconds: float, *, split: str, label: str
) -> list[str]:
    """Where a clip of Kinetics may lie, best first.

    The archives that replace broken files (CVDF) come before what they replace; then flat folders
    of splits (CVDF), folders of classes (the crawler of ActivityNet), then anywhere.
    """
    stem = kinetics_stem(youtube_id, start_seconds, end_seconds)
    return [
        f"replacement_for_corrupted_k400/{stem}.mp4",
        f"{split}/replacement_for_corrupted_k400/{stem}.mp4",
        f"replacement/{stem}.mp4",
        f"{split}/{stem}.mp4",
        f"{split}/{label}/{stem}.mp4",
        f"{label}/{stem}.mp4",
        stem,
        youtube_id,
    ]
