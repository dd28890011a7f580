"""Means of independent values, and how they stand in a row of a table."""


def mean_and_se(values):
    """Mean of independent values (B,) and its standard error, as floats."""
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


def with_se(name, estimate):
    """An estimate (value, standard error) as two entries of a row."""
    return {name: estimate[0], f"{name}_se": estimate[1]}
