"""Potentials and networks whose learning coefficient is known, and exact answers."""
