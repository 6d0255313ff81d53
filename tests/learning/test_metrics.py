"""Accuracy and means against cases that are worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kinocell.learning.metrics import LossAndAccuracy, Mean, confusion_matrix, top_k


def test_mean_weighs_each_batch_with_its_size() -> None:
    mean = Mean()
    mean.add(1.0, 3)
    mean.add(5.0, 1)
    assert mean.value == pytest.approx(2.0)


def test_mean_of_nothing_is_not_a_number() -> None:
    assert math.isnan(Mean().value)


def test_loss_and_accuracy_count_clips_not_batches() -> None:
    result = LossAndAccuracy()
    right, wrong = torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 2.0]])
    label = torch.tensor([0])
    result.add(torch.tensor(0.5), torch.cat([right, right, wrong]), label.repeat(3))
    result.add(torch.tensor(2.5), wrong, label)
    assert result.loss.value == pytest.approx(1.0)
    assert result.accuracy.value == pytest.approx(0.5)


def test_true_class_is_looked_for_among_the_k_best() -> None:
    scores = np.array([[0.1, 0.5, 0.4], [0.1, 0.5, 0.4], [0.1, 0.5, 0.4]])
    labels = np.array([0, 1, 2])
    assert top_k(scores, labels, 1).tolist() == [False, True, False]
    assert top_k(scores, labels, 2).tolist() == [False, True, True]


def test_equal_scores_count_against_us() -> None:
    assert not top_k(np.zeros((2, 4)), np.array([0, 3]), 1).any()
    assert not top_k(np.zeros((2, 4)), np.array([0, 3]), 3).any()


def test_more_guesses_than_classes_are_always_right() -> None:
    assert top_k(np.zeros((2, 4)), np.array([0, 3]), 5).all()


def test_confusion_has_a_row_for_the_true_and_a_column_for_the_predicted_class() -> None:
    matrix = confusion_matrix(np.array([1, 1, 0, 2]), np.array([0, 0, 0, 2]), 3)
    assert matrix.tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 1]]
