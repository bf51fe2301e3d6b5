"""The embedded pair, decoded by this project and by transformers with its rounds read off."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig, GenerationMixin

from helpers.support import EMBEDDED
from pytest_specdec.acceptance.rounds import Round
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.texts import Text
from pytest_specdec.decoding.decode import Decoded, decode
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.sampling import encode_prompts

PROMPTS = EMBEDDED.parent / "text" / "prompts.jsonl"
UNUSED = 190
"""The NUL byte, in no text, as padding: transformers' assistant masks out every token of its
context that equals pad_token_id.
"""


@dataclasses.dataclass(frozen=True)
class Pair:
    """Target, draft model and the suite's prompts as token ids."""

    target: LoadedModel
    draft: LoadedModel
    prompts: list[list[int]]

    @classmethod
    def load(cls) -> Pair:
        target, draft = (
            load_model(str(EMBEDDED / f"text-{role}"), "cpu") for role in ("target", "draft")
        )
        return cls(target, draft, encode_prompts(target.tokenizer, read_prompts(PROMPTS)))

    def decode(
        self,
        drafter: str,
        k: int,
        depth: int,
        rule: str,
        sampling: Sampling,
        seed: int,
        prompts: Sequence[list[int]] = (),
    ) -> Decoded:
        """Texts after the suite's prompts unless others are given, all in one batch."""
        prompts = prompts or self.prompts
        return decode(
            self.target,
            self.draft if drafter == "draft" else drafter,
            prompts,
            k=k,
            depth=depth,
            rule=rule,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            new_tokens=96,
            batch_size=len(prompts),
            seed=seed,
        )


@contextmanager
def rounds_of_generate() -> Iterator[list[Round]]:
    """Record every round through the call with which transformers reports it to its candidate
    generator.
    """
    seen: list[Round] = []
    make: Callable[..., Any] = GenerationMixin._get_candidate_generator

    def with_hook(self: Any, *arguments: Any, **keywords: Any) -> Any:
        generator = make(self, *arguments, **keywords)
        update = generator.update_candidate_strategy

        def hook(input_ids: torch.Tensor, scores: torch.Tensor, num_matches: int) -> Any:
            accepted = int(num_matches)
            seen.append(Round(input_ids.shape[1] - accepted - 1, scores.shape[1] - 1, accepted))
            return update(input_ids, scores, num_matches)

        generator.update_candidate_strategy = hook
        return generator

    GenerationMixin._get_candidate_generator = with_hook
    try:
        yield seen
    finally:
        GenerationMixin._get_candidate_generator = make


def generate(
    target: LoadedModel,
    draft: LoadedModel | None,
    prompt: list[int],
    *,
    k: int,
    new: int,
    sample: bool,
    unused: int = UNUSED,
    **filters: float,
) -> tuple[Text, list[Round]]:
    """One text by transformers' speculative decoding, with its rounds that drafted anything; own
    heads without a `draft`. `unused` is a token that is in no text.
    """
    config = GenerationConfig(
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=sample,
        bos_token_id=0,
        pad_token_id=unused,
        **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} | filters if sample else {}),
    )
    helper: dict[str, Any] = (
        {"use_mtp": True} if draft is None else {"assistant_model": draft.model}
    )
    if draft is not None:
        settings = GenerationConfig(bos_token_id=0, pad_token_id=unused)
        (
            settings.num_assistant_tokens,
            settings.num_assistant_tokens_schedule,
            settings.assistant_confidence_threshold,
        ) = k, "constant", 0.0
        draft.model.generation_config = settings
    if draft is None:
        _ = target.heads  # names the MTP layers where transformers looks for them
    with rounds_of_generate() as seen, torch.inference_mode():
        ids = torch.tensor([prompt])
        out = target.model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=config, **helper
        )
    return Text(str(len(prompt)), "all", tuple(out[0].tolist()), len(prompt)), [
        played for played in seen if played.drafted > 0
    ]
