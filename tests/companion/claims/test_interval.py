"""Intervals, power and verdicts, by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from companion.claims import seeds
from companion.claims.entries import Row
from companion.claims.interval import Reading, Z, interval, judge, prediction
from companion.claims.judge import Answer, Measured, joint, joint_of, overall
from companion.claims.verdicts import COARSE, DIFFERS, ILL, NOT_REACHED, NOT_RUN, REPRODUCED
from devlib.errors import UserError

FIVE = np.array([1.0, 2, 3, 4, 5])  # mean 3, sd sqrt(2.5)


def test_prediction_interval_of_one_run_and_of_the_mean_of_several():
    t = stats.t.ppf(0.975, 4)
    assert prediction(FIVE) == (3, pytest.approx(t * 2.5**0.5 * 1.2**0.5))
    assert prediction(FIVE, runs=5) == (3, pytest.approx(t * 2.5**0.5 * 0.4**0.5))


def test_our_error_is_joined_in_quadrature_and_twice_where_contexts_are_shared():
    half = prediction(FIVE)[1]
    row = Row("r", effect=100, released={"curve": "llc", "step": 984})
    plain = interval(row, Reading(3, 2.0), values=FIVE)
    assert plain.notice == pytest.approx(math.hypot(half, Z * 2))
    assert (plain.low + plain.high) / 2 == pytest.approx(3)
    both = interval(Row("r", effect=100, released=row.released, shared=True), Reading(3, 2.0),
                    values=FIVE)
    assert both.notice == pytest.approx(math.hypot(half, Z * 2 * 2**0.5))


def test_p_is_five_per_cent_on_the_edge():
    row = Row("r", effect=100, released={"curve": "llc", "step": 984})
    edge = interval(row, Reading(0), values=FIVE).high
    assert interval(row, Reading(edge), values=FIVE).p == pytest.approx(0.05)
    assert interval(row, Reading(3.0), values=FIVE).p == pytest.approx(1)
    alone = Row("r", effect=9, expected=0, tolerance=0)
    assert interval(alone, Reading(2 * Z, 2.0)).p == pytest.approx(0.05)
    assert interval(Row("r", effect=9, expected=0, tolerance=1), Reading(1, 1.0)).p is None


@pytest.mark.parametrize(("row", "inside", "outside"), [
    (dict(expected=10, tolerance=2), (8, 10, 12), (7.9, 12.1, math.nan)),
    (dict(expected=-10, tolerance=2), (-8, -12), (-7.9, -12.1)),
    (dict(between=(5, 20), log=False), (5.1, 19.9), (4.9, 20.1, math.inf)),
    (dict(at_least=6), (6, 1e9), (5.9, math.nan)),
    (dict(at_most=14), (14, -1e9), (14.1,))])
def test_exact_readings(row, inside, outside):
    row = Row("r", effect=1000, **row)
    assert {judge(row, Reading(value))[0] for value in inside} == {REPRODUCED}
    assert {judge(row, Reading(value))[0] for value in outside} == {DIFFERS}


def test_steps_are_judged_by_factors():
    row = Row("r", effect=100, released={"curve": "llc", "step": 984}, log=True)
    found = interval(row, Reading(100.0), values=np.exp(FIVE))
    assert found.centre == pytest.approx(math.exp(3))
    assert found.notice == pytest.approx(math.exp(prediction(FIVE)[1]))
    assert judge(row, Reading(0.0), values=np.exp(FIVE))[0] == DIFFERS  # step 0: no factor away
    blind = interval(row, Reading(100.0, blind=20.0), values=np.exp(FIVE))
    assert blind.notice == pytest.approx(math.exp(20.0))


def test_a_bound_must_be_kept_by_more_than_the_error():
    row = Row("r", at_least=0, effect=10)
    assert [judge(row, Reading(value, 1.0))[0] for value in (2.1, 1.9, -1.9, -2.1)] == [
        REPRODUCED, COARSE, COARSE, DIFFERS]


@pytest.mark.parametrize("row", [
    dict(expected=10, tolerance=2), dict(at_least=-90),
    dict(released={"curve": "llc", "step": 40_292})])
def test_what_would_miss_half_of_the_effect_never_agrees(row):
    """The same reading with power, and with less."""
    value = 170.0 if "released" in row else 10.0
    seen, unseen = (judge(Row("r", effect=effect, **row), Reading(value, 1.0))[0]
                    for effect in (100, 2))
    assert (seen, unseen) == (REPRODUCED, COARSE)


def test_an_estimate_that_failed_its_check_is_no_measurement():
    row = Row("r", expected=10, tolerance=2, effect=10)
    for value in (10, 99):
        assert judge(row, Reading(value, ill="R-hat 1.3"))[0] == ILL


def test_half_and_double_tolerance():
    row = Row("r", expected=10, tolerance=2, effect=100)
    assert [judge(row, Reading(11.5), scale)[0] for scale in (1, 0.5)] == [REPRODUCED, DIFFERS]
    assert judge(row, Reading(13.5), 2)[0] == REPRODUCED
    bound = Row("r", at_least=0, effect=4)
    assert [judge(bound, Reading(value), 0.5)[0] for value in (0.9, 1.1)] == [DIFFERS, REPRODUCED]


def test_a_released_value_that_is_not_there_is_refused():
    with pytest.raises(UserError, match=r"seeds.csv has no llc of step 985"):
        seeds.of_seeds("llc", 985)
    with pytest.raises(UserError, match="no curve speed of regression"):
        seeds.curve("speed")


# ------------------------------------------------------------------------------------- together


def test_joint_p_of_independent_deviations():
    """Six that are each within three standard errors, and together are not."""
    z = [2.9, -2.2, 0.4, -1.4, -1.6, -1.6]
    assert joint_of(z) == pytest.approx(stats.chi2.sf(sum(x * x for x in z), 6))
    assert joint_of(z) == pytest.approx(0.0023, abs=1e-4)
    ps = [2 * stats.norm.sf(abs(x)) for x in z]
    assert joint(ps, independent=True) == pytest.approx(joint_of(z))


def test_joint_p_of_numbers_that_share_their_seeds():
    assert joint([0.04, 0.5, 0.9]) == pytest.approx(0.12)
    assert joint([0.04, 0.04, 0.04]) == pytest.approx(0.04)
    assert joint([0.9, 0.95]) == pytest.approx(0.95)


def rows_of(*values):
    row = Row("r", expected=0, tolerance=0, effect=100, question="all")
    return tuple(Measured(row, judge(row, Reading(v, 1.0))[0],
                          Reading(v, 1.0), interval(row, Reading(v, 1.0))) for v in values)


def test_rows_of_one_question_have_one_verdict():
    one = Answer("all", rows_of(2.1, 0.3, 0.2, 0.1, 0.4))  # one of five beyond two errors
    assert one.rows[0].verdict == DIFFERS and one.verdict == REPRODUCED
    many = Answer("all", rows_of(1.8, -1.8, 1.8, -1.8, 1.8))  # none beyond, and too far together
    assert {m.verdict for m in many.rows} == {REPRODUCED} and many.verdict == DIFFERS


def test_overall():
    assert overall([REPRODUCED, ILL, DIFFERS, NOT_REACHED, NOT_RUN]) == DIFFERS
    assert overall([REPRODUCED, ILL, COARSE]) == ILL
    assert overall([REPRODUCED, COARSE, NOT_RUN]) == COARSE
    assert overall([REPRODUCED, NOT_REACHED, NOT_RUN]) == NOT_RUN
    assert overall([REPRODUCED, NOT_REACHED]) == NOT_REACHED
    assert overall([REPRODUCED, REPRODUCED]) == REPRODUCED
