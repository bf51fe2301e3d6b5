"""Chat templates are programs that come with a checkpoint. Each is tried in a process of its own
first, with a limit of time, memory and length, before the tokenizer renders it here: a loop without
end or a string that fills the memory ends there, in one message.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..common.errors import RequestError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..cases.prompts import Prompt

SECONDS = 10
"""Of computing, for all prompts of a suite; a template takes microseconds."""
_WAITED = 10
"""Times as long at most, on a busy machine."""
MOST_MEMORY = 1 << 30
"""Bytes, where the system can limit them."""
MOST_LETTERS = 1 << 24
"""Of one rendered prompt."""

# As `transformers.utils.chat_template_utils` renders, with the standard library and jinja2 alone.
_PROGRAM = """
import datetime, json, sys
given = json.load(sys.stdin)
sys.path[:] = given["path"]
from jinja2 import ext, meta, sandbox
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (given["seconds"], given["seconds"]))
    resource.setrlimit(resource.RLIMIT_AS, (given["memory"], given["memory"]))
except (ImportError, ValueError, OSError):
    pass

class Generation(ext.Extension):
    tags = {"generation"}
    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)

def refuse(message):
    raise ValueError(message)

def dumped(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)

jinja = sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols])
jinja.filters["tojson"] = dumped
jinja.globals["raise_exception"] = refuse
jinja.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
try:
    template = jinja.from_string(given["template"])
    known = meta.find_undeclared_variables(jinja.parse(given["template"]))
    for chat, variables in zip(given["chats"], given["variables"]):
        length = 0
        if unknown := sorted(set(variables) - known):
            raise ValueError(f"it reads no variable {unknown[0]}")
        for part in template.generate(messages=chat, tools=None, documents=None,
                                      add_generation_prompt=True,
                                      **{**given["tokens"], **variables}):
            length += len(part)
            if length > given["letters"]:
                raise ValueError(f"a prompt of more than {given['letters']:,} letters")
except MemoryError:
    print("it fills the memory")
except RecursionError:
    print("it calls itself without end")
except Exception as error:
    print(f"{type(error).__name__}: {str(error)[:200]}")
"""


def check_chat_template(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> None:
    """Raise RequestError where the tokenizer's chat template does not end, fills the memory, or
    fails on one of the prompts.
    """
    rendered = [prompt for prompt in prompts if prompt.text is None]
    chats = [prompt.chat() for prompt in rendered]
    if not chats:
        return
    given = {
        "template": tokenizer.get_chat_template(),
        "tokens": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "chats": chats,
        "variables": [dict(prompt.variables) for prompt in rendered],
    }
    if problem := _problem(json.dumps(given), SECONDS, MOST_MEMORY, MOST_LETTERS):
        raise RequestError(
            f"the chat template of {tokenizer.name_or_path} cannot be used: {problem}; correct it, "
            "or write the prompts as plain text"
        )


@functools.lru_cache(maxsize=8)
def _problem(given: str, seconds: int, memory: int, letters: int) -> str:
    limits: Mapping[str, Any] = {
        "path": sys.path,
        "seconds": seconds,
        "memory": memory,
        "letters": letters,
    }
    try:
        done = subprocess.run(  # noqa: S603  # this very Python
            [sys.executable, "-I", "-c", _PROGRAM],
            input=json.dumps(json.loads(given) | limits),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=seconds * _WAITED,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it does not end within {seconds} s"
    except OSError as error:
        return f"no process could be started to try it ({error.strerror})"
    if done.returncode != 0 and not done.stdout:
        return f"it does not end within {seconds} s of computing, or ends Python"
    return done.stdout.strip()
