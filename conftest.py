"""What `pytest --nbval` leaves out when it compares a notebook's outputs."""


def pytest_collectstart(collector):
    """Warnings and drawings. Every printed line is compared, and every CSV to its last digit."""
    if hasattr(collector, "skip_compare"):  # nbval's collector of a notebook
        collector.skip_compare += ("stderr", "image/svg+xml")
        collector.sanitize_patterns[r'href="data:image/svg[^"]*"'] = "href=DRAWING"
