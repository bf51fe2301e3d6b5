"""The museum of distribution bugs: samplers that emit another distribution than the target's, or
break the contract.

Each is one defect of a real engine, or a rule that is lossy by design, as the smallest change to
`reference`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from museum import mutants_draft as own
from museum import mutants_verify as given

from pytest_specdec.lossless.samplers.sampler import Drafts

Level = Literal["distribution", "range", "purity", "seed", "boundary"]


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A wrong sampler: where it was found, how it works, and how it is called."""

    name: str
    source: str
    """The issue or pull request that reports it, `owner/repository#number`, or a paper,
    `arXiv:number`.
    """
    mechanism: str
    sample: Callable[..., Any]
    level: Level = "distribution"
    """What shows it; `distribution` unless the distribution is right and only this breaks the
    contract.
    """
    twin: Callable[..., Any] | None = None
    """The same in batches, where `sample` takes one row at a time."""
    one_by_one: bool = False
    """Whether rows of a batch must be drawn in calls of their own to see it."""

    @property
    def drafts(self) -> Drafts:
        return "own" if self.sample.__module__ == own.__name__ else "given"

    @property
    def batched(self) -> bool:
        return self.twin is None

    @property
    def in_batches(self) -> Callable[..., Any]:
        return self.twin or self.sample


VERIFIERS = (
    Mutant(
        "all accepted",
        "vllm-project/vllm-ascend#13730",
        "the coin is 0 wherever the device has no generator for it, so every draft is accepted",
        given.all_accepted,
    ),
    Mutant(
        "coin of zero",
        "sgl-project/sglang#35771",
        "`coin <= ratio`: a coin of exactly 0 accepts a draft that the target gives no probability",
        given.coin_of_zero,
        level="boundary",
    ),
    Mutant(
        "ratio upside down",
        "arXiv:2211.17192",
        "accepts with q / p in the place of p / q",
        given.ratio_upside_down,
    ),
    Mutant(
        "ratio of zero or one",
        "vllm-project/vllm#13196",
        "the capped ratio is only ever 0 or 1, so that no seed changes what is accepted",
        given.ratio_of_zero_or_one,
    ),
    Mutant(
        "ratio to the mode",
        "1bit-MONSTER/1bit-MONSTER#637",
        "accepts with p(x) / max p: the target's largest probability stands in for q",
        given.ratio_to_the_mode,
    ),
    Mutant(
        "second chance",
        "alibaba/rtp-llm#1295",
        "a draft is accepted if its coin falls right or if it equals a fresh sample of the target",
        given.second_chance,
    ),
    Mutant(
        "first draft unverified",
        "ohdearquant/lattice#243",
        "the distribution behind each draft is compared with the next draft, so the first is never "
        "verified",
        given.first_unverified,
    ),
    Mutant(
        "counted, not cut",
        "vllm-project/vllm#2658",
        "the number of accepted drafts is a plain sum, which counts those behind the first "
        "rejection",
        given.counted,
    ),
    Mutant(
        "typical acceptance",
        "arXiv:2401.10774",
        "Medusa's rule, lossy by design: accepts what the target finds likely enough",
        given.typical,
    ),
    Mutant(
        "arg-max accepted",
        "1bit-MONSTER/1bit-MONSTER#630",
        "when sampling, a draft is accepted only if it is the target's arg-max",
        given.argmax_accepted,
    ),
    Mutant(
        "ensemble",
        "arXiv:2604.07622",
        f"transformers' `assistant_ensemble_weight={given.ENSEMBLE_WEIGHT}`, lossy by design: "
        "verifies against a mix of p and q",
        given.ensemble,
        twin=given.ensemble_in_batches,
    ),
    Mutant(
        "resampled from p",
        "ShopeeLLM/Spec-RL#14",
        "the token behind a rejection is drawn from the target's distribution, not from the "
        "residual",
        given.resampled_from_target,
    ),
    Mutant(
        "unclamped residual",
        "arXiv:2302.01318",
        "the residual is the absolute value of p - q, not max(p - q, 0)",
        given.unclamped_residual,
    ),
    Mutant(
        "softmaxed residual",
        "huggingface/transformers#28508",
        "the residual goes through softmax, not through a division by its sum",
        given.softmaxed_residual,
    ),
    Mutant(
        "rejected token only",
        "SafeAILab/EAGLE#20",
        "q is subtracted from p at the rejected token only",
        given.rejected_token_only,
    ),
    Mutant(
        "filtered residual",
        "arXiv:2211.17192",
        "a filter (here min-p) reaches the distribution that tokens are drawn from, not the one "
        "that drafts are verified against",
        given.filtered_residual,
    ),
    Mutant(
        "filtered bonus",
        "vllm-project/vllm#42744",
        "min-p is applied to the bonus token only",
        given.filtered_bonus,
    ),
    Mutant(
        "padding wins",
        "vllm-project/vllm#44744",
        "lanes of the last tile past the vocabulary take part in the arg-max (here with a score of "
        "0 among logarithms)",
        given.padding_wins,
        level="range",
    ),
    Mutant(
        "row before",
        "vllm-project/vllm#41768",
        "the target's rows are off by one, as after a request without drafts",
        given.row_before,
    ),
    Mutant(
        "verified with the next row",
        "NVIDIA/TensorRT-LLM#15098",
        "drafts are verified against a wrong slice of the target's logits (here one row too far)",
        given.verified_with_the_next_row,
    ),
    Mutant(
        "residual of the row before",
        "huggingface/transformers#28166",
        "a wrong index (here that of the last accepted draft) takes the residual",
        given.residual_of_the_row_before,
    ),
    Mutant(
        "bonus of the last draft's row",
        "arXiv:2302.01318",
        "the bonus token is drawn from the distribution before the last draft, not from the one "
        "behind it",
        given.bonus_of_the_last_draft,
    ),
    Mutant(
        "dropped word",
        "openvinotoolkit/openvino.genai#4190",
        "the rejection is handled one iteration late: the recovered token is lost, one behind the "
        "rejected draft is emitted",
        given.dropped_word,
    ),
    Mutant(
        "logits for probabilities",
        "vllm-project/vllm-ascend#6685",
        "the caller passes logits where probabilities are expected",
        given.logits_for_probabilities,
    ),
    Mutant(
        "temperature unknown",
        "google-ai-edge/LiteRT-LM#3017",
        "the request's sampling parameters are not used (here a temperature of 0.8)",
        given.temperature_unknown,
    ),
    Mutant(
        "temperature of the bonus only",
        "vllm-project/vllm#10198",
        "drafts are verified at the default temperature, the bonus token is drawn at the request's "
        "(here 0.8)",
        given.temperature_of_the_bonus_only,
    ),
    Mutant(
        "temperature of zero",
        "vllm-project/vllm#27077",
        "the mark of a greedy request changed, and its logits are divided by 0: NaN",
        given.temperature_of_zero,
    ),
    Mutant(
        "block, tokens' criterion",
        "vllm-project/vllm-ascend#7807",
        "block verification accepts each prefix with its joint ratio, as if it were the last",
        given.block_with_the_tokens_criterion,
    ),
    Mutant(
        "block, tokens' residual",
        "vllm-project/vllm-ascend#7808",
        "block verification draws from max(p - q, 0), without the prefix's weight",
        given.block_with_the_tokens_residual,
    ),
    Mutant(
        "block without q",
        "vllm-project/vllm-ascend#7603",
        "block verification of drafts without a distribution multiplies p / 1 along the prefix",
        given.block_without_q,
    ),
    Mutant(
        "draft zeroed in place",
        "vllm-project/vllm-ascend#2881",
        "the rejected draft's probability is set to 0 in the caller's p",
        given.draft_zeroed_in_place,
        level="purity",
    ),
    Mutant(
        "seed ignored",
        "vllm-project/vllm#6038",
        "draws come from the global generator, not from the request's",
        given.seed_ignored,
        level="seed",
    ),
    Mutant(
        "seed of the engine",
        "NVIDIA/TensorRT-LLM#17599",
        "draws come from a seed of the engine's (here the same for every call), not from the "
        "request's",
        given.seed_of_the_engine,
        level="seed",
        one_by_one=True,
    ),
)

ROUNDS = (
    Mutant(
        "greedy drafts",
        "huggingface/transformers#32867",
        "the drafter takes its arg-max and reports the softmax that it came from",
        own.greedy_drafts,
    ),
    Mutant(
        "greedy drafts, dense residual",
        "xLLM-AI/xllm#2175",
        "greedy and sampled drafts are treated alike (here the ratio takes q for certain, the "
        "residual does not)",
        own.greedy_drafts_with_a_dense_residual,
    ),
    Mutant(
        "filtered drafts",
        "huggingface/transformers#47932",
        "drafts are drawn from processed logits (here top-k), q is the raw one",
        own.filtered_drafts,
    ),
    Mutant(
        "colder drafts",
        "huggingface/transformers#28166",
        f"the drafter does not sample as the target does (here at temperature {own.COLD}, with q "
        "at 1)",
        own.colder_drafts,
    ),
    Mutant(
        "rounded drafts",
        "deepseek-ai/DeepSpec#31",
        "drafts are drawn in bfloat16, the ratio takes q in float32",
        own.rounded_drafts,
    ),
    Mutant(
        "best of two drafts",
        "apple/ml-recurrent-drafter#6",
        "what a beam search found is taken for a sample of q (here the likelier of two, at the "
        "first position)",
        own.best_of_two_drafts,
    ),
    Mutant(
        "q of the step before",
        "1CatAI/1Cat-vLLM#656",
        "sampled drafts corrupt the text, arg-max ones do not (cause open; here the rows of q come "
        "one step late)",
        own.q_of_the_step_before,
    ),
    Mutant(
        "shared noise",
        "vllm-project/vllm#54282",
        "drafts and recovered tokens are arg-maxima with the same Gumbel noise",
        own.shared_noise,
    ),
    Mutant(
        "shared noise of one drafter",
        "local-inference-lab/vllm#205",
        "the fix of the shared noise does not reach every drafter (here not the one behind the "
        "first position)",
        own.shared_noise_of_one_drafter,
    ),
)

MUTANTS = VERIFIERS + ROUNDS
