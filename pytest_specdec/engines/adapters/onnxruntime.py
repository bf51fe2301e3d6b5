"""ONNX Runtime GenAI in this process: `Generator` with a draft model beside the target in its
`genai_config.json`.

`get_speculative_stats()` counts for one generator; read after every token, it gives each round. The
prompt pass verifies drafts, too. Its `acceptance_rate` divides by the draft tokens that were
*evaluated*, up to the first rejection, and not by those proposed: it is not read. Near the end as
many tokens are drafted as may still be emitted, so that the bonus token of the last round may be
discarded. At an EOS token it would stop and leave that out of the text, so texts are decoded past
EOS and cut here.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...common.errors import MeasurementError, RequestError
from ..adapter_api import (
    RULES,
    Capabilities,
    Counters,
    CountingConvention,
    EngineSetup,
    GenerationRequest,
    PromptRequest,
    Reported,
    ReportedRound,
    Timings,
)
from .converted import form_of
from .inprocess import LoadedPair, in_turn, pair_of, threads, until_eos, unused_id

CONVENTION = CountingConvention(
    prefill_drafts=True,
    undelivered=True,
    counts_empty=True,
    counters=Counters(
        rounds="rounds",
        drafted="draft_tokens_proposed",
        accepted="draft_tokens_accepted",
        per_position="",
    ),
)
_ROUNDS, _DRAFTED, _ACCEPTED = "rounds", "draft_tokens_proposed", "draft_tokens_accepted"


class OnnxRuntimeAdapter:
    """One model with its draft, of the pair that was requested last."""

    name = "onnxruntime"
    capabilities = Capabilities(
        drafters=("model",),
        rules=RULES,
        draft_depth=False,
        samples=True,
        filters=True,
        most=16,
        per_round=True,
        per_request=True,
        per_position=True,
        timings=True,
        loads=True,
    )

    def __init__(self, setup: EngineSetup) -> None:
        self._genai, self._setup = _package(), setup
        self._loaded: tuple[tuple[Path, Path], Any] | None = None

    def version(self) -> str:
        return str(self._genai.__version__)

    def run(self, request: GenerationRequest) -> Iterator[Reported]:
        pair = pair_of(request, self._setup)
        model = self._model(pair)
        for prompt in in_turn(self.name, request.prompts, self._setup.report):
            yield self._decoded(model, pair, request, prompt)

    def close(self) -> None:
        """Free the model."""
        self._loaded = None

    def _model(self, pair: LoadedPair) -> Any:
        target, drafter = (form_of(model.checkpoint, "onnx") for model in pair)
        if self._loaded is None or self._loaded[0] != (target, drafter):
            self._loaded = None
            with tempfile.TemporaryDirectory(prefix="specdec-") as folder:
                join(target, drafter, Path(folder), unused_id(pair.target))
                self._loaded = (target, drafter), self._genai.Model(folder)
        return self._loaded[1]

    def _decoded(
        self, model: Any, pair: LoadedPair, request: GenerationRequest, prompt: PromptRequest
    ) -> Reported:
        assert prompt.ids is not None
        sampling, where = request.sampling, f"prompt {prompt.key} of onnxruntime"
        settings: dict[str, Any] = {
            "max_length": len(prompt.ids) + request.new_tokens,
            "do_sample": sampling.temperature > 0,
        }
        if sampling.temperature > 0:
            settings |= {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "random_seed": request.seed_of(prompt),
            }
            settings["top_k"] = sampling.top_k or pair.target.checkpoint.vocabulary
        parameters = self._genai.GeneratorParams(model)
        parameters.set_search_options(**settings)
        parameters.set_speculative_options(max_draft_tokens=request.k)
        generator = self._genai.Generator(model, parameters)
        begun, stats = time.perf_counter(), []
        generator.append_tokens(list(prompt.ids))
        while not generator.is_done():
            generator.generate_next_token()
            stats.append(generator.get_speculative_stats())
        seconds = time.perf_counter() - begun
        new = [int(token) for token in generator.get_sequence(0)][len(prompt.ids) :]
        if len(new) != request.new_tokens:
            raise MeasurementError(
                f"{where} returned {len(new)} of {request.new_tokens} tokens; lower "
                "--specdec-new-tokens"
            )
        rounds = rounds_of(stats, where)
        length, played = until_eos(new, rounds, pair.target, first=0)
        cut = rounds[:played]
        return Reported(
            key=prompt.key,
            prompt_ids=prompt.ids,
            new_ids=tuple(new[:length]),
            convention=CONVENTION,
            rounds=cut,
            timings=Timings(seconds),
            where=where,
        )


def rounds_of(stats: Sequence[Mapping[str, Any]], where: str) -> tuple[ReportedRound, ...]:
    """Rounds from the statistics after each token. Raises MeasurementError where they grow
    otherwise than by rounds.
    """
    rounds, before = [], dict.fromkeys((_ROUNDS, _DRAFTED, _ACCEPTED), 0)
    for number, statistics in enumerate(stats):
        try:
            now = {name: int(statistics[name]) for name in before}
        except KeyError as error:
            raise MeasurementError(
                f"{where}: get_speculative_stats() has no {error}; install onnxruntime-genai 0.18 "
                "or later"
            ) from None
        grown = {name: now[name] - before[name] for name in before}
        if grown[_ROUNDS] == 1:
            rounds.append(ReportedRound(grown[_DRAFTED], grown[_ACCEPTED]))
        elif any(grown.values()):
            raise MeasurementError(
                f"{where}, token {number}: {_ROUNDS} grows by {grown[_ROUNDS]}, {_DRAFTED} by "
                f"{grown[_DRAFTED]} and "
                f"{_ACCEPTED} by {grown[_ACCEPTED]} within one token; report this version of "
                "onnxruntime-genai"
            )
        before = now
    return tuple(rounds)


def join(target: Path, drafter: Path, folder: Path, end: int) -> None:
    """Make a model folder of a target with its draft inside, as links. Raises RequestError for
    files of another shape.
    """
    config, draft_config = _config(target), _config(drafter)
    (folder / "draft").mkdir(parents=True)
    for source, place in ((target, folder), (drafter, folder / "draft")):
        for file in source.resolve().iterdir():
            if file.is_file() and file.name != "genai_config.json":
                (place / file.name).symlink_to(file)
    draft_decoder = draft_config["model"]["decoder"]
    config["model"]["draft"] = draft_decoder | {"filename": f"draft/{draft_decoder['filename']}"}
    config["model"]["eos_token_id"] = end
    for part in ("decoder", "draft"):
        config["model"][part].setdefault("session_options", {})["intra_op_num_threads"] = threads()
    (folder / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "genai_config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _ = config["model"]["decoder"]["filename"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"{path} describes no plain decoder ({error!r}); build it again with onnxruntime-genai"
        ) from None
    return config


def _package() -> Any:
    try:
        import onnxruntime_genai
    except ImportError:
        raise RequestError(
            "--specdec-engine=onnxruntime needs onnxruntime_genai, which is not installed; "
            "pip install onnxruntime-genai onnxruntime"
        ) from None
    return onnxruntime_genai
