"""Two letter tokenizers that share most tokens, under other ids."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from helpers.support import letter_tokenizer


def target_tokenizer() -> PreTrainedTokenizerFast:
    """One token a letter, whose texts have no spaces between them."""
    tokenizer = letter_tokenizer()
    tokenizer.backend_tokenizer.decoder = decoders.Fuse()
    return tokenizer


def other_tokenizer() -> PreTrainedTokenizerFast:
    """Other ids, pairs of letters, and no letter `e`, `q` or comma: `e` is written as two of its
    tokens.
    """
    letters = "zyxwvutsrponmlkjihgfdcba ."
    vocabulary = {"<unk>": 0, **{letter: index for index, letter in enumerate(letters, 1)}}
    vocabulary |= {"th": 27, "in": 28}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
