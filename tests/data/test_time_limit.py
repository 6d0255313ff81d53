"""Work that hangs or crashes costs one item, and the order stays."""

from __future__ import annotations

import os
import time

from kinocell.data.time_limit import Failure, limited_results


def troubled(number: int) -> int:
    """3 hangs, 5 brings its process down."""
    if number == 3:
        time.sleep(600)
    if number == 5:
        os._exit(1)
    return number * number


def test_items_that_hang_or_crash_are_told_apart_and_the_rest_is_done() -> None:
    found = list(limited_results(troubled, range(8), workers=2, limit_seconds=10))
    expected: list[int | Failure] = [number * number for number in range(8)]
    expected[3] = Failure(kind="too slow")
    expected[5] = Failure(kind="crashed")
    assert found == expected


def test_nothing_to_do_is_done_at_once() -> None:
    assert list(limited_results(troubled, [], workers=2, limit_seconds=1)) == []
