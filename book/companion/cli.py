"""The command line.

A mistake of the user's gives one line on stderr and exit code 2, before any work starts.
"""

import argparse
import os
import subprocess
import sys
import warnings

from companion import cli_options as options
from companion import presets
from companion.places import project_root
from companion.program import PROGRAM
from devlib.errors import CheckpointError, UnsoundPoints, UserError
from devlib.files import FULL

NAME = PROGRAM.split()[-1]  # before each line of an error


class Parser(argparse.ArgumentParser):
    """argparse with its errors on one line."""

    def error(self, message):
        """Ends the program."""
        fail(f"{message} (see {self.prog} --help)")


def fail(message):
    """Ends the program with one line and exit code 2."""
    print(f"{NAME}:", " ".join(str(message).split()), file=sys.stderr)
    sys.exit(2)


def parser() -> Parser:
    """The commands and what they take."""
    top = Parser(prog=PROGRAM, description="Rerun the pages of the book.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(function, *groups, name=None):
        summary = " ".join(function.__doc__.split())
        sub = commands.add_parser(name or function.__name__.strip("_"), help=summary,
                                  description=summary)
        sub.set_defaults(function=function)
        for group in groups:
            group(sub)

    command(_run, options.page, options.scale, options.cluster, options.parameters)
    command(_sweep, options.page, options.grid, options.preset, options.runs, options.cluster)
    command(_reproduce, options.scale, options.cluster, options.corpus)
    command(_train, options.scale, options.model, options.residual, options.corpus)
    command(_study, options.scale, options.residual, options.cluster, options.carried)
    command(_carry, options.file, options.scale, options.residual)
    command(_claims, options.tables, options.claims)
    command(_adopt, options.scale)
    command(_refresh, options.pages)
    command(_tag)
    command(_list_presets, name="presets")
    command(_mend, options.results)
    return top


def _run(args):
    """Recompute one page; the committed one stays as it is."""
    from companion.site import page_runs

    extra = dict(args.extra)
    if len(extra) < len(args.extra):
        raise UserError("a parameter is given twice with -p")
    _choose_cluster(args)
    print(page_runs.run(args.notebook, args.preset, args.seed, extra, args.runs))


def _sweep(args):
    """Recompute one page over a grid of seeds and settings, in parallel; finished cells are not
    run again."""
    from companion.site import sweep

    cells = sweep.cells(args.notebook, args.preset, sweep.seeds(args.seeds),
                        sweep.settings(args.settings), args.runs)
    _choose_cluster(args)
    outcome = sweep.sweep(cells, args.jobs)
    if outcome.failed:
        raise UserError(outcome)
    print(outcome)


def _claims(args):
    """Measure the paper's claims on stored tables, and print them."""
    from companion.claims.calibration import calibration
    from companion.claims.explain import explain
    from companion.claims.ledger import chosen, entries, ledger
    from companion.claims.text import block, tally

    chosen(args.explain)
    _check_there(args.runs)
    found = ledger(args.preset, args.runs)
    if args.explain:
        told = [judged for judged in found if judged.claim.id in args.explain]
        print("\n\n\n".join(map(explain, told)))
        return
    print("\n\n".join([*map(block, found), calibration(entries()), tally(found)]))


def _adopt(args):
    """For maintainers: copy finished tables from the runs into data/results."""
    from companion import results

    _choose_runs(args)
    print(*results.adopt(args.preset, args.seed), sep="\n")


def _refresh(args):
    """For maintainers: make .ipynb files anew from their .py."""
    from companion.site import fixed_cells, notebooks, page_runs

    if args.address and args.names:
        raise UserError("--address takes all pages; leave the names out")
    for path in fixed_cells.settle_all(notebooks.NOTEBOOKS):
        print(path)
    if args.address:
        return
    print(*page_runs.refresh(args.names), sep="\n")
    notebooks.picture(notebooks.find("stage_boundaries"), project_root() / "data" / "llc.png")


def _tag(args):
    """For maintainers: tag the commit's pages, as the built book's links open them."""
    from companion.site import book_commit

    print(book_commit.tag_pages())


def _reproduce(args):
    """Recompute every page, and build the book from them."""
    from companion import progress, reproduce
    from companion.site import book_copy

    _choose_runs(args)
    pages = book_copy.check_all(args.preset, args.seed)
    _choose_cluster(args)
    reused = reproduce.reused(args.preset, args.seed, args.corpus)
    with progress.reporting(reproduce.expected(args.preset, pages)):
        reproduce.compute_tables(args.preset, args.seed, args.corpus)
        copy = _build(args)
    print("".join(f"{line}\n" for line in reused), end="")
    reproduce.print_tally(args.preset, args.seed, args.corpus)
    reproduce.print_findings(args.preset, args.seed, args.corpus)
    print(copy / "_build" / "html" / "index.html")


def _build(args):
    """Computes the pages, builds the book of them, and returns where it lies."""
    from companion import progress
    from companion.site import book_copy

    with book_copy.book_lock(args.preset, args.seed, args.runs):
        copy = book_copy.build_copy(args.preset, args.seed, args.runs,
                                    {"corpus": args.corpus} if args.corpus else {})
        build = "from jupyter_book.cli.main import main; main()"
        with progress.part("the book"):  # local extensions are found from the working directory
            done = subprocess.run([sys.executable, "-c", build, "build", "-W", "--keep-going",
                                   "--all", "."], cwd=copy)
        if done.returncode:
            raise UserError(f"jupyter-book could not build {copy}; its messages are above")
    return copy


def _study(args):
    """Train one regression run and measure it, all but the LLC at every checkpoint, or go on with
    it."""
    from companion import study

    _choose_runs(args)
    _choose_cluster(args)
    print(*study.study(args.preset, args.seed, args.residual, args.carried), sep="\n")


def _carry(args):
    """Set down in one file what a study needs to go on, on another machine."""
    from companion import carry

    _choose_runs(args)
    print(carry.set_down(args.file, args.preset, args.seed, args.residual))


def _train(args):
    """Train a transformer, or go on with it."""
    from companion import results_language
    from companion.runs import RunKey
    from devlib.regression.train import train

    if args.model == "regression":
        if args.corpus:
            raise UserError("--corpus is for language models; name one with --model")
        key = RunKey.of("regression", args.preset, args.seed, residual=args.residual)
        train(key.settings, key.seed, key.checkpoints(args.runs))
        return print(key.checkpoints(args.runs))
    if args.residual:
        raise UserError("--residual is for the regression model; leave it out, or --model")
    key = RunKey.of({"language": "language-2layer", "one-layer": "language-1layer"}[args.model],
                    args.preset, args.seed, corpus=args.corpus)
    print(results_language.train(key, runs=args.runs).directory)


def _mend(args):
    """Find damaged results, and set them aside to be computed again."""
    from companion.mend import mend

    _check_there(args.runs)
    for line in mend(args.runs) or ["nothing is damaged"]:
        print(line)


def _check_there(runs):
    if runs is not None and not os.path.isdir(runs):
        raise UserError(f"{runs} is no directory; name one that holds results with --runs")


def _choose_runs(args):
    if args.runs:
        os.environ["DEVLIB_RUNS"] = args.runs


def _choose_cluster(args):
    """Names the cluster for all that computes, kernels too, once it is known to be sound."""
    if args.cluster is not None:
        from companion.compute import cluster

        _choose_runs(args)
        cluster.check(args.cluster)
        os.environ["DEVLIB_CLUSTER"] = args.cluster


def _list_presets(args):
    """List the presets."""
    for preset in presets.PRESETS.values():
        print(f"{preset.name:10} {preset.description}")


def main(arguments=None):
    """Runs one command, and turns what a user can mend into one line."""
    args = parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():  # pages and claims say which boundaries rest on such
            warnings.simplefilter("ignore", UnsoundPoints)
            args.function(args)
    except CheckpointError as error:
        fail(f"{error} ({PROGRAM} mend sets aside what is damaged)")
    except UserError as error:
        fail(error)
    except ModuleNotFoundError as error:
        if error.name.startswith(("devlib", "companion")):
            raise
        fail(f"{error.name} is not installed; pip install -r requirements.txt")
    except OSError as error:
        if error.errno not in FULL:
            raise
        fail(f"cannot use {error.filename or 'the disk'} ({error.strerror}); make room or name "
             "another directory, and run the same command again: what is finished is kept")
    except KeyboardInterrupt:
        print(f"{NAME}: interrupted; the same command goes on where it was", file=sys.stderr)
        sys.exit(130)
