from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from kinocell.learning.statistics import (
    Hits,
    mcnemar,
    most_disagreements,
    paired_bootstrap,
    wilson_interval,
)


def hits(text: str) -> Hits:
    """`"110"` -> right, right, wrong."""
    return np.array([letter == "1" for letter in text])


def test_bootstrap_of_one_gain_in_four_videos_is_the_binomial_worked_by_hand() -> None:
    # A resample holds Binomial(4, 1/4) gains: P(0) = 0.32, P(<= 2) = 0.949, P(<= 3) = 0.996, so
    # that the 2.5th percentile is no gain and the 97.5th is three of four.
    result = paired_bootstrap(hits("1101"), hits("0101"), seed=0)
    assert (result.value, result.low, result.high) == (0.25, 0.0, 0.75)


def test_bootstrap_of_many_videos_is_the_normal_interval() -> None:
    # 60 gains and 40 losses in 1,000 videos: mean 0.02, variance 0.1 - 0.02 ** 2.
    ours = hits("1" * 60 + "0" * 40 + "1" * 900)
    theirs = hits("0" * 60 + "1" * 40 + "1" * 900)
    half = 1.96 * math.sqrt((0.1 - 0.02**2) / 1000)
    result = paired_bootstrap(ours, theirs, seed=0)
    assert result.value == pytest.approx(0.02)
    assert result.low == pytest.approx(0.02 - half, abs=0.0015)
    assert result.high == pytest.approx(0.02 + half, abs=0.0015)


def test_bootstrap_ignores_how_hard_the_videos_are_for_both() -> None:
    easy = paired_bootstrap(hits("1101" * 20), hits("1101" * 20), seed=0)
    assert (easy.value, easy.low, easy.high) == (0, 0, 0)


def test_bootstrap_is_a_function_of_its_seed() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.random(99) < 0.6, rng.random(99) < 0.5
    first, again, other = (paired_bootstrap(ours, theirs, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.value == other.value


def test_bootstrap_turned_round_changes_its_sign() -> None:
    forth = paired_bootstrap(hits("1101"), hits("0101"), seed=0)
    back = paired_bootstrap(hits("0101"), hits("1101"), seed=0)
    assert (back.value, back.low, back.high) == (-forth.value, -forth.high, -forth.low)


def test_bootstrap_of_shares_is_that_of_their_means_worked_by_hand() -> None:
    # Gains of 0.5 and -0.25: a resample of two has the mean 0.5, 0.125 (half of them) or -0.25.
    result = paired_bootstrap(np.array([1.0, 0.25]), np.array([0.5, 0.5]), seed=0)
    assert (result.value, result.low, result.high) == (0.125, -0.25, 0.5)


def test_mcnemar_is_the_coin_worked_by_hand() -> None:
    # 1 to 5 in six tosses: 2 * (1 + 6) / 64.
    assert mcnemar(hits("100000111"), hits("011111111")) == pytest.approx(14 / 64)
    assert mcnemar(hits("011111111"), hits("100000111")) == pytest.approx(14 / 64)


def test_mcnemar_of_networks_that_never_differ_is_one() -> None:
    assert mcnemar(hits("101"), hits("101")) == 1.0


def test_mcnemar_of_a_draw_is_one_and_not_more() -> None:
    assert mcnemar(hits("10"), hits("01")) == 1.0


def test_mcnemar_of_several_trainings_tosses_every_gain_worked_by_hand() -> None:
    # Gains of 1 and -1/2: of the sums 3/2, 1/2, -1/2, -3/2 all are at least as far from 0 as 1/2.
    # Gains of 1 and 1/2: only 3/2 and -3/2, two of four.
    assert mcnemar(hits("10"), np.array([hits("00"), hits("01")])) == 1.0
    assert mcnemar(np.array([hits("11"), hits("10")]), hits("00")) == 0.5


def test_mcnemar_of_several_trainings_is_the_share_of_all_tosses() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.random((3, 11)) < 0.7, rng.random((4, 11)) < 0.5
    gains = np.rint(12 * (ours.mean(axis=0) - theirs.mean(axis=0)))
    sums = np.array(list(itertools.product([-1, 1], repeat=11))) @ gains
    expected = float((abs(sums) >= abs(gains.sum())).mean())
    assert 0 < expected < 1
    assert mcnemar(ours, theirs) == pytest.approx(expected)


def test_mcnemar_of_means_that_are_equal_is_one() -> None:
    # Three of four are right on ten videos, one of four on thirty; the other side on ten videos.
    ours = np.array([hits("1" * 10 + "0" * 30)] * 3 + [hits("0" * 10 + "1" * 30)])
    theirs = np.array([hits("0" * 25 + "1" * 15)] * 4)
    assert ours.mean() == theirs.mean()
    assert mcnemar(ours, theirs) == 1.0


def test_mcnemar_of_the_same_answers_many_times_is_that_of_one() -> None:
    one, other = hits("100000111"), hits("011111111")
    assert mcnemar(np.array([one] * 3), np.array([other] * 2)) == mcnemar(one, other)


def test_mcnemar_can_count_thousands_of_tosses() -> None:
    assert mcnemar(hits("1" * 3000), hits("0" * 3000)) < 1e-300


@pytest.mark.parametrize("other", ["10", ""])
def test_other_videos_cannot_be_compared(other: str) -> None:
    ours = hits("101") if other else hits("")
    with pytest.raises(ValueError, match="the same videos twice"):
        paired_bootstrap(ours, hits(other), seed=0)
    with pytest.raises(ValueError, match="the same videos twice"):
        mcnemar(ours, hits(other))


def test_wilson_interval_agrees_with_published_values() -> None:
    # Newcombe 1998, table I: 81 of 263 and 15 of 148, Wilson without continuity correction.
    assert wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_six_of_ten_are_a_difference_only_if_nothing_speaks_against_it() -> None:
    # 6 to 0: 2 / 64 = 0.031. 7 to 1: 2 * (1 + 8) / 256 = 0.070. 5 to 0: 2 / 32 = 0.063.
    assert most_disagreements(0.6, 10) == 6
    assert most_disagreements(0.5, 10) == 0


@pytest.mark.parametrize("num", [600, 1200, 2400])
def test_two_points_are_significant_up_to_so_many_disagreements_and_not_beyond(num: int) -> None:
    most, gain = most_disagreements(0.02, num), num // 50
    for disagreed, significant in ((most, True), (most + 2, False)):
        won = (disagreed + gain) // 2
        ours = hits("1" * won + "0" * (disagreed - won) + "1" * (num - disagreed))
        theirs = hits("0" * won + "1" * (disagreed - won) + "1" * (num - disagreed))
        assert ours.mean() - theirs.mean() == pytest.approx(0.02)
        assert (mcnemar(ours, theirs) < 0.05) == significant
    # The normal approximation with its correction for continuity (Edwards 1948) agrees.
    assert most == pytest.approx(((gain - 1) / 1.96) ** 2, abs=2, rel=0.02)


def test_no_difference_can_never_be_significant() -> None:
    with pytest.raises(ValueError, match="can show"):
        most_disagreements(0.0, 100)
    with pytest.raises(ValueError, match="can show"):
        most_disagreements(1.5, 100)
