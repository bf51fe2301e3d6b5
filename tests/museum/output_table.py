"""The museum of wrong output and wrong numbers, as a page: what is built, into what, and what finds it.

    python tests/museum/output_table.py > docs/museum-output.md

Each exhibit names the test that finds it and that of a right twin, by their ids in pytest;
`test_output_table.py` holds them to the tests that exist.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

DECODER, SERVER = "this project's decoder", "a server on loopback"
TOY, SAMPLER, TRANSFORMERS = "a decoder of toy models", "a sampler", "transformers"
ANSWERS, TIMES = "answers of a server", "times of a case"
COUNTS = "counts of a case"

SERVED = "tests/output/test_served_output.py::test_a_public_defect_is_found_by_its_check"
RIGHT_SERVER = "tests/output/test_served_output.py::test_a_right_server_passes_every_check_that_needs_no_weights"
DECODED = "tests/output/test_decoder_output.py::test_texts_that_end_wrongly_are_found"
RIGHT_DECODER = "tests/output/test_decoder_output.py::test_our_decoder_passes"
EXACT = "tests/museum/test_processors.py::test_a_wrong_decoder_is_found"
RIGHT_EXACT = "tests/museum/test_processors.py::test_a_right_decoder_passes"
ENGINE = "tests/engines/test_engine_suite.py::test_a_defect_of_sampling_is_found_and_named"
RIGHT_ENGINE = "tests/engines/test_engine_suite.py::test_a_correct_decoder_passes"
MUTANT = "tests/museum/test_losslessness.py::test_it_is_found"
RIGHT_MUTANT = "tests/museum/test_losslessness.py::test_what_they_deviate_from_passes[12]"
BELIEVING = "tests/engines/test_believing.py"
SERVERS = "tests/engines/adapters/test_servers.py"
SPEEDUP = "tests/gate/test_speedup_gate.py"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputExhibit:
    """A wrong engine and its right twin."""

    defect: str
    reports: str = ""
    """Where it was reported: `owner/repository#number`, or numbers of the one before."""
    built_into: str
    found_by: str
    test: str
    twin: str


def served(
    case: str, found_by: str, reports: str = "", *, defect: str | None = None
) -> OutputExhibit:
    """A defect of the server on loopback, found by a check of check-engine."""
    return OutputExhibit(
        defect=defect or case,
        reports=reports,
        built_into=SERVER,
        found_by=f"check-engine: {found_by}",
        test=f"{SERVED}[{case}]",
        twin=RIGHT_SERVER,
    )


def exact(defect: str, case: str, twin: str, reports: str = "") -> OutputExhibit:
    """A defect of a decoder of toy models, found by every path."""
    return OutputExhibit(
        defect=defect,
        reports=reports,
        built_into=TOY,
        found_by="assert_lossless_generation",
        test=f"{EXACT}[{case}]",
        twin=f"{RIGHT_EXACT}[{twin}]",
    )


def decoded(defect: str, case: str, reports: str) -> OutputExhibit:
    """Texts of our decoder that end wrongly."""
    return OutputExhibit(
        defect=defect,
        reports=reports,
        built_into=DECODER,
        found_by="specdec_output: endings",
        test=f"{DECODED}[{case}]",
        twin=f"{RIGHT_DECODER}[0.0]",
    )


def lossy(defect: str, case: str, reports: str) -> OutputExhibit:
    """A sampler that is lossy on purpose."""
    return OutputExhibit(
        defect=defect,
        reports=reports,
        built_into=SAMPLER,
        found_by="assert_lossless",
        test=f"{MUTANT}[{case}]",
        twin=RIGHT_MUTANT,
    )


EXHIBITS: dict[str, tuple[OutputExhibit, ...]] = {
    "Texts, streams and tool calls": (
        served(
            "a round's first token goes into a tool call",
            "tool calls",
            "vllm-project/vllm#56077",
            defect="a stream mangles the arguments of a tool call",
        ),
        served(
            "the first token of a round is streamed",
            "streams",
            defect="a stream drops tokens of a round",
        ),
        served(
            "pieces are decoded alone",
            "streams",
            defect="a stream breaks a character of several tokens",
        ),
        served(
            "choices have one index",
            "streams",
            defect="all choices of a stream (`n` > 1) have one index",
        ),
        served(
            "choices share the bytes of a character",
            "streams",
            defect="choices of a stream share the bytes of a character",
        ),
        served("a choice ends without a reason", "streams"),
        served(
            "a choice's rounds go to its neighbour",
            "streams",
            defect="tokens of one choice go to another",
        ),
        OutputExhibit(
            defect="recurrent states keep what rejected drafts put into them",
            reports="vllm-project/vllm#39273",
            built_into=DECODER,
            found_by="conformance",
            test="tests/museum/test_output_exhibits.py::test_recurrent_states_of_rejected_drafts_are_found",
            twin="tests/museum/test_output_exhibits.py::"
            "test_the_text_of_the_same_model_without_drafts_conforms",
        ),
        served(
            "another token in a batch of four",
            "batches",
            defect="a text differs only with four requests at once",
        ),
        served("rows end with the first of a batch", "batches"),
        OutputExhibit(
            defect="the last of four rows reads the logits of the first",
            built_into=DECODER,
            found_by="specdec_output: batches",
            test="tests/output/test_decoder_output.py::"
            "test_a_text_that_differs_in_batches_of_four_alone_is_found",
            twin=f"{RIGHT_DECODER}[0.0]",
        ),
    ),
    "Constraints": (
        served("a mask is one row late", "constraints"),
        served(
            "the bonus token is not masked",
            "constraints",
            "vllm-project/vllm#44006, #44297",
        ),
        served(
            "every row has the mask of the round's start", "constraints", "vllm-project/vllm#44297"
        ),
        served(
            "a round goes on after the grammar's end",
            "constraints",
            "openvinotoolkit/openvino.genai#4081",
        ),
        served(
            "masks are left out while drafting", "constraints", "vllm-project/vllm#54437, #54442"
        ),
        served("a mask forbids what a rejected draft forbids", "constraints"),
        exact(
            "the row after the last draft is not masked",
            "bonus row unmasked",
            "grammar",
            "vllm-project/vllm#44006",
        ),
        exact("each row has the mask of the row before", "mask one row late", "grammar"),
        exact(
            "a matcher that has stopped within the drafts is asked again",
            "matcher asked after the stop",
            "grammar with an end",
            "openvinotoolkit/openvino.genai#4081",
        ),
        exact(
            "the recovered token is drawn from a residual of the unmasked p",
            "residual of the unmasked p",
            "grammar",
        ),
        OutputExhibit(
            defect="masks that an engine records are late, or missing",
            built_into=DECODER,
            found_by="specdec_conformance, specdec_oracle",
            test="tests/engines/test_recorded_masks.py::"
            "test_masks_that_are_late_or_not_recorded_are_found[1.0]",
            twin="tests/engines/test_recorded_masks.py::"
            "test_a_right_engine_agrees_under_its_masks[1.0-True]",
        ),
    ),
    "Penalties": (
        exact(
            "a repetition penalty is dropped when drafts are verified",
            "repetition penalty ignored",
            "repetition",
            "sgl-project/sglang#21258, mlx-node/mlx-node#11",
        ),
        exact(
            "rejected drafts count",
            "rejected drafts count",
            "presence and frequency",
            "osaurus-ai/vmlx-swift#357",
        ),
        exact(
            "accepted drafts count twice",
            "accepted drafts count twice",
            "presence and frequency",
            "osaurus-ai/vmlx-swift#361",
        ),
        exact(
            "every row has the history of the round's start",
            "history of the round's start",
            "presence and frequency",
        ),
        exact(
            "drafts are drawn under a stale history, and q has the fresh one",
            "stale drafts, fresh q",
            "stale drafts with their own q",
            "ml-explore/mlx-lm#1175",
        ),
        exact("presence and frequency count the prompt", "prompt counted", "own counters"),
        OutputExhibit(
            defect="rejected drafts count",
            reports="osaurus-ai/vmlx-swift#357",
            built_into=DECODER,
            found_by="conformance, with the rounds",
            test="tests/lossless/texts/test_histories.py::"
            "test_a_wrong_history_is_found_and_named[rejected drafts count]",
            twin="tests/lossless/texts/test_histories.py::test_the_right_twin_conforms",
        ),
        OutputExhibit(
            defect="accepted drafts count twice",
            reports="osaurus-ai/vmlx-swift#361",
            built_into=DECODER,
            found_by="conformance, with the rounds",
            test="tests/lossless/texts/test_histories.py::"
            "test_a_wrong_history_is_found_and_named[accepted drafts count twice]",
            twin="tests/lossless/texts/test_histories.py::test_the_right_twin_conforms",
        ),
        OutputExhibit(
            defect="penalties are dropped",
            reports="sgl-project/sglang#21258",
            built_into=DECODER,
            found_by="conformance",
            test="tests/lossless/texts/test_processed_logits.py::"
            "test_defects_of_a_decoder_are_found[ignored-('penalties', 0.0)]",
            twin="tests/lossless/texts/test_processed_logits.py::test_right_texts_conform[0.0]",
        ),
    ),
    "Endings": (
        served("tokens after EOS", "texts", "sgl-project/sglang#31599"),
        served(
            "a draft EOS ends the request",
            "texts",
            "vllm-project/vllm#41493",
        ),
        served(
            "a stop is looked for after each round",
            "endings",
            "sgl-project/sglang#33758, microsoft/onnxruntime-genai#2528",
            defect="tokens after a stop inside a round",
        ),
        served("a stop token inside a round is missed", "endings", "sgl-project/sglang#33758"),
        served("stops are ignored", "endings", "snowflakedb/ArcticInference#161"),
        served("the limit hides EOS", "endings", "sgl-project/sglang#31599"),
        served("every text ends by stop", "endings", defect="a wrong finish reason"),
        served("a round goes beyond the limit", "endings"),
        decoded("tokens after EOS", "leaks_after_eos", "sgl-project/sglang#31599"),
        decoded("a draft EOS ends the request", "ends_by_a_draft", "vllm-project/vllm#41493"),
        decoded(
            "an EOS that is accepted inside a round ends nothing",
            "ignores_accepted_eos",
            "huggingface/transformers#47912, LostRuins/koboldcpp#1276",
        ),
    ),
    "Trees": (
        OutputExhibit(
            defect="drafts of a top-k tree are accepted with min(1, p / q)",
            reports="warpfront/hipfire#483",
            built_into=SAMPLER,
            found_by="assert_lossless_tree",
            test="tests/lossless/samplers/test_trees.py::"
            "test_the_ratio_p_over_q_on_certain_drafts_is_found",
            twin="tests/lossless/samplers/test_trees.py::"
            "test_a_lossless_rule_passes[8-rejection-children0]",
        ),
        OutputExhibit(
            defect="each child of a node is tested against p alone",
            built_into=SAMPLER,
            found_by="assert_lossless_tree",
            test="tests/lossless/samplers/test_trees.py::test_testing_each_child_alone_is_found[top-k]",
            twin="tests/lossless/samplers/test_trees.py::"
            "test_a_lossless_rule_passes[8-rejection-children0]",
        ),
    ),
    "Log-probabilities": (
        OutputExhibit(
            defect="0.0 for every token",
            reports="ggml-org/llama.cpp#27972, #27196",
            built_into=ANSWERS,
            found_by="engine logprobs",
            test=f"{BELIEVING}::test_probability_one_for_every_token_is_refused[llama.cpp]",
            twin=f"{BELIEVING}::test_texts_that_are_certain_are_accepted[llama.cpp]",
        ),
        OutputExhibit(
            defect="no number where one was asked for",
            reports="Pushkinist/rMLX#542",
            built_into=ANSWERS,
            found_by="engine logprobs",
            test=f"{BELIEVING}::test_impossible_numbers_are_named"
            "[position11-has log-probability None and top [-0.5]]",
            twin=f"{BELIEVING}::test_possible_numbers_are_accepted[position0]",
        ),
        OutputExhibit(
            defect="numbers of the request before",
            reports="vllm-project/vllm#42245, #42019",
            built_into=ANSWERS,
            found_by="engine logprobs",
            test=f"{BELIEVING}::test_numbers_of_the_request_before_are_refused",
            twin=f"{BELIEVING}::test_rounding_is_no_other_answer",
        ),
        OutputExhibit(
            defect="other numbers the second time",
            built_into=ANSWERS,
            found_by="engine logprobs",
            test=f"{BELIEVING}::test_another_answer_the_second_time_is_refused[1-vllm]",
            twin=f"{BELIEVING}::test_rounding_is_no_other_answer",
        ),
        OutputExhibit(
            defect="a server that drafts, whose numbers are corrupt",
            reports="vllm-project/vllm#53488, #34497",
            built_into=ANSWERS,
            found_by="engine logprobs",
            test=f"{BELIEVING}::test_a_server_that_drafts_is_refused"
            r"[vllm-plays0-/metrics counts vllm:spec_\\w+.*--speculative-c]",
            twin=f"{BELIEVING}::test_a_server_that_does_not_draft_is_accepted[vllm-plays0]",
        ),
    ),
    "What q is": (
        OutputExhibit(
            defect="drafts are drawn from an unfiltered q: the text is right, fewer are accepted",
            reports="vllm-project/vllm#56724, local-inference-lab/vllm#573",
            built_into=DECODER,
            found_by="specdec_oracle",
            test=f"{ENGINE}[drafter ignores the settings]",
            twin=f"{RIGHT_ENGINE}[TestTopP]",
        ),
        OutputExhibit(
            defect="drafts are arg-maxima, accepted with p alone",
            reports="vllm-project/vllm#16899, #41044, sgl-project/sglang#9877",
            built_into=DECODER,
            found_by="gate",
            test="tests/museum/test_acceptance.py::test_the_gate_flags_it[greedy drafts]",
            twin="tests/museum/test_acceptance.py::test_it_hides_elsewhere[greedy drafts]",
        ),
        OutputExhibit(
            defect="drafts are arg-maxima, and q is the softmax that they came from",
            built_into=DECODER,
            found_by="specdec_conformance",
            test=f"{ENGINE}[arg-max drafts, softmax q]",
            twin=f"{RIGHT_ENGINE}[TestSampling]",
        ),
        OutputExhibit(
            defect="drafts are drawn from processed logits, and q is the raw one",
            reports="huggingface/transformers#47932",
            built_into=TRANSFORMERS,
            found_by="q_contract",
            test="tests/lossless/drafters/test_recorded.py::test_the_breach_of_47932_is_found",
            twin="tests/lossless/drafters/test_recorded.py::test_transformers_assisted_generation",
        ),
    ),
    "Lossy on purpose": (
        lossy(
            "typical acceptance",
            "typical acceptance",
            "ml-explore/mlx-lm#1709, youssofal/MTPLX#478, #485",
        ),
        lossy(
            "a draft is accepted by either of two tests", "second chance", "vLLM-gfx908, patch P82"
        ),
        lossy("verification against a mix of p and q", "ensemble", "arXiv:2604.07622"),
    ),
    "Counters": (
        OutputExhibit(
            defect="a counter is reset during the run",
            reports="sgl-project/sglang#29329",
            built_into=ANSWERS,
            found_by="engines by URL",
            test=f"{SERVERS}::test_bad_counters_are_errors"
            "[pages3-MetricError-went backwards, from 11 to 0; the server was restarted]",
            twin=f"{SERVERS}::test_without_metrics_in_answers_the_counters_count",
        ),
        OutputExhibit(
            defect="no counter at all",
            reports="sgl-project/sglang-jax#1586",
            built_into=ANSWERS,
            found_by="engines by URL",
            test=f"{SERVERS}::test_what_sglang_cannot_report_is_an_error[meta0-info0-"
            "meta_info has no spec_verify_ct, spec_num_correct_drafts, spec_num_p]",
            twin=f"{SERVERS}::test_sglang_counts_by_request",
        ),
        OutputExhibit(
            defect="rounds are left out of the counts",
            built_into=ANSWERS,
            found_by="rounds + accepted = tokens",
            test=f"{SERVERS}::test_rounds_that_were_lost_are_found_by_the_identity",
            twin=f"{SERVERS}::test_each_drained_iteration_is_a_round",
        ),
    ),
    "Measurement": (
        OutputExhibit(
            defect="three requests, and a floor that noise crosses",
            reports="NVIDIA/TensorRT-LLM#16277, vllm-project/vllm#30367",
            built_into=COUNTS,
            found_by="gate: inconclusive, and how many prompts would settle it",
            test="tests/gate/test_verdict.py::"
            "test_noise_wider_than_the_margin_is_inconclusive_and_says_what_would_settle_it",
            twin="tests/gate/test_verdict.py::test_noise_narrower_than_the_margin_passes",
        ),
        OutputExhibit(
            defect="other sampling settings than those named (there top-k 1)",
            reports="sgl-project/SpecForge#741",
            built_into=DECODER,
            found_by="conformance",
            test="tests/lossless/texts/test_conformance.py::"
            "test_other_settings_than_those_named_are_caught_and_reported[sampled3-suspects3]",
            twin="tests/lossless/texts/test_conformance.py::test_what_transformers_samples_conforms",
        ),
        OutputExhibit(
            defect="rounds take longer, and acceptance is unchanged",
            reports="vllm-project/vllm-ascend#16638, ROCm/ATOM#2128, ml-explore/mlx-lm#1211, "
            "vllm-project/vllm#44697",
            built_into=TIMES,
            found_by="gate of the speed-up",
            test=f"{SPEEDUP}::test_new_costs_alone[0.15-regressed]",
            twin=f"{SPEEDUP}::test_new_costs_alone[0.0-pass]",
        ),
        OutputExhibit(
            defect="a cached prefix changes acceptance",
            built_into=SERVER,
            found_by="check-engine: soak",
            test="tests/output/test_soak.py::test_what_a_cached_prefix_changes_is_found",
            twin="tests/output/test_soak.py::test_a_steady_server_passes_and_its_course_is_printed",
        ),
        OutputExhibit(
            defect="one of several replicas is bad",
            built_into=SERVER,
            found_by="check-engine: soak",
            test="tests/output/test_soak.py::test_what_is_unsteady_is_named"
            "[<lambda>-the requests are a mixture: 12 of 60]",
            twin="tests/output/test_soak.py::test_a_steady_server_passes_and_its_course_is_printed",
        ),
    ),
}

NOT_SHOWN = {
    "vllm-project/vllm#40875": "why prompt lookup broke half of the tool calls is open; beside a "
    "server without a drafter *texts* and *tool calls* of check-engine compare what came out",
    "vllm-project/vllm#53777, #51660, local-inference-lab/vllm#476": "further reports of rows "
    "without their mask; which rows these are was not looked up, and the six defects of masks above "
    "are what can be wrong with a row",
    "ollama/ollama#18105": "no defect, but the right way: drafts stay without masks and verification "
    "masks its rows, as the right twin *drafts not processed* of `tests/museum/test_processors.py`",
    "SafeAILab/EAGLE#221, #183, #110": "questions, and no defects: top-k trees are lossless under "
    "the rules that `assert_lossless_tree` passes",
    "sgl-project/sglang#34814": "proposed tokens as steps times width are too many where a round is "
    "narrower; sums alone cannot say so, and the acceptance length, which is gated, does not "
    "contain them",
    "vllm-project/vllm#49548, snowflakedb/ArcticInference#185": "slow at some batch sizes only: "
    "costs are measured at each size (`costs --batch`, docs/axes.md), but no server is loaded here "
    "until it slows down",
    "vllm-project/vllm#57616, local-inference-lab/vllm#556, weicj/vLLM-2080Ti-Definitive#149, "
    "vllm-project/vllm#51771": "a prefix cache that speculation switches off shows in its hits and "
    "in the time to the first token, which are not read; a soak compares texts and acceptance with "
    "a cold and a warm prefix",
    "tonyd2wild/DeepSeek-v4-Flash#33": "reasoning of another length on another stack, two engines "
    "and no defect of one",
}

HEAD = """# A museum of wrong output and wrong numbers

{count} wrong engines, most of them as reported in 2026: acceptance may be right while texts, ends, constraints,
log-probabilities or counters are wrong. Each is built as small as possible, found by what the column *found by* names,
and stands beside a right twin that passes. Samplers have a [museum of their own](museum-losslessness.md), and so has
[acceptance](museum.md).
"""
TAIL = """## Not shown

| reported | why |
|---|---|
{rows}

Made by `python tests/museum/output_table.py > docs/museum-output.md`; every id is one of a test that pytest collects
(`tests/museum/test_output_table.py`).
"""


def page() -> str:
    """The page in Markdown."""
    return "\n".join([HEAD.format(count=len(every())), *_sections(), _tail()])


def every() -> list[OutputExhibit]:
    """All exhibits."""
    return [exhibit for room in EXHIBITS.values() for exhibit in room]


def _sections() -> Iterator[str]:
    for title, room in EXHIBITS.items():
        yield f"## {title}\n"
        yield "| defect | reported | built into | found by | test | right twin |"
        yield "|---" * 6 + "|"
        for one in room:
            cells = (one.defect, one.reports, one.built_into, one.found_by)
            yield f"| {' | '.join(cells)} | `{one.test}` | `{one.twin}` |"
        yield ""


def _tail() -> str:
    return TAIL.format(rows="\n".join(f"| {name} | {why} |" for name, why in NOT_SHOWN.items()))


if __name__ == "__main__":
    print(page(), end="")
