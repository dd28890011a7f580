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
# # Beyond one machine
#
# Checkpoints of a curve, cells of a calibration sweep and task sets do not wait for one another. By default
# they are shared out over the cores of this machine, one process and one torch thread each. Name a cluster, and
# they go there; where there are GPUs, each process takes one.
#
# ## Name a cluster
#
# Any [dask](https://distributed.dask.org) cluster will do. Its scheduler prints an address; that is all there is to
# give:
#
# ```bash
# pip install "dask==2026.8.0" "distributed==2026.8.0"    # here and on every worker
# dask scheduler                                           # on one machine: prints tcp://host:8786
# dask worker tcp://host:8786 --nworkers auto --nthreads 1 # on every machine
#
# python -m companion reproduce --preset published --cluster tcp://host:8786
# python -m companion run stage_boundaries --seed 3 --cluster tcp://host:8786
# python -m companion sweep stage_boundaries --seeds 0-9 --cluster tcp://host:8786
# ```
#
# A sweep sends each of its cells, a whole page, to a worker; the two commands above it send a page's checkpoints.
# In Python, with plain papermill, or in a notebook, the environment variable `DEVLIB_CLUSTER` does the same.
# Four things are asked of a cluster, and checked before anything is sent. Each that is missing is one line
# that says what to do.
#
# - The scheduler answers within ten seconds, and has a worker.
# - Each worker is a process that takes one piece of work at a time (`--nthreads 1`).
# - Each worker has the same Python, the same packages that compute, and the same `devlib`.
# - All machines see the runs directory under the same path, as on any cluster with a shared home or scratch
#   directory. Name it with `--runs` or `DEVLIB_RUNS`. Checkpoints are read from it, and every finished piece
#   is filed in it, so that an interrupted command goes on where it was.
#
# A worker that dies, by a signal or for want of memory, loses its own piece, which another worker takes
# over. While none is left, the run waits for one to come. Every piece is a function of its arguments and its
# seed, so the tables are the same wherever it ran: tests compare one process, two processes, a cluster of two
# workers, and a cluster that loses a worker in mid-curve, digit by digit, on one machine. On machines with other
# processors or with GPUs the last digits may differ, by rounding.
#
# Training one model does not spread: each update needs the one before. `reproduce` trains the three models at
# the same time, and seeds are separate runs.
#
# ## On a cluster with SLURM
#
# [dask-jobqueue](https://jobqueue.dask.org) submits workers as jobs. This is an example and was not run for
# this book; partition, hours and paths are yours to fill in.
#
# ```python
# from dask_jobqueue import SLURMCluster
#
# cluster = SLURMCluster(
#     queue="gpu", cores=1, processes=1, memory="16GB", walltime="08:00:00",
#     job_extra_directives=["--gres=gpu:1"],
#     job_script_prologue=["source /shared/stagewise/.venv/bin/activate"],
#     scheduler_options={"port": 8786})
# cluster.scale(jobs=8)
# print(cluster.scheduler_address)   # for --cluster, from another shell; keep this one open
# ```
#
# A job that runs out of time is a worker that dies: its piece goes to another.
#
# ## GPUs
#
# Training, chains, evaluation, metrics and Hessians run on a GPU where torch finds one, and on the CPU
# otherwise; `DEVLIB_DEVICE=cpu` says so by hand. With several GPUs in a machine each process shows itself one of
# them, the first that no other process has claimed; a worker of a cluster does the same,
# so `--nworkers` is the number of GPUs there. Batches and noise are drawn on the CPU from (seed, step) and moved,
# so that every device sees the same ones. Language models train in bfloat16 where the GPU has it, everything
# else is float32.
#
# **The GPU path was tried once**, for a quarter of an hour on a lent H200 (below). `tests/test_gpu.py`, which runs
# where torch finds a GPU, compares it with the CPU. There it found the CPU's numbers for training, recorded or
# not, for chains and for every measurement but two: an LLC's row and the calibration stopped at a version of NumPy
# that was new to this library. That is mended, and was not tried on a GPU again. Elsewhere tests run every
# measurement and both training loops on a stand-in device that refuses what a GPU refuses; a GPU's own kernels and
# its speed they cannot see. A GPU adds up some gradients in no fixed order: two runs there agree to rounding, not
# to the bit.

# %% tags=["parameters"]
preset: str = "laptop"  # the scale; every preset shows the same measurements
seed: int = 0  # changes nothing here
recompute: bool = False  # changes nothing here: `make bench` measures anew

# %% tags=["hide-input"]
import pandas as pd

from companion import figures
from companion.claims.verdicts import say
from companion.pages import beyond, beyond_figures, costs
from companion.pages.costs import description, load
from companion.shown_tables import show_table
from companion.summary import summary

assumed, work = beyond.Assumptions(), load("work")
hours = beyond.paper_hours(work)

# %% tags=["summary", "remove-input"]
one = hours[hours.GPUs == 1].set_index("GPU")
summary(
    "Its training and its LLC estimates took hours on GPUs and TPUs (A.4, F).",
    [
        "Checkpoints can be measured apart, on any dask cluster, with the same "
        "tables.",
        "By arithmetic the whole paper takes "
        + ", ".join(
            f"{row['hours']:,.0f} hours on one {name}" for name, row in one.iterrows()
        )
        + ".",
    ],
)

# %% [markdown]
# ## Two cores, measured
#
# The same LLC curve with one process, with two (`--jobs`), and on a dask cluster of two workers. Starting the
# processes is part of the time, so longer curves gain more; starting the cluster is not. What the machine itself
# gives is measured in the same rounds.

# %% mystnb={"image": {"alt": "Bars of wall seconds of one LLC curve with one process, with two, and on two dask workers; a dashed line stands at 1.8 times as fast as one"}}
if costs.measured("cores"):
    cores = load("cores")
    table, faster = costs.cores(cores), cores["times as fast"]
    fig = beyond_figures.scaling(table, faster["2"]["bar"])
    figures.show(fig, table, "cores", description(cores))
    print(
        f"{cores['checkpoints']} checkpoints, {cores['chains']} chains of "
        f"{cores['draws']:,} draws each; rounds: {faster['2']['rounds']}"
    )
    show_table(
        table,
        "One LLC curve (wall seconds)",
        digits={"median": 1, "min": 1, "max": 1, "times": 2},
        blank="",
    )
    machine = cores["machine times as fast"]
    print(
        f"wanted: {faster['2']['bar']} times; products of small matrices, nothing "
        f"shared, on the same two cores: {machine['median']:.2f}"
    )
else:
    print("not measured on an idle machine yet: python -m tests.bench cores")

# %% [markdown]
# Load averages stand in the line under the figure. Where other work shares the cores, this measures the
# other work.
#
# ## The whole paper on GPUs: arithmetic
#
# But for the last lines that it prints, nothing in this section was measured on a GPU. What a step has to do is
# counted, by running the library's own steps at the paper's sizes on torch's device without numbers: floating-point
# operations of all products, bytes that operations read and write, and operations that have to be started. A GPU is
# given by its maker's peak rates, and a step takes the longest of

# %% tags=["hide-input"]
print(
    f"products    at {assumed.products:.0%} of the peak rate (float32; language "
    "training in bfloat16)"
)
print(
    f"memory      at {assumed.bandwidth:.0%} of the peak bandwidth, each operation "
    "reading and writing it"
)
print(f"operations  at {assumed.microseconds:.0f} microseconds each to start")
print("and before it its random numbers, on the CPU: "
      f"{work['ns a random number']['median']:.1f} ns each (measured)\n")
show_table(
    pd.DataFrame(
        [
            {
                "GPU": gpu.name,
                "TFLOP/s float32": gpu.float32,
                "bfloat16": gpu.bfloat16,
                "GB/s": gpu.bandwidth,
            }
            for gpu in beyond.GPUS
        ]
    ),
    "Peak rates, as their makers state them",
    digits="g",
)

# %% [markdown]
# The T4 multiplies no bfloat16; its language models train in float32. Counted work, for one step each (a forward
# pass is of one context):

# %% tags=["hide-input"]
counted = pd.DataFrame(
    [
        {
            "work": name,
            "GFLOP": (part["products"] + part["attention"]) / part["samples"] / 1e9,
            "GB": part["bytes"] / part["samples"] / 1e9,
            "operations": part["operations"],
            "random numbers": part["numbers"],
        }
        for name, part in work["work"].items()
    ]
)
show_table(counted, "Counted work of one step")

# %% [markdown]
# The paper is then five regression runs with an LLC at each of 190 checkpoints, and a language model of two
# layers and one of one layer with LLC and metrics at each of 501. Models train first, one on a GPU; then
# checkpoints are measured, the longest first.

# %% tags=["hide-input"]
for gpu in beyond.GPUS:
    show_table(beyond.piece_hours(work, gpu).drop(columns="stage"),
               f"{gpu.name}: hours by arithmetic")

# %% mystnb={"image": {"alt": "Hours of the whole paper by arithmetic against 1, 8 and 64 GPUs, for T4, A100 and H100, on logarithmic axes"}}
fig = beyond_figures.paper_hours(hours)
figures.show(fig, hours, "paper_hours", "arithmetic above, from " + description(work))

# %%
show_table(hours, "The whole paper, hours by arithmetic", digits=1)
longest = hours[hours.GPUs == hours.GPUs.max()]
assert (longest.training > 0).all()
show_table(longest[["GPU", "training"]],
           "What no further GPU shortens: the longest training run, hours", digits=1)

# %% [markdown]
# Beyond a few GPUs the paper takes as long as its longest training run: a model trains on one GPU here. The
# authors' 72 hours for the LLC of one regression run are chains one after another; on a GPU all chains of a
# checkpoint go together. Halve or double an assumption, and the hours move by as much at most.
#
# [What the curve measures](16_what_the_curve_measures) measures each checkpoint three times: as published, from
# both starts, and locally. The regression model's second and third protocol take few contexts a step, so that a
# GPU mostly waits for operations to be started. How many draws a language model's would take is not known; they are
# counted as its published one again, which makes them the larger part.

# %%
three = beyond.paper_hours(work, protocols=beyond.PROTOCOLS)
show_table(three, "The whole paper by three protocols, hours by arithmetic", digits=1)

# %% [markdown]
# One try (see above) says how far off that is. A training step is *eager* where Python starts its operations one by
# one; by default devlib records those of a long run once, and a GPU replays them.

# %%
tried = load("gpu")
made, times = tried["made with"], tried["ms an update"]
say(
    f"{made['GPU']}, {tried['date']}, torch {made['torch']} ({tried['how']}); "
    "milliseconds an update, their spread was not kept:"
)
for name, spent in times.items():
    print(f"{name}: " + ", ".join(f"{how} {value:g}" for how, value in spent.items()))
h100, steps = beyond.GPUS[-1], work["work"]
regression = times["regression, paper"]
counted_ms = {
    name: 1e3
    * beyond.seconds(steps[kind], h100, random_ns=work["ns a random number"]["median"])
    for name, kind in (
        ("regression, paper", "regression training step"),
        ("language 2-layer, paper", "language 2-layer training step"),
    )
}
print(f"\narithmetic for an {h100.name}:", ", ".join(
    f"{name} {value:.1f}" for name, value in counted_ms.items()))
started = 1e3 * regression["eager"] / steps["regression training step"]["operations"]
print(f"eager regression: {started:.0f} microseconds an operation (assumed: "
      f"{assumed.microseconds:.0f})")
print(
    "recorded regression: "
    f"{regression['recorded'] / counted_ms['regression, paper']:.0%} of the "
    f"arithmetic, {regression['drawing its batch'] / regression['recorded']:.0%} of it "
    "drawing"
)

# %% [markdown]
# The arithmetic is of eager steps, and each operation took longer to start than is assumed; replayed they hardly count.
# The language model's step at the paper's scale is taken in four slices, which the count leaves out; recorded it was
# not timed.
#
# The memory that one process takes at each preset is measured on the page *What it costs*; multiply it by the number of
# processes.

# %% tags=["remove-cell"]
from companion.site import page_ends

page_ends.end(recompute)
