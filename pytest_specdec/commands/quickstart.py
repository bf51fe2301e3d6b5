"""`quickstart`: a suite, prompts and a CI file for a pair of models, and the next command. Writes
files that are not there yet, and overwrites none.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from ..common.errors import RequestError

CI_FILES: Mapping[str, Mapping[str, str]] = {
    "github": {"github.yml": ".github/workflows/specdec.yml"},
    "gitlab": {"gitlab.yml": ".gitlab-ci.yml"},
    "jenkins": {"Jenkinsfile": "Jenkinsfile"},
    "slurm": {"specdec.sbatch": "specdec.sbatch"},
    "none": {},
}
"""By system: files of this package, and where they go."""

_ROOT_FILES = ("pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "pyproject.toml")
"""Files that make a folder pytest's root folder."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SUITE = re.compile(r"[a-z][a-z0-9_-]*")

TEST = '''"""Acceptance of {drafter} against the stored baselines."""

import pytest


@pytest.mark.specdec(
    target={target},
    drafter={drafter},
    k={k},
    depth={depth},
    prompts="prompts.jsonl",
    new_tokens={new_tokens},
)
def test_acceptance(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
'''


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target", metavar="PATH", help="a checkpoint folder or hub id (default: asked for)"
    )
    parser.add_argument(
        "--draft",
        metavar="PATH",
        help="folder or hub id of a draft model or head, mtp or prompt-lookup (default: asked for)",
    )
    parser.add_argument(
        "--suite", metavar="NAME", default="chat", help="folder below suites/ (default: chat)"
    )
    parser.add_argument(
        "--k", metavar="K[,K]", default="4,8", help="draft tokens per round (default: 4,8)"
    )
    parser.add_argument(
        "--new-tokens", metavar="N", type=int, default=128, help="of text per prompt (default: 128)"
    )
    parser.add_argument(
        "--ci", choices=sorted(CI_FILES), help="also write a CI file (default: github)"
    )


def run(arguments: argparse.Namespace) -> int:
    target = _asked(arguments.target, "target", "Target, a checkpoint folder or hub id")
    draft = _asked(arguments.draft, "draft", "Drafter, a folder or hub id, mtp or prompt-lookup")
    system = arguments.ci or _asked_system()
    files = quickstart_files(
        target=target,
        draft=draft,
        suite=arguments.suite,
        k=arguments.k,
        new_tokens=arguments.new_tokens,
        system=system,
        root=Path.cwd(),
    )
    write_new(files)
    print("\n".join([*(f"written: {_shown(path)}" for path in files), *_next(target, draft)]))
    return 0


def quickstart_files(
    *, target: str, draft: str, suite: str, k: str, new_tokens: int, system: str, root: Path
) -> dict[Path, str]:
    """Contents by path.

    Raises
    ------
    RequestError
        For a model that is neither a checkpoint folder nor a hub id, or another wrong argument.
    """
    from ..cases.drafter import DraftModelSpec, parse_drafter
    from ..common.limits import MOST_K, MOST_NEW_TOKENS
    from ..config.parsers import whole_number, whole_numbers

    if not _SUITE.fullmatch(suite):
        raise RequestError(f"--suite={suite} is no name; use lower-case letters, digits and -")
    try:
        depths_of_k = list(whole_numbers(1, MOST_K)(k))
        length = whole_number(2, MOST_NEW_TOKENS)(str(new_tokens))
    except argparse.ArgumentTypeError as error:
        raise RequestError(f"--k or --new-tokens: {error}") from None
    folder = root / "suites" / suite
    takes_messages = _takes_messages(_checked(target, "target", root))
    if isinstance(parse_drafter(draft), DraftModelSpec):
        _checked(draft, "draft", root)
    test = TEST.format(
        target=json.dumps(_from(folder, target, root)),
        drafter=json.dumps(_from(folder, draft, root)),
        k=depths_of_k,
        depth=_depth(target, draft, root),
        new_tokens=length,
    )
    files = {
        folder / "test_acceptance.py": test,
        folder / "prompts.jsonl": _prompts(takes_messages),
    }
    if not _is_root(root):
        files[root / "pytest.ini"] = "[pytest]\ntestpaths = suites\n"
    for name, place in CI_FILES[system].items():
        files[root / place] = ci_file(name)
    return files


def ci_file(name: str) -> str:
    """A ready file for a CI system."""
    return (resources.files(__package__) / "quickstart_files" / name).read_text(encoding="utf-8")


def write_new(files: Mapping[Path, str]) -> None:
    """Write files that do not exist, all or none. Raises RequestError."""
    taken = [path for path in files if path.exists() or path.is_symlink()]
    if taken:
        raise RequestError(
            f"{_shown(taken[0])} is there already, and quickstart overwrites nothing; use another "
            "--suite=NAME, or --ci=none for a CI file of your own"
        )
    written = []
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        raise RequestError(
            f"{_shown(Path(str(error.filename)))} cannot be written ({error.strerror}); check the "
            "folder's permissions"
        ) from None


def _asked(given: str | None, name: str, question: str) -> str:
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise RequestError(f"no {name} is named; pass --{name}=PATH")
    return input(f"{question}: ").strip()


def _asked_system() -> str:
    if not sys.stdin.isatty():
        return "github"
    answer = input(f"CI system ({', '.join(CI_FILES)}) [github]: ").strip() or "github"
    if answer not in CI_FILES:
        raise RequestError(f"{answer} is no CI system; use one of {', '.join(CI_FILES)}")
    return answer


def _takes_messages(folder: Path | None) -> bool:
    """Whether a target's folder holds a chat template; not known, so not assumed, of a hub id."""
    from ..checkpoints.tokenizer_files import check_chat_template

    if folder is None:
        return False
    try:
        check_chat_template(folder)
    except RequestError:
        return False
    return any(
        (folder / name).is_file() for name in ("tokenizer_config.json", "chat_template.jinja")
    )


def _checked(name: str, option: str, root: Path) -> Path | None:
    """The folder of a checkpoint; None for a hub id. Raises RequestError."""
    from ..checkpoints.checkpoint import Checkpoint

    folder = root / Path(name).expanduser()
    if folder.is_dir():
        checkpoint = Checkpoint(folder)
        if not checkpoint.config or not checkpoint.weight_files:
            raise RequestError(f"{folder} holds no checkpoint; save the model into it")
        return folder
    if _HUB_ID.fullmatch(name):
        return None
    raise RequestError(
        f"--{option}={name} is no folder and no hub id; name a folder with config.json and "
        "*.safetensors, or owner/name"
    )


def _depth(target: str, draft: str, root: Path) -> list[int]:
    """All of the target's own MTP layers where they draft, else none."""
    from ..checkpoints.checkpoint import Checkpoint

    if draft != "mtp":
        return [0]
    folder = root / Path(target).expanduser()
    layers = Checkpoint(folder).mtp_layers if folder.is_dir() else 1
    if not layers:
        raise RequestError(f"{folder} has no MTP layers; name another drafter with --draft=PATH")
    return [layers]


def _from(folder: Path, name: str, root: Path) -> str:
    """A model's name as the suite says it: folders below the root folder relative to the test
    file, others absolute, hub ids as they are.
    """
    path = root / Path(name).expanduser()
    if not path.is_dir():
        return name
    if path.resolve().is_relative_to(root.resolve()):
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    return str(path.resolve())


def _prompts(messages: bool) -> str:
    """The prompts of the package, as chat messages where the target takes these."""
    lines = [json.loads(line) for line in ci_file("prompts.jsonl").splitlines()]
    if messages:
        lines = [
            {
                "category": line["category"],
                "messages": [{"role": "user", "content": line["prompt"]}],
            }
            for line in lines
        ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def _is_root(root: Path) -> bool:
    """Whether pytest takes the folder as its root, so that baselines lie in it."""
    if any((root / name).is_file() for name in _ROOT_FILES):
        return True
    return any(
        (root / name).is_file() and "pytest]" in (root / name).read_text(errors="replace")
        for name in ("tox.ini", "setup.cfg")
    )


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _next(target: str, draft: str) -> list[str]:
    """What to do now."""
    lines = [
        "",
        "Next, measure the pair and store its baselines (commit the folder baselines/):",
        "  pytest suites --specdec-update=new",
        "Then gate each change:",
        "  pytest suites",
        "  pytest suites --specdec-draft=PATH     # another draft model",
    ]
    outside = [
        name
        for name in (target, draft)
        if (path := Path(name).expanduser()).is_dir()
        and not path.resolve().is_relative_to(Path.cwd().resolve())
    ]
    if outside:
        lines += ["", f"CI needs {' and '.join(outside)}, too: as a hub id, or in the repository."]
    return lines
