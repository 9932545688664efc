"""Tables of benchmarks/features.py and benchmarks/feature_rows.py: kept features."""

from typing import Any

from report.tables.cells import cpu_of, machine_lines, table

HEADINGS = ["batch", "dropout", "avmix, none", "avmix, mixup@feature", "mixing costs",
            "torch loop, mixup", "avmix / torch loop", "SGDClassifier"]  # fmt: skip


def feature_table(result: dict[str, Any]) -> str:
    """A line for each workload."""
    rows = []
    for work in result["workloads"]:
        speed = {n: found["clips_per_cpu_second"] for n, found in work["candidates"].items()}
        rows.append([
            str(work["batch_size"]), f"{work['dropout']:g}",
            f"{speed['avmix, none']:,}", f"{speed['avmix, mixup@feature']:,}",
            f"{100 * work['mixing_share']:.0f} %",
            f"{speed['torch loop, mixup']:,}",
            f"{speed['avmix, mixup@feature'] / speed['torch loop, mixup']:.2f}",
            f"{speed['SGDClassifier']:,}",
        ])  # fmt: skip
    whole, widths = result["whole"], " + ".join(map(str, result["widths"]))
    lines = [
        *table(HEADINGS, rows),
        "",
        f"Clips per CPU second of one thread, medians of {result['rounds']} epochs; "
        f"{result['num_clips']:,} "
        f"clips, {widths} numbers each, {result['num_classes']} classes, fusion `concat`. The "
        f"whole command, {result['epochs']} epochs in batches of 64 with validation and "
        f"checkpoints: {whole['train_cpu_seconds']:.0f} CPU seconds, "
        f"{whole['train_seconds']:.0f} s on the clock; scikit-learn's LogisticRegression to its "
        f"end: {whole['logistic_regression_cpu_seconds']:.1f} CPU seconds.",
        *machine_lines(result),
        "",
    ]
    return "\n".join(lines)


def feature_rows_table(result: dict[str, Any]) -> str:
    """What a folder of millions of clips needs before a clip is asked for, and after."""
    said = "; ".join(f"{name}: {seconds:.1f} s" for name, seconds in result["seconds"].items())
    more = result["peak_bytes"] - result["peak_bytes_before"]
    return (
        f"{result['num_rows']:,} clips, whose list has {result['list_bytes'] / 1e9:.1f} GB: at "
        f"most {result['peak_bytes'] / 1e9:.2f} GB of memory, {more / 1e9:.2f} GB more than the "
        f"process with torch before it opened the folder. {said}. {cpu_of(result)}.\n"
    )
