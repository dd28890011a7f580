"""`python -m tests.bench [NAME ...]`: all benches, or some, into data/bench.

What they store says which code they timed, and a test fails where that is no longer today's. A
change that was found to leave the speed as it was needs no new measurement: `--unchanged NAME ...`
puts today's code on record.
"""

import argparse
import importlib
import inspect
import json
import sys
from pathlib import Path

from devlib.errors import UserError
from tests import measured_code
from tests.bench.measure import RECORD, put_on_record

HERE = Path(__file__).parent
NAMES = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def code(name) -> str:
    """The digest of the code of today that a bench times."""
    return measured_code.digest(importlib.import_module(f"tests.bench.bench_{name}").TIMES)


def stale(name, record=RECORD) -> str | None:
    """What to do where a stored measurement is of other code than today's."""
    if json.loads(record.read_text()).get(name) != code(name):
        return (f"data/bench/{name}.json was measured on other code: `python -m tests.bench "
                f"{name}` measures anew, and --unchanged keeps it")


def main(arguments=None):
    top = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    top.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    top.add_argument("--checkpoints", metavar="DIR",
                     help="a regression run to measure on (default: the published preset's "
                          "checkpoints in the repository)")
    top.add_argument("--unchanged", action="store_true",
                     help="measure nothing: the named ones' speed was found to be as it was")
    args = top.parse_args(arguments)
    if unknown := sorted(set(args.names) - set(NAMES)):
        top.error(f"no bench {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if args.unchanged:
        return [put_on_record(name, code(name)) for name in args.names]
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
