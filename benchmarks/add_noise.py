"""Make a draft model worse: a copy of a checkpoint with Gaussian noise on its weights.

python benchmarks/add_noise.py suites/models/text-draft /tmp/worse-draft
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # the checkpoints of the tests

from helpers.support import add_noise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="a checkpoint folder")
    parser.add_argument("folder", type=Path, help="the copy; must not exist")
    parser.add_argument(
        "--share", type=float, default=0.05, help="of each tensor's standard deviation (0.05)"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.folder.exists():
        parser.error(f"{given.folder} exists; remove it or name another folder")
    print(add_noise(given.source, given.folder, given.share, seed=given.seed))


if __name__ == "__main__":
    main()
