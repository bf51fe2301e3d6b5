"""A checkpoint's tokenizer as its files describe it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from .json_files import read_json


def check_tokenizer_config(folder: Path) -> None:
    """Refuse a tokenizer_config.json that is not strict JSON, or makes transformers load something
    other than a tokenizer.

    Raises RequestError.
    """
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return
    data = read_json(path, "save the tokenizer again")
    kind = data.get("tokenizer_class") if isinstance(data, dict) else 0
    if kind is not None and not (isinstance(kind, str) and re.search("Tokenizer|Backend", kind)):
        raise RequestError(f"{path} names no tokenizer class; save the tokenizer again")


def check_chat_template(folder: Path) -> None:
    """Refuse a tokenizer whose files hold no chat template. Raises RequestError.

    Without a tokenizer_config.json, or with a tokenizer of mistral-common's, the files alone do not
    decide it.
    """
    path = folder / "tokenizer_config.json"
    templates = ("chat_template.jinja", "additional_chat_templates", "tekken.json")
    if not path.is_file() or any((folder / name).exists() for name in templates):
        return
    data = read_json(path, "save the tokenizer again")
    if isinstance(data, dict) and data.get("chat_template") is None:
        raise RequestError(
            f"a prompt has messages and {path} has no chat_template; write the prompt as plain "
            "`prompt` text, or save "
            "chat_template.jinja beside it"
        )


def vocabulary_of(path: Path) -> Any:
    """The token ids by the fast tokenizer's file; None without one. Raises RequestError for one
    that cannot be read.
    """
    if not path.is_file():
        return None
    data = read_json(path, "save the tokenizer again")
    model = data.get("model") if isinstance(data, dict) else None
    return model.get("vocab") if isinstance(model, dict) else None
