"""Attention-only language models (Section 6, F.1, C)."""
