"""Replay SmolLM2-135M and its early exit with the weights in memory and with `--specdec-offload`:
the same counts, and the peak of anonymous memory above a process that only imports torch and
transformers.

    python benchmarks/offload.py [PROMPTS] [--into docs/scale.md]     # after suites/smollm2/build.py exit-20
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

from marked_page import marks_of, write_lines

ROOT = Path(__file__).parent.parent
SUITE = ROOT / "suites" / "smollm2"
WAYS = ("import", "offload", "memory")
MARK = "offload.py"


def anonymous() -> float:
    """MiB of this process in memory that no file backs."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"RssAnon:\s*(\d+)", status)[0]) / 1024


class Peak:
    """The most anonymous memory while it is entered, looked at a thousand times a second."""

    def __enter__(self) -> Peak:
        self.mib, self._done = anonymous(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.001):
            self.mib = max(self.mib, anonymous())

    def __exit__(self, *raised: object) -> None:
        self._done.set()
        self._thread.join()
        self.mib = max(self.mib, anonymous())


def measure(way: str, prompts: int) -> dict[str, object]:
    """One way, in a process of its own."""
    # Freed blocks go back to the system at once, so that what is measured is what is needed.
    ctypes.CDLL(None).mallopt(-3, 1 << 16)
    import torch
    import transformers  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401  what it loads late

    if way == "import":
        return {"mib": anonymous()}
    from pytest_specdec.baselines.store import load
    from pytest_specdec.cases.case import Case, TextKey
    from pytest_specdec.cases.drafter import DraftModelSpec
    from pytest_specdec.engines.models import ModelPool
    from pytest_specdec.engines.own.replay_engine import ReplayEngine
    from pytest_specdec.records.text_set import TextSet

    models = SUITE / "models"
    texts = TextKey("smollm2", str(models / "target"), SUITE / "prompts.jsonl", prompts, 64, 1.0, 0)
    case = Case(
        texts=texts,
        drafter=DraftModelSpec(str(models / "exit-20")),
        label="exit-20",
        k=4,
        depth=0,
        rule="rejection",
        margin=0.01,
    )
    stored = load(ROOT / "baselines" / "smollm2" / "texts" / "t1-n64-s0.json", TextSet)
    pool = ModelPool("cpu", offload=way == "offload")
    begun = time.process_time()
    with Peak() as peak:
        counts = ReplayEngine([case], pool, stored_texts=lambda key: stored).measure(case).counts
    weights = sum(parameter.numel() * 4 for parameter in pool.model(case.target).model.parameters())
    return {
        "mib": peak.mib,
        "seconds": time.process_time() - begun,
        "threads": torch.get_num_threads(),
        "weights": weights / 2**20,
        "accepted": counts.accepted.tolist(),
        "length": counts.acceptance_length,
    }


def in_process(way: str, prompts: int) -> dict[str, object]:
    command = [sys.executable, __file__, str(prompts), "--way", way]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def table(found: dict[str, dict[str, object]], prompts: int) -> str:
    above = {way: found[way]["mib"] - found["import"]["mib"] for way in WAYS[1:]}
    weights = found["memory"]["weights"]
    assert found["offload"]["accepted"] == found["memory"]["accepted"]
    lines = [
        f"{prompts} prompts, k = 4, float32: acceptance length {found['offload']['length']:.6f} "
        "both ways, every count equal to the last bit.",
        "",
        "| weights of target and drafter | peak of anonymous memory | of the target's weights | CPU seconds |",
        "|---|---|---|---|",
        *(
            f"| {name} | {above[way]:.0f} MiB | {above[way] / weights:.2f} | {found[way]['seconds']:.0f} |"
            for way, name in (("memory", "in memory"), ("offload", "in their files"))
        ),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("prompts", type=int, nargs="?", default=6)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--into", type=Path)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.prompts)))
        return
    made = table({way: in_process(way, options.prompts) for way in WAYS}, options.prompts)
    print(made)
    if options.into:
        write_lines(options.into, marks_of(MARK), made)


if __name__ == "__main__":
    main()
