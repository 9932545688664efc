"""Put the numbers of benchmarks/results into README.md and pages of docs, between markers.

python benchmarks/paste.py            write
python benchmarks/paste.py --check    exit code 1 when a page does not say what was measured
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PAGES = (
    ROOT / "README.md",
    ROOT / "docs" / "augment.md",
    ROOT / "docs" / "decoding.md",
    ROOT / "docs" / "preparing.md",
    ROOT / "docs" / "synthesis.md",
)

_MARKED = re.compile(r"(<!-- result (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


_COLUMNS = {
    "gop250_16x4": "gop 250",
    "gop12_16x4": "gop 12",
    "gop12_8x8": "gop 12, 8x8",
    "long_16x4": "10 minutes",
}
"""What of the made files is shown; folders of other files all are."""


def table(result: dict[str, Any]) -> str:
    """Markdown of a result, whatever was measured."""
    match result.get("kind"):
        case "decode":
            return decoding_tables(result)
        case "fuzz":
            return fuzz_table(result)
        case "mix":
            return mix_table(result)
        case "fewshot":
            return fewshot_table(result)
        case "augment":
            return augment_tables(result)
        case "leaks":
            return leaks_table(result)
        case "prepare":
            return prepare_table(result)
        case _:
            return scores_table(result)


def fuzz_table(result: dict[str, Any]) -> str:
    """A line per codec: what became of windows of damaged files."""
    lines = [
        "| codec | right, or nothing wrong in the window | refused | other times | overlooked |",
        "|---|--:|--:|--:|--:|",
    ]
    total: dict[str, int] = {}
    for codec, counts in [*result["codecs"].items(), ("all", total)]:
        for verdict, number in counts.items():
            if counts is not total:
                total[verdict] = total.get(verdict, 0) + number
        cells = [
            sum(counts.get(verdict, 0) for verdict in verdicts)
            for verdicts in (("right", "held"), ("refused",), ("gap", "shifted"), ("bad",))
        ]
        lines.append(f"| {codec} | {' | '.join(map(str, cells))} |")
    failed = {v: total.get(v, 0) for v in ("crash", "hang", "wrong_error", "memory")}
    with_hash, num_windows = result["with_hash"], sum(result["with_hash"].values())
    lines += [
        "",
        f"{result['num_files']:,} damaged files; {failed['crash']} crashes, "
        f"{failed['hang']} hangs, {failed['wrong_error']} errors of another class, "
        f"{failed['memory']} over the limit of memory; {result['num_clean']} clean files among "
        "them, all windows right: "
        f"{'yes' if set(result['clean']) == {'right'} else 'no'}. *Other times*: the pictures are "
        "intact, but some before them were lost, or the pieces make another valid film. "
        f"With the hash of the clean file {with_hash.get('refused', 0):,} of {num_windows:,} "
        f"windows are refused, {with_hash.get('bad', 0)} overlooked. PyAV "
        f"{result['versions']['av']}, libavcodec {result['versions']['libavcodec']}.",
        "",
    ]
    return "\n".join(lines)


def decoding_tables(result: dict[str, Any]) -> str:
    """Two tables, speed and truth, a line per candidate; then what else was measured."""
    parts = []
    if "speed" in result:
        parts.append(_speed_table(result))
    if "truth" in result:
        parts.append(_truth_table(result))
    lines = _other_lines(result)
    return "\n\n".join([*parts, " ".join(lines)]) + "\n"


def _speed_table(result: dict[str, Any]) -> str:
    speed, first = result["speed"], ("floor", "avmix")
    made = {load: title for load, title in _COLUMNS.items() if load in speed}
    columns = made | {load: load for load in speed if load not in _made_loads(result)}
    lines = [
        "| speed, avmix = 1 | " + " | ".join(columns.values()) + " |",
        "|---|" + "--:|" * len(columns),
    ]
    names = [n for n in result["candidates"] if n not in result["absent"]]
    for name in sorted(names, key=lambda n: first.index(n) if n in first else len(first)):
        cells = [_speed_cell(name, speed[load].get(name)) for load in columns]
        lines.append(f"| {result['candidates'][name]['label']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _made_loads(result: dict[str, Any]) -> list[str]:
    """Names of the workloads that are made files."""
    return [name for name, what in result["workloads"].items() if "left_out" not in what]


def _speed_cell(name: str, entry: dict[str, Any] | None) -> str:
    if entry is None or entry["ratio_to_avmix"] is None:
        return "fails"
    cell = f"{entry['ratio_to_avmix']:.2f}"
    if name == "avmix":
        cell = f"**1** ({entry['clips_per_cpu_second']:.0f}/s)"
    if entry["num_failed"]:
        cell += f", {entry['num_failed']} of {entry['num_clips']} fail"
    return cell


def _truth_table(result: dict[str, Any]) -> str:
    num_files = next(iter(result["truth"].values()))["num_files"]
    lines = [
        f"| {num_files} files of known content | exact | small error | silently wrong | refused |"
        " crash, hang | with a wrong picture | median A/V error ms | worst |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, total in result["truth"].items():
        counts = [total[f"num_{what}"] for what in
                  ("exact", "small_error", "silently_wrong", "refused", "lost",
                   "with_wrong_pictures")]  # fmt: skip
        errors = [total[f"{what}_av_error_ms"] for what in ("median", "worst")]
        cells = [str(count) for count in counts]
        cells += ["" if e is None else f"{e:.1f}" if e < 100 else f"{e:.0f}" for e in errors]
        label = result["candidates"][name]["label"]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _other_lines(result: dict[str, Any]) -> list[str]:
    lines = []
    if "speed" in result:
        shares = [
            speed["avmix"]["ratio_to_floor"]
            for speed in result["speed"].values()
            if speed["avmix"]["ratio_to_floor"] is not None
        ]
        rounds = len({row["round"] for row in result["speed_rounds"]})
        lines.append(
            f"Clips per CPU second of all threads, medians of {rounds} rounds in which all took "
            f"turns; avmix does {_span([100 * share for share in shares], 0)} % of what the floor "
            "does."
        )
    if "scaling" in result:
        scaling = result["scaling"]
        lines.append(
            f"Two processes of avmix decode {scaling['ratio']:.2f} times what one does (best round "
            f"{scaling['best_ratio']:.2f}); a clip then takes "
            f"{scaling['cpu_per_clip_beside_another']:.2f} times the CPU."
        )
    for memory in result.get("memory", []):
        label = result["candidates"][memory["candidate"]]["label"]
        if "lost" in memory:
            lines.append(f"Memory of {label}: {memory['lost']}.")
            continue
        decodes = memory["mib"][-1]["decodes"]
        lines.append(
            f"Memory of {label} over {decodes:,} decodes: "
            f"{memory['kib_per_1000_decodes']:+,.0f} KiB per 1,000."
        )
    if result["absent"]:
        labels = [result["candidates"][name]["label"] for name in result["absent"]]
        lines.append(f"Not installed, not measured: {', '.join(labels)}.")
    environment = result["environment"]
    versions = [f"{name} {found}" for name, found in environment["versions"].items() if found]
    lines.append(f"{environment['cpu']}, {environment['cores']} cores; {', '.join(versions)}.")
    return lines


def mix_table(result: dict[str, Any]) -> str:
    """Speed and cost of a batch, then what was really mixed; a line per candidate."""
    tables = [_mix_speed(result), _mix_truth(result)] if "speed" in result else []
    tables += _mix_cuda(result)
    return "\n\n".join([*tables, " ".join(_mix_lines(result))]) + "\n"


def _mix_title(what: dict[str, Any]) -> str:
    size = f"{what['batch']}x3x{what['num_frames']}x{what['side']}x{what['side']}"
    order = "as decoded" if what["layout"] == "decoded" else "planar"
    return f"{'CutMix ' if what['kind'] == 'cutmix' else ''}{size}, {order}"


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
        lines.append(f"| {about['label']} | {' | '.join(cells)} |")
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
        "| own weight in label / pictures / sound | Mixup | | CutMix | | changes its input |",
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
        lines.append(f"| {result['candidates'][name]['label']} | {' | '.join(cells)} |")
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
        "label_wrong": "**label wrong for the pictures**",
        "pixels_wrong": "**pixels wrong**",
        "audio_unmixed": "**sound unmixed**",
        "audio_wrong": "**sound mixed otherwise**",
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
        lines.append(f"| {result['candidates'][name]['label']} | {' | '.join(cells)} |")
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
            f"takes {_span(floors, 1)} times as long as the floor. Bytes: read and written by "
            "Mixup per pixel and colour, counted from the source. Memory: most that is held at a "
            "time besides the inputs, in units of the float clips."
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
        labels = [result["candidates"][name]["label"] for name in absent]
        lines.append(f"Not installed, not measured: {', '.join(labels)}.")
    if environment := result.get("environment"):
        versions = [f"{name} {found}" for name, found in environment["versions"].items() if found]
        lines.append(f"{environment['cpu']}, {environment['cores']} cores; {', '.join(versions)}.")
        if (load := result.get("load_average_at_the_end")) is not None:
            # One is the measurement itself; more is others on the same cores.
            lines.append(
                f"Load average: {environment['load_average_at_the_start']:.1f} before, {load:.1f} "
                "after."
            )
    return lines


def scores_table(result: dict[str, Any]) -> str:
    """Markdown: one line per row of the evaluation, mean and deviation over seeds."""
    runs = result["runs"]
    first = runs[0]
    lines = [
        "| | top-1 % | top-5 % | mean class % | NLL | ECE |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row, metrics in result["summary"].items():
        cells = [_cell(metrics[name], 100, 1) for name in ("top1", "top5", "mean_class")]
        cells += [_cell(metrics[name], 1, 2) for name in ("nll", "ece")]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    minutes = [run["train_minutes"] for run in runs]
    waiting = [100 * run["waiting_share"] for run in runs]
    environment = first["environment"]
    seeds = ", ".join(str(seed) for seed in sorted(run["seed"] for run in runs))
    lines += [
        "",
        f"`{first['protocol']}`, {first['split']} split, {first['num_evaluated']} clips evaluated, "
        f"{first['num_missing']} missing, {first['num_views']} views, last epoch; mean ± standard "
        f"deviation of {len(runs)} seeds ({seeds}). "
        f"`{result['config']}` on {environment['cores']} CPU cores: {_span(minutes, 1)} minutes of "
        f"training a run (median epoch times epochs), {_span(waiting, 0)} % of it waiting for "
        "data.",
        "",
    ]
    return "\n".join(lines)


def fewshot_table(result: dict[str, Any]) -> str:
    """A line per number of clips and arm, and one for the difference of the pairs of runs."""
    heads = ("fused", "video head", "audio head")
    lines = [
        "| clips per class | trained on | fused top-1 % | video head | audio head | runs |",
        "|--:|---|--:|--:|--:|--:|",
    ]
    what = {"plain": "these clips", "repair": "these and their re-pairings"}
    for shots in sorted({cell["shots"] for cell in result["cells"]}):
        rows = [(what[c["arm"]], c) for c in result["cells"] if c["shots"] == shots]
        rows += [("*difference*", d) for d in result["differences"] if d["shots"] == shots]
        for title, row in rows:
            cells = [_cell(row["top1"][head], 100, 1) for head in heads]
            lines.append(f"| {shots} | {title} | {' | '.join(cells)} | {len(row['seeds'])} |")
    runs = result["runs"]
    first, made = runs[0], [run for run in runs if run["arm"] == "repair"]
    added = _span([run["num_made"] for run in made], 0) if made else "0"
    lines += [
        "",
        f"`{first['protocol']}`, {first['split']} split, {first['num_evaluated']} clips evaluated, "
        f"{first['num_views']} views, last epoch; mean ± standard deviation over seeds, each of "
        "which chooses clips, pairs and weights; differences are of runs of one seed. "
        f"`{result['config']}`, {_span([run['num_steps'] for run in runs], 0)} steps of "
        f"{_span([run['batch_size'] for run in runs], 0)} clips in both arms; {added} clips added. "
        f"{_span([run['train_minutes'] for run in runs], 1)} minutes of training a run on "
        f"{first['environment']['cores']} CPU cores.",
        "",
    ]
    return "\n".join(lines)


def leaks_table(result: dict[str, Any]) -> str:
    """How much of a leak the search for similar pictures finds, by how much may differ."""
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
    sound, encodings = result["sound"], result["encodings"]
    lines += [
        "",
        f"{data['clips']:,} clips of UCF101 split by clip ({data['train']} and {data['test']}), "
        f"{result['pairs_of_one_group']} pairs of one group in both; the groups were not used. "
        f"Bold is the default. Sound alone (a share of {limits['sound_share']}): {sound['found']} "
        f"pairs, precision {sound['precision']:.2f}. The same {encodings['clips']} clips in two "
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
        "| files | probed / s | transcoded and checked, s / s | the ffmpeg program, unchecked | "
        "the same, checked | training reads, times as fast |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, one in result["sets"].items():
        cost = one["transcode_cpu_seconds_per_video_second"]
        lines.append(
            f"| {name.replace('_', ' ')} | {one['probe_files_per_cpu_second']:.0f} | "
            f"{cost['pyav']:.3f} | {cost['plain_ffmpeg_calls']:.3f} | "
            f"{cost['ffmpeg_checked']:.3f} | "
            f"{one['read_cpu_seconds_per_clip']['times_faster']:.2f} |"
        )
    form, epoch = result["form"], result["epoch"]
    lines += [
        "",
        f"CPU seconds; per second of video where it says s / s. Transcoded to a short side of at "
        f"most {form['short_side']}, GOP {form['gop']}, crf {form['crf']}; training reads "
        f"{epoch['pictures']} pictures of {epoch['seconds']:g} s at a short side of "
        f"{epoch['short_side']}. {result['machine']}; ffmpeg: {result['ffmpeg']}.",
        "",
    ]
    return "\n".join(lines)


_CLIPS = {"small": "8 x 64²", "kinetics": "16 x 224²"}
"""Sizes of clips, as the tables name them."""


def augment_tables(result: dict[str, Any]) -> str:
    """What each augmentation adds to decoding, beside whom; then what else was measured."""
    parts = []
    if "costs" in result:
        parts.append(_augment_costs(result))
    parts.append(" ".join(_augment_lines(result)))
    if "peers" in result:
        parts.append(_augment_peers(result["peers"]))
    parts.append(" ".join(_augment_environment(result)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _augment_costs(result: dict[str, Any]) -> str:
    loads, costs = result["loads"], result["costs"]
    titles = [f"{_CLIPS[load['size']]}, {load['files']}" for load in loads.values()]
    lines = [
        "| ms per clip, quartiles; % of decoding | " + " | ".join(titles) + " |",
        "|---|" + "--:|" * len(loads),
    ]
    plain = [
        f"{load['decode_ms']:.1f} ({_quartiles(load['decode_quartiles'], 1)})"
        for load in loads.values()
    ]
    crop = [
        f"{load['crop_ms']:+.2f}; {100 * load['crop_ms'] / load['decode_ms']:.1f} %"
        for load in loads.values()
    ]
    lines.append(f"| decoding | {' | '.join(plain)} |")
    lines.append(f"| drawing, and the central crop | {' | '.join(crop)} |")
    for name, case in result["cases"].items():
        found = [costs[load][name] for load in loads]
        mark = " *" if any(cost["reads_otherwise"] for cost in found) else ""
        lines.append(f"| {case['label']}{mark} | {' | '.join(map(_augment_cell, found))} |")
    return "\n".join(lines)


def _augment_cell(cost: dict[str, Any]) -> str:
    added = f"{cost['added_ms']:+.2f}"
    if cost["reads_otherwise"]:
        # What another window costs differs by more than what is done with it.
        added = f"{cost['work_ms']:+.2f}, decoding {cost['decode_ms_more']:+.1f}"
    quartiles = _quartiles(cost["added_quartiles"], 1)
    return f"{added} ({quartiles}); {cost['percent_of_decoding']:+.1f} %"


def _quartiles(values: list[float], digits: int) -> str:
    return f"{values[0]:.{digits}f} to {values[1]:.{digits}f}"


def _augment_lines(result: dict[str, Any]) -> list[str]:
    lines = []
    if "costs" in result:
        rounds = len(next(iter(result["rounds"].values())))
        lines.append(
            "CPU time of one thread over plain decoding and the central crop, medians of "
            f"{rounds} rounds in which all took turns on the same file. *: other seconds, or sound "
            "of another rate, are decoded, and decoding takes more or less, by chance or on intent:"
            " quartiles and % are of both together. Where windows share an open file, per window."
        )
    if "claim" in result:
        limit = result["claim"]["limit_percent"]
        added, whole = (result["claim"][what] for what in ("added", "with_the_crop"))
        spans = [_span(list(x["percent_of_decoding"].values()), 1) for x in (added, whole)]
        signs = ["below" if x["holds"] else "not below" for x in (added, whole)]
        lines.append(
            f"The default adds {spans[0]} % to decoding: {signs[0]} {limit:.0f} % everywhere. All "
            f"that is done beside decoding, the crop included, takes {spans[1]} % of it: "
            f"{signs[1]} {limit:.0f} % everywhere."
        )
    if "repeats" in result:
        ratios = [100 * (1 - found["ratio"]) for found in result["repeats"].values()]
        lines.append(f"Four windows of one open file save {_span(ratios, 0)} % of four visits.")
    for size, found in result.get("frontend", {}).get("sizes", {}).items():
        lines.append(
            f"Hiding in the frontend, {_CLIPS[size]}: {found['hide_seconds']['more_ms']:+.2f} ms a "
            f"clip for an interval, {found['specaugment']['more_ms']:+.2f} ms for SpecAugment, of "
            f"{found['nothing_hidden']['ms']:.1f} ms."
        )
    for device, sizes in result.get("device", {}).items():
        if sizes is None:
            lines.append(f"On {device.upper()} instead of in the worker: not measured.")
            continue
        for size, found in sizes.items():
            ways = {name: f"{way[found['by']]:.1f}" for name, way in found["ways"].items()}
            lines.append(
                f"Crop, flip and colours of {found['batch']} clips of {_CLIPS[size]} on "
                f"{found['device']}, ms a clip: {ways['worker']} one by one as the workers do, "
                f"{ways['batch_grid']} batched (not antialiased), {ways['batch_antialias']} "
                "batched but for antialiased scaling. "
                f"{'Faster: one by one' if found['faster'] == 'worker' else 'Faster: batched'}."
            )
    return lines


def _augment_peers(peers: dict[str, Any]) -> str:
    lines = [
        "| beside | clip | avmix ms | peer's time, avmix = 1 |"
        " one draw for all pictures: avmix, peer |"
        " equal pixels stay equal: avmix, peer | a click moves, ms: avmix, peer |",
        "|---|---|--:|--:|---|---|--:|",
    ]
    for size, rows in peers.items():
        for row in rows.values():
            pictures = row["of"] == "pictures"
            if not pictures and size != next(iter(peers)):
                continue  # sound is of the same length in clips of all sizes
            said = [
                ", ".join("yes" if row[f"{who}_{what}"] else "no" for who in ("ours", "theirs"))
                if pictures else ""
                for what in ("one_draw", "steady")
            ]  # fmt: skip
            moves = ""
            if "ours_moves_ms" in row:
                moves = ", ".join(f"{row[f'{who}_moves_ms']:.1f}" for who in ("ours", "theirs"))
            cells = [row["peer"], _CLIPS[size] if pictures else "sound", f"{row['ours_ms']:.2f}",
                     f"{row['ratio']:.2f} ({_quartiles(row['ratio_quartiles'], 2)})",
                     *said, moves]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "torchvision's transforms do not touch the sound: after a flip left is still left. Its "
        "policies have the operation Identity, and leave black outside the picture where avmix "
        "leaves grey.",
    ]
    return "\n".join(lines)


def _augment_environment(result: dict[str, Any]) -> list[str]:
    environment = result["environment"]
    versions = [f"{name} {found}" for name, found in environment["versions"].items() if found]
    return [
        f"{environment['cpu']}, {environment['cores']} cores; {', '.join(versions)}.",
        f"Load average: {environment['load_average_at_the_start']:.1f} before, "
        f"{result['load_average_at_the_end']:.1f} after.",
    ]


def _cell(value: dict[str, float], scale: float, digits: int) -> str:
    return f"{scale * value['mean']:.{digits}f} ± {scale * value['sd']:.{digits}f}"


def _span(values: list[float], digits: int) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def pasted(text: str) -> str:
    """`text` with every marked table made anew."""
    return _MARKED.sub(lambda m: m[1] + _table_of(m[2]) + m[3], text)


def _table_of(name: str) -> str:
    path = RESULTS / f"{name}.json"
    return table(json.loads(path.read_text())) if path.exists() else "Not measured yet.\n"


def main() -> None:
    """Write the pages, or check them."""
    for page in PAGES:
        text = page.read_text()
        if "--check" not in sys.argv[1:]:
            page.write_text(pasted(text))
        elif pasted(text) != text:
            sys.exit(f"error: {page.name} does not say what was measured; run benchmarks/paste.py")


if __name__ == "__main__":
    main()
