"""What experiments that measure have in common: data in results/, figures drawn from it, claims that it decides.

options = study.parser("What it is about.", "what --quick is", only=True).parse_args()
out = study.folder(HERE, options)                    # in which figures and results/ go
results = study.results(plan, options, out)          # one file for every name in plan; without only, its own files
return study.verdict([("a claim", holds)], out)      # the exit status
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments._shared.data import read_json, write_json

_BEGAN = time.perf_counter()


def parser(about: str, quick: str, only: bool = False) -> argparse.ArgumentParser:
    """The options of every study; ``quick`` says what is left of it, ``only`` adds what `results` reads."""
    made = argparse.ArgumentParser(description=about)
    made.add_argument("--quick", action="store_true", help=f"{quick}, into runs/NAME-quick")
    made.add_argument("--figures", action="store_true", help="only draw and tabulate what results/ holds")
    made.add_argument("--out", type=Path, default=None, help="folder for figures and results/")
    if only:
        made.add_argument("--only", default=None, help="one file of results/; then the figures of all")
    return made


def folder(here: Path, options: argparse.Namespace) -> Path:
    """Where figures go: ``here``, beside the code, unless the options say otherwise; with results/ in it."""
    out = options.out or (Path(f"runs/{here.name}-quick") if options.quick else here)
    (out / "results").mkdir(parents=True, exist_ok=True)
    return out


def results(plan: dict[str, Callable[[], Any]], options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """What results/NAME.json holds for every name in ``plan``, after the files that are wanted were made anew."""
    for name, make in plan.items():
        if not options.figures and options.only in (None, name):
            began = time.perf_counter()
            write_json(out / f"results/{name}.json", rounded(make()))
            print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    return {name: read_json(out / f"results/{name}.json") for name in plan}


def rounded(value: Any) -> Any:
    """Numbers to 6 digits, which is what figures need."""
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def publish(page: Path, shown: str) -> None:
    """Write this below the page's heading Results, in place of what stands there."""
    before, heading, _ = page.read_text().partition("## Results")
    page.write_text(f"{before}{heading}\n\n{shown}\n")


def verdict(claims: list[tuple[str, bool]], out: Path) -> int:
    """Prints which claims hold; 0 if all do."""
    for claim, holds in claims:
        print(f"{'holds ' if holds else 'FAILED'}  {claim}")
    print(f"{out}: figures and results/, {time.perf_counter() - _BEGAN:.0f} s")
    return 0 if all(holds for _, holds in claims) else 1
