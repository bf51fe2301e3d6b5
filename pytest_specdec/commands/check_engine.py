"""`check-engine`: whether what a served engine returns is what it should, on one page.

Exit status 0: every check that was made is ok; 1: one failed; 3: too little was checked; 2: an
error.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import RequestError
from ..common.limits import MOST_BATCH, MOST_K, MOST_NEW_TOKENS, MOST_PROMPTS
from ..common.progress import CommandProgress
from ..config.parsers import fraction, whole_number, whole_numbers
from .costs import check_writable

if TYPE_CHECKING:
    from ..cases.case import Case
    from ..engines.protocol import Engine
    from ..output.text_server import TextServer

_ABOUT = """\
exit status:
  0  every check that was made is ok
  1  a check failed: the page has the first divergence
  2  an error
  3  nothing was checked, or not what --require names

URL alone checks endings, batches, streams, tool calls and constraints.
--reference or --target adds the texts, --k the counters, --draft the oracle,
--k and --soak N acceptance against request number.
"""
ENGINES = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama-cpp"}
"""Names of engines, by the owner that a server's /v1/models names."""
FEWEST_SOAK, MOST_SOAK = 32, 100_000
"""Requests of a soak."""
PROMPTS = Path(__file__).parent.parent / "output" / "prompts.jsonl"


def add(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    parser.add_argument("url", metavar="URL", help="the server, for example http://localhost:8000")
    _add_models(parser)
    _add_requests(parser)
    _add_soak(parser)
    parser.add_argument(
        "--require",
        action="append",
        metavar="CHECK",
        help="a check that must be made, for example texts; repeat the option for several "
        "(default: any one)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write the page as Markdown, too (default: standard output alone)",
    )


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reference",
        metavar="URL",
        help="a server of the same model without a drafter (default: none)",
    )
    parser.add_argument(
        "--target",
        metavar="PATH",
        help="the target's weights here: a checkpoint folder or hub id (default: none)",
    )
    parser.add_argument(
        "--draft",
        metavar="PATH",
        help="the drafter's weights here, mtp or prompt-lookup (default: the server's)",
    )
    parser.add_argument(
        "--k",
        type=whole_number(1, MOST_K, example="4"),
        metavar="K",
        help="draft tokens per round of the server (default: not known, and its counters are not "
        "checked)",
    )


def _add_requests(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="prompts, one JSON object a line (default: eight of our own)",
    )
    parser.add_argument(
        "--texts",
        type=whole_number(1, MOST_PROMPTS),
        metavar="N",
        help="use the first N prompts (default: all)",
    )
    parser.add_argument(
        "--new-tokens",
        type=whole_number(8, MOST_NEW_TOKENS),
        default=64,
        metavar="N",
        help="tokens of each text after its prompt (default %(default)s)",
    )
    parser.add_argument(
        "--concurrency",
        type=whole_numbers(1, MOST_BATCH),
        default="1,4,16",
        metavar="N[,N]",
        help="requests at once whose texts are compared (default %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="seed of the sampled texts (default %(default)s)",
    )
    parser.add_argument(
        "--alpha",
        type=fraction(above_zero=True, below=0.5),
        default=0.001,
        metavar="A",
        help="probability that the sampled texts of a right engine fail (default %(default)s)",
    )


def _add_soak(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--soak",
        type=whole_number(FEWEST_SOAK, MOST_SOAK),
        metavar="N",
        help="ask N times more, and judge acceptance against request number; needs --k (default: "
        "no soak)",
    )
    parser.add_argument(
        "--soak-minutes",
        type=whole_number(1, 24 * 60),
        default=60,
        metavar="M",
        help="end the soak after M minutes (default %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    from ..cases.prompts import read_prompts

    _check_options(arguments)
    if arguments.output is not None:
        check_writable(arguments.output)
    prompts = read_prompts(
        arguments.prompts or PROMPTS, arguments.texts, cure="name a file by --prompts"
    )
    from ..output.checks import examined
    from ..output.page import lines, markdown
    from ..output.served_soak import SoakLimits
    from ..output.subject import OutputSubject
    from ..output.text_server import TextServer

    server = TextServer.at(arguments.url)
    reference = TextServer.at(arguments.reference) if arguments.reference else None
    if reference is not None:
        _ = reference.model  # one that does not answer is an error, and no failed check
    engine, cases, why = _counted(arguments, server)
    subject = OutputSubject(
        name=f"{server.url}: {server.model}, {len(prompts)} prompts, {arguments.new_tokens} new "
        f"tokens{f'; {why}' if why else ''}",
        prompts=prompts,
        new_tokens=arguments.new_tokens,
        engine=engine,
        cases=cases,
        server=server,
        reference=reference,
        concurrency=arguments.concurrency,
        alpha=arguments.alpha,
        soak=SoakLimits(requests=arguments.soak, minutes=arguments.soak_minutes)
        if arguments.soak
        else None,
        report=CommandProgress(),
        own_options=arguments.own_options,
    )
    report = examined(subject, frozenset(arguments.require or ()))
    if arguments.output is not None:
        from ..baselines.store import write_all

        write_all({arguments.output: markdown(report)})
    print("\n".join(lines(report)))
    return report.status


def _check_options(arguments: argparse.Namespace) -> None:
    """Raises RequestError for an option that would be left out without a word."""
    for name in ("target", "draft", "soak"):
        if getattr(arguments, name) is not None and arguments.k is None:
            raise RequestError(
                f"--{name} needs the draft tokens per round of the server, too; name them by --k"
            )


def _counted(
    arguments: argparse.Namespace, server: TextServer
) -> tuple[Engine | None, tuple[Case, ...], str]:
    """The engine that counts rounds with its greedy and its sampled case, and why there is none."""
    from ..engines.servers.logprob_servers import served_model

    owner = served_model(server.client).owned_by
    if arguments.k is None or owner not in ENGINES:
        return None, (), "" if owner in ENGINES else f"its counters are not known ({owner or '?'})"
    from ..engines.factory import make_engine, make_models

    name = ENGINES[owner]
    models = make_models(name, device="auto", dtype="float32")
    engine = make_engine(
        name, (), models, url=arguments.url, stored_texts=lambda key: None, kept=Path(".specdec")
    )
    return engine, _cases(arguments, name), ""


def _cases(arguments: argparse.Namespace, engine: str) -> tuple[Case, ...]:
    from ..cases.case import SERVED, Case, TextKey, default_rule
    from ..cases.drafter import OwnHeadsSpec, ServedSpec, parse_drafter
    from ..checkpoints.checkpoint import case_checkpoint, stamps_of
    from ..config.case_grid import locate, locate_drafter

    here = Path.cwd()
    named = locate(arguments.target, here) if arguments.target else SERVED
    drafter = (
        locate_drafter(parse_drafter(arguments.draft), here) if arguments.draft else ServedSpec()
    )
    depth = 0
    if isinstance(drafter, OwnHeadsSpec):  # an engine drafts with as many layers as there are
        target = case_checkpoint(named)
        depth = 1 if target is None else max(min(arguments.k, target.mtp_layers), 1)
    cases = tuple(
        Case(
            texts=TextKey(
                suite="check-engine",
                target=named,
                prompts=(arguments.prompts or PROMPTS).absolute(),
                prompt_limit=arguments.texts,
                new_tokens=arguments.new_tokens,
                temperature=temperature,
                seed=arguments.seed,
            ),
            drafter=drafter,
            label="draft",
            k=arguments.k,
            depth=depth,
            rule=default_rule(temperature),
            margin=0.01,
            engine=engine,
        )
        for temperature in (0.0, 1.0)
    )
    for model in (cases[0].target, cases[0].draft_model):
        if model is not None and Path(model).is_absolute():
            stamps_of(Path(model))  # raises where there is no folder
    return cases
