"""The engine `logprobs`: replay of texts by two served models, for pairs too large for this
machine.

The target's server samples the texts, encodes prompts where there is no tokenizer, and scores;
the drafter's server scores. What a server reports about a model is the model's fingerprint: servers
of different weights must not report the same.
"""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ...acceptance.first_rounds import Samples
from ...acceptance.renewal import expected_counts, with_requests
from ...acceptance.scores import Scores
from ...cases.case import Case, TextKey
from ...cases.prompts import Prompt
from ...cases.texts import Text, texts_of_prompts
from ...checkpoints.checkpoint import case_checkpoint
from ...common.errors import RequestError
from ...common.printable import KEY
from ...records.conditions import Environment, Fingerprints
from ...records.text_set import TextSet
from ..adapter_api import EngineSetup
from ..adapters.llama_cpp_server import LlamaCppServerAdapter
from ..adapters.server import ServedAdapter
from ..adapters.sglang_server import SglangServerAdapter
from ..adapters.vllm_server import VllmServerAdapter
from ..kept_texts import KeptTexts, wanted_texts
from ..models import ModelPool
from ..protocol import Engine, Measurement, check_rounds
from ..servers.client import Client
from ..servers.logprob_servers import scorer_at
from ..servers.scorer import Scorer
from .cache import ScoreCache
from .drafting_servers import check_plain
from .scores import WORKERS, check_servable, served_scores, wanted_top

Encode = Callable[[Sequence[Prompt]], list[list[int]]]
"""Token ids of prompts by the target's own tokenizer."""

_PANGRAM = Prompt(
    "", "", text="The quick brown fox jumps over 13 lazy dogs; caf\u00e9, \u6f22\u5b57."
)
"""Its token ids stand for the tokenizer."""
_EMITTERS: dict[str, type[ServedAdapter]] = {
    "vllm": VllmServerAdapter,
    "sglang": SglangServerAdapter,
    "llama.cpp": LlamaCppServerAdapter,
}
"""What samples texts, by the dialect of the target's server."""


class ServedReplay(Engine):
    """Replay over log-probabilities from `url`, the target's server, and `draft_url`, the
    drafter's.

    `encode` gives prompts' ids by the target's own tokenizer; without it the target's server
    encodes. `folder` keeps what was scored until all of a text set is, so that a run that died goes
    on; None keeps nothing.
    """

    name = "logprobs"

    def __init__(
        self,
        plan: Sequence[Case],
        models: ModelPool,
        *,
        url: str | None,
        draft_url: str | None,
        folder: Path | None = None,
        encode: Callable[[str], Encode | None] = lambda target: None,
        stored_texts: Callable[[TextKey], TextSet | None] = lambda key: None,
        workers: int = WORKERS,
    ) -> None:
        if url is None or draft_url is None:
            missing = "--specdec-url" if url is None else "--specdec-draft-url"
            raise RequestError(
                "engine logprobs needs two servers, the target's and the drafter's; add "
                f"{missing}=http://..."
            )
        self._plan, self._models = tuple(plan), models
        self._folder, self._encode = folder, encode
        self._stored_texts, self._workers = stored_texts, workers
        self._kept = KeptTexts(folder, "served")
        self._target, self._drafter = (
            Client(address, key=os.environ.get(KEY)) for address in (url, draft_url)
        )

    @property
    def models(self) -> ModelPool:
        return self._models

    def measure(self, case: Case) -> Measurement:
        """Counts of one case. Raises RequestError for a drafter other than a plain draft model."""
        if case.draft_model is None or case.depth or case.judged is not None:
            raise RequestError(
                "servers give log-probabilities of plain models only; use a draft model at "
                "--specdec-depth=0, or "
                "--specdec-engine=replay"
            )
        group = self._group(case.texts)
        field = group.scores.field(case.rule)
        counts = with_requests(expected_counts(field, case.k), field)
        check_rounds(counts, case)
        target, drafter = self._scorers(wanted_top(case.texts.sampling))
        return Measurement(
            counts=counts,
            fingerprints=Fingerprints(_fingerprint(target), _fingerprint(drafter)),
            environment=Environment(
                torch="none",
                transformers="none",
                device=f"served by {target.dialect}",
                dtype="the servers' own",
                threads=0,
            ),
            tokenizer=group.stored.tokenizer,
            template=group.stored.template,
            text_fingerprints={text.key: text.fingerprint for text in group.texts},
            texts=group.stored,
            looping=sum(text.loops for text in group.texts),
            samples=Samples.of(field, case.k),
            field=functools.partial(group.scores.field, case.rule),
            notes=group.notes,
        )

    def emitted(self, case: Case) -> Sequence[Text]:
        """The texts that are replayed."""
        return self._group(case.texts).texts

    @functools.cached_property
    def _group(self) -> Callable[[TextKey], _Group]:
        return functools.cache(self._measure_group)

    @functools.cached_property
    def _scorers(self) -> Callable[[int], tuple[Scorer, Scorer]]:
        return functools.cache(
            lambda top: (_plain_scorer(self._target, top), _plain_scorer(self._drafter, top))
        )

    def _measure_group(self, key: TextKey) -> _Group:
        check_servable(key.sampling)
        target, drafter = self._scorers(wanted_top(key.sampling))
        texts, stored = self._texts(key, target)
        caches = None
        if self._folder is not None:
            caches = self._cache(self._folder, target), self._cache(self._folder, drafter)
        scores = served_scores(
            target,
            drafter,
            texts,
            key.sampling,
            caches=caches,
            workers=self._workers,
            progress=functools.partial(self.models.report, f"{key.suite}: log-probabilities"),
        )
        for cache in caches or ():
            cache.finish()
        notes = self._kept.notes(key)
        if scores.origin is not None and (note := scores.origin.note) is not None:
            notes = (*notes, f"texts of {key.suite} at {key.sampling.suffix}: {note}")
        return _Group(texts, stored, scores, notes)

    def _cache(self, folder: Path, scorer: Scorer) -> ScoreCache:
        """One file for each server and model, and for each xdist worker: two processes must not
        write to one.
        """
        worker = os.environ.get("PYTEST_XDIST_WORKER", "")
        place = hashlib.sha256(
            f"{scorer.client.url} {_fingerprint(scorer)} {worker}".encode()
        ).hexdigest()[:16]
        return ScoreCache(folder / f"logprobs-{place}-top{scorer.top}.jsonl", scorer)

    def _texts(self, key: TextKey, target: Scorer) -> tuple[tuple[Text, ...], TextSet]:
        """The stored texts where they fit the served target; the missing ones are sampled by it."""
        prompts = key.read_prompts()
        kind = _EMITTERS.get(target.dialect)
        emitter = None if kind is None else kind(EngineSetup(), self._target)
        ids = self._ids(key, prompts, emitter)
        tokenizer = hashlib.sha256(repr(self._ids(key, [_PANGRAM], emitter)).encode()).hexdigest()[
            :16
        ]
        wanted = wanted_texts(key, target=_fingerprint(target), tokenizer=tokenizer, template=None)
        known, kept, missing = self._kept.known(key, wanted, prompts, self._stored_texts(key))
        if missing and emitter is None:
            raise RequestError(
                f"{target.client.url} returns no token ids, so texts cannot be sampled there; "
                f"store texts of this target, or serve it by {', '.join(_EMITTERS)}"
            )
        if missing and emitter is not None:
            sampled = self._sample(key, emitter, {prompts[row].key: ids[row] for row in missing})
            known |= sampled
            self._kept.write(key, wanted, kept | sampled)
        texts = texts_of_prompts(prompts, ids, [known[prompt.key] for prompt in prompts])
        return texts, msgspec.structs.replace(
            wanted, texts={prompt.key: known[prompt.key] for prompt in prompts}
        )

    def _ids(
        self, key: TextKey, prompts: Sequence[Prompt], emitter: ServedAdapter | None
    ) -> list[list[int]]:
        encode = self._encode(key.target)
        if encode is not None:
            return encode(prompts)
        if emitter is None or any(prompt.text is None for prompt in prompts):
            raise RequestError(
                "the target's tokenizer is needed to encode these prompts; name a folder that "
                "holds it by --specdec-target"
            )
        return [emitter.encode(prompt.text or "") for prompt in prompts]

    def _sample(
        self, key: TextKey, emitter: ServedAdapter, prompts: dict[str, list[int]]
    ) -> dict[str, tuple[int, ...]]:
        """New tokens of each prompt, by its key; each has a seed of its own, in part of the
        prompts, too.
        """
        what = f"{key.suite}: sampling texts"
        self.models.report(what, 0, len(prompts))
        with concurrent.futures.ThreadPoolExecutor(
            self._workers, thread_name_prefix="specdec"
        ) as pool:
            waiting = {
                pool.submit(
                    emitter.emit,
                    ids,
                    key.sampling,
                    key.new_tokens,
                    zlib.crc32(f"{key.seed} {name}".encode()) >> 1,
                ): name
                for name, ids in prompts.items()
            }
            try:
                for done, _ in enumerate(concurrent.futures.as_completed(waiting), 1):
                    self.models.report(what, done, len(prompts))
                return {name: future.result() for future, name in waiting.items()}
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


class _Group:
    """All that the cases of one text key share."""

    def __init__(
        self, texts: tuple[Text, ...], stored: TextSet, scores: Scores, notes: tuple[str, ...]
    ) -> None:
        self.texts, self.stored, self.scores, self.notes = texts, stored, scores, notes


def own_encoder(target: str) -> Encode | None:
    """The tokenizer of a checkpoint folder, without its weights; None where the target's files are
    not at hand.
    """
    checkpoint = case_checkpoint(target)
    if checkpoint is None:
        return None
    try:
        from ...decoding.loading import LoadedModel
        from ...decoding.sampling import encode_prompts
    except ImportError as error:
        raise RequestError(
            f"{error.name} is not installed, so the target's tokenizer cannot be read; pip install "
            "'pytest-specdec[models]'"
        ) from error
    model = LoadedModel(checkpoint, None)
    return lambda prompts: encode_prompts(model.tokenizer, prompts)


def _plain_scorer(client: Client, top: int) -> Scorer:
    """The scorer of a server that does not draft. Raises ServerError for one that does."""
    scorer = scorer_at(client, top)
    check_plain(scorer)
    return scorer


def _fingerprint(scorer: Scorer) -> str:
    """Of what the server says of its model."""
    identity = f"{scorer.dialect}: {scorer.model.identity}"
    return "served-" + hashlib.sha256(identity.encode()).hexdigest()[:16]
