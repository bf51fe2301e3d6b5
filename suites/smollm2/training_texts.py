"""What the target answers to the training prompts, to train heads on.

    python suites/smollm2/training_texts.py --prompts work/prompts.jsonl --into work/texts

The seed shifts which temperature a prompt is answered at, so several runs answer it at several.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pytest_specdec import load_model
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.decoding.sampling import encode_prompts

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from sampled_texts import SamplingPlan, sample_texts

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default=str(HERE / "models" / "target"))
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument(
        "--temperatures", type=float, nargs="+", default=[0.0, 0.7, 1.0], help="of prompts in turn"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    target = load_model(options.target, dtype="bfloat16")
    prompts = encode_prompts(target.tokenizer, read_prompts(options.prompts))
    temperatures = options.temperatures
    shift = options.seed % len(temperatures)
    plan = SamplingPlan(
        new_tokens=options.new_tokens,
        temperatures=(*temperatures[shift:], *temperatures[:shift]),
        batch=256,
        seed=options.seed,
    )
    sample_texts(target, prompts, options.into, plan)


if __name__ == "__main__":
    main()
