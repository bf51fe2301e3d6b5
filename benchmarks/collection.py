"""CPU seconds in which pytest collects thousands of cases, everything that it imports included.

OMP_NUM_THREADS=1 python benchmarks/collection.py
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS, KS, DEPTHS = 40, 32, 4
TEST = """
@pytest.mark.specdec(target={target!r}, drafter={draft!r}, prompts="prompts.jsonl",
                     k=list(range(1, {ks} + 1)), depth=list(range({depths})), temperature={temperature})
def test_{number}(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
"""


def main() -> None:
    models = ROOT / "suites" / "models"
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "suites" / "many"
        suite.mkdir(parents=True)
        (Path(folder) / "pytest.ini").write_text("[pytest]\n")
        shutil.copy(ROOT / "suites" / "text" / "prompts.jsonl", suite)
        tests = [
            TEST.format(
                target=str(models / "text-target"),
                draft=str(models / "text-draft"),
                ks=KS,
                depths=DEPTHS,
                temperature=0.5 + number / 50,
                number=number,
            )
            for number in range(TESTS)
        ]
        (suite / "test_many.py").write_text("import pytest\n" + "".join(tests))
        command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"]
        found = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"{found.stdout.splitlines()[-1].partition(' in ')[0]}: {used.ru_utime + used.ru_stime:.1f} CPU s"
        )


if __name__ == "__main__":
    main()
