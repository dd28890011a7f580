# ---
# jupyter:
#   accelerator: GPU
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% tags=["remove-cell"]
import importlib
import subprocess
import sys

if "google.colab" in sys.modules:  # fetch what this page needs; elsewhere, do nothing
    subprocess.run("test -d stagewise || git clone -qn --filter=blob:none https://github.com/devlib-companion/stagewise stagewise && git -C stagewise checkout -q main", shell=True, check=True)  # noqa: E501
    sys.path[:0] = ["stagewise", "stagewise/book"]
    importlib.import_module("companion.site.page_ends").begin()

# %% [markdown]
# # Hessian comparison
#
# B.5 and Fig. B.4 of the paper. The Hessian of the loss at $w_t$, on a fixed set of contexts, measures flatness
# by curvature: its trace and its largest eigenvalues. The LLC measures degeneracy, which curvature does not
# see. Which of the LLC's boundaries does each statistic find by the same plateau rule?
#
# $$
# H = \frac{\partial^2}{\partial w^2} \frac1n \sum_i \ell_i(w), \qquad
# \operatorname{tr} H = \mathbb{E}\, z^\top H z \quad (z_j = \pm 1) .
# $$

# %% tags=["parameters"]
preset: str = "published"  # the scale: smoke, laptop, published or paper
seed: int = 1  # of initialisation, batches, test set, chains and probes
recompute: bool = False  # compute anew instead of reading stored tables
reuse: bool = False  # with recompute: measure committed checkpoints, train nothing

# %% tags=["hide-input"]
import numpy as np
import pandas as pd

from companion import figures, presets, results
from companion import figures_development as draw
from companion.claims.ledger import show
from companion.claims.table_rows import (
    HESSIAN_ERRORS,
    MATCH,
    matched,
    plateaus_on,
)
from companion.figures_released import behind
from companion.paper_stages import find_named
from companion.shown_tables import show_table
from companion.summary import summary
from companion.tabs import tab
from devlib.hessian import Density

settings, chosen = results.regression_settings(preset), presets.get(preset).hessian
run = results.regression(preset, seed, recompute, reuse=reuse)
hessian = results.hessian(preset, seed, recompute, reuse=reuse)
statistics, density = hessian["statistics"], hessian["density"]
_, boundaries, stages = find_named(run["llc"], run["evaluation"], settings.stages)
reached = int(run["evaluation"].step.max())

same = run["llc"][run["llc"].step.isin(statistics.step)]
found = {"LLC": boundaries}
if len(same) < len(run["llc"]):
    found[f"LLC at {len(same)} of {len(run['llc'])}"] = plateaus_on(
        same.llc, same.mcse, same.step, run["llc"], settings.stages)
for name, column in (("trace", "trace"), ("largest eigenvalue", "eig_1")):
    found[name] = plateaus_on(statistics[column], statistics[HESSIAN_ERRORS[column]],
                              statistics.step, run["llc"], settings.stages)
hits = {name: len(matched(steps, boundaries)) for name, steps in found.items()}

# %% tags=["summary", "remove-input"]
summary(
    "The Hessian's trace and largest eigenvalue miss three of the four boundaries "
    "that the LLC finds (B.5).",
    f"By the same plateau rule, the trace finds {hits['trace']} of the LLC's "
    f"{len(boundaries)} boundaries and the largest eigenvalue "
    f"{hits['largest eigenvalue']}, each within a factor of {MATCH}.",
    "LR-13",
    "LR-18",
    regression=run,
    hessian=hessian,
)

# %% [markdown]
# ## Trace and largest eigenvalues

# %% tags=["tabs"] mystnb={"image": {"alt": "Trace of the Hessian with its error, and its five largest eigenvalues, over training with the stage bands, by log and by linear time"}}
trace = statistics[["step", "trace"]]
top = statistics[["step", *(f"eig_{i}" for i in range(1, chosen.eigenvalues + 1))]]
named = top.rename(columns=lambda n: n.replace("eig_", "no. "))
for linear in (False, True):
    end = "_linear" if linear else ""
    tab("trace, linear time" if linear else "trace")
    fig = draw.curves({"trace": trace}, stages, "curvature (loss units)", columns=1,
                      height=3.4, log=True, errors={"trace": statistics.trace_se},
                      linear=linear)
    behind(fig.axes[0], "trace")
    figures.show(fig, statistics[["step", "trace", "trace_se"]], f"hessian_trace{end}",
                 run.description)
    tab("largest eigenvalues, linear time" if linear else "largest eigenvalues")
    fig = draw.curves({"largest eigenvalues": named}, stages, "curvature (loss units)",
                      columns=1, height=3.4, log=True, linear=linear)
    behind(fig.axes[0], "eig_1")
    figures.show(fig, top, f"hessian_eigenvalues{end}", run.description)

# %% [markdown]
# The authors' code adds the probes of a trace up where their mean is meant; what is quoted here is the mean.
#
# ## The same rule on each statistic
#
# Each curve is scaled to the LLC's range, so that the tolerance means the same, and smoothed with its own standard
# errors. Its plateaus are listed. A boundary of the LLC counts as found if a plateau lies within a factor of 1.4,
# each plateau for one boundary at most. The row "LLC at ... of ..." is the LLC at the Hessian's checkpoints alone:
# what their spacing costs. B.5 says that curvature and LLC are not consistently correlated. Where the statistics
# turn, and what the LLC does meanwhile, is LR-18.

# %%
show_table(pd.DataFrame([
    {"curve": name, "plateaus at": ", ".join(f"{s:,}" for s in steps) or "none",
     "finds": f"{hits[name]} of {len(boundaries)}"} for name, steps in found.items()]),
    "Plateaus of each curve, and how many of the LLC's boundaries they find")
print(
    f"{len(statistics)} checkpoints up to step {reached:,}, {chosen.samples:,} "
    "contexts each; standard error of the trace "
    f"{(statistics.trace_se / statistics.trace.abs()).median():.1%} (median), "
    f"{statistics['products'].median():.0f} products H v a checkpoint."
)
show("LR-13", "LR-18", regression=run, hessian=hessian)

# %% [markdown]
# ## The spectrum
#
# Most eigenvalues are close to zero at every stage; a few stand out. The density is by stochastic Lanczos
# quadrature, on a scale that is linear near zero.

# %% mystnb={"image": {"alt": "Spectral density of the Hessian at a few checkpoints, one curve each, on a scale that is linear near zero and logarithmic beyond"}}
grid = np.sinh(np.linspace(-4, np.arcsinh(density.node.max() * 1.2), 400))
shown = {}
for step, part in density.groupby("step"):
    away = np.arcsinh(
        grid
    )  # smoothed on the drawn scale, where a width means the same everywhere
    masses = Density(np.arcsinh(part.node.to_numpy()), part.weight.to_numpy())
    shown[f"step {step:,}"] = masses.smoothed(away, 0.15)
fig, ax = figures.figure(height=4.0)
for (name, values), colour in zip(shown.items(), draw.COLOURS, strict=False):
    ax.plot(grid, values, color=colour, label=name)
ax.set_xscale("symlog", linthresh=1.0)
ax.set_yscale("log")
ax.set_ylim(1e-5, 10)
ax.set_xlabel("eigenvalue (linear within 1)")
ax.set_ylabel("density on this scale")
ax.legend(fontsize=8)
figures.show(
    fig, pd.DataFrame({"eigenvalue": grid, **shown}), "spectrum", run.description
)

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
