"""The book's numbers under other arithmetic: `python -m tests.elsewhere [SETTING ...]`.

Each setting is what another machine would bring: other kernels of the libraries that multiply
matrices, other vector units, threads, time zone and language. Under each, the tests that read the
committed tables and every cell of every page run again, and the ledger of claims is printed and
compared to the byte. `--book` also builds the whole book under each and compares its files.
Exits with 1 if anything differs.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLES = ("boundaries", "claims", "costs", "essential", "fidelity", "figures", "process", "seeds",
          "stages")  # tests that read what is committed, or draw a number from it

OLDEST = {"OPENBLAS_CORETYPE": "Prescott", "ATEN_CPU_CAPABILITY": "default",
          "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41",
          "OMP_NUM_THREADS": "1", "TZ": "Asia/Kathmandu", "LC_ALL": "C"}
NEWEST = {"OPENBLAS_CORETYPE": "SkylakeX", "ATEN_CPU_CAPABILITY": "avx512",
          "MKL_ENABLE_INSTRUCTIONS": "AVX512", "OMP_NUM_THREADS": "4", "TZ": "America/St_Johns",
          "LC_ALL": "C.UTF-8"}
SETTINGS = {
    "oldest": OLDEST, "newest": NEWEST,  # all of it at once: the two most different
    "prescott": {"OPENBLAS_CORETYPE": "Prescott"}, "haswell": {"OPENBLAS_CORETYPE": "Haswell"},
    "skylakex": {"OPENBLAS_CORETYPE": "SkylakeX"}, "zen": {"OPENBLAS_CORETYPE": "Zen"},
    "aten-default": {"ATEN_CPU_CAPABILITY": "default"},
    "aten-avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "aten-avx512": {"ATEN_CPU_CAPABILITY": "avx512"},
    "mkl-sse4": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "mkl-avx2": {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "threads-1": {"OMP_NUM_THREADS": "1"}, "threads-4": {"OMP_NUM_THREADS": "4"},
    "zone": {"TZ": "Asia/Kathmandu", "LC_ALL": "C"}}
NEEDS = {"Haswell": "avx2", "Zen": "avx2", "avx2": "avx2", "AVX2": "avx2",
         "SkylakeX": "avx512_f", "avx512": "avx512_f", "AVX512": "avx512_f"}


def lacking(setting) -> str | None:
    """The vector unit that a setting asks for and this processor does not have."""
    import torch

    known = torch.cpu.get_capabilities()
    asked = (NEEDS[value] for value in setting.values() if value in NEEDS)
    return next((unit for unit in asked if not known.get(unit)), None)


def run(arguments, setting) -> subprocess.CompletedProcess:
    """A command of this Python under a setting; one thread where that says nothing of threads, as
    in `make test`."""
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"} | setting, capture_output=True)


def pages_and_tables(setting) -> tuple[bool, str]:
    """Whether the table-reading tests and every cell of the pages pass, and what failed."""
    done = run(["pytest", "-m", "not slow", "-n", "auto", "--dist", "loadfile", "--nbval",
                "--nbval-current-env", "-p", "no:cacheprovider", "notebooks",
                *(str(path) for name in TABLES
                  for path in (ROOT / "tests").rglob(f"test_{name}.py"))], setting)
    counted = re.findall(r"^=*\s*(\d+ (?:failed|passed).*?) in ", done.stdout, re.MULTILINE)
    failed = re.findall(r"^(?:FAILED|ERROR) \S+(?: \S+ \d+)?", done.stdout, re.MULTILINE)
    return not done.returncode, "; ".join([*(counted or [done.stdout[-2000:] + done.stderr[-500:]]),
                                           *failed])


def ledger(setting) -> str:
    """A digest of the claims as they are printed."""
    done = run(["companion", "claims"], setting)
    return hashlib.sha256((done.stdout + done.stderr[-500:]).encode()).hexdigest()


def book(setting) -> dict[str, str]:
    """Every file of the book, built under a setting, with its digest."""
    with tempfile.TemporaryDirectory() as place:
        done = run(["jupyter_book.cli.main", "build", ".", "-W", "--keep-going", "--path-output",
                    place], setting)
        html = Path(place) / "_build" / "html"
        if done.returncode:
            return {"": done.stdout[-500:] + done.stderr[-1500:]}
        return {str(path.relative_to(html)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in html.rglob("*") if path.is_file()}


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m tests.elsewhere", description=__doc__)
    parser.add_argument("settings", nargs="*", choices=[*SETTINGS, []], metavar="SETTING",
                        help=f"of {', '.join(SETTINGS)} (default: all)")
    parser.add_argument("--book", action="store_true", help="build the book under each as well")
    chosen = parser.parse_args(arguments)
    first, good = {}, True
    for name in chosen.settings or SETTINGS:
        setting = SETTINGS[name]
        if unit := lacking(setting):
            print(f"{name}: NOT RUN: this processor has no {unit}", flush=True)
            continue
        passed, words = pages_and_tables(setting)
        found = {"the ledger": ledger(setting), **(book(setting) if chosen.book else {})}
        first = first or found
        other = sorted(part for part in first.keys() | found.keys()
                       if first.get(part) != found.get(part))
        good &= passed and not other
        print(f"{name}: {words}" + (f"; differs from the first: {', '.join(other[:9])}"
                                    if other else ""), flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
