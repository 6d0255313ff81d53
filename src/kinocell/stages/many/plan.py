"""What a sweep consists of: its file, and the runs that follow from it, one command each.

Nothing is started or written here, except what a sweep remembers of its own settings.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kinocell import config as configs
from kinocell import options as opts
from kinocell import presets, runs, settings
from kinocell.config import RunConfig
from kinocell.config_checks import check
from kinocell.errors import ConfigError, did_you_mean
from kinocell.options import Option
from kinocell.stages.many import names

FORMAT = 1
VERBS = ("run", "search", "train")
RESULTS = {
    "prepare": ("prepare/done.json",),
    "run": ("evaluate/done.json", "report.html"),
    "search": ("search/done.json",),
    "train": ("train/done.json",),
}
"""Files that are there when the verb is done in a run folder."""
NOT_SWEPT = {"out", "config", "preset", "print_config", "resume", "debug", "help"}
NO_DIFFERENCE = {"out", "prepared", "device", "prepare.workers", "clips.workers"}
"""Settings that do not change a result; a sweep that goes on may have others."""
KEYS = (
    Option(key="out", kind=str, help="Folder of the sweep; each run has a folder in it."),
    Option(key="verb", kind=Literal["run", "search", "train"], help="The verb of every run."),
    Option(key="preset", kind=str, help="As --preset, for every run."),
    Option(key="config", kind=str, help="As --config, for every run."),
    Option(key="base", kind=dict[str, Any], help="Settings that all runs share."),
    Option(key="axes", kind=dict[str, Any], help="A list of values for each setting, crossed."),
    Option(key="variants", kind=list[Any], help="Settings that go together, crossed with axes."),
    Option(key="retries", kind=int, help="How often a crashed run is tried again."),
    Option(key="slurm", kind=dict[str, Any], help="What a Slurm job asks for (submitit)."),
)
DEFAULTS: dict[str, Any] = {
    "verb": "run", "preset": "", "config": "", "base": {}, "axes": {}, "variants": [],
    "retries": 2, "slurm": {},
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: one folder, one command."""

    name: str
    folder: Path
    command: tuple[str, ...]
    """As it can be typed: `("kinocell", "run", ...)`."""
    varied: Mapping[str, Any]
    """The settings in which it differs from the others."""
    results: tuple[Path, ...] = ()
    """Files that exist when it is done; without any, only its exit code tells."""
    after: str = ""
    """The name of the run that must be done before."""

    @property
    def typed(self) -> str:
        """Its command, ready for a shell."""
        return shlex.join(self.command)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A sweep that can be carried out."""

    file: Path
    out: Path
    verb: str
    retries: int
    preparations: tuple[Run, ...]
    """Videos are prepared once for all runs that agree on how."""
    runs: tuple[Run, ...]
    base: Mapping[str, Any]
    """Settings that all runs share, by full name, as far as they change results."""
    slurm: Mapping[str, Any]


def read_plan(file: Path, verbs: Mapping[str, Sequence[Option]]) -> Plan:
    """The runs of a sweep file, all checked before the first one starts.

    Args:
        file: YAML or JSON; docs/many_runs.md has examples.
        verbs: The options of `prepare` and of each verb that can be swept.

    Raises:
        ConfigError: What is wrong in the file, and where.
    """
    read = DEFAULTS | settings.read_file(file, KEYS)
    if not read.get("out"):
        raise ConfigError(f"{file} names no folder for its runs. Add a line like  out: my-sweep")
    if read["retries"] < 0:
        raise ConfigError(f"{file}: retries is {read['retries']}; it must be at least 0.")
    preset = read["preset"]
    if preset and preset not in presets.PRESETS:
        raise ConfigError(
            f"{file}: there is no preset {preset!r}.{did_you_mean(preset, list(presets.PRESETS))} "
            f"Known: {', '.join(presets.PRESETS)}."
        )
    sheet = _Sheet(file=file, out=Path(read["out"]), verb=read["verb"], config=read["config"],
                   preset=preset, verbs=verbs)  # fmt: skip
    base = sheet.checked(read["base"], "base", prepare_too=True)
    if not sheet.preset:
        # The rule of `kinocell run`, applied here: `--prepared` in the command would change it.
        default = "small" if base.get("data") or base.get("prepared") else "demo"
        sheet = _Sheet(file=file, out=sheet.out, verb=sheet.verb, config=sheet.config,
                       preset=default, verbs=verbs)  # fmt: skip
    preparations: dict[str, Run] = {}
    planned: dict[str, Run] = {}
    for varied in _combinations(sheet, read["axes"], read["variants"]):
        name = names.run_name(varied)
        if name.casefold() in planned:
            raise ConfigError(f"{file} has the run {name} twice.")
        preparation = sheet.preparation(base, varied, name)
        if preparation:
            preparations.setdefault(preparation.name, preparation)
        planned[name.casefold()] = sheet.run(name, base, varied, preparation)
    shared = settings.flat(configs.lasting(sheet.resolved(base)))
    own = {key: value for key, value in base.items() if key not in shared}
    return Plan(
        file=file,
        out=sheet.out,
        verb=sheet.verb,
        retries=read["retries"],
        preparations=tuple(preparations.values()),
        runs=tuple(planned.values()),
        base={k: v for k, v in (shared | own).items() if k not in NO_DIFFERENCE},
        slurm=read["slurm"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sheet:
    """What all runs of one file share, and how a run is made of its settings."""

    file: Path
    out: Path
    verb: str
    config: str
    preset: str
    verbs: Mapping[str, Sequence[Option]]

    def options(self, verb: str) -> list[Option]:
        return [option for option in self.verbs[verb] if option.key not in NOT_SWEPT]

    def checked(self, values: object, where: str, *, prepare_too: bool) -> dict[str, Any]:
        """Settings with their types; ones that the runs would not use are refused."""
        where = f"{self.file}, {where}"
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where} is {values!r}; it takes names of settings with values.")
        known = {o.key: o for o in (self.options("prepare") if prepare_too else [])}
        known |= {option.key: option for option in self.options(self.verb)}
        everything = {option.key for option in opts.config_options(RunConfig())}
        for key in settings.flat(values):
            if key == "out":
                raise ConfigError(
                    f"{where}: out belongs to the top of the file; every run gets a folder in it."
                )
            if key in everything - set(known):
                raise ConfigError(f"{where}: `kinocell {self.verb}` does not use {key}.")
        return settings.checked(values, list(known.values()), where)

    def resolved(self, values: Mapping[str, Any]) -> RunConfig:
        """The whole config of these settings."""
        keys = {option.key for option in opts.config_options(RunConfig())}
        typed = {key: value for key, value in values.items() if key in keys}
        files = [self.config] if self.config else []
        return settings.layered(
            typed | {"out": str(self.out)},
            files,
            self.preset,
            fresh=True,
            recipe=values.get("recipe"),
        )

    def command(self, verb: str, values: Mapping[str, Any]) -> tuple[str, ...]:
        words = ["kinocell", verb, "--preset", self.preset]
        words += ["--config", self.config] if self.config else []
        for key, value in values.items():
            words += [opts.dashed(key), names.typed(value)]
        return tuple(words)

    def preparation(
        self, base: Mapping[str, Any], varied: Mapping[str, Any], name: str
    ) -> Run | None:
        """The run that fills the frame store of these settings; None where one is named.

        Its split is cut with the seed of `base`: what differs between the seeds of a sweep is
        then the network, not the test videos.
        """
        config = self.resolved({**base, **varied})
        try:
            check(config)
        except ConfigError as error:
            raise ConfigError(f"{self.file}, run {name}: {error}") from error
        if config.prepared:
            if not (Path(config.prepared) / "done.json").exists():
                raise ConfigError(
                    f"{self.file}: {config.prepared} is not prepared. Leave `prepared` out, then "
                    "the sweep prepares the videos once for all runs; or use `kinocell prepare`."
                )
            return None
        key = configs.to_dict(config.prepare) | {"data": config.data}
        del key["workers"]
        if not config.data:
            key["synthetic"] = configs.to_dict(config.synthetic)
        used = {option.key for option in self.options("prepare")}
        values = {k: v for k, v in {**base, **varied}.items() if k in used and k != "seed"}
        if "seed" in base:
            values["seed"] = base["seed"]
        folder = self.out / f"prepared-{names.short_hash(key)}"
        return Run(
            name=folder.name,
            folder=folder,
            command=self.command("prepare", values | {"out": folder}),
            varied={},
            results=tuple(folder / result for result in RESULTS["prepare"]),
        )

    def run(
        self, name: str, base: Mapping[str, Any], varied: Mapping[str, Any], before: Run | None
    ) -> Run:
        used = {option.key for option in self.options(self.verb)}
        values = {key: value for key, value in {**base, **varied}.items() if key in used}
        if self.verb == "train" and not values.get("genotype"):
            raise ConfigError(
                f"{self.file}: a sweep of `kinocell train` needs the module: genotype, in base, "
                "axes or variants, names a genotype.json."
            )
        if before:
            values["prepared"] = before.folder / "prepare"
        folder = self.out / name
        return Run(
            name=name,
            folder=folder,
            command=self.command(self.verb, values | {"out": folder}),
            varied=dict(varied),
            results=tuple(folder / result for result in RESULTS[self.verb]),
            after=before.name if before else "",
        )


def _combinations(sheet: _Sheet, axes: object, variants: object) -> Iterator[dict[str, Any]]:
    """The varied settings of each run: every variant with every combination of the axes."""
    if not axes and not variants:
        raise ConfigError(
            f"{sheet.file} has neither axes nor variants, so nothing varies. Add for example"
            "  axes: {seed: [0, 1, 2]}"
        )
    assert isinstance(axes, Mapping)
    assert isinstance(variants, Sequence)
    lists: dict[str, list[Any]] = {}
    for key, values in settings.flat(axes).items():
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"{sheet.file}, axes: {key} is {values!r}; it takes a list of values."
            )
        typed = [sheet.checked({key: v}, "axes", prepare_too=False)[key] for v in values]
        if twice := [value for i, value in enumerate(typed) if value in typed[:i]]:
            raise ConfigError(f"{sheet.file}, axes: {key} has the value {twice[0]!r} twice.")
        lists[key] = typed
    for number, variant in enumerate(variants or [{}], 1):
        together = sheet.checked(variant, f"variant {number}", prepare_too=False)
        if both := sorted(together.keys() & lists.keys()):
            raise ConfigError(f"{sheet.file}: {both[0]} is in the axes and in variant {number}.")
        for values in itertools.product(*lists.values()):
            yield {**dict(zip(lists, values, strict=True)), **together}


def remember(plan: Plan) -> None:
    """Write OUT/sweep.json, or compare with what is there: a folder holds runs of one base.

    Raises:
        ConfigError: The folder holds runs with another base.
    """
    path = plan.out / "sweep.json"
    now = {"verb": plan.verb, **plan.base}
    content = {"format": FORMAT, "file": str(plan.file), "base": now, **runs.provenance()}
    if not path.exists() and runs.write_json_once(path, content):
        return
    old = runs.read_json(path, "the settings of a sweep")
    before = old.get("base") if isinstance(old, dict) and old.get("format") == FORMAT else None
    if not isinstance(before, dict):
        raise ConfigError(
            f"{path} is not of format {FORMAT}. Name another folder, `out`, in {plan.file}."
        )
    before = settings.completed(before, now)
    if changed := configs.differences(before, now):
        shown = "; ".join(changed[:5]) + ("; ..." if len(changed) > 5 else "")
        raise ConfigError(
            f"{plan.out} holds runs with other settings ({shown}). Name another folder, `out`, "
            f"in {plan.file}; axes and variants may grow, what all runs share may not change."
        )
