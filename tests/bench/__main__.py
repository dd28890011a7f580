"""`python -m tests.bench [NAME ...]`: all benches, or some, into data/bench."""

import argparse
import importlib
import inspect
import sys
from pathlib import Path

from devlib.errors import UserError

HERE = Path(__file__).parent
NAMES = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def main(arguments=None):
    top = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    top.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    top.add_argument("--checkpoints", metavar="DIR",
                     help="a regression run to measure on (default: the published preset's "
                          "checkpoints in the repository)")
    args = top.parse_args(arguments)
    if unknown := sorted(set(args.names) - set(NAMES)):
        top.error(f"no bench {', '.join(unknown)}; there are {', '.join(NAMES)}")
    for name in args.names or NAMES:
        print(f"bench {name}", file=sys.stderr, flush=True)
        bench = importlib.import_module(f"tests.bench.bench_{name}").main
        takes = "checkpoints" in inspect.signature(bench).parameters
        bench(**({"checkpoints": args.checkpoints} if takes else {}))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"bench: {error}")
