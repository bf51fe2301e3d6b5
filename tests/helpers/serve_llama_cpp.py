"""llama.cpp's server from the wheel `xllamacpp`, in a process of its own: `serve_llama_cpp.py
TARGET.gguf [DRAFT.gguf] [RATES]`.

Prints its address and runs until its standard input closes. RATES turns on synthetic acceptance,
e.g. 0.8,0.5,0.25. Keys and values are kept in float32, so that what is served is the model's own
number.
"""

from __future__ import annotations

import sys

import xllamacpp


def parameters(target: str, draft: str = "", rates: str = "") -> xllamacpp.CommonParams:
    wanted = xllamacpp.CommonParams()
    wanted.model.path = target
    wanted.n_ctx, wanted.n_parallel = 2048, 4
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = 1
    wanted.warmup = wanted.fit_params = False
    wanted.endpoint_metrics = True
    wanted.verbosity = 0
    for cache in (wanted, wanted.speculative.draft):
        cache.cache_type_k = cache.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    wanted.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if draft:
        speculative = wanted.speculative
        speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
        speculative.draft.mparams.path = draft
        speculative.draft.n_max, speculative.draft.n_min, speculative.draft.p_min = 3, 0, 0.0
        if rates:
            speculative.synth_rates = [float(rate) for rate in rates.split(",")]
    return wanted


if __name__ == "__main__":
    server = xllamacpp.Server(parameters(*sys.argv[1:]))
    print(server.listening_address, flush=True)
    sys.stdin.read()
