"""Largest values that make sense, for options, markers and files; a larger one is a mistake."""

from __future__ import annotations

MOST_K = 512
"""Draft tokens per round; public drafters stay below 64."""
MOST_DEPTH = 64
"""MTP layers of one drafter pass; public checkpoints have at most 3."""
MOST_NEW_TOKENS = 1_000_000
"""Tokens of one text."""
MOST_PROMPTS = 1_000_000
MOST_BATCH = 512
"""Texts decoded at once."""
MOST_REPEATS = 1000
MOST_SEED = 2**62
MOST_TOKEN_ID = 2**31 - 1
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.01, 100.0
"""Of sampling; 0 is greedy. Below, logits divided by the temperature leave the range of floats."""
