"""What others have published for the same cells: means over seeds, and Tianshou's curves.

A figure is the highest mean over several seeds that was found, after at most two million steps. The environments are of
earlier versions than -v5, whose rewards differ a little (Ant's and Humanoid's contact terms, Walker2d's and Hopper's
healthy reward).
"""

from __future__ import annotations

from pathlib import Path

from experiments._shared.data import read_rows

SOURCES = {
    "T": "Weng, Chen, Yan, You, Duburcq, Zhang, Su, Su and Zhu, *Tianshou: a highly modularized deep reinforcement "
    "learning library* (2022), MuJoCo benchmark: -v3 (Reacher and pendulum -v2), 1M steps, 10 seeds, sampled actions",
    "S": "Raffin, Hill, Gleave, Kanervisto, Ernestus and Dormann, *Stable-Baselines3: reliable reinforcement learning "
    "implementations* (2021), documentation of sb3-contrib's TRPO: -v3, 1M steps, 3 seeds",
    "H": "Henderson, Islam, Bachman, Pineau, Precup and Meger, *Deep reinforcement learning that matters* (2018): -v1, "
    "2M steps, 5 seeds",
    "W": "Wu, Mansimov, Liao, Grosse and Ba, *Scalable trust-region method for deep reinforcement learning using "
    "Kronecker-factored approximation* (2017): 1M steps, 3 seeds, read off its figures",
    "F": "Fujimoto, van Hoof and Meger, *Addressing function approximation error in actor-critic methods* (2018): -v1, "
    "1M steps, 10 seeds, the highest of the evaluations during training",
    "E": "Engstrom, Ilyas, Santurkar, Tsipras, Janoos, Rudolph and Madry, *Implementation matters in deep policy "
    "gradients* (2020): -v2, 1M steps, 80 agents or more, quoted at second hand",
    "B": "Dhariwal, Hesse, Klimov, Nichol, Plappert, Radford, Schulman, Sidor, Wu and Zhokhov, *OpenAI Baselines* "
    "(2017), MuJoCo benchmark: 1M steps, 6 seeds",
    "A": "Achiam, *Spinning Up in deep RL* (2018), benchmarks: -v3, 1M steps, 10 seeds, read off its figures",
}
BEST: dict[str, dict[str, tuple[float, str]]] = {  # environment -> algorithm -> mean, source
    "halfcheetah": {"ppo": (5708, "T"), "trpo": (4471, "T"), "acktr": (3888, "H"), "npg": (3485, "T"),
                    "a2c": (1912, "T"), "vpg": (520, "T")},
    "hopper": {"ppo": (2715, "H"), "trpo": (3372, "S"), "acktr": (3500, "W"), "npg": (1898, "T"),
               "a2c": (1134, "T"), "vpg": (391, "A")},
    "walker2d": {"ppo": (3448, "T"), "trpo": (4502, "S"), "acktr": (2285, "H"), "npg": (2460, "T"),
                 "a2c": (1203, "T"), "vpg": (348, "T")},
    "ant": {"ppo": (3194, "T"), "trpo": (3554, "S"), "acktr": (1822, "F"), "npg": (2358, "T"),
            "a2c": (3479, "T"), "vpg": (179, "T")},
    "swimmer": {"ppo": (111, "B"), "trpo": (359, "S"), "acktr": (101, "T"), "npg": (32, "T")},
    "humanoid": {"ppo": (806, "E"), "trpo": (1030, "E"), "acktr": (336, "T"), "npg": (765, "T")},
    "reacher": {"ppo": (-4.8, "T"), "trpo": (-4.8, "B"), "acktr": (-4.0, "W"), "npg": (-5.1, "T")},
    "inverted_double_pendulum": {"ppo": (8184, "T"), "trpo": (2506, "T"), "acktr": (9400, "W"), "npg": (8337, "T")},
}  # fmt: skip
_CURVES = Path(__file__).parent / "published/tianshou.csv"


def tianshou(algo: str, task: str) -> tuple[list[float], list[float]]:
    """Steps and mean returns of Tianshou's ten seeds (source T), sampled actions; empty lists where there are none."""
    points = [(float(row["step"]), float(row["return"])) for row in read_rows(_CURVES)
              if (row["algo"], row["environment"]) == (algo, task)]  # fmt: skip
    return [step for step, _ in points], [value for _, value in points]
