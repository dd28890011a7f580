"""Benchmarks: what the book's page "What it costs" is drawn from.

`python -m tests.bench` measures everything and writes data/bench; `python -m tests.bench sgld`
takes one. Each bench is a module `bench_NAME` with a `main()`.
"""
