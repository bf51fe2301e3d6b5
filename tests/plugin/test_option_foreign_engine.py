"""--specdec-engine with somebody else's decoder: gated like ours, judged by its own models, and
refused in one message.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import re
from pathlib import Path

import pytest
from helpers.support import add_noise
from helpers.tiers import some

from pytest_specdec.config.engines import ADAPTERS

TRANSFORMERS = "--specdec-engine=transformers"
TEST = """
import pytest

@pytest.mark.specdec(target={{target!r}}, drafter={drafter}, k={k}, depth={depth}, new_tokens=24, temperature={temperature})
def test_gate(specdec_run, specdec_baseline, specdec_oracle, specdec_conformance):
    assert specdec_run == specdec_baseline
    assert specdec_oracle.agrees, specdec_oracle.message
    assert specdec_conformance.conforms, specdec_conformance.message
"""
SERVED = """
import pytest

@pytest.mark.specdec(k=2, new_tokens=6, temperature=0)
def test_gate(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
"""
JUDGED = (
    SERVED
    + """
@pytest.mark.specdec(k=2, new_tokens=6, temperature=0)
def test_judge(specdec_oracle): pass
"""
)


def gate(
    project, drafter: str = "{draft!r}", k: int = 4, depth: int = 0, temperature: float = 0.0
) -> None:
    project.write_test(TEST.format(drafter=drafter, k=k, depth=depth, temperature=temperature))


def trace(project, rounds: list[list[int]], **header: object) -> str:
    lines = [{"schema": 1, "engine": "mine 2", "k": 2, "new_tokens": 6, **header}]
    lines += [
        {"prompt": json.loads(line)["prompt"], "new_ids": [5, 6, 7, 8, 9, 3], "rounds": rounds}
        for line in prompts(project)
    ]
    path = project.pytester.path / "run.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"--specdec-url={path}"


def prompts(project) -> list[str]:
    return (project.pytester.path / "suites/letters/prompts.jsonl").read_text().splitlines()


CASES = [
    ("{draft!r}", 4, 0, 0.0),
    ("{draft!r}", 4, 0, 1.0),
    ("'mtp'", 2, 2, 0.4),
    ("'prompt-lookup'", 3, 0, 0.4),
]


@pytest.mark.usefixtures("untrained_heads")
@pytest.mark.parametrize(("drafter", "k", "depth", "temperature"), some(CASES, 2))
def test_transformers_is_gated_and_judged(
    project, drafter: str, k: int, depth: int, temperature: float
) -> None:
    gate(project, drafter, k, depth, temperature)
    project.create(TRANSFORMERS)
    ((name, text),) = project.baselines.items()
    stored = json.loads(text)
    assert name.endswith("-transformers.json")
    assert (stored["definition"], stored["conditions"]["engine"]) == (
        "acceptance/1",
        "transformers",
    )
    assert stored["environment"]["engine"] == stored["environment"]["transformers"]
    project.run(TRANSFORMERS, ok=True)
    assert project.baselines == {name: text}


def test_a_worse_drafter_fails_its_gate_and_still_agrees_with_its_models(project, tmp_path) -> None:
    gate(project)
    project.create(TRANSFORMERS)
    worse = add_noise(project.draft, tmp_path / "worse", 3.0)
    result = project.run(TRANSFORMERS, f"--specdec-draft={worse}", ok=False)
    result.stdout.fnmatch_lines(["*acceptance_length regressed: *", "*drafter weights*"])


def test_a_test_without_a_baseline_stands_by_the_oracle_alone(project) -> None:
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=3, new_tokens=24, temperature=0)
def test_rounds(specdec_oracle):
    assert specdec_oracle.agrees, specdec_oracle.message
    assert specdec_oracle.exact
""")
    for engine in ("transformers", "decode"):
        project.run(f"--specdec-engine={engine}", ok=True).assert_outcomes(passed=1)
    result = project.run(ok=False)
    result.stdout.fnmatch_lines(
        [
            "*engine 'replay' does not count rounds, so there is nothing to check; leave specdec_oracle out*"
        ]
    )


@pytest.mark.parametrize(
    ("drafter", "k", "depth", "message"),
    [
        (
            "{draft!r}",
            4,
            2,
            "*cannot draft with a draft model's MTP layers (depth 2); use --specdec-depth=0*",
        ),
        (
            "'mtp'",
            4,
            2,
            "*one token with each of the target's 2 MTP layers; use --specdec-k=2 "
            "--specdec-depth=2*",
        ),
    ],
)
def test_what_transformers_cannot_do_is_one_message(
    project, drafter: str, k: int, depth: int, message: str
) -> None:
    gate(project, drafter, k, depth)
    result = project.run(TRANSFORMERS, ok=False)
    result.stdout.fnmatch_lines([message])
    assert "Traceback" not in result.stdout.str()


def test_a_trace_needs_no_models(project) -> None:
    project.write_test(SERVED)
    url = trace(project, [[2, 1], [2, 0], [2, 1]])
    project.create("--specdec-engine=trace", url)
    ((name, text),) = project.baselines.items()
    stored = json.loads(text)
    assert name == "letters/served-k2-depth0-t0-trace.json"
    assert stored["environment"]["engine"] == "mine 2"
    assert stored["fingerprints"] == {"target": "served", "drafter": "served"}
    project.run("--specdec-engine=trace", url, ok=True)
    worse = trace(project, [[2, 0], [2, 0], [2, 1], [1, 0]], engine="mine 3")
    result = project.run("--specdec-engine=trace", worse, ok=False)
    result.stdout.fnmatch_lines(
        ["*acceptance_length regressed: *", "*environment (engine: mine 2 -> mine 3)*"]
    )


def test_a_folder_called_served_is_no_model_of_a_trace(project) -> None:
    """A model that only a server has is called `served`, too."""
    (project.pytester.path / "served").mkdir()
    project.write_test(SERVED)
    project.create("--specdec-engine=trace", trace(project, [[2, 1], [2, 0], [2, 1]]))


def test_sums_of_all_requests_are_gated_as_one(project) -> None:
    project.write_test(SERVED)

    def pooled(rounds: int) -> str:
        accepted = 12 * 5 - rounds
        lines = [{"schema": 1, "engine": "mine 2", "k": 2, "new_tokens": 6}]
        lines += [{"prompt": json.loads(line)["prompt"], "emitted": 6} for line in prompts(project)]
        lines.append(
            {
                "pooled": {
                    "rounds": rounds,
                    "drafted": 2 * rounds,
                    "accepted": accepted,
                    "per_position": [accepted, 0],
                }
            }
        )
        path = project.pytester.path / "run.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return f"--specdec-url={path}"

    project.create("--specdec-engine=trace", pooled(40))
    ((_, text),) = project.baselines.items()
    assert json.loads(text)["definition"] == "sums/1"
    project.run("--specdec-engine=trace", pooled(40), ok=True)
    result = project.run("--specdec-engine=trace", pooled(48), ok=False)
    result.stdout.fnmatch_lines(["*acceptance_length regressed: *"])
    other = trace(project, [[2, 1], [2, 0], [2, 1]])
    result = project.run("--specdec-engine=trace", other, ok=False)
    result.stdout.fnmatch_lines(["*counts by definition 'sums/1', this version by 'acceptance/1'*"])


def test_sampled_texts_that_are_not_reported_are_never_the_baselines_own(project) -> None:
    project.write_test(SERVED.replace("temperature=0", "temperature=1"))

    def untold(rounds: list[int]) -> str:
        lines = [{"schema": 1, "engine": "mine 2", "k": 2, "new_tokens": 6, "temperature": 1}]
        for line, number in zip(prompts(project), rounds, strict=True):
            totals = {
                "rounds": number,
                "drafted": 2 * number,
                "accepted": 5 - number,
                "per_position": [5 - number, 0],
            }
            lines.append({"prompt": json.loads(line)["prompt"], "emitted": 6, "totals": totals})
        path = project.pytester.path / "run.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return f"--specdec-url={path}"

    project.create("--specdec-engine=trace", untold([3, 4] * 6))
    result = project.run("--specdec-engine=trace", untold([3, 4] * 5 + [4, 4]), ok=False)
    result.stdout.fnmatch_lines(["*acceptance_length inconclusive: *"])


def test_the_oracle_says_that_it_needs_weights(project) -> None:
    project.write_test(JUDGED)
    result = project.run(
        "--specdec-engine=trace", trace(project, [[2, 1], [2, 0], [2, 1]]), "-k", "judge"
    )
    result.stdout.fnmatch_lines(
        ["*needs the models' weights here; name them by --specdec-target and --specdec-draft*"]
    )


def test_a_synthetic_mode_is_never_compared_with_another(project) -> None:
    project.write_test(SERVED)
    project.create("--specdec-engine=trace", trace(project, [[2, 1], [2, 0], [2, 1]]))
    url = trace(project, [[2, 1], [2, 0], [2, 1]], altered="synthetic acceptance 0.8")
    result = project.run("--specdec-engine=trace", url, ok=False)
    result.stdout.fnmatch_lines(
        ["*engine was 'trace' in the baseline and is 'trace (synthetic acceptance 0.8)'*"]
    )


def test_a_counter_that_leaves_rounds_out_is_an_error(project) -> None:
    project.write_test(SERVED)
    result = project.run(
        "--specdec-engine=trace", trace(project, [[2, 1], [2, 0]]), "--specdec-update=new", ok=False
    )
    result.stderr.fnmatch_lines(
        [
            "*run.jsonl:2: rounds (2) and accepted (1) make 3 tokens and 5 were emitted *leave "
            "rounds out*"
        ]
    )
    assert not project.baselines


def test_every_engine_on_the_command_line_has_an_adapter() -> None:
    for value in ADAPTERS.values():
        module, _, factory = value.partition(":")
        source = Path(importlib.util.find_spec(module).origin).read_text()
        assert re.search(rf"^(def|class) {factory}\b", source, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--specdec-engine=trace",),
            "*--specdec-engine=trace needs an address or a file; name it: --specdec-url=*",
        ),
        (
            (TRANSFORMERS, "--specdec-url=http://localhost:1"),
            "*transformers runs in this process; leave --specdec-url out*",
        ),
        (
            ("--specdec-engine=decode", "--specdec-url=http://localhost:1"),
            "*decode runs in this process; leave --specdec-url out*",
        ),
        (
            ("--specdec-engine=trace", "--specdec-url=nowhere.jsonl"),
            "*trace *nowhere.jsonl cannot be read*",
        ),
    ],
)
def test_an_engine_that_is_not_there_is_one_message(
    project, arguments: tuple[str, ...], message: str
) -> None:
    gate(project)
    result = project.run(*arguments, ok=False)
    printed = result.stdout.str() + result.stderr.str()
    assert fnmatch.filter(printed.splitlines(), message)
    assert "Traceback" not in printed


def test_a_package_that_is_missing_is_named_when_it_is_asked_for(
    project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ADAPTERS, "openvino", "no_such_module:Nothing")
    gate(project)
    result = project.run("--specdec-engine=openvino", ok=False)
    result.stdout.fnmatch_lines(
        [
            "*--specdec-engine=openvino needs *no_such_module, which is not installed; install it, "
            "or record*"
        ]
    )
    project.create(TRANSFORMERS)


SKIPPED = """
import pytest

@pytest.mark.usefixtures("specdec_supported")
@pytest.mark.specdec(target={target!r}, drafter={drafter}, k={k}, depth={depth}, new_tokens=24, temperature=0)
def test_judge(specdec_oracle):
    assert specdec_oracle.agrees, specdec_oracle.message
"""


@pytest.mark.parametrize(("k", "skipped"), [(2, False), (3, True)])
def test_a_case_that_the_engine_cannot_run_is_skipped_with_its_reason(
    project, k: int, skipped: bool
) -> None:
    project.write_test(
        SKIPPED.replace("{drafter}", "'mtp'").replace("{k}", str(k)).replace("{depth}", "2")
    )
    result = project.run(TRANSFORMERS, "-rs", ok=True)
    result.assert_outcomes(skipped=int(skipped), passed=int(not skipped))
    if skipped:
        result.stdout.fnmatch_lines(
            ["SKIPPED*transformers drafts one token with each of the target's 2 MTP layers; use *"]
        )


def test_a_mistake_is_no_reason_to_skip(project) -> None:
    """A draft model that is not there: an error, however the test asks."""
    project.write_test(
        SKIPPED.replace("{drafter}", "'nowhere'").replace("{k}", "2").replace("{depth}", "0")
    )
    result = project.run(TRANSFORMERS)
    assert result.ret != 0
    assert "skipped" not in result.stdout.str()
