"""Pong from pixels: scripts/reproduce pong [--quick] [--draw] [--jobs N]

PPO and ACKTR on ALE/Pong-v5, a million steps of four frames each, one seed; then the table and curves.png.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

from experiments._shared import style, trained
from experiments._shared.data import read_rows

HERE = Path(__file__).parent
STEPS, SEED = 1_000_000, 0
ENV = ("env.id=ALE/Pong-v5", "policy=nature_cnn", "env.wrappers=[frame_stack:4,atari:84]",
       "env.kwargs.full_action_space=false")  # fmt: skip
PLAN = {  # name -> its options, and its colour
    "ppo": (("algo=ppo", "critic=shared", "batch_size=1024", "schedule.minibatch=256", "schedule.epochs=3",
             "advantages.recompute=false", "optimizer.lr=2.5e-4", "objective.clip=0.1", "objective.entropy=0.01",
             "workers=2"), "#1f4e9c"),
    "acktr": (("algo=acktr", "critic=shared", "solver.measure=20", "env.num_envs=16", "batch_size=640",
               "objective.entropy=0.01", "workers=2"), "#5a8f29"),
}  # fmt: skip


def table(rows: list[dict[str, str]]) -> str:
    lines = ["| | return at the end, training | 10 episodes, the mode | drawn | steps/s |", "|---|---|---|---|---|"]
    for row in rows:
        values = (float(row[key]) for key in ("return_mean", "evaluation_return", "sampled_evaluation_return"))
        shown = " | ".join(f"{value:.1f}" for value in values)
        lines.append(f"| {row['name']} | {shown} | {float(row['steps_per_second']):.0f} |")
    return "\n".join(lines)


def draw(results: Path, picture: Path) -> None:
    points = read_rows(results / "curves.csv")
    figure, axis = plt.subplots(figsize=(7, 4.5), constrained_layout=True)
    for name, (_, color) in PLAN.items():
        for steps, values in trained.curves(points, name, "atari").values():
            axis.plot([step / 1000 for step in steps], values, label=name, color=color)
    axis.set(title="Pong", xlabel="thousand steps of four frames", ylabel="training episode return")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    style.save(figure, picture, dpi=110)


def main() -> int:
    options = trained.parser("Pong from pixels.", "5,000 steps", jobs=1).parse_args()
    results, out = trained.places(HERE, options.quick)
    if not options.draw:
        steps, short = (5_000, ("evaluation.episodes=1", "evaluation.max_steps=100")) if options.quick else (STEPS, ())
        runs = [trained.Run(name, "atari", steps, SEED, (*ENV, *own, *short)) for name, (own, _) in PLAN.items()]
        trained.collect(runs, results, options.jobs)
    rows = read_rows(results / "runs.csv")
    if not options.quick:
        draw(results, out / "curves.png")
    return trained.finish(HERE, options.quick, table(rows), [])


if __name__ == "__main__":
    raise SystemExit(main())
