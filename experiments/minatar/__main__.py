"""MinAtar: scripts/reproduce minatar [--quick] [--draw] [--only GAME ALGO] [--jobs N]

Trains PPO, ACKTR and TRPO on the five games, then writes the table and curves.png from results/. Runs that are in
results/ are not made again.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

from experiments._shared import style, trained
from experiments._shared.data import exists, read_rows

HERE = Path(__file__).parent
SEEDS = range(3)  # fixed before any of them was run
FRAMES, QUICK = 2_000_000, 6_000
GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
STYLES = {"ppo": "#1f4e9c", "acktr": "#5a8f29", "trpo": "#c44e00"}
NETWORKS = ("policy=small_cnn", "critic=small_cnn")
EPOCHS = ("critic.schedule.epochs=3", "critic.schedule.minibatch=256")
SETTINGS = {  # beside the presets: of PPO what Schulman et al. (2017) used on Atari, and as much for TRPO's critic
    "ppo": ("schedule.epochs=3", "schedule.minibatch=256", "optimizer.lr=2.5e-4", "objective.clip=0.1",
            "objective.entropy=0.01", *EPOCHS),
    "acktr": (),
    "trpo": EPOCHS,
}  # fmt: skip
PUBLISHED = {"Asterix": 15, "Breakout": 28, "Freeway": 58, "SpaceInvaders": 131}  # PPO, 10M frames, see README.md


def planned(quick: bool, only: list[list[str]], frames: int = FRAMES) -> list[trained.Run]:
    """Every seed 0 first, so that an early table has all cells."""
    if quick:
        only, frames = [["Breakout", algo] for algo in STYLES], QUICK
    return [
        trained.Run(
            f"{game} {algo}",
            "minatar",
            frames,
            seed,
            (f"env.id=MinAtar/{game}-v1", f"algo={algo}", *NETWORKS, *SETTINGS[algo]),
        )  # fmt: skip
        for seed in (range(1) if quick else SEEDS)
        for game in GAMES
        for algo in STYLES
        if not only or any(g in ("all", game) and a in ("all", algo) for g, a in only)
    ]


def table(rows: list[dict[str, str]]) -> str:
    """Evaluation returns beside the published ones, as Markdown."""
    lines = ["| game | algo | mode, mean (95%) | sampled | seeds | published PPO |", "|---|---|---|---:|---:|---:|"]
    for game in GAMES:
        for algo in STYLES:
            cell = [row for row in rows if row["name"] == f"{game} {algo}"]
            if values := trained.evaluations(rows, f"{game} {algo}", "minatar"):
                sampled = sum(float(row["sampled_evaluation_return"]) for row in cell) / len(cell)
                shown = trained.mean_with_interval(values) if len(values) > 1 else f"{values[0]:.4g}"
                lines.append(
                    f"| {game} | {algo} | {shown} | {sampled:.4g} | {len(values)} | {PUBLISHED.get(game, '')} |"
                )
    return "\n".join(lines)


def draw(points: list[dict[str, str]], frames: int, picture: Path) -> None:
    """Training curves of the games that have been run."""
    shown = [game for game in GAMES if any(row["name"].startswith(f"{game} ") for row in points)]
    figure, axes = plt.subplots(
        1, len(shown), figsize=(4 * len(shown) + 1, 3.6), constrained_layout=True, squeeze=False
    )
    for axis, game in zip(axes.flat, shown, strict=True):
        for algo, color in STYLES.items():
            if found := trained.curves(points, f"{game} {algo}", "minatar"):
                seeds = f"{len(found)} seed{'s' * (len(found) > 1)}"
                trained.band(axis, found, frames, f"{algo}, {seeds}", color=color)
        if game in PUBLISHED:
            axis.axhline(PUBLISHED[game], color="black", linewidth=0.6, linestyle=":")
        axis.set(title=game, xlabel="thousand frames", ylabel="training episode return")
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    style.save(figure, picture, dpi=100)


def main() -> int:
    parser = trained.parser("PPO, ACKTR and TRPO on the five games of MinAtar.", "6,000 frames of Breakout")
    parser.add_argument("--only", nargs=2, action="append", default=[], metavar=("GAME", "ALGO"),
                        help="these alone, such as Breakout ppo, all trpo; may be repeated")  # fmt: skip
    options = parser.parse_args()
    for given, known in ((g, known) for pair in options.only for g, known in zip(pair, (GAMES, STYLES), strict=True)):
        if given not in ("all", *known):
            parser.error(f"--only: {given} is none of {', '.join(known)}, all")
    results, out = trained.places(HERE, options.quick)
    if not options.draw:
        trained.collect(planned(options.quick, options.only), results, options.jobs)
    if not exists(results / "runs.csv"):
        print("nothing has been run yet")
        return 0
    rows, points = (read_rows(results / f"{name}.csv") for name in ("runs", "curves"))
    draw(points, QUICK if options.quick else FRAMES, out / "curves.png")
    return trained.finish(HERE, options.quick, table(rows), [])


if __name__ == "__main__":
    raise SystemExit(main())
