"""Stochastic-gradient Langevin dynamics on the localised Gibbs posterior (A.3).

    w <- w - (eps / 2) (nbeta grad L_m(w) + gamma (w - w0)) + sqrt(eps) xi,   xi ~ N(0, I)   (8)

targets, as eps -> 0 and m -> n, the density proportional to
exp(-nbeta L_n(w) - gamma / 2 |w - w0|^2). It works on any loss of the form
`loss(params, batch) -> (m,)`, one value a sample, where `params` is a dictionary of tensors and
`batch` a tuple of tensors whose first dimension is the sample:

    model = MyModel()                                   # any nn.Module
    def loss(params, batch):
        x, y = batch
        prediction = torch.func.functional_call(model, params, (x,))
        return torch.nn.functional.cross_entropy(prediction, y, reduction="none")
    params = dict(model.named_parameters())
    sampler = SGLD(eps=1e-4, nbeta=default_nbeta(128), gamma=100.0)
    draws = sample_chains(loss, params, (xs, ys), sampler, chains=4, draws=1500,
                          batch_size=128, seed=0)
    print(estimate_llc(draws))                          # mean, mcse, ess, rhat (devlib.llc)
"""

from devlib.checks import check_burn_in, check_count
from devlib.errors import UserError
from devlib.fast import COMPILE_FROM
from devlib.sampling.beside import Watched
from devlib.sampling.chains import Chains
from devlib.sampling.draws import ChainDiverged, Draws
from devlib.sampling.sgld import SGLD, warn_if_short


def sample_chains(loss, params, data, sampler: SGLD, *, chains, draws, burn_in=None, compile=None,
                  on_divergence="raise", warn=True, progress=False, health=False,
                  **options) -> Draws:
    """Runs `chains` SGLD chains of `draws` steps from `params`; burn-in counts among the draws.
    `options`: seed=0, batch_size=None, mask=None, vectorised=None, init_losses=None,
    microbatch=None, start="w0", by_layer=False.

    Batch t and noise t of chain k are functions of (seed, k, t) alone: a chain does not depend
    on how many run beside it, and the same seed at two checkpoints gives both the same batches
    and the same noise (A.5.2). Batches are drawn with replacement; `batch_size=None` takes the
    whole set every time. `burn_in=None` finds it from the trace (devlib.sampling.burn_in); 0 keeps
    every draw. `mask` restricts the chain to some weights (Layout.indices).

    `vectorised` runs all chains in one torch.func.vmap, else one after another; None chooses by
    size and device, and falls back where the loss cannot be vectorised; either gives the same
    draws up to rounding. `compile` passes the step through torch.compile; None does so where
    chains run one after another for long enough to pay for it. `init_losses` (n,) saves the pass
    over the whole set when it is known; "drawn" makes none, for a set too large to pass over: the
    loss of w0 is then taken on each drawn batch (a third more work a step), and that of the whole
    set estimated from these, with its error. `microbatch` takes a batch's gradient in slices of
    that many samples, where chains run one after another (devlib.fast). `health` runs chains of
    twice the step and one without noise beside them, from which an estimate knows its step bias
    and what of it is slope (devlib.sampling.beside); the draws themselves are the same. `by_layer`
    keeps |w - w0|^2 of each parameter besides that of all.

    Raises UserError for settings out of range before any work, and ChainDiverged, with the other
    chains' draws, when a loss stops being finite (`on_divergence="keep"` returns them instead).
    """
    check_burn_in(burn_in, draws=draws)
    check_on_divergence(on_divergence)
    check_count("chains", chains)
    if compile is None:
        compile = chains * draws >= COMPILE_FROM
    run = (Watched if health else Chains)(
        loss, params, data, sampler, chains=chains, compile=compile, **options)
    if warn:
        warn_if_short(sampler, draws)
    run.extend(draws, progress)
    result = run.draws(burn_in)
    if result.diverged and on_divergence == "raise":
        raise ChainDiverged(result)
    return result


def check_on_divergence(value):
    """Raises UserError unless it is "raise" or "keep"."""
    if value not in ("raise", "keep"):
        raise UserError(f"on_divergence must be 'raise' or 'keep', not {value!r}")
