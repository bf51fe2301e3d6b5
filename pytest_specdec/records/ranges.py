"""The numbers that a stored field may hold."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ..common.limits import HIGHEST_TEMPERATURE, MOST_NEW_TOKENS, MOST_SEED, MOST_TOKEN_ID

Positive = Annotated[int, Meta(ge=1, le=2**53)]
NotNegative = Annotated[int, Meta(ge=0, le=2**53)]
TokenId = Annotated[int, Meta(ge=0, le=MOST_TOKEN_ID)]
Seed = Annotated[int, Meta(ge=0, le=MOST_SEED)]
NewTokens = Annotated[int, Meta(ge=1, le=MOST_NEW_TOKENS)]
Count = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(gt=0, le=1)]
Temperature = Annotated[float, Meta(ge=0, le=HIGHEST_TEMPERATURE)]
Milliseconds = Annotated[float, Meta(gt=0, le=1e9)]
RelativeError = Annotated[float, Meta(ge=0, le=1e6)]
