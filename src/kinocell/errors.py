"""The errors that kinocell raises for the world's faults, their words, and `pick` by name.

Nothing here is about one stage; a wrong *argument* in code is a plain `ValueError`.

    KinocellError            one clear sentence: what was found, where, what to do next
      ConfigError            a setting, a preset or a name that does not exist
      ManifestError          the list of videos: columns, labels, splits, groups
      ArchiveError           an archive that is damaged, dangerous or cannot be opened here
      DownloadError          a file that no host gives, or not as it should be
      VideoError             one video file that cannot be decoded
      StoreError             the frame store: damaged, or made with other settings
      GenotypeError          a genotype file: format, operators, wiring
      RunError               a run folder: another config, a missing stage, damaged weights
      SearchError            a search or a training that cannot go on (a loss that is not finite)
      RankError              a process of a run on many devices is gone, or holds something else
      SaidElsewhereError     the first process of such a run has failed, and has said why
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Literal, TypeVar

Entry = TypeVar("Entry")

VideoFault = Literal[
    "missing",
    "empty",
    "no video stream",
    "undecodable",
    "too large",
    "size changes",
    "outside",
    "truncated",
    "damaged",
    "too slow",
]
"""What can be wrong with a video file; the words of `kinocell check` and of skipped.csv."""


class KinocellError(Exception):
    """The root: the command line prints its message and leaves with exit code 1."""


class ConfigError(KinocellError):
    """A setting, a preset or a name that does not exist."""


class ManifestError(KinocellError):
    """The list of videos is missing, empty or contradictory."""


class ArchiveError(KinocellError):
    """An archive that is damaged, dangerous, or cannot be opened here."""


class DownloadError(KinocellError):
    """A file that no host gives, or that is not what it should be."""


class VideoError(KinocellError):
    """One video file that cannot be decoded.

    Args:
        message: One sentence that names the file.
        kind: What is wrong, in a word that programs can compare.
    """

    # With a default, because pickle makes the error anew from its message alone.
    def __init__(self, message: str, kind: VideoFault = "undecodable") -> None:
        super().__init__(message)
        self.kind: VideoFault = kind


class StoreError(KinocellError):
    """The frame store is damaged, or was made with other settings."""


class GenotypeError(KinocellError):
    """A genotype file of another format, or with operators that its space lacks."""


class RunError(KinocellError):
    """A run folder of another config, without a needed stage, or with damaged weights."""


class SearchError(KinocellError):
    """A search or a training that cannot go on."""


class RankError(KinocellError):
    """A process of a run on many devices has gone, or holds something else than the others."""


class SaidElsewhereError(KinocellError):
    """The first process of a run on many devices has failed, and has said why."""


def first_line(error: BaseException) -> str:
    """What another library says of its error, in a line; its kind, where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def is_out_of_memory(error: Exception) -> bool:
    """Torch raises a RuntimeError on the CPU, and on a GPU one of its own kind."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text


def did_you_mean(name: str, names: list[str]) -> str:
    """`" Did you mean 'x'?"` for the closest of `names`, capitals or not, or an empty string."""
    plain = {known.casefold(): known for known in names}
    close = difflib.get_close_matches(name.casefold(), list(plain), n=1)
    return f" Did you mean {plain[close[0]]!r}?" if close else ""


def pick(table: Mapping[str, Entry], name: str, kind: str) -> Entry:
    """The entry of one of kinocell's plain dicts.

    Raises:
        ConfigError: `name` is not in `table`; the message lists what is.
    """
    if name in table:
        return table[name]
    raise ConfigError(
        f"There is no {kind} {name!r}.{did_you_mean(name, list(table))} Known: {', '.join(table)}."
    )
