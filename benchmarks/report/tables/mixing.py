"""Tables of benchmarks/mix.py."""

from typing import Any

from report.tables.cells import machine_lines, span, table

_SUMMARY = ("avmix", "timm", "torchvision", "pytorchvideo", "kornia")
"""Of every library what its users write first."""


def mix_summary(result: dict[str, Any]) -> str:
    """A row per library: its speed over the workloads of Mixup, and what it really mixes."""
    rows = []
    for name in _SUMMARY:
        if name not in _mix_names(result):
            continue
        speeds = [
            by_name[name]["ratio_to_timm"]
            for load, by_name in result["speed"]["keep"].items()
            if name in by_name and result["workloads"][load]["kind"] != "cutmix"
        ]
        verdicts = [result["truth"][kind].get(name) for kind in ("mixup", "cutmix")]
        cells = [_mix_verdict(verdict) if verdict else "" for verdict in verdicts]
        rows.append([_label(result, name), span(speeds, 1), *cells])
    lines = table(["", "speed, timm = 1", "Mixup", "CutMix"], rows)
    said = "Speed: slowest to fastest of the workloads of Mixup, with memory pages kept by malloc."
    return "\n".join([*lines, "", said])


def mix_table(result: dict[str, Any]) -> str:
    """Speed and cost of a batch, then what was really mixed; a line per candidate."""
    tables = [_mix_speed(result), _mix_truth(result)] if "speed" in result else []
    tables += _mix_cuda(result)
    return "\n\n".join([*tables, " ".join(_mix_lines(result))]) + "\n"


def _mix_title(what: dict[str, Any]) -> str:
    size = f"{what['batch']}x3x{what['num_frames']}x{what['side']}x{what['side']}"
    order = "as decoded" if what["layout"] == "decoded" else "planar"
    return f"{'CutMix ' if what['kind'] == 'cutmix' else ''}{size}, {order}"


def _label(result: dict[str, Any], name: str) -> str:
    """What a candidate is called; results that were measured earlier say sound for audio."""
    return result["candidates"][name]["label"].replace("sound as", "audio as")


def _mix_names(result: dict[str, Any]) -> list[str]:
    return [name for name in result["candidates"] if name not in result.get("absent", {})]


def _mix_speed(result: dict[str, Any]) -> str:
    default, keep = result["speed"]["default"], result["speed"]["keep"]
    loads = result["workloads"]
    lines = [
        "| speed, timm = 1: malloc as it is / keeping its pages | "
        + " | ".join(_mix_title(what) for what in loads.values())
        + " | bytes per element | most memory |",
        "|---|" + "--:|" * (len(loads) + 2),
    ]
    timed = {name for by_name in default.values() for name in by_name}
    for name in _mix_names(result):
        if name not in timed:
            continue
        cells = [
            "" if load not in default
            else "refuses" if name in result["refused"].get(load, {})
            else _mix_cell(name, default[load].get(name), keep[load].get(name))
            for load in loads
        ]  # fmt: skip
        about = result["candidates"][name]
        held = [by_name[name] for by_name in result["memory"].values() if name in by_name]
        cells.append(str(about["bytes_per_element"] or ""))
        cells.append(f"{max(held):.1f} x" if held else "")
        lines.append(f"| {_label(result, name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mix_cell(name: str, default: dict[str, Any] | None, keep: dict[str, Any] | None) -> str:
    if default is None or keep is None:
        return ""
    if name == "timm":
        return f"**1** ({default['cpu_ms']:.0f} / {keep['cpu_ms']:.0f} ms)"
    if default["ratio_to_timm"] is None or keep["ratio_to_timm"] is None:  # timm was not measured
        return f"{default['cpu_ms']:.1f} / {keep['cpu_ms']:.1f} ms"
    return f"{default['ratio_to_timm']:.1f} / {keep['ratio_to_timm']:.1f}"


def _mix_truth(result: dict[str, Any]) -> str:
    truth = result["truth"]
    lines = [
        "| own weight in label / frames / audio | Mixup | | CutMix | | changes its input |",
        "|---|--:|---|--:|---|---|",
    ]
    for name in _mix_names(result):
        verdicts = [truth[kind].get(name) for kind in ("mixup", "cutmix")]
        if not any(verdicts):
            continue
        cells = []
        for verdict in verdicts:
            cells += ["", ""] if verdict is None else [_mix_weights(verdict), _mix_verdict(verdict)]
        changed = [what for v in verdicts if v for what in v.get("input_changed", ())]
        cells.append(", ".join(dict.fromkeys(changed)))
        lines.append(f"| {_label(result, name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mix_weights(verdict: dict[str, Any]) -> str:
    if "own_label" not in verdict:
        return ""
    return " / ".join(f"{verdict[f'own_{what}']:.2f}" for what in ("label", "video", "audio"))


def _mix_verdict(verdict: dict[str, Any]) -> str:
    if verdict["right"]:
        return "right"
    if "error" in verdict:
        return "refuses"
    said = {
        "label_wrong": "**label wrong for the frames**",
        "pixels_wrong": "**pixels wrong**",
        "audio_unmixed": "**audio unmixed**",
        "audio_wrong": "**audio mixed otherwise**",
    }
    return ", ".join(text for key, text in said.items() if verdict.get(key))


def _mix_cuda(result: dict[str, Any]) -> list[str]:
    cuda = result["cuda"]
    if cuda is None:
        return []
    dtypes = [dtype for dtype in ("bfloat16", "float32") if dtype in cuda]
    lines = [
        f"| {cuda['device']}, {cuda['workload'].split('_')[1]} | "
        + " | ".join(f"{dtype} ms | of copying | launches | waits | MiB" for dtype in dtypes)
        + " |",
        "|---|" + "--:|" * (5 * len(dtypes)),
    ]
    for name in dict.fromkeys(name for dtype in dtypes for name in cuda[dtype]):
        cells = []
        for dtype in dtypes:
            row = cuda[dtype].get(name)
            if row is None or "error" in row:
                cells += ["" if row is None else "fails", *[""] * 4]
                continue
            cells += [f"{row['device_ms']:.3f}", f"{100 * row['share_of_copy_bandwidth']:.0f} %",
                      str(row["num_launches"]), str(row["num_syncs"]),
                      f"{row['peak_mib']:.0f}"]  # fmt: skip
        lines.append(f"| {_label(result, name)} | {' | '.join(cells)} |")
    return ["\n".join(lines)]


def _mix_lines(result: dict[str, Any]) -> list[str]:
    lines, cuda = [], result["cuda"]
    if "speed" in result:
        rounds = 1 + max(row["round"] for row in result["speed_rounds"]["default"])
        floors = [
            1 / by_name["avmix"]["ratio_to_floor"]
            for by_load in result["speed"].values()
            for by_name in by_load.values()
        ]
        lines.append(
            f"CPU time of one thread, medians of {rounds} rounds in which all took turns; avmix "
            f"takes {span(floors, 1)} times as long as the floor. Bytes: read and written by "
            "Mixup per pixel and colour, counted from the source. Memory: most that is held at a "
            "time in addition to the inputs, in units of the float clips."
        )
    for load, checks in result.get("checks", {}).items():
        if wrong := [name for name, check in checks.items() if not check["right"]]:
            lines.append(f"**Wrong pixels in {load}: {', '.join(wrong)}.**")
    if step := result.get("step"):
        lines.append(
            f"Mixing adds {step['extra_percent']:.1f} % to a training step of `{step['config']}` "
            f"({step['extra_ms']:.1f} ms to {step['rest_of_step_ms']:.0f} ms of forward, backward "
            "and step)."
        )
    if cuda is None:
        lines.append("On CUDA: not yet measured.")
    else:
        lines.append(
            "On CUDA: time on the device, and what share of it copying the bytes that must be "
            f"read and written would take at the measured {cuda['copy_gb_per_second']:.0f} GB/s; "
            "*waits*: how often the host waits for the device."
        )
    if absent := result.get("absent"):
        labels = [_label(result, name) for name in absent]
        lines.append(f"Not installed, not measured: {', '.join(labels)}.")
    if "environment" in result:
        lines += machine_lines(result)
    return lines
