"""One regression run's study, table by table: the command `study`. Where `reproduce` computes every
page of the book, this adds a seed to the few of a preset that takes hours."""

from companion import carry, results
from companion.places import runs_directory
from companion.progress import part, reporting
from companion.reproduce import UNKNOWN, committed_seconds, expected
from companion.runs import RunKey
from devlib.files import make_directory

# Of each part what computes it; the LLC curve at every checkpoint, which takes longest, is left to
# `results.regression`: the protocols have the LLC at the kept ones.
TABLES = {
    "training": "evaluation",  # and evaluates each checkpoint
    "metrics of the regression model": "development", "block means": "blocks",
    "protocols": "protocols", "Hessian": "hessian"}


def study(preset, seed, residual=None, carried=None) -> list:
    """Trains a regression run and measures it: loss and norms at each checkpoint, the metrics of
    Appendix D, block means, the LLC by three protocols, and the Hessian. What is finished is not
    done again, so that the same call goes on where it was; where the runs directory has nothing of
    the run, it goes on from `carried`, a file of another machine (companion.carry). Returns the
    folders of the tables. Raises UserError before any work for a preset, seed or residual that
    there is not, and for a file that does not carry this run."""
    key = RunKey.of("evaluation", preset, seed, residual=residual)
    make_directory(runs_directory() / preset)  # refused now, and not after hours
    if carried:
        carry.take_up(carried, preset, seed, residual)
    times = expected(preset, []) | {
        "training": committed_seconds(preset, {"regression"}, {"training", "evaluation"})}
    with reporting({name: times.get(name, UNKNOWN) for name in TABLES}):
        for name, kind in TABLES.items():
            with part(name):
                getattr(results, kind)(preset, key.seed, True, key.residual)
    return [RunKey.of(kind, preset, seed, residual=residual).own() for kind in TABLES.values()]
