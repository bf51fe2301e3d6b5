"""Where the embedded audio pair loses drafts, and what the published report's shape is made of.

    python benchmarks/audio_distance.py --into docs/speech.md

The target continues prompts of the audio suite, and every audio token of the first 16 steps is
scored as a draft of the model's own head, of the second MTP layer, and of one pass whose last MTP
layer is reused to the end. Writes two Markdown tables between the page's marks: rates of a round
from a prompt's own context, and the overlap sum min(p, q) of drafts by the entropy of p.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from marked_page import marks_of, write_lines
from numpy.typing import NDArray

from pytest_specdec import decode
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.mtp_forward import project, teacher_forced_hidden

SUITES = Path(__file__).parent.parent / "suites"
FIRST_AUDIO, STEPS, KS = 31, 16, (4, 8, 12, 16)
PUBLISHED = (86.09, 63.41, 45.97, 35.20)
DRAFTERS: dict[str, Callable[[int], int]] = {
    "as drafted: own head and second MTP layer in turn": lambda step: 2 * (step % 2),
    "own head alone, a pass for each draft": lambda step: 0,
    "second MTP layer alone": lambda step: 2,
    "one pass for all, last MTP layer reused": lambda step: 2 * step,
}
"""How many tokens before the one that it drafts a step's pass ends."""
BOUNDS = (0.0, 0.1, 0.3, 0.7, 1.2, np.inf)
"""Of entropies, in nats."""
MARKED = marks_of("audio_distance.py")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredText:
    """The audio tokens of one text's first steps as drafts."""

    accepted: NDArray[np.float64]
    """(drafters, STEPS): min(1, q / p) of the target's own tokens."""
    overlap: NDArray[np.float64]
    """(STEPS,): sum min(p, q), as drafted."""
    entropy: NDArray[np.float64]
    """(STEPS,): of p, in nats."""


def log_drafts(draft: LoadedModel, ids: torch.Tensor) -> list[torch.Tensor]:
    """Log-probabilities (positions, vocabulary) by the number of tokens before the one drafted, at
    the position where the pass ends.
    """
    output = draft.model(ids, output_hidden_states=True)
    states = teacher_forced_hidden(
        draft.heads, ids, output.hidden_states[-1], draft.heads.num_mtp_layers, 2 * STEPS - 1
    )
    logits = [output.logits, *(project(draft.heads, state) for state in states)]
    return [each[0].log_softmax(-1) for each in logits]


def scored(target: LoadedModel, draft: LoadedModel, prompts: Path, count: int) -> list[ScoredText]:
    """Texts of so many prompts that keep the pattern of steps."""
    chosen = [target.tokenizer(each.text)["input_ids"] for each in read_prompts(prompts, count)]
    decoded = decode(target, None, chosen, k=0, new_tokens=2 * STEPS, batch_size=128, seed=5)
    made = []
    for text in decoded.texts:
        places = audio_places(text.prompt_length)
        if all(text.ids[at] >= FIRST_AUDIO for at in places):
            made.append(score(target, draft, torch.tensor([text.ids]), places))
    return made


def audio_places(prompt: int) -> range:
    """Positions of the audio tokens of the first steps after a prompt."""
    return range(prompt + 1, prompt + 2 * STEPS, 2)


@torch.inference_mode()
def score(target: LoadedModel, draft: LoadedModel, ids: torch.Tensor, places: range) -> ScoredText:
    log_p = target.model(ids).logits[0].log_softmax(-1)[[at - 1 for at in places]]
    drafts = log_drafts(draft, ids)
    tokens = ids[0, list(places)][:, None]

    def log_q(before: Callable[[int], int]) -> torch.Tensor:
        return torch.stack(
            [drafts[before(step)][at - 1 - before(step)] for step, at in enumerate(places)]
        )

    ratios = [(log_q(each) - log_p).gather(-1, tokens)[:, 0] for each in DRAFTERS.values()]
    q = log_q(next(iter(DRAFTERS.values()))).exp()
    return ScoredText(
        accepted=torch.stack(ratios).clamp(max=0).exp().double().numpy(),
        overlap=torch.minimum(log_p.exp(), q).sum(-1).double().numpy(),
        entropy=-(log_p.exp() * log_p).sum(-1).double().numpy(),
    )


def rate_rows(texts: list[ScoredText]) -> Iterator[str]:
    yield f"| first rounds of {len(texts)} prompts | " + " | ".join(f"k = {k}" for k in KS) + " |"
    yield "|---" * (1 + len(KS)) + "|"
    yield "| published report | " + " | ".join(f"{rate:.1f} %" for rate in PUBLISHED) + " |"
    survival = np.cumprod(np.stack([text.accepted for text in texts]), -1).mean(0)
    for name, alive in zip(DRAFTERS, survival, strict=True):
        yield f"| {name} | " + " | ".join(f"{alive[:k].mean():.1%}" for k in KS) + " |"


def entropy_rows(texts: list[ScoredText]) -> Iterator[str]:
    overlap, entropy = (
        np.concatenate([getattr(text, name) for text in texts]) for name in ("overlap", "entropy")
    )
    yield "| entropy of p (nats) | drafts | overlap | share of all that is rejected |"
    yield "|---|---|---|---|"
    for low, high in itertools.pairwise(BOUNDS):
        inside = (entropy >= low) & (entropy < high)
        name = f"{low} to {high}" if high < np.inf else f"above {low}"
        lost = (1 - overlap)[inside].sum() / (1 - overlap).sum()
        yield f"| {name} | {inside.mean():.0%} | {overlap[inside].mean():.1%} | {lost:.0%} |"
    yield f"| all, {entropy.mean():.2f} on average | 100% | {overlap.mean():.1%} | 100% |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draft", type=Path, default=SUITES / "models" / "audio-draft")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--into", type=Path, help="a page with this script's marks")
    asked = parser.parse_args()
    target = load_model(str(SUITES / "models" / "audio-target"), "cpu")
    draft = load_model(str(asked.draft), "cpu")
    texts = scored(target, draft, SUITES / "audio" / "prompts.jsonl", asked.prompts)
    tables = "\n\n".join("\n".join(rows(texts)) for rows in (rate_rows, entropy_rows))
    tables = re.sub(r"(\d)%", r"\1 %", tables)
    print(tables)
    if asked.into is not None:
        write_lines(asked.into, MARKED, f"\n{tables}\n")


if __name__ == "__main__":
    main()
