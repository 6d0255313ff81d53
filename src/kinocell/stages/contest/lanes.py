"""Lanes: one entrant on one part of the data, from its search to its last test, command by command.

Nothing is started here. Where a lane's module lies is known before it is found, so that its runs
can be planned; how many epochs and which learning rate comes from `choices.py`.

    OUT/runs/[fold-1/]c3d/pace/          timed steps, for a budget in minutes
    OUT/runs/[fold-1/]c3d/rate-0.025/    one tried learning rate, on part of the training videos
    OUT/runs/[fold-1/]c3d/rate.json      the one that was chosen
    OUT/runs/[fold-1/]c3d/seed-0/        one training, tested
    OUT/runs/[fold-1/]searched-0/found/  the search
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from kinocell.stages.many.plan import RESULTS, Run

Kind = Literal["searched", "given", "random", "model"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """The data of one comparison, or of one fold: prepared folders, three of them views."""

    name: str
    """"" or "fold-1"."""
    tested: Path
    """The whole: training videos to train on, test videos to be scored on."""
    search: Path
    """The training videos alone."""
    rates: Path
    """The training videos alone, some of them held out."""
    pace: Path
    """Some of the training videos."""
    tested_rows: npt.NDArray[np.int64]
    """The test videos, as rows of the prepared list."""
    steps_per_epoch: int
    """Of a training on the whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """One network that takes part: a baseline, or a module however it was found."""

    kind: Kind
    name: str
    """"c3d", "searched-0", "random-3"."""
    number: int = 0
    """Of the search or the draw; the seed of a search."""
    file: Path | None = None
    """The genotype, where it does not come from a search of this comparison."""

    @property
    def row(self) -> str:
        """The line of the table that it counts in."""
        return {"searched": "searched", "given": "searched", "random": "random"}.get(
            self.kind, self.name
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What is done for one entrant on one part."""

    out: Path
    """Of the comparison."""
    entrant: Entrant
    part: Part
    base_seed: int
    """Of the settings; trainings take it and those that follow."""

    @property
    def name(self) -> str:
        """Unique in the comparison: "fold-1/c3d"."""
        return "/".join(filter(None, (self.part.name, self.entrant.name)))

    @property
    def folder(self) -> Path:
        """Of all its runs."""
        return self.out / "runs" / self.name

    @property
    def genotype(self) -> Path | None:
        """The file of its module; it may not be there yet. None for a baseline."""
        if self.entrant.kind == "searched":
            return self.folder / "found" / "search" / "genotype.json"
        return self.entrant.file

    def search(self) -> Run:
        """The search for its module, on the training videos alone."""
        folder = self.folder / "found"
        words = self._words("search", folder, self.part.search)
        seed = self.base_seed + self.entrant.number
        return self._run("search", folder, (*words, "--seed", str(seed)))

    def pace(self) -> list[Run]:
        """A short training whose steps are timed."""
        return self._training(self.folder / "pace", self.part.pace, self.base_seed, 1, warmup=0)

    def trial(self, rate: float, epochs: int, *, warmup: int) -> list[Run]:
        """One learning rate, scored on held-out training videos.

        Args:
            rate: That is tried.
            epochs: How long.
            warmup: Epochs of them in which the rate rises.
        """
        folder = self.trial_folder(rate)
        training = self._training(
            folder, self.part.rates, self.base_seed, epochs, rate=rate, warmup=warmup
        )
        return [*training, self._test(folder, self.part.rates)]

    def trial_folder(self, rate: float) -> Path:
        """Where a learning rate is tried."""
        return self.folder / f"rate-{rate:g}"

    @property
    def kept_rate(self) -> Path:
        """The file that says which learning rate was chosen."""
        return self.folder / "rate.json"

    def final(self, seed: int, rate: float, epochs: int, *, warmup: int) -> list[Run]:
        """One training on all training videos, and its test.

        Args:
            seed: Counted from 0, on top of that of the settings.
            rate: Its learning rate.
            epochs: How long.
            warmup: Epochs of them in which the rate rises.
        """
        folder = self.final_folder(seed)
        training = self._training(
            folder, self.part.tested, self.base_seed + seed, epochs, rate=rate, warmup=warmup
        )
        return [*training, self._test(folder, self.part.tested)]

    def final_folder(self, seed: int) -> Path:
        """Where one of the trainings is."""
        return self.folder / f"seed-{seed}"

    def _training(
        self,
        folder: Path,
        prepared: Path,
        seed: int,
        epochs: int,
        *,
        warmup: int,
        rate: float | None = None,
    ) -> list[Run]:
        """A training; the rate is that of the settings where none is given."""
        words = [*self._words("train", folder, prepared), "--seed", str(seed)]
        words += ["--train.epochs", str(epochs), "--train.warmup-epochs", str(warmup)]
        words += ["--train.learning-rate", f"{rate:g}"] if rate is not None else []
        if self.genotype is None:
            words += ["--train.model", self.entrant.name]
        else:
            words += ["--genotype", str(self.genotype)]
        return [self._run("train", folder, words)]

    def _test(self, folder: Path, prepared: Path) -> Run:
        train = f"{folder.relative_to(self.out / 'runs').as_posix()}, train"
        words = self._words("evaluate", folder, prepared)
        # Its attempts lie beside its scores: those of the training are in the run folder.
        return self._run("evaluate", folder, words, attempts=folder / "evaluate", after=train)

    def _words(self, verb: str, folder: Path, prepared: Path) -> tuple[str, ...]:
        config = str(self.out / "config.json")
        return ("kinocell", verb, "--config", config, "--out", str(folder),
                "--prepared", str(prepared))  # fmt: skip

    def _run(
        self,
        verb: str,
        folder: Path,
        words: Sequence[str],
        *,
        attempts: Path | None = None,
        after: str = "",
    ) -> Run:
        results = {**RESULTS, "evaluate": ("evaluate/done.json",)}[verb]
        return Run(
            name=f"{folder.relative_to(self.out / 'runs').as_posix()}, {verb}",
            folder=attempts or folder,
            command=tuple(words),
            varied={},
            results=tuple(folder / result for result in results),
            after=after,
        )
