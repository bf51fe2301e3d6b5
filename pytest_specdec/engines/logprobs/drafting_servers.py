"""Whether a server drafts, by what its own pages reveal: one that does must not score.

Two public engines have served wrong log-probabilities of given tokens, without notice, while they
drafted (vllm#53488, llama.cpp#27972). Simulated acceptance needs a server that drafts, so it is
refused with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from ..adapters.sglang_server import server_info
from ..servers.client import Client, ServerError
from ..servers.metrics import MetricError, Reading, parse
from ..servers.scorer import Scorer


class _Slot(msgspec.Struct, frozen=True):
    speculative: bool = False


def check_plain(scorer: Scorer) -> None:
    """Raises ServerError for a server that shows that it drafts. One that shows nothing passes:
    asking twice is what is left.
    """
    kind = scorer.dialect if scorer.dialect in _SIGNS else "echo"
    sign, cure = _SIGNS[kind]
    try:
        seen = sign(scorer.client)
    except ServerError as error:
        if error.status is None:
            raise
        return  # the page is turned off, or is not this engine's
    if seen is not None:
        raise ServerError(
            f"{scorer.client.url} ({scorer.dialect}) drafts ({seen}), and log-probabilities from "
            "servers that draft have been "
            f"wrong without notice; {cure}"
        )


def _vllm(client: Client) -> str | None:
    """It registers these counters only where a speculative configuration is given, at 0 from the
    start.
    """
    return _counter(client, least=0.0)


def _llama_cpp(client: Client) -> str | None:
    """By slot: /props says `speculative.types: none` of a server that drafts, too."""
    slots = client.get_json("/slots", list[_Slot])
    return "/slots reports speculative: true" if any(slot.speculative for slot in slots) else None


def _sglang(client: Client) -> str | None:
    algorithm = server_info(client).speculative_algorithm
    return None if algorithm is None else f"/server_info reports speculative_algorithm: {algorithm}"


def _other(client: Client) -> str | None:
    """A counter above 0; others may be 0 on servers that cannot draft."""
    return _counter(client, least=1.0)


def _counter(client: Client, least: float) -> str | None:
    """A counter of drafts on the page of metrics; None also for a page without metrics."""
    try:
        page: Reading = parse(client.get_text("/metrics"), client.url + "/metrics")
    except MetricError:
        return None
    names = sorted(
        {
            name
            for (name, _), value in page.samples.items()
            if "spec_decode" in name and value >= least
        }
    )
    return f"/metrics counts {names[0]}" if names else None


_SIGNS: Mapping[str, tuple[Callable[[Client], str | None], str]] = {
    "vllm": (_vllm, "start it without --speculative-config"),
    "llama.cpp": (_llama_cpp, "start it without a draft model and --spec-type"),
    "sglang": (_sglang, "start it without --speculative-algorithm"),
    "echo": (_other, "start it without speculative decoding"),
}
"""By dialect: what shows that a server drafts, and what to do about it."""
