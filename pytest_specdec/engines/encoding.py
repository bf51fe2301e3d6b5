"""Prompts as token ids, by the target's own tokenizer: transformers reads it, or without torch its
tokenizer.json alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..cases.prompts import Prompt
from ..checkpoints.checkpoint import Checkpoint
from ..common.errors import RequestError

if TYPE_CHECKING:
    from ..decoding.loading import LoadedModel


def encoded(
    checkpoint: Checkpoint | None, load: Callable[[], Any], prompts: Sequence[Prompt]
) -> list[list[int]]:
    """Token ids of each prompt; `load` makes the model whose files are not at hand. Raises
    RequestError without a tokenizer.
    """
    try:
        from ..decoding.loading import LoadedModel
        from ..decoding.sampling import encode_prompts
    except ImportError:
        return encoded_alone(checkpoint, prompts)
    model: LoadedModel = LoadedModel(checkpoint, None) if checkpoint else load()
    return encode_prompts(model.tokenizer, prompts)


def decoder(checkpoint: Checkpoint | None) -> Callable[[Sequence[int]], str] | None:
    """What makes text of token ids, special tokens included; None without the target's
    tokenizer.json.
    """
    path = None if checkpoint is None else checkpoint.folder / "tokenizer.json"
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    if path is None or not path.is_file():
        return None
    tokenizer = Tokenizer.from_file(str(path))

    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=False))

    return decode


def encoded_alone(checkpoint: Checkpoint | None, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Token ids of plain prompts without transformers. Raises RequestError where that is not
    enough.
    """
    path = None if checkpoint is None else checkpoint.folder / "tokenizer.json"
    try:
        from tokenizers import Tokenizer
    except ImportError:
        path = None
    if path is None or not path.is_file() or any(prompt.text is None for prompt in prompts):
        raise RequestError(
            "the target's tokenizer needs transformers here; pip install 'pytest-specdec[models]'"
        )
    encode = Tokenizer.from_file(str(path)).encode
    return [list(encode(prompt.text).ids) for prompt in prompts]
