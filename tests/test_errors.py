"""The error tree, and choosing by name."""

from __future__ import annotations

import pytest

from kinocell import errors
from kinocell.errors import ConfigError, KinocellError, did_you_mean, first_line, pick


def test_every_error_is_a_kinocell_error_and_stands_in_the_tree() -> None:
    kinds = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert len(kinds) >= 8
    for kind in kinds:
        assert issubclass(kind, KinocellError)
        assert kind.__name__ in str(errors.__doc__)


def test_first_line_of_an_error_without_words_is_its_kind() -> None:
    assert first_line(ValueError("\n size 3, not 4 \nat x.cpp:7")) == "size 3, not 4 "
    assert first_line(TimeoutError()) == "TimeoutError"


def test_pick_returns_the_entry() -> None:
    assert pick({"a": 1, "b": 2}, "b", "letter") == 2


def test_pick_lists_what_there_is_and_guesses() -> None:
    with pytest.raises(ConfigError) as caught:
        pick({"first": 1, "finite": 2}, "finit", "strategy")
    message = "There is no strategy 'finit'. Did you mean 'finite'? Known: first, finite."
    assert str(caught.value) == message


def test_nothing_is_guessed_where_nothing_is_close() -> None:
    assert did_you_mean("zebra", ["first", "finite"]) == ""


def test_names_in_capitals_are_guessed_too() -> None:
    assert did_you_mean("C3D", ["i3d", "c3d"]) == " Did you mean 'c3d'?"
    assert did_you_mean("applyeyemakeup", ["ApplyEyeMakeup"]) == " Did you mean 'ApplyEyeMakeup'?"
