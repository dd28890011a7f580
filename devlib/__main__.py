"""The command line: `python -m devlib --help`.

A mistake of the user's gives one line on stderr and exit code 2, before any work starts.
"""

import argparse
import os
import subprocess
import sys

from devlib import presets
from devlib.errors import UserError
from devlib.files import project_root


class Parser(argparse.ArgumentParser):
    """argparse with its errors on one line."""

    def error(self, message):
        fail(f"{message} (see {self.prog} --help)")


def fail(message):
    """Ends the program with one line and exit code 2."""
    print("devlib:", " ".join(str(message).split()), file=sys.stderr)
    sys.exit(2)


def parser() -> Parser:
    """The commands and what they take."""
    top = Parser(prog="python -m devlib", description="Rerun the pages of the book.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(function, summary, name=None):
        sub = commands.add_parser(name or function.__name__, help=summary, description=summary)
        sub.set_defaults(function=function)
        return sub

    def scale(sub):
        sub.add_argument("--preset", default="laptop", help="the scale (default: laptop)")
        sub.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
        sub.add_argument("--runs", metavar="DIR",
                         help="where results go (default: $DEVLIB_RUNS, or runs/)")

    def corpus(sub):
        sub.add_argument("--corpus", choices=presets.CORPORA,
                         help="what language models read (default: the preset's)")

    def cluster(sub):
        sub.add_argument("--cluster", metavar="ADDRESS",
                         help="a dask scheduler, such as tcp://host:8786, whose workers compute "
                              "(default: $DEVLIB_CLUSTER, or this machine's cores)")

    sub = command(run, "recompute one page; the committed one stays as it is")
    sub.add_argument("notebook", help="such as 02_stage_boundaries, or stage_boundaries")
    scale(sub)
    cluster(sub)
    sub.add_argument("-p", dest="extra", nargs=2, action="append", default=[],
                     metavar=("NAME", "VALUE"), help="another parameter of the page")
    sub = command(reproduce, "recompute every page, and build the book from them")
    scale(sub)
    cluster(sub)
    corpus(sub)
    sub = command(train, "train a transformer, or go on with it")
    scale(sub)
    sub.add_argument("--model", choices=("regression", "language", "one-layer"),
                     default="regression", help="which one (default: regression)")
    sub.add_argument("--residual", choices=("doubled", "standard"),
                     help="the regression model's residual stream (default: the preset's)")
    corpus(sub)
    scale(command(adopt, "for maintainers: copy finished tables from the runs into data/results"))
    sub = command(refresh, "for maintainers: make .ipynb files anew from their .py")
    sub.add_argument("names", nargs="*", help="pages (default: all)")
    command(list_presets, "list the presets", "presets")
    return top


def run(args):
    from devlib import notebooks

    extra = dict(args.extra)
    if len(extra) < len(args.extra):
        raise UserError("a parameter is given twice with -p")
    _choose_cluster(args)
    print(notebooks.run(args.notebook, args.preset, args.seed, extra, args.runs))


def adopt(args):
    from devlib import results

    _choose_runs(args)
    print(*results.adopt(args.preset, args.seed), sep="\n")


def refresh(args):
    from devlib import notebooks

    print(*notebooks.refresh(args.names), sep="\n")
    notebooks.picture(notebooks.find("stage_boundaries"), project_root() / "data" / "llc.png")


def reproduce(args):
    from devlib import notebooks, pipeline

    _choose_runs(args)
    notebooks.check_all(args.preset, args.seed)
    _choose_cluster(args)
    pipeline.compute_tables(args.preset, args.seed, args.corpus)
    copy = notebooks.build_copy(args.preset, args.seed, args.runs,
                                {"corpus": args.corpus} if args.corpus else {})
    build = "from jupyter_book.cli.main import main; main()"
    # local extensions are found from the working directory
    if subprocess.run([sys.executable, "-c", build, "build", "-W", "--keep-going", "--all", "."],
                      cwd=copy).returncode:
        raise UserError(f"jupyter-book could not build {copy}; its messages are above")
    print(copy / "_build" / "html" / "index.html")


def train(args):
    from devlib import results, results_language, training

    if args.model == "regression":
        if args.corpus:
            raise UserError("--corpus is for language models; name one with --model")
        settings = results.regression_settings(args.preset, args.residual)
        directory = results.training_directory(settings, args.seed, args.preset, args.runs)
        training.train(settings, args.seed, directory)
        return print(directory)
    if args.residual:
        raise UserError("--residual is for the regression model; leave it out, or --model")
    settings = results_language.language_settings(
        args.preset, 2 if args.model == "language" else 1, args.corpus)
    print(results_language.train(args.preset, args.seed, settings, runs=args.runs).directory)


def _choose_runs(args):
    if args.runs:
        os.environ["DEVLIB_RUNS"] = args.runs


def _choose_cluster(args):
    """Names the cluster for all that computes, kernels too, once it is known to be sound."""
    if args.cluster is not None:
        from devlib import cluster

        _choose_runs(args)
        cluster.check(args.cluster)
        os.environ["DEVLIB_CLUSTER"] = args.cluster


def list_presets(args):
    for preset in presets.PRESETS.values():
        print(f"{preset.name:10} {preset.words}")


def main(arguments=None):
    args = parser().parse_args(arguments)
    try:
        args.function(args)
    except UserError as error:
        fail(error)
    except ModuleNotFoundError as error:
        if error.name.startswith("devlib"):
            raise
        fail(f"{error.name} is not installed; pip install -r requirements.txt")
    except KeyboardInterrupt:
        print("devlib: interrupted; the same command goes on where it was", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
