"""Defects of 2026 in engines that draft with EAGLE-3 heads or MTP layers, and in the files of such
heads.
"""

from __future__ import annotations

import dataclasses

from museum import defects, defects_eagle3, defects_mtp, edits, edits_eagle3
from museum.exhibit import Exhibit, Setting
from museum.exhibits import HEADS

from pytest_specdec.cases.case import OWN_HEADS

TEXT = Setting("text-eagle3", 4, 0, prompts=12)
DEEP_31 = dataclasses.replace(TEXT, drafter="deep-eagle31", target="deep-target")
SPECULATORS = dataclasses.replace(DEEP_31, drafter="deep-speculators")
DEEP = dataclasses.replace(DEEP_31, drafter="deep-eagle3", edits=(edits_eagle3.own_embeddings,))
INTERLEAVED = dataclasses.replace(TEXT, edits=(edits_eagle3.interleaved,))
REUSED = Setting(OWN_HEADS, 5, 1, prompts=12, edits=(edits.uneven_norm,))
MTP = dataclasses.replace(HEADS, prompts=12)

HEAD_EXHIBITS = (
    Exhibit(
        "states one layer late",
        "sgl-project/sglang#25454",
        "`eagle_config` names inputs of layers, the engine takes them for outputs, and each state is "
        "read one layer late",
        DEEP_31,
        edit=edits_eagle3.ids_of_inputs,
        doctor="config.json: eagle_config.eagle_aux_hidden_state_layer_ids -> [1, 4, 6]",
    ),
    Exhibit(
        "states late and not normed",
        "sgl-project/sglang#32334",
        "the ids, which count the embeddings, are shifted by one, and `norm_before_fc` is ignored",
        SPECULATORS,
        defects.together(
            defects_eagle3.reads_states(defects_eagle3.one_later),
            defects_eagle3.loads(defects_eagle3.no_joined_norm),
        ),
        doctor="SGLang before 2026-07-24",
    ),
    Exhibit(
        "usual states hard-coded",
        "lightseekorg/tokenspeed#526",
        "the target keeps the states 2, N/2 and N-3, whatever ids the head names",
        SPECULATORS,
        defects_eagle3.reads_states(defects_eagle3.usual),
        doctor="tokenspeed before #526",
    ),
    Exhibit(
        "ids left out",
        "vllm-project/vllm#50170",
        "the head's config.json names no states, and the engine falls back to the usual ones "
        "without a word",
        DEEP_31,
        edit=edits_eagle3.no_ids,
        doctor="config.json: eagle_aux_hidden_state_layer_ids -> [2",
    ),
    Exhibit(
        "norm before fc dropped",
        "vllm-project/vllm#38111",
        "`norm_before_fc` is lost on the way from the checkpoint to the engine",
        dataclasses.replace(SPECULATORS, prompts=None),
        defects_eagle3.loads(defects_eagle3.no_joined_norm),
        doctor="vLLM before 2026-03-25 on speculators' heads",
        gate="improved",
    ),
    Exhibit(
        "norms of EAGLE-3.1 dropped",
        "vllm-project/vllm#46488",
        "`fc_norm` and `norm_output` are lost on the way from the checkpoint to the engine",
        DEEP_31,
        defects_eagle3.loads(defects_eagle3.no_norms_of_31),
    ),
    Exhibit(
        "norm_output of another meaning",
        "sgl-project/SpecForge#879",
        "the trainer writes `norm_output: true` on a head that hands on its state before the norm; "
        "engines hand it on after the norm",
        TEXT,
        edit=edits_eagle3.says_norm_output,
        first=2,
        falls=2,
        doctor="norm_output -> false",
    ),
    Exhibit(
        "logits without the norm",
        "sgl-project/SpecForge#879",
        "trainer and engine disagree whether `lm_head` reads the state after the last norm (there "
        "the trainer left the norm out, here the engine does)",
        TEXT,
        defects_eagle3.loads(defects_eagle3.no_last_norm),
        falls=3,
    ),
    Exhibit(
        "rotary halves hard-coded",
        "NVIDIA/TensorRT-LLM#19036",
        "the head was trained with rotary pairs of neighbours; the engine rotates halves",
        INTERLEAVED,
        defects_eagle3.loads(defects_eagle3.halves),
        doctor="TensorRT-LLM as of 2026-09",
    ),
    Exhibit(
        "first layer's inputs",
        "vllm-project/vllm#47854",
        "with one attention backend the norms and the concatenation before the first layer go "
        "wrong (cause open; here [state; embedding])",
        TEXT,
        defects_eagle3.loads(defects_eagle3.swapped_inputs),
    ),
    Exhibit(
        "ids set after the capture",
        "sgl-project/sglang#22836",
        "the ids of states are set after graphs were captured: eager passes (here the prompt's) "
        "keep the right states, captured ones the usual",
        DEEP_31,
        defects_eagle3.usual_in_graphs,
    ),
    Exhibit(
        "normed state passed on",
        "ROCm/ATOM#882",
        "the draft loop passes the state on after the last norm, not before it",
        TEXT,
        defects_eagle3.loads(defects_eagle3.normed_state_on),
        first=2,
        falls=2,
        hides=dataclasses.replace(TEXT, k=1, prompts=3),
    ),
    Exhibit(
        "rotated target",
        "vllm-project/vllm-ascend#5974",
        "the target's residual stream was rotated before quantisation (QuaRot): its own output is "
        "right, and the head reads states that it does not know (here without the quantisation)",
        DEEP,
        target_edit=edits_eagle3.rotated,
        doctor="the target's states are rotated",
    ),
    Exhibit(
        "map of zeros",
        "SafeAILab/EAGLE#222",
        "`d2t` holds zeros, so the head's tokens are taken for the first of the target's "
        "vocabulary",
        SPECULATORS,
        edit=edits_eagle3.zero_map,
        doctor="no reading gives more than a drafter that knows nothing",
    ),
    Exhibit(
        "weights lost on resume",
        "sgl-project/sglang#31674",
        "memory is released during a training of the target, and the drafter's weights are not "
        "restored (here they are zeros)",
        TEXT,
        defects_eagle3.loads(defects_eagle3.lost_weights),
    ),
    Exhibit(
        "request index not rebuilt",
        "NVIDIA/TensorRT-LLM#17240",
        "the map from tokens to requests is built for the target's pass of k + 1 tokens a request "
        "and used for draft steps of one (here an EAGLE-3 head's)",
        TEXT,
        defects_eagle3.stale_requests(4),
        first=2,
        falls=2,
        hides=dataclasses.replace(TEXT, batch=1, prompts=4),
    ),
    Exhibit(
        "wrong state after hand-over",
        "sgl-project/sglang#10059",
        "prefill and decode run on different servers, and the first round of a text drafts from a "
        "wrong state (here that of the token before)",
        TEXT,
        defects_eagle3.wrong_state_after_handover,
    ),
    Exhibit(
        "raw state passed on",
        "vllm-project/vllm#46075",
        "a single layer drafts every token, and reads its own state from before its norm",
        REUSED,
        defects.state_before_norm_handed_on,
        first=2,
        falls=2,
        hides=dataclasses.replace(REUSED, k=1, prompts=3),
    ),
    Exhibit(
        "scale not loaded",
        "ROCm/ATOM#755",
        "`eh_proj` is stored in float8, and its scale is not loaded (there uninitialised memory, "
        "here 1)",
        MTP,
        defects_mtp.lost_scale,
    ),
    Exhibit(
        "rows beyond the buffer",
        "ROCm/ATOM#1593",
        "sequences beyond the size of an index read stale keys (there beyond 128; here beyond 6 "
        "those of other sequences)",
        MTP,
        defects_mtp.wrapped_rows(6),
        falls=3,
        hides=dataclasses.replace(MTP, batch=6, prompts=6),
    ),
    Exhibit(
        "logits of another token",
        "vllm-project/vllm-ascend#12539",
        "logits are taken from wrong hidden states (there with sharded heads; here from the token "
        "before the newest, where a layer runs over several)",
        MTP,
        defects_mtp.logits_of_the_token_before,
    ),
    Exhibit(
        "target's cache in float8",
        "vllm-project/vllm#55557",
        "the target's keys and values are kept in float8 (e4m3), which changes what it says and "
        "what its heads read",
        MTP,
        defects_mtp.float8_cache,
        same_texts=False,
        gate="inconclusive",
    ),
)
