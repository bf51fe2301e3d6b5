"""The museum of acceptance bugs: defects of real engines that leave the emitted text as it was.

Each is built into our own decoder (`defects`) or into a copy of the embedded checkpoints (`edits`).
"""

from __future__ import annotations

import dataclasses

from museum import defects, edits
from museum.exhibit import Exhibit, Setting

from pytest_specdec.cases.case import OWN_HEADS

HEADS = Setting(OWN_HEADS, 3, 3)
ONE_HEAD = Setting(OWN_HEADS, 1, 1, prompts=6)
UNEVEN = dataclasses.replace(HEADS, edits=(edits.uneven_norm,))
DRAFT = Setting("draft", 6, 0)
SHORT = Setting("draft", 3, 0)
SAMPLED = Setting("draft", 6, 0, temperature=1.0)


def alone(setting: Setting) -> Setting:
    """One row at a time, of few prompts."""
    return dataclasses.replace(setting, batch=1, prompts=6)


EXHIBITS = (
    Exhibit(
        "approximated keys",
        "vllm-project/vllm#14649",
        "keys that a reused head gave accepted drafts from its own states are never replaced by "
        "those from the target's",
        Setting(OWN_HEADS, 5, 1),
        defects.approximated_keys,
        falls=2,
        hides=ONE_HEAD,
    ),
    Exhibit(
        "missing key",
        "vllm-project/vllm#4212",
        "after a round accepted in full, the last draft has no keys in the draft model's cache",
        SHORT,
        defects.missing_key,
    ),
    Exhibit(
        "doubled sequence",
        "vllm-project/vllm#9730",
        "after a round accepted in full, the drafter also goes on from its own guess for the bonus "
        "token, in the same slots",
        SHORT,
        defects.doubled_sequence,
        falls=2,
        hides=Setting("draft", 1, 0, prompts=6),
    ),
    Exhibit(
        "first layer always",
        "vllm-project/vllm#35607",
        "the number of the step never reaches the heads, so layer 0 drafts at every step",
        Setting("draft", 8, 3),
        defects.first_layer_always,
        first=3,
        falls=3,
        hides=Setting("draft", 2, 1, prompts=6),
    ),
    Exhibit(
        "target's state handed on",
        "vllm-project/vllm#36531",
        "the second layer reads the target's hidden state again, not the first layer's",
        HEADS,
        defects.target_state_handed_on,
        first=2,
        falls=2,
        hides=ONE_HEAD,
    ),
    Exhibit(
        "state before the norm handed on",
        "ikawrakow/ik_llama.cpp#1815",
        "each layer passes on its state from before its norm",
        UNEVEN,
        defects.state_before_norm_handed_on,
        first=2,
        falls=2,
        hides=ONE_HEAD,
    ),
    Exhibit(
        "state before the final norm",
        "raullenchai/Rapid-MLX#3371",
        "the heads read the target's hidden state from before its final norm",
        UNEVEN,
        defects.state_of_layer(-1),
    ),
    Exhibit(
        "state of the layer below",
        "vllm-project/vllm#42704",
        "the heads read the hidden state of one layer too low",
        HEADS,
        defects.state_of_layer(-2),
    ),
    Exhibit(
        "state of the next token",
        "ikawrakow/ik_llama.cpp#1979",
        "in the prompt and after acceptance each token goes with its own hidden state, not with "
        "the one before it",
        HEADS,
        defects.own_state,
    ),
    Exhibit(
        "missing residual",
        "vllm-project/vllm#14464",
        "the heads' last norm sees the block's output without its residual",
        HEADS,
        defects.missing_residual,
    ),
    Exhibit(
        "swapped concatenation",
        "ml-explore/mlx-lm#1469",
        "hidden state and embedding change places before the heads' projection",
        HEADS,
        edit=edits.swapped_halves,
    ),
    Exhibit(
        "skipped projection",
        "sgl-project/sglang#21272",
        "the heads' projection is left out: the hidden state passes, the embedding is lost",
        HEADS,
        edit=edits.skipped_projection,
    ),
    Exhibit(
        "dead second layer",
        "vllm-project/vllm#55605",
        "one layer of the heads emits noise (cause open; here its weights are random)",
        HEADS,
        edit=edits.dead_second_layer,
        first=2,
        falls=2,
    ),
    Exhibit(
        "four bits, one scale",
        "vllm-project/vllm#43455",
        "the heads' conversion to four bits lost precision (cause open; here one scale a tensor, "
        "not one for 16 weights)",
        HEADS,
        edit=edits.four_bits,
    ),
    Exhibit(
        "target's output head",
        "vllm-project/vllm-ascend#11374",
        "the draft's own output head is overwritten with the target's",
        DRAFT,
        edit=edits.targets_output_head,
    ),
    Exhibit(
        "missing vocabulary map",
        "NVIDIA-NeMo/Automodel#2447",
        "the checkpoint lacks the map from the draft's vocabulary to the target's, so its ids are "
        "taken for the first ones",
        DRAFT,
        edit=edits.missing_map,
    ),
    Exhibit(
        "shared block table",
        "vllm-project/vllm-ascend#16980",
        "all layers of the heads read the first one's keys",
        HEADS,
        defects.shared_keys,
        first=2,
        falls=3,
        hides=ONE_HEAD,
    ),
    Exhibit(
        "evicted keys",
        "vllm-project/vllm#53323",
        "keys that left the draft's window are still read, from blocks that are other requests' by "
        "now",
        DRAFT,
        defects.evicted_keys(32),
        hides=alone(DRAFT),
    ),
    Exhibit(
        "gathered at one row's place",
        "NVIDIA/TensorRT-LLM#4168",
        "hidden states are gathered for every row at the first row's number of accepted tokens",
        HEADS,
        defects.first_rows_gather,
        hides=alone(HEADS),
    ),
    Exhibit(
        "padding in front",
        "NVIDIA/TensorRT-LLM#4853",
        "dummy requests that pad the batch stand in front, and each row reads another's hidden "
        "states",
        dataclasses.replace(HEADS, batch=39),
        defects.padding_first(4),
        hides=alone(HEADS),
    ),
    Exhibit(
        "stale graph input",
        "intel/llm-scaler#640",
        "acceptance is lost in captured graphs only (cause open; here every layer embeds the first "
        "one's tokens)",
        HEADS,
        defects.frozen_input,
        first=2,
        falls=2,
        hides=ONE_HEAD,
    ),
    Exhibit(
        "short buffer",
        "vllm-project/vllm-ascend#9290",
        "acceptance is lost at large k only (cause open; here drafts past the eighth are drawn "
        "from the eighth's logits)",
        Setting("draft", 12, 0),
        defects.short_buffer(8),
        first=9,
        falls=9,
        hides=Setting("draft", 8, 0, prompts=6),
    ),
    Exhibit(
        "full cache",
        "vllm-project/vllm-ascend#10495",
        "acceptance falls as the text grows (cause open; here the draft's cache has room for 48 "
        "positions)",
        DRAFT,
        defects.full_cache(48),
    ),
    Exhibit(
        "exact match",
        "jjang-ai/vmlx#261",
        "when sampling, a draft must equal the target's own draw",
        SAMPLED,
        defects.exact_match,
        hides=dataclasses.replace(SAMPLED, temperature=0.0, prompts=6),
    ),
    Exhibit(
        "greedy drafts",
        "ddalcu/mlx-serve#433",
        "when sampling, the draft is the arg-max and its distribution one-hot, so it is accepted "
        "with p alone",
        SAMPLED,
        defects.greedy_drafts,
        hides=dataclasses.replace(SAMPLED, temperature=0.0, prompts=6),
    ),
)
