"""Run by test_long_texts.py in a process of its own: prints the peak memory of replay of one text
above the loaded models in MiB, and seconds. Arguments: a folder, mtp or eagle3, tokens, k.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.eagle3 import write_head
from helpers.support import llama

from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import texts_from_ids
from pytest_specdec.decoding.drafters.registry import drafter_for
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

WIDTH, PROMPT = 128, 16


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    folder, kind, length, k = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    made = llama(
        folder / "target", seed=1, mtp_layers=1, layers=2, width=WIDTH, context=length, spread=0.05
    )
    target = load_model(str(made), "cpu")
    if kind == "mtp":
        plan = DrafterPlan("mtp", 1, k)
    else:
        plan = DrafterPlan(str(write_head(folder / "head", made, ids=(0, 1, 2))), 0, k)
    drafter_for(target, plan.drafter, plan.depth).prepare()
    ids = [0, *(2 + 7 * at % 29 for at in range(length - 1))]
    text_scores(target, [plan], texts_from_ids([ids[:40]], [PROMPT]), Sampling(1.0))
    before, peak, done = resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.perf_counter()
    text_scores(target, [plan], texts_from_ids([ids], [PROMPT]), Sampling(1.0))
    seconds = time.perf_counter() - begun
    done.set()
    watcher.join()
    print((peak[0] - before) / 2**20, seconds)


if __name__ == "__main__":
    main()
