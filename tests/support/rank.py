"""One rank of torch.distributed, for test_ranks: `python -m tests.support.rank FOLDER` saves there what every case gave."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from rlopt.parallel import ranks as processes
from rlopt.parallel.collectives import rank
from tests.support.ranked import CASES
from tests.support.ranked_faults import FAULTS


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    processes._PATIENCE = timedelta(seconds=30)
    found: dict[str, Any] = {}
    with processes.process_group():
        for name, case in {**CASES, **FAULTS}.items():
            try:
                found[name] = case()
            except Exception as error:
                found[name] = error
        torch.save(found, folder / f"{rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
