"""Tables of benchmarks/leaks.py and benchmarks/prepare.py."""

from typing import Any

from report.tables.cells import cpu_of


def leaks_table(result: dict[str, Any]) -> str:
    """How much of a leak the search for similar frames finds, by how much may differ."""
    data, limits = result["data"], result["thresholds"]
    total = result["encodings"]["bits_of"]
    lines = [
        f"| bits of {total} that may differ | precision | recall of pairs | test clips found |",
        "|--:|--:|--:|--:|",
    ]
    for row in result["picture_curve"]:
        if row["bits"] in (8, 16, limits["picture_bits"], 30, 40):
            bits = f"**{row['bits']}**" if row["bits"] == limits["picture_bits"] else row["bits"]
            lines.append(
                f"| {bits} | {row['precision']:.2f} | {row['recall']:.2f} | "
                f"{row['test_clips_found']:.2f} |"
            )
    audio, encodings = result["sound"], result["encodings"]
    lines += [
        "",
        f"{data['clips']:,} clips of UCF101 split by clip ({data['train']} and {data['test']}), "
        f"{result['pairs_of_one_group']} pairs of one group in both; the groups were not used. "
        f"Bold is the default. Audio alone (a share of {limits['sound_share']}): {audio['found']} "
        f"pairs, precision {audio['precision']:.2f}. The same {encodings['clips']} clips in two "
        f"encodings: at most {max(encodings['same_bits'])} bits apart; different ones at least "
        f"{min(encodings['other_bits_least'])}. "
        f"{result['scaling']['picture_pairs_per_second'] / 1e6:.0f} million pairs and "
        f"{1 / result['fingerprint_cpu_seconds_per_clip']:.0f} clips a second and core.",
        "",
    ]
    return "\n".join(lines)


def prepare_table(result: dict[str, Any]) -> str:
    """What probing and transcoding cost, and what reading gains."""
    lines = [
        "| files | probed / s | transcoded and verified, s / s | ffmpeg program, unverified | "
        "ffmpeg program, verified | speed of reading in training, original = 1 |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, one in result["sets"].items():
        cost = one["transcode_cpu_seconds_per_video_second"]
        lines.append(
            f"| {name.replace('_', ' ').replace('made ', 'synthetic ')} | "
            f"{one['probe_files_per_cpu_second']:.0f} | "
            f"{cost['pyav']:.3f} | {cost['plain_ffmpeg_calls']:.3f} | "
            f"{cost['ffmpeg_checked']:.3f} | "
            f"{one['read_cpu_seconds_per_clip']['times_faster']:.2f} |"
        )
    form, epoch = result["form"], result["epoch"]
    lines += [
        "",
        f"CPU seconds; per second of video where it says s / s. Transcoded to a short side of at "
        f"most {form['short_side']}, GOP {form['gop']}, crf {form['crf']}; training reads "
        f"{epoch['pictures']} frames of {epoch['seconds']:g} s at a short side of "
        f"{epoch['short_side']}. {cpu_of(result)}; ffmpeg: {result['ffmpeg']}.",
        "",
    ]
    return "\n".join(lines)


def rows_table(result: dict[str, Any]) -> str:
    """What a list of millions of rows costs, probing apart."""
    per_million = result["cpu_seconds"] * 1e6 / result["num_rows"]
    return (
        f"{result['num_rows']:,} rows of a synthetic list like AudioSet's, "
        f"{result['num_there']:,} of its files present: {result['cpu_seconds']:.0f} CPU seconds "
        f"({per_million:.0f} per million rows) and at most {result['peak_bytes'] / 1e9:.2f} GB "
        f"of memory, without probing. {cpu_of(result)}.\n"
    )
