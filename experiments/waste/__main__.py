"""What an update spends off the natural gradient: scripts/reproduce waste [--quick] [--draw] [--jobs N]

PPO with 1, 3 and 10 epochs, TRPO and ACKTR on three MuJoCo tasks; then the table and waste.png from results/.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib.pyplot as plt

from experiments._shared import style, trained
from experiments._shared.data import read_rows

HERE = Path(__file__).parent
SEEDS = range(1, 6)  # fixed before any of them was run
STEPS = 100_000
ENVS = {"halfcheetah": "HalfCheetah", "hopper": "Hopper", "walker2d": "Walker2d"}
WASTE, SIGNAL, KL = "step/waste", "step/signal", "step/kl"
PLAN = {  # name -> its options, and its colour
    "ppo, 1 epoch": (("algo=ppo", "schedule.epochs=1", "critic.schedule.epochs=10"), "#9dbbe8"),
    "ppo, 3 epochs": (("algo=ppo", "schedule.epochs=3", "critic.schedule.epochs=10"), "#4f7fc8"),
    "ppo, 10 epochs": (("algo=ppo", "schedule.epochs=10", "critic.schedule.epochs=10"), "#1f4e9c"),
    "trpo": (("algo=trpo",), "#c44e00"),
    "acktr": (("algo=acktr",), "#5a8f29"),
}


def planned(quick: bool) -> list[trained.Run]:
    steps, seeds, envs = (8_192, [0], ["hopper"]) if quick else (STEPS, SEEDS, list(ENVS))
    common = ("recipe=null", "workers=1", "record.waste_every=5", "evaluation.episodes=20")
    return [trained.Run(name, env, steps, seed, (*own, *common))
            for seed in seeds for env in envs for name, (own, _) in PLAN.items()]  # fmt: skip


def of(rows: list[dict[str, str]], name: str, env: str, key: str) -> list[float]:
    """One column of a cell, by seed."""
    found = {int(r["seed"]): float(r[key]) for r in rows if (r["name"], r["environment"]) == (name, env)}
    return [found[seed] for seed in sorted(found)]


def table(rows: list[dict[str, str]]) -> str:
    lines = [
        "| task | algorithm | waste, mean (95% t) | signal, root of 2 nats | KL, nats | evaluation return | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for env, title in ENVS.items():
        for name in PLAN:
            if values := of(rows, name, env, WASTE):
                signal, kl, gained = (
                    statistics.mean(of(rows, name, env, key)) for key in (SIGNAL, KL, "evaluation_return")
                )
                shown = trained.mean_with_interval(values) if len(values) > 1 else f"{values[0]:.3g}"
                lines.append(f"| {title} | {name} | {shown} | {signal:.3g} | {kl:.3g} | {gained:.0f} | {len(values)} |")
    return "\n".join(lines)


def claims(rows: list[dict[str, str]]) -> list[tuple[str, bool]]:
    """Paired by seed: that PPO's waste falls from 1 epoch to 10, and is above TRPO's; intervals that exclude none."""
    found = []
    for env, title in ENVS.items():
        ten = of(rows, "ppo, 10 epochs", env, WASTE)
        for other, sign, word in (("ppo, 1 epoch", -1, "less"), ("trpo", 1, "more")):
            differences = [sign * (a - b) for a, b in zip(ten, of(rows, other, env, WASTE), strict=True)]
            if len(differences) > 1:
                low, high = trained.interval(differences)
                found.append(
                    (f"{title}: ppo with 10 epochs wastes {word} than {other}, by {low:.3f} to {high:.3f}", low > 0)
                )
    return found


def draw(rows: list[dict[str, str]], picture: Path) -> None:
    figure, axes = plt.subplots(1, len(ENVS), figsize=(11, 3.8), constrained_layout=True, sharey=True)
    for axis, (env, title) in zip(axes, ENVS.items(), strict=True):
        for place, (name, (_, color)) in enumerate(PLAN.items()):
            values = of(rows, name, env, WASTE)
            axis.bar(place, statistics.mean(values) if values else 0, color=color, width=0.7)
            axis.plot([place] * len(values), values, "o", color="black", markersize=3)
        axis.set_xticks(range(len(PLAN)), PLAN, rotation=35, ha="right")
        axis.set(title=title, ylim=(0, 1))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of the KL off the natural gradient")
    style.save(figure, picture, dpi=110)


def main() -> int:
    options = trained.parser("What an update spends off the natural gradient.", "8,192 steps of Hopper").parse_args()
    results, out = trained.places(HERE, options.quick)
    if not options.draw:
        trained.collect(planned(options.quick), results, options.jobs, (WASTE, SIGNAL, KL))
    rows = read_rows(results / "runs.csv")
    if not options.quick:
        draw(rows, out / "waste.png")
        return trained.finish(HERE, options.quick, table(rows), claims(rows), "![Waste by algorithm](waste.png)")
    return trained.finish(HERE, options.quick, table(rows), [])


if __name__ == "__main__":
    raise SystemExit(main())
