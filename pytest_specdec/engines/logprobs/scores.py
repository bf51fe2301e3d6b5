"""Replay over served log-probabilities: two served models, given texts, and no weights on this
machine.

Replay needs of each model the log-probability of the texts' own tokens and nothing else, so any
server that scores given tokens will do, on any number of nodes. Texts are scored by a bounded pool
of threads; finished texts are on disk, and an interrupted run continues where it stopped.
"""

from __future__ import annotations

import concurrent.futures
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from ...acceptance.scores import Scores
from ...acceptance.text_origin import TIE, Origin
from ...cases.case import Sampling
from ...cases.texts import Text
from ...common.errors import MeasurementError, RequestError, SpecdecError
from ..servers.client import ServerError
from ..servers.repeatability import apart, ask_again
from ..servers.scorer import ScoredText, Scorer, constant
from .cache import ScoreCache

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""

WORKERS = 8
"""Texts in flight at once, for each server."""


def served_scores(
    target: Scorer,
    drafter: Scorer,
    texts: Sequence[Text],
    sampling: Sampling,
    *,
    caches: tuple[ScoreCache, ScoreCache] | None = None,
    workers: int = WORKERS,
    progress: Progress | None = None,
) -> Scores:
    """Log p and log q of every token that can be drafted.

    Raises RequestError for a sampling whose distributions cannot be had from what servers give,
    ServerError where one does not answer, and MeasurementError for texts that the target cannot
    have emitted.
    """
    check_servable(sampling)
    texts = tuple(texts)
    scored, draft = (
        served_texts(
            scorer,
            texts,
            cache=None if caches is None else caches[which],
            workers=workers,
            progress=None if progress is None else functools.partial(_half, progress, which),
        )
        for which, scorer in enumerate((target, drafter))
    )
    longest = max((len(text.ids) for text in texts), default=0)
    p, q = np.zeros((len(texts), longest)), np.full((len(texts), 1, longest), -np.inf)
    for row, text in enumerate(texts):
        place = slice(text.first_draft, len(text.ids))
        p[row, place] = _target_distributions(text, scored[row], sampling)
        q[row, 0, place] = text_distributions(text, draft[row], sampling)
    origin = _origin(texts, scored, sampling)
    origin.check()
    lengths, starts = (
        np.array([len(text.ids) for text in texts]),
        np.array([text.first_draft for text in texts]),
    )
    categories = tuple(text.category for text in texts)
    return Scores(origin.prompts, categories, p, q, starts, lengths, origin=origin)


def check_servable(sampling: Sampling) -> None:
    """Raises RequestError for a distribution that cannot be computed from what servers give."""
    if (
        sampling.temperature
        and not sampling.top_k
        and (sampling.temperature != 1 or sampling.top_p < 1)
    ):
        raise RequestError(
            "servers give log-probabilities at temperature 1 over the whole vocabulary, from which "
            "another temperature or "
            "top-p follows only within a top-k; use --specdec-temperature=1 or 0, or add "
            "--specdec-top-k=20"
        )


def wanted_top(sampling: Sampling) -> int:
    """How many of the largest log-probabilities a distribution needs."""
    return max(sampling.top_k, 1) if sampling.temperature else 1


def served_texts(
    scorer: Scorer,
    texts: Sequence[Text],
    *,
    cache: ScoreCache | None = None,
    workers: int = WORKERS,
    progress: Progress | None = None,
) -> list[ScoredText]:
    """One server's scores of each text; of the cached texts only one is requested again, to check
    that the model is still the same.

    A few texts are scored a second time, see `ask_again`. Raises the first text's error; texts
    finished before or beside it are kept in the cache. Raises RequestError where the server scores
    a cached text differently than before, ServerError where its answers cannot be right.
    """
    known = [cache.get(text) if cache is not None else None for text in texts]
    missing = [row for row, scored in enumerate(known) if scored is None]
    done = len(texts) - len(missing)
    if progress:
        progress(done, len(texts))
    if done:
        row = next(row for row, scored in enumerate(known) if scored is not None)
        _check_same(scorer, texts[row], known[row])
    try:
        with concurrent.futures.ThreadPoolExecutor(
            max(workers, 1), thread_name_prefix="specdec"
        ) as pool:
            waiting = {pool.submit(_score, scorer, texts[row], cache): row for row in missing}
            try:
                for future in concurrent.futures.as_completed(waiting):
                    known[waiting[future]] = future.result()
                    done += 1
                    if progress:
                        progress(done, len(texts))
            finally:
                # Requests already sent are finished, and their scores kept.
                pool.shutdown(wait=True, cancel_futures=True)
    except SpecdecError as error:
        if cache is None or not cache.kept:
            raise
        raise type(error)(
            f"{error} ({cache.kept} of {len(texts)} texts are kept, and not asked for again)"
        ) from error
    scored_texts = [scored for scored in known if scored is not None]
    _believe(scorer, texts, scored_texts, cache, alone=workers > 1)
    return scored_texts


def text_distributions(text: Text, scored: ScoredText, sampling: Sampling) -> list[float]:
    """Log-probability of each of a text's tokens that can be drafted, under the distribution that
    sampling makes.
    """
    tokens = text.ids[scored.first :]
    rows = zip(tokens, scored.logprobs, scored.best, scored.top, strict=True)
    return [
        _distribution(token, logprob, best, top, sampling) for token, logprob, best, top in rows
    ]


def _distribution(
    token: int,
    logprob: float,
    best: int | None,
    top: Sequence[float],
    sampling: Sampling,
    *,
    emitted: bool = False,
) -> float:
    """Log-probability of one token. One that was `emitted` and lies outside the filters counts as
    kept by them, too.
    """
    if sampling.temperature == 0:
        chosen = token == best if best is not None else logprob >= top[0]
        return 0.0 if chosen else -math.inf
    if not sampling.top_k:
        return logprob
    if len(top) < sampling.top_k and math.fsum(map(math.exp, top)) < 1 - 1e-3:
        raise MeasurementError(
            f"the {sampling.top_k} largest log-probabilities were requested and {len(top)} "
            "returned; lower --specdec-top-k or raise the server's limit (vLLM: --max-logprobs)"
        )
    largest = np.array(sorted(top, reverse=True)[: sampling.top_k])
    kept = largest / sampling.temperature
    kept -= np.logaddexp.reduce(kept)
    # As `decoding.distributions` has it: a token stays while those before it make up less than
    # top_p.
    stay = np.cumsum(np.exp(kept)) - np.exp(kept) < sampling.top_p
    weight, total = (
        (logprob - largest[0]) / sampling.temperature + kept[0],
        np.logaddexp.reduce(kept[stay]),
    )
    if logprob < largest[stay][-1]:
        return float(weight - np.logaddexp(total, weight)) if emitted else -math.inf
    return float(weight - total)


def _target_distributions(text: Text, scored: ScoredText, sampling: Sampling) -> list[float]:
    """The target's distributions; 0 throughout at temperature 0, where the text itself shows what
    the target chose.
    """
    if sampling.temperature == 0:
        return [0.0] * len(scored.logprobs)
    tokens = text.ids[scored.first :]
    rows = zip(tokens, scored.logprobs, scored.best, scored.top, strict=True)
    distributions = [
        _distribution(token, logprob, best, top, sampling, emitted=True)
        for token, logprob, best, top in rows
    ]
    for offset, value in enumerate(distributions):
        if value == -math.inf:
            raise MeasurementError(
                f"the served target cannot emit token {text.ids[scored.first + offset]} of prompt "
                f"{text.key}: its probability is "
                "0; the texts are another target's or another sampling's: sample them again"
            )
    return distributions


def _origin(
    texts: Sequence[Text], scored_texts: Sequence[ScoredText], sampling: Sampling
) -> Origin:
    """How many tokens of each text the target leaves out, or at temperature 0 finds less likely
    than another.
    """
    outside = [
        sum(
            _distribution(token, value, best, top, sampling) == -math.inf
            and (sampling.temperature > 0 or not _ties(value, top))
            for token, value, best, top in zip(
                text.ids[scored.first :], scored.logprobs, scored.best, scored.top, strict=True
            )
        )
        for text, scored in zip(texts, scored_texts, strict=True)
    ]
    tokens, keys = (
        sum(len(scored.logprobs) for scored in scored_texts),
        tuple(text.key for text in texts),
    )
    return Origin(sampling, keys, tokens, tuple(outside), np.zeros((0, len(texts))))


def _ties(logprob: float, top: Sequence[float]) -> bool:
    return bool(top) and max(top) - logprob <= TIE


def _half(progress: Progress, which: int, done: int, total: int) -> None:
    """Progress of one of the two models."""
    progress(which * total + done, 2 * total)


def _score(scorer: Scorer, text: Text, cache: ScoreCache | None) -> ScoredText:
    if text.first_draft >= len(text.ids):
        return ScoredText(first=text.first_draft, logprobs=(), best=(), top=())
    scored = scorer.score(text.ids, text.first_draft)
    if cache is not None:
        cache.put(text, scored)
    return scored


def _believe(
    scorer: Scorer,
    texts: Sequence[Text],
    scored_texts: Sequence[ScoredText],
    cache: ScoreCache | None,
    *,
    alone: bool,
) -> None:
    """Raises ServerError for answers that are all equal, or that change the second time; none of
    them is kept then.
    """
    try:
        if problem := constant([value for scored in scored_texts for value in scored.logprobs]):
            scorer.refuse(problem)
        if changed := ask_again(scorer, texts, scored_texts, alone=alone):
            raise ServerError(
                f"{scorer.client.url} ({scorer.dialect}) scores texts differently when asked "
                f"again, in another order and batch: {changed}; turn off its prefix cache and "
                "speculative decoding, or update it (docs/logprobs.md)"
            )
    except ServerError:
        if cache is not None:
            cache.finish()
        raise


def _check_same(scorer: Scorer, text: Text, kept: ScoredText | None) -> None:
    """Raises RequestError where a text that is kept now gets other scores."""
    now = scorer.score(text.ids, text.first_draft)
    assert kept is not None
    if changed := apart([kept], [now]):
        raise RequestError(
            f"{scorer.client.url} scores a text differently than before ({changed}): another model "
            "runs there now under the same name; delete the cached scores to start again"
        )
