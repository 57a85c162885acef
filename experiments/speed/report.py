"""Tables and the figure of what the scripts here measured, from their JSON into the README."""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from experiments._shared.data import read_json, write_json
from experiments.speed.setting import ratio, spread

HERE = Path(__file__).parent
CACHED = 4.0 * (2 * 64 + 6)  # bytes a sample of the activations that a forward pass of 64-64-6 keeps


def parser(name: str, about: str) -> argparse.ArgumentParser:
    """The options of every script here."""
    made = argparse.ArgumentParser(description=about)
    made.add_argument("--quick", action="store_true", help="less of everything, nothing written")
    made.add_argument("--draw", action="store_true", help=f"only the README's part, from results/{name}.json")
    return made


def keep(name: str, data: dict[str, Any]) -> None:
    """As results/NAME.json, and as the README's table."""
    path = HERE / f"results/{name}.json"
    path.parent.mkdir(exist_ok=True)
    write_json(path, data)
    write(name, data)


def again(name: str) -> None:
    """The README's table, from results/NAME.json."""
    write(name, read_json(HERE / f"results/{name}.json"))


def write(name: str, data: dict[str, Any]) -> None:
    from experiments.speed import contrib, simulators, size, steppers

    tables: dict[str, Callable[[dict[str, Any]], Iterable[str]]] = {
        "simulators": simulators.table, "run": run, "parts": parts, "growth": growth, "device": device, "acktr": acktr,
        "size": size.table, "steppers": steppers.table,
        "contrib": contrib.table,
    }  # fmt: skip
    insert(name, list(tables[name](data)))


def insert(name: str, lines: list[str]) -> None:
    """Into the README between the marks of this name."""
    path = HERE / "README.md"
    before, mark, rest = path.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    path.write_text(before + mark + "\n".join([*lines, ""]) + end + after)


def run(data: dict[str, Any]) -> list[str]:
    times, rates = data["microseconds"], data["steps_per_second"]
    lines = head("", "microseconds, median (range)", "in gradients", "in double backprops")
    for name, values in times.items():
        units = (f"{ratio(values, times[unit]):.2f}" for unit in ("gradient", "double backprop"))
        lines.append(row(name, cell(values), *units))
    lines += ["", *head("HalfCheetah-v5, 8 environments, one core", "steps/s, median (range)", "training's share")]
    for name, values in rates.items():
        share = "" if name == "training" else f"{ratio(rates['training'], values):.0%}"
        lines.append(row(name, cell(values), share))
    return [*lines, "", machine(data)]


def parts(data: dict[str, Any]) -> list[str]:
    times, bounds = data["microseconds"], data["bounds"]
    lines = head("", "microseconds, median (range)", "in gradients", "wanted at most")
    for name, values in times.items():
        lines.append(row(name, cell(values), f"{ratio(values, times['gradient']):.2f}", bounds.get(name, "")))
    return [*lines, "", machine(data)]


def growth(data: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    names = list(next(iter(data["batch"].values())))
    for title, rows in (("samples, width 64", data["batch"]), ("width, 2048 samples", data["width"])):
        lines += head(f"milliseconds; {title}", *names)
        for size, kinds in rows.items():
            lines.append(row(f"{int(size):,}", *(f"{kinds[name]['milliseconds']:,.1f}" for name in names)))
        lines += [row("grows with the power", *(f"{slope(rows, name):.2f}" for name in names)), ""]
    lines += head("peak memory / cached activations; samples", *names)
    for size, kinds in data["batch"].items():
        lines.append(row(f"{int(size):,}", *(f"{kinds[name]['bytes'] / CACHED / int(size):.2f}" for name in names)))
    sizes = data["parameters"]
    lines += ["", *head("peak bytes by parameter", *(f"P = {P:,}" for P in sizes), "grows with the power")]
    for name, values in data["solver_bytes"].items():
        each = (f"{value / P:,.0f}" for value, P in zip(values, sizes, strict=True))
        lines.append(row(name, *each, f"{power(sizes, values):.2f}"))
    lines += ["", machine(data)]
    return [*lines, *training(data["training"])] if "training" in data else lines


def training(data: dict[str, Any]) -> list[str]:
    lines = ["", *head("TRPO on HalfCheetah-v5", "steps/s, median (range)", "against one process, by round")]
    for num_envs, sides in data["steps_per_second"].items():
        one = next(iter(sides))
        for name, values in sides.items():
            against = "" if name == one else f"{ratio(values, sides[one]):.2f}"
            lines.append(row(f"{num_envs} environments, {name}", cell(values), against))
    for what, sizes in data.get("growth", {}).items():
        algos = list(next(iter(sizes.values())))
        lines += ["", *head(f"{what}, one process", *(f"{algo}: steps/s, median (range)" for algo in algos))]
        lines += [row(f"{int(size):,}", *(cell(rates[algo]) for algo in algos)) for size, rates in sizes.items()]
        medians = ([statistics.median(rates[algo]) for rates in sizes.values()] for algo in algos)
        lines.append(row("grows with the power", *(f"{power([*map(int, sizes)], values):.2f}" for values in medians)))
    return [*lines, "", machine(data)]


def acktr(data: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for what, times in data["milliseconds"].items():
        lines += head(what, "milliseconds, median (range)", "against A2C (by round)", "wanted at most")
        for kind, values in times.items():
            bound = data["bounds"][what] if kind == "ACKTR" else ""
            lines.append(row(kind, places(values), "" if kind == "A2C" else against(values, times["A2C"]), bound))
        lines.append("")
    return [*lines, machine(data)]


def places(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def against(values: list[float], others: list[float]) -> str:
    each = [x / y for x, y in zip(values, others, strict=True)]
    return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def device(data: dict[str, Any]) -> list[str]:
    card, sizes = data["card"], data["sizes"]
    names = list(dict.fromkeys(name for size in sizes for name in size["kinds"]))
    rate, copy = card[f"product, {data['precision']}"], card["copy"]
    lines = head("width", "samples", *names)
    for size in sizes:
        cells = (costs(size["kinds"][name], rate, copy) if name in size["kinds"] else "-" for name in names)
        lines.append(row(f"{size['width']:,}", f"{size['batch']:,}", *cells))
    waits = {name: [size["kinds"][name].get("synchronisations") for size in sizes if name in size["kinds"]]
             for name in names}  # fmt: skip
    counted = [f"{name} {min(each)} to {max(each)}" for name, each in waits.items() if None not in each]
    lines += [
        "",
        "Milliseconds; in brackets the shares of the rate of a large product, and of a large copy's bandwidth. "
        f"{data['machine']}; float32 products at precision {data['precision']!r}: {rate / 1e12:.3g} Tflop/s "
        f"({card['product, high'] / 1e12:.3g} with TF32), copy {copy / 1e9:,.3g} GB/s.",
    ]
    from experiments.speed.loop import tables

    lines += [f"Synchronisations a call: {'; '.join(counted)}."] if counted else []
    return [*lines, *tables(data)]


def costs(kind: dict[str, Any], rate: float, copy: float) -> str:
    ms = statistics.median(kind["milliseconds"])
    return f"{ms:,.3g} ({1e3 * kind['flops'] / ms / rate:.0%}, {1e3 * kind['bytes'] / ms / copy:.0%})"


def head(*cells: str) -> list[str]:
    return [row(*cells), "|---" * len(cells) + "|"]


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def cell(values: list[float]) -> str:
    return " ".join(spread(values).split())


def machine(data: dict[str, Any]) -> str:
    load = f"; load {data['load'][0]:.1f} to {data['load'][1]:.1f}" if "load" in data else ""
    return f"{data['machine']}{load}."


def power(sizes: list[int], values: list[float]) -> float:
    """p of values ~ size^p, from the first to the last."""
    return math.log(values[-1] / values[0]) / math.log(sizes[-1] / sizes[0])


def slope(rows: dict[str, Any], name: str) -> float:
    return power([int(size) for size in rows], [row[name]["milliseconds"] for row in rows.values()])


def draw(data: dict[str, Any], path: Path) -> None:
    """Time against batch and width, memory against P, with the powers they grow with."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12.5, 4.4))
    for axis in axes:
        axis.set(xscale="log", yscale="log")
    for axis, rows, title in (
        (axes[0], data["batch"], "samples, width 64"),
        (axes[1], data["width"], "width, 2048 samples"),
    ):
        for i, name in enumerate(next(iter(rows.values()))):
            times = [row[name]["milliseconds"] for row in rows.values()]
            axis.plot([int(s) for s in rows], times, label=f"{name}: power {slope(rows, name):.2f}", **style(i))
        axis.set_ylabel("milliseconds of one core")
        axis.set_xlabel(title)
        axis.set_xticks([int(s) for s in rows], [f"{int(s):,}" for s in rows])
    for i, (name, values) in enumerate(data["solver_bytes"].items()):
        label = f"{name}: power {power(data['parameters'], values):.2f}"
        axes[2].plot(data["parameters"], [v / 2**20 for v in values], label=label, **style(i))
    axes[2].set_ylabel("peak memory of one solve, MiB")
    axes[2].set_xlabel("parameters, 64 samples")
    axes[2].set_xticks(data["parameters"], [f"{P:,}" for P in data["parameters"]])
    for axis in axes:
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
        low, high = axis.get_ylim()
        axis.set_ylim(low, high * (high / low) ** 0.45)  # room for the legend
        axis.legend(fontsize=7.5, frameon=False, loc="upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def style(i: int) -> dict[str, Any]:
    """Lines that differ without colour."""
    return {
        "color": ("0.0", "0.55")[i % 2],
        "linestyle": ("-", "--", ":", "-.")[i // 2 % 4],
        "marker": "osD^vPX*"[i],
        "markersize": 5,
        "linewidth": 1.4,
    }
