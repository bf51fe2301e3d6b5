"""The embedded pair and transformers' own assisted generation with it, for the benchmarks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from transformers import GenerationConfig

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.acceptance.prompts import read_prompts
from pytest_specdec.acceptance.rounds import Round, counts_of_rounds
from pytest_specdec.acceptance.texts import texts_from_ids
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.sampling import encode_prompts

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "suites" / "models"
UNUSED = 190
"""The NUL byte as padding: transformers' assistant masks out every token that equals pad_token_id."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """Target, draft model and the suite's prompts as token ids."""

    target: LoadedModel
    draft: LoadedModel
    prompts: list[list[int]]

    @classmethod
    def load(cls) -> Pair:
        target, draft = (load_model(str(MODELS / f"text-{role}"), "cpu") for role in ("target", "draft"))
        return cls(target, draft, encode_prompts(target.tokenizer, read_prompts(ROOT / "suites" / "text" / "prompts.jsonl")))

    def assisted(self, prompt: list[int], *, k: int, new: int, temperature: float) -> tuple[list[int], list[Round]]:
        """transformers' `generate(assistant_model=)` with k drafts a round: the text, and the rounds as it reports them."""
        sampling = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
        config = GenerationConfig(
            max_new_tokens=new, min_new_tokens=new, do_sample=temperature > 0, bos_token_id=0, pad_token_id=UNUSED, **sampling
        )
        own = GenerationConfig(bos_token_id=0, pad_token_id=UNUSED)
        own.num_assistant_tokens, own.num_assistant_tokens_schedule, own.assistant_confidence_threshold = k, "constant", 0.0
        self.draft.model.generation_config = own
        rounds: list[Round] = []
        make = self.target.model._get_candidate_generator

        def with_hook(*arguments: object, **keywords: object) -> object:
            generator = make(*arguments, **keywords)
            update = generator.update_candidate_strategy

            def hook(input_ids: torch.Tensor, scores: torch.Tensor, num_matches: int) -> object:
                rounds.append(Round(input_ids.shape[1] - int(num_matches) - 1, scores.shape[1] - 1, int(num_matches)))
                return update(input_ids, scores, num_matches)

            generator.update_candidate_strategy = hook
            return generator

        self.target.model._get_candidate_generator = with_hook
        try:
            ids = torch.tensor([prompt])
            out = self.target.model.generate(
                ids, attention_mask=torch.ones_like(ids), generation_config=config, assistant_model=self.draft.model
            )
        finally:
            del self.target.model._get_candidate_generator
        return out[0].tolist(), rounds

    def counted(self, prompts: list[list[int]], *, k: int, new: int, temperature: float) -> Counts:
        """Acceptance by counting transformers' rounds."""
        done = [self.assisted(prompt, k=k, new=new, temperature=temperature) for prompt in prompts]
        texts = texts_from_ids([text for text, _ in done], [len(prompt) for prompt in prompts])
        return counts_of_rounds(texts, [rounds for _, rounds in done], k)
