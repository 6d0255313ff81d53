from __future__ import annotations

from pathlib import Path

import pytest

from kinocell.config import RunConfig
from kinocell.data.clips import open_prepared
from kinocell.stages.contest import output
from kinocell.stages.contest.terms import Terms


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("", "synthetic motions"),
        ("collections/utd27", "utd27"),
        ("collections/motions/videos.csv", "motions/videos.csv"),
        ("videos.csv", "videos.csv"),
    ],
)
def test_comparison_is_named_after_its_videos_and_a_list_after_its_folder_too(
    data: str, name: str, tiny_prepared: Path
) -> None:
    manifest = open_prepared(tiny_prepared).manifest
    found = output.everything([], manifest, Terms(), RunConfig(data=data), device="cpu")
    assert found["name"] == name
