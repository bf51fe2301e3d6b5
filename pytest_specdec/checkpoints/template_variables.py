"""The variables that a checkpoint's chat template reads, by its files: what flags can change."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.bounded_files import read_text
from ..common.errors import RequestError
from .json_files import read_json

if TYPE_CHECKING:
    from jinja2.parser import Parser

_GIVEN = (
    *("messages", "tools", "documents", "add_generation_prompt", "continue_final_message"),
    *("raise_exception", "strftime_now", "namespace", "range", "dict", "cycler", "joiner"),
    *("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"),
)
"""What templates are rendered with anyway; no flags."""


def check_variables(folder: Path, flags: Collection[str]) -> None:
    """Refuse flags that the template does not read, which would change nothing. Raises
    RequestError.

    What cannot be decided by the files alone is left to the tokenizer, which renders later.
    """
    template = _template(folder) if flags else None
    known = None if template is None else _variables(template)
    unread = [] if known is None else sorted(set(flags) - known)
    if unread and known is not None:
        others = ", ".join(sorted(known - set(_GIVEN)))
        cure = f"; it reads {others}" if others else ", which has none"
        raise RequestError(
            f"the chat template of {folder} reads no variable {unread[0]}, so it would change "
            f"nothing; leave it out of --specdec-template{cure}"
        )


def _template(folder: Path) -> str | None:
    """The text of the default template; None where the files do not say."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return read_text(path)
    path = folder / "tokenizer_config.json"
    data: Any = read_json(path, "save the tokenizer again") if path.is_file() else {}
    found = data.get("chat_template") if isinstance(data, dict) else None
    return found if isinstance(found, str) else None


def _variables(template: str) -> set[str] | None:
    """The names that a template reads and does not set; None for one that cannot be parsed."""
    try:
        from jinja2 import ext, meta, nodes, sandbox
    except ImportError:
        return None

    class Generation(ext.Extension):
        """transformers' marks around what an assistant wrote."""

        tags = {"generation"}  # noqa: RUF012  # as jinja2 has it

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    jinja = sandbox.ImmutableSandboxedEnvironment(extensions=[Generation, ext.loopcontrols])
    try:
        return meta.find_undeclared_variables(jinja.parse(template))
    except Exception:  # the renderer says what is wrong with it
        return None
