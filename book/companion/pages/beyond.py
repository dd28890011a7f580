"""Arithmetic: what the whole paper would take on GPUs, from counted work and stated assumptions.

Nothing here is measured on a GPU. Work is counted (data/bench/work.json, by tests.bench.bench_work:
the very steps of this library, at the paper's sizes), a GPU's peaks are its maker's, and the share
of them that is reached is assumed.
"""

import heapq
from dataclasses import dataclass

import pandas as pd

from companion import presets

TERA, GIGA, HOUR = 1e12, 1e9, 3600.0
PROTOCOLS = "as published", "both starts", "local"  # of an LLC (companion.protocols)


@dataclass(frozen=True)
class GPU:
    """A GPU's peaks: TFLOP/s of products of float32 and of bfloat16 factors (equal where it has
    none), and GB/s of its memory."""

    name: str
    float32: float
    bfloat16: float
    bandwidth: float


GPUS = (GPU("T4", 8.1, 8.1, 320), GPU("A100", 19.5, 312, 2_039), GPU("H100", 67, 989, 3_350))


@dataclass(frozen=True)
class Assumptions:
    """Shares of a GPU's peaks that a step reaches, and what starting one operation costs."""

    products: float = 0.4  # of the peak rate of products
    bandwidth: float = 0.6  # of the peak rate of memory
    microseconds: float = 20.0  # for each operation, called from Python


@dataclass(frozen=True)
class Piece:
    """Something that one GPU does: so many steps of some kinds of work. Pieces of one stage do
    not wait for one another."""

    name: str
    stage: str  # "training" or "measuring"
    steps: dict  # kind of work (data/bench/work.json) -> how many
    count: int  # such pieces in the paper
    share: float = 1.0  # of the contexts that a counted SGLD step has


def pieces(seeds=5, preset=presets.PAPER, protocols=PROTOCOLS[:1]) -> list[Piece]:
    """The whole paper: regression with so many seeds, the language models of two and one layers
    once each; an LLC or the metrics of a checkpoint are one piece. An estimate begins with the
    loss of w0 on the whole set. The regression model's other protocols are this book's, chains of
    both starts together; a language model's are counted as its published one again."""
    lr, found = preset.regression, []
    found.append(Piece("regression, training", "training",
                       {"regression training step": lr.training.stop}, seeds))
    ours, contexts = preset.protocols, lr.llc.chains * lr.llc.batch
    for protocol in protocols:
        draws, samples, share = (lr.llc.draws, lr.llc.samples, 1.0) if protocol == PROTOCOLS[0] \
            else (ours.draws, ours.samples, 2 * ours.chains * ours.batch / contexts)
        found.append(Piece(f"regression, LLC of a checkpoint, {protocol}", "measuring", {
            "regression SGLD step": draws, "regression forward": samples},
            seeds * lr.evaluation.curve_checkpoints, share))
    for layers, language in ((2, preset.language), (1, preset.one_layer)):
        kind, llc, metrics = f"language {layers}-layer", language.llc, language.metrics
        found.append(Piece(f"{kind}, training", "training",
                           {f"{kind} training step": language.training.stop}, 1))
        checkpoints = language.evaluation.curve_checkpoints
        found += [Piece(f"{kind}, LLC of a checkpoint, {protocol}", "measuring", {
            f"{kind} SGLD step": llc.chains * llc.draws, f"{kind} forward": llc.samples},
            checkpoints) for protocol in protocols]
        found.append(Piece(f"{kind}, metrics of a checkpoint", "measuring", {
            f"{kind} forward": metrics.contexts + metrics.ablation_contexts
            + metrics.bigram_contexts}, checkpoints))
    return found


def seconds(work: dict, gpu: GPU, assumed: Assumptions = Assumptions(), random_ns=0.0) -> float:
    """Seconds of one step of some work on a GPU: the longest of its products, its traffic with the
    memory and the starting of its operations; and before it the random numbers, which the CPU
    draws. `work` has FLOP of "products" and "attention", "bytes", "operations", random "numbers",
    and the "precision" of the products; all divided by "samples", so many samples at once."""
    peak = gpu.bfloat16 if work["precision"] == "bfloat16" else gpu.float32
    products = (work["products"] / peak + work["attention"] / gpu.float32) / (
        assumed.products * TERA)
    traffic = work["bytes"] / (assumed.bandwidth * gpu.bandwidth * GIGA)
    starting = work["operations"] * assumed.microseconds / 1e6
    return (max(products, traffic, starting) + work["numbers"] * random_ns / 1e9) / work["samples"]


def smaller(work: dict, share) -> dict:
    """The work of an SGLD step on a share of its contexts: as many operations and random numbers,
    so much of the products and of the traffic."""
    return work | {part: share * work[part] for part in ("products", "attention", "bytes")}


def piece_hours(facts: dict, gpu: GPU, assumed: Assumptions = Assumptions(),
                protocols=PROTOCOLS[:1]) -> pd.DataFrame:
    """One row a kind of piece: hours of one, how many there are, and hours of all on one GPU."""
    rows = []
    for piece in pieces(protocols=protocols):
        work = {kind: smaller(facts["work"][kind], piece.share if "SGLD" in kind else 1.0)
                for kind in piece.steps}
        one = sum(count * seconds(work[kind], gpu, assumed, facts["ns a random number"]["median"])
                  for kind, count in piece.steps.items()) / HOUR
        rows.append({"piece": piece.name, "stage": piece.stage, "hours each": one,
                     "pieces": piece.count, "hours": one * piece.count})
    return pd.DataFrame(rows)


def makespan(hours, workers) -> float:
    """Hours until all pieces are done by so many workers, the longest pieces first, each to the
    worker that is free first."""
    free = [0.0] * workers
    for piece in sorted(hours, reverse=True):
        heapq.heapreplace(free, free[0] + piece)
    return max(free)


def paper_hours(facts: dict, counts=(1, 8, 64), assumed: Assumptions = Assumptions(),
                protocols=PROTOCOLS[:1]):
    """One row a GPU and number of them: hours of training, of measuring, and of the whole paper,
    and how many times faster than one. All is trained before anything is measured."""
    rows = []
    for gpu in GPUS:
        table = piece_hours(facts, gpu, assumed, protocols)
        for count in counts:
            spans = {stage: makespan(part["hours each"].repeat(part["pieces"]), count)
                     for stage, part in table.groupby("stage")}
            rows.append({"GPU": gpu.name, "GPUs": count, **spans, "hours": sum(spans.values())})
    table = pd.DataFrame(rows)
    alone = table.groupby("GPU").hours.transform("max")
    return table.assign(times=alone / table.hours)
