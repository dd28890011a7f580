"""devlib: local learning coefficients, stages and metrics of small transformers in training.

    import devlib
    print(devlib.measure(model, (xs, ys), loss=torch.nn.CrossEntropyLoss()))

Nothing happens on import; `import devlib` loads no torch. `devlib.measure`, `devlib.llc_curve` and
`devlib.next_token` (devlib.own) take a model of your own as it is; the rest is taken by module:
`devlib.sampling` and `devlib.llc` work on any differentiable loss.
"""

from devlib import errors

__version__ = "0.1.0"
__all__ = ["errors", "llc_curve", "measure", "next_token"]


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module 'devlib' has no attribute {name!r}")
    from devlib import own

    return getattr(own, name)
