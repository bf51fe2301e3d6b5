"""The checks of an engine's output, in the order of the page.

A check is a function of the subject: it returns what it found. An error that says that something
cannot be checked here (RequestError) makes a line *not checked*, any other one a failure. A new
check is one entry of `CHECKS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from ..common.errors import DraftCountError, RequestError, SpecdecError
from ..config.own_options import with_own_options
from ..engines.model_checks import conformance, ending_fault, oracle
from .batches import check_batches, check_served_batches
from .results import CheckOutcome, OutputReport, OutputResult, failed, passed, unchecked
from .subject import OutputSubject

OutputCheck = Callable[[OutputSubject], OutputResult]
_NO_ANSWER = (400, 404, 405, 415, 422, 501)
"""HTTP statuses of a server that does not have what was asked for."""


def endings(subject: OutputSubject) -> OutputResult:
    """Texts end by EOS, a stop or their limit, and nothing follows."""
    words = []
    if subject.server is not None:
        from .served_endings import check_served_endings
        from .stop_tokens import check_stop_tokens

        found = check_served_endings(subject.server, subject.prompts, subject.new_tokens)
        if found.outcome is not CheckOutcome.OK:
            return found
        words.append(found.words)
        by_id = check_stop_tokens(subject.server, subject.prompts, subject.new_tokens)
        if by_id.fault is not None:
            return failed("endings", by_id.fault, by_id.lines)
        words.append(
            f"stop token ids are not judged: {by_id.doubt}"
            if by_id.doubt
            else f"{by_id.requests} stop token ids end texts where they stand"
        )
        if not subject.cases:
            return passed("endings", "; ".join(words))
    engine, cases = subject.needs_cases()
    for case in cases:
        fault, judged = ending_fault(engine, case)
        if fault is not None:
            return failed("endings", fault)
        words.append(f"{judged} texts of {case.texts.sampling.suffix} end as they should")
    return passed("endings", "; ".join(words))


def texts(subject: OutputSubject) -> OutputResult:
    """Texts are the target's, by its weights here or by a server without a drafter."""
    words = []
    if subject.reference is not None:
        from .reference import check_reference

        found = check_reference(
            subject.needs_server(), subject.reference, subject.prompts, subject.new_tokens
        )
        if found.outcome is not CheckOutcome.OK or not subject.weights_here:
            return found
        words.append(found.words)
    elif subject.own_options is not None and not subject.weights_here:
        raise RequestError(
            "nothing to compare them with; name a server of the same model without a drafter by "
            "--reference URL, or the target's weights by --k K --target PATH"
        )
    engine, cases = subject.needs_cases()
    for case in cases:
        judged = conformance(engine, case, subject.alpha / len(cases))
        if not judged.conforms:
            return failed("texts", judged.message)
        words.append(judged.report().rstrip("."))
    return passed("texts", "; ".join(words))


def batches(subject: OutputSubject) -> OutputResult:
    """Greedy texts do not depend on how many are decoded at once."""
    if subject.server is None:
        engine, cases = subject.needs_cases()
        return check_batches(engine, cases[0], subject.concurrency)
    adapter = getattr(subject.engine, "adapter", None)
    return check_served_batches(
        subject.server,
        subject.prompts,
        subject.new_tokens,
        subject.concurrency,
        adapter if hasattr(adapter, "growth") else None,
    )


def streams(subject: OutputSubject) -> OutputResult:
    """A streamed text is the text, and so is each of several choices."""
    from .choices import COUNT, check_choices
    from .streams import check_streams

    server = subject.needs_server()
    found = check_streams(server, subject.prompts, subject.new_tokens)
    if found.outcome is not CheckOutcome.OK:
        return found
    several = check_choices(server, subject.prompts, subject.new_tokens)
    if several.fault is not None:
        return failed("streams", several.fault, several.lines)
    words = (
        f"several choices are not judged: {several.doubt}"
        if several.doubt
        else f"{COUNT} choices at once are the same texts in {several.streams} streams"
    )
    return passed("streams", f"{found.words}; {words}")


def tool_calls(subject: OutputSubject) -> OutputResult:
    """Tool calls are the same streamed and whole."""
    from .tool_calls import check_tool_calls

    return check_tool_calls(subject.needs_server(), subject.reference)


def constraints(subject: OutputSubject) -> OutputResult:
    """Texts that are held to a grammar are in its language, token by token the likeliest."""
    from .constraints import check_constraints, constrained_texts

    server = subject.needs_server()
    asked = constrained_texts(server, subject.prompts)
    found = check_constraints(server, asked, subject.prompts, subject.reference)
    if found.outcome is not CheckOutcome.OK or not subject.weights_here:
        return found
    from .masked_rows import masked_fault

    engine, cases = subject.needs_cases()
    try:
        fault, judged = masked_fault(engine, cases[0], asked, subject.prompts, subject.alpha)
    except RequestError as error:
        return passed("constraints", f"{found.words}; not judged by the weights: {error}")
    if fault is not None:
        return failed("constraints", fault)
    return passed(
        "constraints", f"{found.words}; {judged} tokens are the arg-max under the target's masks"
    )


def counters(subject: OutputSubject) -> OutputResult:
    """The engine's counts do not contradict its texts."""
    engine, cases = subject.needs_cases()
    words = []
    for case in cases:
        counts = engine.measure(case).counts
        words.append(
            f"acceptance length {counts.acceptance_length:.3f} in {counts.total_rounds:.0f} rounds "
            f"at {case.texts.sampling.suffix}"
        )
    return passed("counters", "; ".join(words))


def oracle_agrees(subject: OutputSubject) -> OutputResult:
    """The engine counts the rounds that its models imply."""
    engine, cases = subject.needs_cases()
    words = ["the rounds are those that the models imply on the emitted texts"]
    for case in cases:
        # Half of the level is that of the course.
        agreement = oracle(engine, case, subject.alpha / len(cases) / 2)
        if not agreement.agrees:
            return failed("oracle", agreement.message)
        if (course := agreement.course) is not None:
            if not course.steady:
                return failed("oracle", course.message)
            words.append(
                f"first rounds accept {course.first}, as the models imply, and no change and no "
                f"mixture shows (p {course.p_value:.2g})"
            )
    return passed("oracle", "; ".join(words))


def soak(subject: OutputSubject) -> OutputResult:
    """Acceptance stays what it is over many requests, and with a cached prefix."""
    if subject.soak is None:
        raise RequestError("no soak was asked for; add --soak 200, for instance")
    from ..engines.adapters.server import ServedAdapter
    from .served_soak import check_soak

    server = subject.needs_server()
    _, cases = subject.needs_cases()
    adapter = getattr(subject.engine, "adapter", None)
    if not isinstance(adapter, ServedAdapter):
        raise RequestError("only a server that counts its rounds can be soaked")
    case = cases[0]
    return check_soak(
        server,
        adapter,
        subject.prompts,
        subject.soak,
        k=case.k,
        new_tokens=subject.new_tokens,
        seed=case.texts.seed,
        alpha=subject.alpha,
        report=subject.report,
    )


CHECKS: Mapping[str, OutputCheck] = {
    "endings": endings,
    "texts": texts,
    "batches": batches,
    "streams": streams,
    "tool calls": tool_calls,
    "constraints": constraints,
    "counters": counters,
    "oracle": oracle_agrees,
    "soak": soak,
}


def examined(subject: OutputSubject, required: frozenset[str] = frozenset()) -> OutputReport:
    """All checks of a subject. Raises RequestError for a required check that does not exist, and
    where the engine drafts another number of tokens than k.
    """
    results = []
    for done, (name, check) in enumerate(CHECKS.items()):
        subject.report(f"checking {name}", done, len(CHECKS))
        found, names = _result(name, check, subject), subject.own_options or {}
        results.append(dataclasses.replace(found, words=with_own_options(found.words, names)))
    subject.report("checking", len(CHECKS), len(CHECKS))
    report = OutputReport(subject=subject.name, results=tuple(results), required=required)
    report.check_required()
    return report


def _result(name: str, check: OutputCheck, subject: OutputSubject) -> OutputResult:
    try:
        return check(subject)
    except DraftCountError as error:
        raise RequestError(str(error)) from None  # a wrong k is no fault of the engine
    except RequestError as error:
        return unchecked(name, str(error))
    except SpecdecError as error:
        if getattr(error, "status", None) in _NO_ANSWER:  # a ServerError, which needs an extra
            if refusal := getattr(error, "refusal", ""):
                words = f"the server refuses this ({refusal}); its answer says what is missing"
                return unchecked(name, words)
            return unchecked(name, str(error))
        return failed(name, str(error))
