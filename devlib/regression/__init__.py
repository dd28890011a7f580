"""In-context linear regression (Sections 3 and 7, F.2, D)."""
