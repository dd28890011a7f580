"""What a page needs more than its notebook."""
