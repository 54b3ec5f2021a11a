"""The results as a table in Markdown, as the README shows it."""

import statistics

HEAD = ("| | ocibuild | beside | ocibuild: wall, CPU, memory, layer | the other: the same | wall | CPU | memory | layer |\n"
        "|---|---|---|---|---|---|---|---|---|")
CACHES = "Rows 5, 6 and 8 compare a cache with programs that have none."


def table(document):
    tree, machine = document["tree"], document["machine"]
    groups = document["groups"]
    lines = [(row["row"], compared(row, group["programs"])) for group in groups for row in ran(group)]
    if lines:
        lines.append(("9", highest_memory(groups, document["memory limit"])))
    return "\n".join([
        f"{tree['files']:,} files, {tree['bytes'] / 1e6:,.0f} MB ({tree['made']}); {machine['cores']} cores, {machine['memory']}; "
        f"medians of {document['rounds']} rounds, ratios pair by pair.",
        "",
        HEAD,
        *(line for _, line in sorted(lines, key=lambda numbered: int(numbered[0] or 99))),
        *(f"| | | {name} | not run: {reason} | | | | | |" for group in groups for name, reason in group["not run"].items()),
        "",
        CACHES,
        *(line for group in groups for line in digests(group)),
    ])


def ran(group):
    """The rows of which both sides did what they should."""
    return [row for row in group["rows"] if not {row["ours"], row["theirs"]} & set(group["not run"])]


def compared(row, programs):
    ours, theirs = (rounds_of(programs[row[side]]) for side in ("ours", "theirs"))
    ratios = []
    for figure in ("wall", "cpu", "memory", "layer"):
        ratio = statistics.median(a[figure] / b[figure] for a, b in zip(ours, theirs))
        ratios.append(relation(ratio, row["targets"].get(figure)))
    return f"| {' | '.join([row['row'], row['ours'], row['theirs'], absolute(ours), absolute(theirs), *ratios])} |"


def rounds_of(program):
    """One set of figures for each round: the run with the median wall time."""
    return [sorted(runs, key=lambda run: run["wall"])[len(runs) // 2] for runs in program["rounds"]]


def absolute(runs):
    wall, cpu, memory, layer = (statistics.median(run[figure] for run in runs) for figure in ("wall", "cpu", "memory", "layer"))
    return f"{seconds(wall)}, {seconds(cpu)}, {memory:.0f} MiB, {layer / 1e6:.0f} MB"


def seconds(number):
    return f"{number:.2f} s" if number < 1 else f"{number:.1f} s"


def relation(number, target):
    """A figure, and on which side of its target it lies."""
    shown = f"{number:.3g}" if number < 1 else f"{number:.4g}"
    return shown if target is None else f"{shown} {'≤' if number <= target else '>'} {target:g}"


def highest_memory(groups, limit):
    ours = [group["programs"][row["ours"]] for group in groups for row in ran(group)]
    highest = max(run["memory"] for program in ours for runs in program["rounds"] for run in runs)
    return f"| 9 | the highest memory of all rows | | {highest:.0f} MiB | | | | {relation(highest, limit)} MiB | |"


def digests(group):
    """How many digests the programs of row 10 gave: its tree is the same in every round."""
    for name in (row[side] for row in ran(group) if row["row"] == "10" for side in ("ours", "theirs")):
        found = [run["digest"] for runs in group["programs"][name]["rounds"] for run in runs]
        yield f"{len(found)} runs of {name} ({group['programs'][name]['version']}) on one tree gave {len(set(found))} digest(s)."
