"""Acceptance of trees of drafts by given texts; docs/trees.md has the derivations."""
