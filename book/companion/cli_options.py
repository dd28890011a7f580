"""What the commands of the command line take: each function adds its options to a command."""

import argparse

from companion import presets
from companion.site.bounds import BOUNDS


def directory(text):
    """What --runs takes. An empty text is an unset variable of a shell, and not the default."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} names no directory")
    return text


def page(sub):
    """A page of the book."""
    sub.add_argument("notebook", help="such as 02_stage_boundaries, or stage_boundaries")


def preset(sub):
    """--preset."""
    sub.add_argument("--preset", default="laptop", help="the scale (default: laptop)")


def scale(sub):
    """--preset, --seed and --runs."""
    preset(sub)
    sub.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
    runs(sub)


def runs(sub):
    """--runs, where results go."""
    sub.add_argument("--runs", metavar="DIR", type=directory,
                     help="where results go (default: $DEVLIB_RUNS, or runs/)")


def results(sub):
    """--runs, where results lie."""
    sub.add_argument("--runs", metavar="DIR", type=directory,
                     help="where results lie (default: $DEVLIB_RUNS, or runs/)")


def corpus(sub):
    """--corpus."""
    sub.add_argument("--corpus", choices=presets.CORPORA,
                     help="what language models read (default: the preset's)")


def cluster(sub):
    """--cluster."""
    sub.add_argument("--cluster", metavar="ADDRESS",
                     help="a dask scheduler, such as tcp://host:8786, whose workers compute "
                          "(default: $DEVLIB_CLUSTER, or this machine's cores)")


def parameters(sub):
    """-p, parameters of a page."""
    sub.add_argument("-p", dest="extra", nargs=2, action="append", default=[],
                     metavar=("NAME", "VALUE"), help="another parameter of the page")


def grid(sub):
    """--seeds, --set and --jobs of a sweep."""
    sub.add_argument("--seeds", required=True, help="such as 0-4, or 0,2,5")
    sub.add_argument("--set", dest="settings", action="append", default=[],
                     metavar="NAME=VALUE,VALUE", help="a parameter of the page, with its values; "
                     "several parameters make a grid")
    sub.add_argument("--jobs", type=int, help="cells at a time on this machine (default: one a "
                     "core)")


def model(sub):
    """--model."""
    sub.add_argument("--model", choices=("regression", "language", "one-layer"),
                     default="regression", help="which one (default: regression)")


def residual(sub):
    """--residual."""
    sub.add_argument("--residual", choices=BOUNDS["residual"].choices,
                     help="the regression model's residual stream (default: the preset's)")


def carried(sub):
    """--carried, a study to go on with."""
    sub.add_argument("--carried", metavar="FILE",
                     help="what another machine's study was set down in, to go on from there")


def file(sub):
    """A file to write."""
    sub.add_argument("file", help="such as study-seed2.tar.xz")


def tables(sub):
    """--preset and --runs, each with a default of its own."""
    sub.add_argument("--preset", help="the scale (default: of each claim the largest there is)")
    sub.add_argument("--runs", metavar="DIR",
                     help="where the tables are (default: the committed ones)")


def claims(sub):
    """--explain, claims to tell in full."""
    sub.add_argument("--explain", nargs="+", metavar="ID", default=[],
                     help="of these claims the whole arithmetic: data, interval, errors, power")


def pages(sub):
    """Pages, all by default, and --address."""
    sub.add_argument("names", nargs="*", help="pages (default: all)")
    sub.add_argument("--address", action="store_true",
                     help="run nothing; only follow the repository's address in _config.yml")
