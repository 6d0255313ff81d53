"""What `check` finds: rows with their classes, the leaks among them, as a table and as csv.

How files are decoded is `examine`; which files there are is `listing`.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kinocell import runs
from kinocell.data.examine import WHOLE, Examined, FileFacts, Span
from kinocell.data.listing import Listed
from kinocell.errors import VideoError
from kinocell.stages.leaks import Leak

LEAKS_SHOWN = 20

COLUMNS = (
    *("path", "label", "split", "group", "class", "frames", "fps", "seconds", "width", "height"),
    *("rotation", "notes"),
)
GOOD, DUPLICATE, SHORT, VARIABLE, ROTATED = (
    *("good", "duplicate content", "short"),
    *("variable rate", "rotated"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One row of the listing, and what became of it."""

    listed: Listed
    kind: str
    """Its class: a `VideoFault`, or the first of duplicate content, short, variable rate, rotated
    that applies, or good."""
    notes: tuple[str, ...]
    """Whatever else is to be said; of an unreadable file, why."""
    examined: Examined | None
    """None where it cannot be read."""
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """All rows, in the order of the listing, and the leaks among them."""

    rows: tuple[Checked, ...]
    leaks: tuple[Leak, ...]
    store_faults: tuple[str, ...] = ()
    """One sentence for each video that the frame store does not give back."""

    @property
    def unreadable(self) -> list[Checked]:
        """Rows that `prepare` would skip."""
        return [row for row in self.rows if row.examined is None]

    def problems(self) -> list[str]:
        """One sentence for each kind of fault; nothing where the data can be trained on."""
        said = []
        if bad := self.unreadable:
            said.append(
                f"{len(bad)} of {len(self.rows)} videos cannot be read, first "
                f"{bad[0].listed.path} ({bad[0].kind})."
            )
        if self.leaks:
            more = f" (and {len(self.leaks) - 1} more)" if len(self.leaks) > 1 else ""
            said.append(f"Scores would be too high: {self.leaks[0]}{more}.")
        if self.store_faults:
            said.append(
                f"{len(self.store_faults)} videos are damaged in the frame store: "
                f"{self.store_faults[0]}"
            )
        return said


def classified(
    videos: Sequence[Listed], facts: Sequence[FileFacts], clip_frames: int
) -> list[Checked]:
    first_file: dict[tuple[str, Span], str] = {}
    first_content: dict[str, str] = {}
    rows = []
    for video, fact in zip(videos, facts, strict=True):
        (found,) = fact.parts
        if isinstance(found, VideoError):
            kinds, notes = [str(found.kind)], [str(found)]
        else:
            same = ""
            span = (video.start_seconds, video.end_seconds)
            earlier = first_content.setdefault(found.content, video.path)
            if fact.sha256 and (known := first_file.setdefault((fact.sha256, span), video.path)):
                same = f"the same file as {known}" if known != video.path else ""
            if not same and earlier != video.path:
                same = f"the same frames as {earlier}"
            kinds, notes = _kinds(found, same, clip_frames)
        rows.append(
            Checked(
                listed=video,
                kind=kinds[0],
                notes=tuple(notes),
                examined=None if isinstance(found, VideoError) else found,
                sha256=fact.sha256,
            )
        )
    return rows


def _kinds(found: Examined, same: str, clip_frames: int) -> tuple[list[str], list[str]]:
    """All classes that apply, the gravest first, and what to say of them."""
    said = {
        DUPLICATE: same,
        SHORT: f"fewer than {clip_frames} frames" if found.num_frames < clip_frames else "",
        VARIABLE: "frames are not evenly spaced in time" if found.variable_rate else "",
        ROTATED: f"turned by {found.rotation_degrees} degrees" if found.rotation_degrees else "",
    }
    applies = {kind: note for kind, note in said.items() if note}
    return [*applies, GOOD], list(applies.values())


def table(found: Check) -> list[str]:
    """Lines of at most 80 columns: how many videos of each class, and the first of them."""
    counts = Counter(row.kind for row in found.rows)
    width = max(len("class"), *(len(kind) for kind in counts))
    lines = [f"{'class':<{width}}  videos  such as"]
    for kind, number in sorted(counts.items(), key=lambda item: (item[0] != GOOD, -item[1])):
        names = ", ".join(row.listed.path for row in found.rows if row.kind == kind)
        room = 80 - width - 10
        names = names if len(names) <= room else names[: room - 4] + " ..."
        lines.append(f"{kind:<{width}}  {number:>6}  {'' if kind == GOOD else names}".rstrip())
    return lines


def leak_lines(found: Check) -> list[str]:
    """The first leaks, one line each."""
    more = len(found.leaks) - LEAKS_SHOWN
    lines = [f"leak: {leak}" for leak in found.leaks[:LEAKS_SHOWN]]
    return [*lines, f"leak: and {more} more, see the csv"] if more > 0 else lines


def csv_text(found: Check) -> str:
    """One line per row of the listing; a leak is noted on both of its sides."""
    leaks: dict[Listed, list[str]] = {}
    for leak in found.leaks:
        for side, other in ((leak.one, leak.other), (leak.other, leak.one)):
            note = f"leak: {leak.what}, in {other.split} too: {other.path}"
            leaks.setdefault(side, []).append(note)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in found.rows:
        listed, examined = row.listed, row.examined
        span = (listed.start_seconds, listed.end_seconds)
        part = "" if span == WHOLE else f"from {span[0]:g} to {span[1]:g} seconds"
        measured = ("",) * 6
        if examined is not None:
            measured = (
                str(examined.num_frames),
                f"{examined.fps:.6g}",
                f"{examined.seconds:.6g}",
                str(examined.width),
                str(examined.height),
                str(examined.rotation_degrees),
            )
        notes = "; ".join((*row.notes, *leaks.get(listed, ()), *([part] if part else ())))
        names = (listed.path, listed.label, listed.split, listed.group, row.kind)
        writer.writerow((*names, *measured, notes))
    return text.getvalue()


def write_csv(path: Path, found: Check) -> None:
    """Write the csv atomically.

    Raises:
        RunError: The disk is full or the folder cannot be written.
    """
    runs.write_text(path, csv_text(found))
