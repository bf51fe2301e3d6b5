"""Trees of drafts: drafting them, verifying them, decoding with them, and their replay."""
