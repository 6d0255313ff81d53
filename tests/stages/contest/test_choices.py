from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from kinocell import runs
from kinocell.errors import RunError
from kinocell.stages.contest import choices
from kinocell.stages.contest.choices import Trial


def write_trial(
    folder: Path, rows: list[int], labels: list[int], logits: list[list[float]]
) -> None:
    (folder / "evaluate").mkdir(parents=True)
    np.savez(
        folder / "evaluate" / "logits.npz",
        rows=np.array(rows), labels=np.array(labels), logits=np.array(logits, np.float32)[:, None],
    )  # fmt: skip
    runs.finish_stage(folder / "evaluate", {})


def test_trial_is_scored_by_videos_and_their_cross_entropy(tmp_path: Path) -> None:
    write_trial(tmp_path, [0, 1], [0, 1], [[0, 0], [math.log(3), 0]])
    found = choices.trial(tmp_path, 0.1, tested=np.array([7]))
    assert found is not None
    # Probabilities of the right classes: 1/2 (named right: the first of equals) and 1/4.
    assert found.top1 == 0.5
    assert found.loss == pytest.approx(-(math.log(1 / 2) + math.log(1 / 4)) / 2)


def test_trial_on_test_videos_is_refused(tmp_path: Path) -> None:
    write_trial(tmp_path, [0, 1], [0, 1], [[0, 0], [1, 0]])
    with pytest.raises(RunError, match="a learning rate must not be chosen by them"):
        choices.trial(tmp_path, 0.1, tested=np.array([1, 2]))


def test_unfinished_trial_is_none(tmp_path: Path) -> None:
    assert choices.trial(tmp_path, 0.1, tested=np.array([1])) is None


def test_rate_of_the_settings_is_tried_first_and_its_neighbours_lie_evenly() -> None:
    assert choices.rates(0.02, 1) == [0.02]
    middle, low, high, *_ = choices.rates(0.02, 5)
    assert middle / low == pytest.approx(math.sqrt(10), rel=0.01)
    assert high / middle == pytest.approx(math.sqrt(10), rel=0.01)


def best(*trials: tuple[float, float], num_videos: int = 100) -> int:
    """Which one is taken of some with these shares of videos right and these losses."""
    made = [
        Trial(rate=i, top1=top1, loss=loss, num_videos=num_videos)
        for i, (top1, loss) in enumerate(trials)
    ]
    return int(choices.best(made).rate)


def test_best_rate_has_most_videos_right_where_that_is_no_luck() -> None:
    # Of 100 videos with 60 right, one standard error is sqrt(0.6 * 0.4 / 100) = 4.9 points.
    assert best((0.5, 1.0), (0.6, 2.0)) == 1
    assert best((0.6, 2.0), (0.55, 1.0)) == 0


def test_best_rate_has_the_lowest_loss_of_those_that_luck_may_have_put_in_this_order() -> None:
    assert best((0.6, 2.0), (0.56, 1.0)) == 1
    assert best((0.6, 2.0), (0.56, 1.0), num_videos=10_000) == 0
    assert best((0.5, 1.0), (0.5, 0.9)) == 1
    assert best((0.5, 1.0), (0.5, 1.0)) == 0
    # 3D-ResNet-18 after one epoch on 16 synthetic motions (docs/results.md): chance is 0.0625.
    assert best((0.0757, 3.293), (0.0691, 2.906), num_videos=304) == 1


def test_rate_that_names_none_or_all_right_leaves_no_doubt() -> None:
    assert best((1.0, 0.5), (0.99, 0.1)) == 0
    assert best((0.0, 3.0), (0.0, 2.0)) == 1


def test_minutes_are_the_whole_epochs_that_fit() -> None:
    # 2 minutes of 0.5 s steps are 240 steps: 3 epochs of 70.
    assert choices.affordable(2, 0.5, 70).epochs == 3
    assert choices.affordable(2, 0.5, 80).epochs == 3
    assert choices.affordable(2, 0.5, 81).epochs == 2


def test_epoch_that_does_not_fit_is_made_and_said() -> None:
    found = choices.affordable(1, 1.0, 61)
    assert (found.epochs, found.over_budget) == (1, True)
