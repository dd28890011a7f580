"""Text to train on: fetched, cut into tokens and kept as streams."""
