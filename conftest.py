"""What `pytest --nbval` leaves out when it compares a notebook's outputs."""


def pytest_collectstart(collector):
    """Warnings and drawings differ between machines, and so does the sixth digit in the CSV of
    what a page computes itself; every printed digit is compared."""
    if hasattr(collector, "skip_compare"):  # nbval's collector of a notebook
        collector.skip_compare += ("stderr", "image/svg+xml")
        collector.sanitize_patterns[r'href="data:text/csv;base64,[^"]*"'] = "href=CSV"
