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


def test_best_rate_has_most_videos_right_then_the_lowest_loss_then_comes_first() -> None:
    def best(*trials: tuple[float, float]) -> int:
        made = [Trial(rate=i, top1=top1, loss=loss) for i, (top1, loss) in enumerate(trials)]
        return int(choices.best(made).rate)

    assert best((0.5, 1.0), (0.6, 2.0)) == 1
    assert best((0.5, 1.0), (0.5, 0.9)) == 1
    assert best((0.5, 1.0), (0.5, 1.0)) == 0


def test_minutes_are_the_whole_epochs_that_fit() -> None:
    # 2 minutes of 0.5 s steps are 240 steps: 3 epochs of 70.
    assert choices.affordable(2, 0.5, 70).epochs == 3
    assert choices.affordable(2, 0.5, 80).epochs == 3
    assert choices.affordable(2, 0.5, 81).epochs == 2


def test_epoch_that_does_not_fit_is_made_and_said() -> None:
    found = choices.affordable(1, 1.0, 61)
    assert (found.epochs, found.over_budget) == (1, True)
