"""devlib: local learning coefficients, stages and metrics of small transformers in training.

Nothing happens on import; `import devlib` loads no torch. Take what you need by module:
`devlib.sampling` and `devlib.llc` work on any differentiable model.
"""

__version__ = "0.1.0"
