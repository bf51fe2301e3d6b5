"""Whether the output is still the target's distribution."""
