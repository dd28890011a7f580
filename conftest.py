"""What `pytest --nbval` leaves out when it compares a notebook's outputs."""


def pytest_collectstart(collector):
    """Warnings and drawings differ between machines, and so does the sixth digit in the CSV of
    what a page computes itself; every printed digit is compared. So the files that travel in a
    page's links and the stage slider's data are left out (the book's tests hold that against the
    tables), and the record of what it read is compared as text."""
    if hasattr(collector, "skip_compare"):  # nbval's collector of a notebook
        collector.skip_compare += ("stderr", "image/svg+xml")
        collector.sanitize_patterns[r'href="data:[^"]*"'] = "href=FILE"
        collector.sanitize_patterns[r'<script type="application/json">.*?</script>'] = "JSON"
