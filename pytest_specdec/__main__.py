"""`python -m pytest_specdec`: cost profiles, speed-up tables, drafting policies, differences of
baselines, misread drafters, engines' output, profiles of drafters.
"""

from __future__ import annotations

import argparse
import os
import sys

from .commands import (
    baseline,
    card,
    check_engine,
    controllers,
    costs,
    doctor,
    merge,
    policies,
    profile,
    published,
    quickstart,
    speedup,
    staleness,
    variant,
)
from .common.errors import SpecdecError, naming_extras
from .config.own_options import own_options, with_own_options

COMMANDS = {
    "quickstart": (quickstart, "write a suite, prompts and a CI file for a pair of models"),
    "costs": (costs, "measure what the target's step, verification and drafting take"),
    "speedup": (
        speedup,
        "speed-up, marginal gain and best k of stored baselines under cost profiles",
    ),
    "policies": (policies, "what fixed and dynamic drafting would gain on a pair of models"),
    "controllers": (
        controllers,
        "what controllers of the number of drafts would do, and the settings of engines",
    ),
    "staleness": (
        staleness,
        "acceptance of a fixed drafter along a sequence of targets, and when to train it again",
    ),
    "doctor": (doctor, "for which reading of its folder a drafter was trained"),
    "card": (card, "a section of a model card: what a drafter's acceptance is, and what pays"),
    "check-engine": (check_engine, "whether what a served engine returns is what it should"),
    "merge": (merge, "judge what the shards of a session measured"),
    "baseline": (baseline, "look at stored baselines"),
    "published": (published, "acceptance that others published beside a case of a .json report"),
    "variant": (variant, "a checkpoint with a LoRA adapter merged or with rounded weights"),
    "profile": (profile, "a case of a .json report as speculation_profile.json"),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pytest_specdec")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        module.add(command)
        command.set_defaults(own_options=own_options(command))
    options = parser.parse_args(arguments)
    try:
        with naming_extras():
            status: int = COMMANDS[options.command][0].run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has seen enough
        return 1
    except SpecdecError as error:
        print(f"error: {with_own_options(str(error), options.own_options)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
