"""Arithmetic of the page on GPUs, against cases worked by hand."""

import pandas as pd
import pytest
import torch

from companion import presets
from companion.pages import beyond
from companion.pages.beyond import GPU, Assumptions, makespan, seconds
from companion.pages.costs import load
from tests.bench import bench_training, bench_work

UNIT = GPU("unit", 1.0, 2.0, 1_000.0)  # 1e12 FLOP/s, twice that in bfloat16, 1e12 B/s
FULL = Assumptions(products=1.0, bandwidth=1.0, microseconds=1.0)
WORK = {"products": 4e12, "attention": 1e12, "bytes": 3e12, "operations": 2_000_000, "numbers": 0,
        "samples": 1, "precision": "float32"}


@pytest.mark.parametrize(("change", "expected"), [
    ({}, 5.0), ({"precision": "bfloat16"}, 3.0), ({"bytes": 7e12}, 7.0),
    ({"operations": 9_000_000}, 9.0), ({"numbers": 10**9}, 7.0), ({"samples": 10}, 0.5)])
def test_a_step_takes_the_longest_of_its_parts_and_its_random_numbers(change, expected):
    assert seconds(WORK | change, UNIT, FULL, random_ns=2.0) == pytest.approx(expected)


def test_half_the_rate_takes_twice_as_long():
    half = Assumptions(products=0.5, bandwidth=1.0, microseconds=1.0)
    assert seconds(WORK, UNIT, half) == pytest.approx(10.0)


def test_pieces_on_workers():
    assert makespan([3, 3, 2, 2, 2], 2) == 7  # longest first, as the rule says; 6 would be best
    assert makespan([5, 1, 1], 64) == 5
    assert makespan([5, 1, 1], 1) == 7


def test_every_part_of_the_paper_is_there():
    found = {piece.name: piece for piece in beyond.pieces()}
    assert found["regression, LLC of a checkpoint, as published"].count == 5 * 190
    assert found["language 2-layer, LLC of a checkpoint, as published"].steps == {
        "language 2-layer SGLD step": 20 * 200, "language 2-layer forward": 1_000_000}
    assert found["language 1-layer, training"].steps == {"language 1-layer training step": 50_000}
    counted = load("work")["work"]
    assert {kind for piece in found.values() for kind in piece.steps} == set(counted)


def test_the_other_protocols_take_fewer_contexts_and_as_many_operations():
    """Both starts: six chains of 500 draws on 128 contexts, where ten took 5,000 on 1,024."""
    three = {piece.name: piece for piece in beyond.pieces(protocols=beyond.PROTOCOLS)}
    for protocol in ("both starts", "local"):
        piece = three[f"regression, LLC of a checkpoint, {protocol}"]
        assert piece.steps == {"regression SGLD step": 500, "regression forward": 2**16}
        assert piece.share == pytest.approx(6 * 128 / (10 * 1_024))
        assert three[f"language 2-layer, LLC of a checkpoint, {protocol}"].steps == three[
            "language 2-layer, LLC of a checkpoint, as published"].steps
    half = beyond.smaller(WORK, 0.5)
    assert seconds(half, UNIT, FULL) == pytest.approx(2.5)
    assert seconds(half | {"operations": 9_000_000}, UNIT, FULL) == pytest.approx(9.0)


def test_more_gpus_never_take_longer_and_training_is_the_floor():
    table = beyond.paper_hours(load("work"))
    for _, part in table.groupby("GPU"):
        assert part.hours.is_monotonic_decreasing and (part.times <= part.GPUs * 1.0001).all()
    pieces = beyond.piece_hours(load("work"), beyond.GPUS[0])
    training = pieces[pieces.stage == "training"]
    last = table[(table.GPU == "T4") & (table.GPUs == 64)]
    assert last.training.item() == pytest.approx(training["hours each"].max())
    assert isinstance(pieces, pd.DataFrame) and pieces.hours.sum() > training.hours.sum()


def test_counted_work_is_the_stored_one_and_that_of_the_linear_layers():
    """The table in the repository is what this library's steps do; the same number of products is
    known from the layers' sizes. Ten chains of four times the batch do forty times as much."""
    counted = bench_work.regression()
    stored = load("work")["work"]
    for name, work in counted.items():
        assert stored[name] == work
    by_hand = bench_training.flops(presets.PAPER.regression)["linear"]
    assert counted["regression training step"]["products"] == by_hand
    assert counted["regression SGLD step"]["products"] == 40 * by_hand


def test_traffic_counts_what_is_read_and_written_once():
    a = torch.empty(10, 20, device="meta")

    def step():
        (a.T @ a).view(-1).exp_()  # reads 2 x 800 B, writes 1,600 B; then reads twice and writes

    work = bench_work.count(step, 0)
    assert work["products"] == 2 * 20 * 20 * 10 and work["operations"] == 2
    assert work["bytes"] == 2 * 800 + 1_600 + 2 * 1_600
