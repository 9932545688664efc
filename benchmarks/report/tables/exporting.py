"""Table of benchmarks/export.py: exported networks."""

from typing import Any

from report.tables.cells import machine_lines, table

HEADINGS = ["network", "form", "ms a clip", "MB", "largest difference", "top-1 %, test",
            "same answer"]  # fmt: skip


def export_table(result: dict[str, Any]) -> str:
    """A line for each form of each network."""
    accuracy = {found["form"]: found for found in result["accuracy"]}
    rows = []
    for network in result["networks"]:
        for form in network["forms"]:
            name = form["form"]
            found = accuracy[name] if network["name"] == "demo" else None
            rows.append([
                network["label"] if name == "avmix" else "",
                name, f"{form['milliseconds']:.1f}", f"{form['bytes'] / 1e6:.1f}",
                f"{form['difference']:.1e}" if form["difference"] else "-",
                f"{100 * found['top1']['fused']:.1f}" if found else "-",
                f"{found['same_answer']} of {found['num_clips']}" if found else "-",
            ])  # fmt: skip
    lines = [
        *table(HEADINGS, rows),
        "",
        f"CPU milliseconds of one thread for one clip, decoding not included, medians of "
        f"{result['rounds']} turns. MB of `avmix`: its weights. The largest difference of any "
        "probability of any head from the network itself, on two synthetic files with and without "
        "each modality. Top-1 of the fused head on the middle window of each test clip of the "
        "demo; the other networks have random weights. 8 bits: calibrated on "
        f"{result['calibration_clips']} train clips of the demo, the other networks on the two "
        "synthetic files.",
        *machine_lines(result),
        "",
    ]
    return "\n".join(lines)
