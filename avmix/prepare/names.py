"""What downloaders call the clips that were cut from videos of YouTube."""


def kinetics_stem(youtube_id: str, start_seconds: float, end_seconds: float) -> str:
    """`ID_%06d_%06d`, whole seconds: Kinetics, and its crawlers."""
    return f"{youtube_id}_{int(start_seconds):06d}_{int(end_seconds):06d}"


def kinetics_names(
    youtube_id: str, start_seconds: float, end_seconds: float, *, split: str, label: str
) -> list[str]:
    """Where a clip of Kinetics may lie, best first.

    What replaces broken files (CVDF) comes before what it replaces; then the folder of the split
    (CVDF), that of the class (the crawler of ActivityNet), any other; last the id alone.
    """
    stem = kinetics_stem(youtube_id, start_seconds, end_seconds)
    return [
        f"replacement_for_corrupted_k400/{stem}.mp4",
        f"{split}/{stem}.mp4",
        f"{label}/{stem}.mp4",
        youtube_id,
    ]
