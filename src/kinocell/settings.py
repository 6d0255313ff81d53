"""Where settings come from: typed options, config files, presets, the run folder.

The only file that imports the command-line library; it knows neither verbs nor stages. Six
places, each one over the one before:

    1. the preset `small`, or `demo` where there is no data
    2. OUT/config.json, what an existing run folder remembers
    3. --preset
    4. --recipe
    5. --config
    6. options
"""

from __future__ import annotations

import json
import re
import typing
from argparse import ArgumentError
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kinocell import config as configs
from kinocell import options as opts
from kinocell import presets, recipes, runs
from kinocell.config import RunConfig
from kinocell.errors import ConfigError, did_you_mean
from kinocell.options import Option, UsageError


def layered(
    typed: Mapping[str, Any],
    files: Sequence[str],
    preset: str | None,
    *,
    fresh: bool,
    default: str = "",
    recipe: str | None = None,
) -> RunConfig:
    """Lay the six places over each other.

    Args:
        typed: Values of options, by full name.
        files: Config files.
        preset: A name, or None.
        recipe: A name, or None.
        fresh: A whole run: a preset or a file replaces what its folder remembers.
        default: The preset of a new folder; empty: `small`, or `demo` where there is no data.
    """
    tables = ("preset", preset, presets.PRESETS), ("recipe", recipe, recipes.RECIPES)
    for kind, name, table in tables:
        if name is not None and name not in table:
            raise UsageError(
                f"There is no {kind} {name!r}.{did_you_mean(name, list(table))} "
                f"Known: {', '.join(table)}."
            )
    over: dict[str, Any] = {}
    for file in files:
        over |= from_file(Path(file))
    over |= typed
    remembered = Path(str(over.get("out", RunConfig().out))) / "config.json"
    known = remembered.is_file() and not (fresh and (preset is not None or files))
    if known:
        values = flat(configs.to_dict(_remembered(remembered)))
    else:
        fitting = "small" if over.get("data") or over.get("prepared") else "demo"
        default = default or fitting
        values = flat(configs.to_dict(presets.PRESETS[default]()))
    if preset is not None:
        values |= _of_preset(presets.PRESETS[preset]())
    if recipe is not None:
        before = configs.from_dict(RunConfig, nested(values), "The command line")
        values = flat(configs.to_dict(recipes.RECIPES[recipe](before)))
    return configs.from_dict(RunConfig, nested(values | over), "The command line")


def completed(before: Mapping[str, Any], now: Iterable[str]) -> dict[str, Any]:
    """Settings that a folder remembers, by full name, with those that are younger than it.

    They had their defaults, as long as they did not exist.

    Args:
        before: What is remembered.
        now: The names that are asked for.
    """
    plain = flat(configs.to_dict(RunConfig()))
    return {key: plain[key] for key in now if key in plain} | dict(before)


def _of_preset(config: RunConfig) -> dict[str, Any]:
    """A preset's sections, and of the other settings (data, out, ...) those that it names."""
    plain = flat(configs.to_dict(RunConfig()))
    values = flat(configs.to_dict(config))
    return {key: value for key, value in values.items() if "." in key or value != plain[key]}


def _remembered(path: Path) -> RunConfig:
    content = runs.read_json(path, "the config of a run")
    known = isinstance(content, dict) and content.get("format") == runs.FORMAT
    if not known or "config" not in content:
        raise ConfigError(
            f"{path} is not a run's config of format {runs.FORMAT}. Choose another --out."
        )
    return configs.from_dict(RunConfig, content["config"], str(path))


def _parser(options: Sequence[Option]) -> Any:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, add_help=False)
    for option in options:
        parser.add_argument(f"--{option.key}", type=option.kind, default=option.default)
    return parser


def typed_values(
    pairs: Sequence[tuple[Option, str]], options: Sequence[Option], own: str
) -> dict[str, Any]:
    """The values of options, with their types."""
    parser = _parser(list(dict.fromkeys(option for option, _ in pairs)))
    values: dict[str, Any] = {}
    for option, text in pairs:
        try:
            read = parser.parse_args([f"--{option.key}={text}"], defaults=False)
        except ArgumentError as error:
            name = opts.shortest(option, options, own)
            raise UsageError(f"{name} is {text!r}; {_allowed(option, text)}") from error
        values[option.key] = read[option.key]
    return values


def _allowed(option: Option, text: str) -> str:
    """What an option takes, for the message about one that it does not."""
    words = {
        int: "it takes a whole number.", float: "it takes a number.", bool: "it takes true or "
        "false.", str: "it takes a text.", dict: "it takes names with values.",
        list: "it takes a list.",
    }  # fmt: skip
    kind = typing.get_origin(option.kind) or option.kind
    if kind in words:
        return words[kind]
    choices = list(opts.words(option.kind))
    takes = ["a whole number", *choices] if opts.is_union(option.kind) else choices
    return f"it takes {' or '.join(takes)}.{did_you_mean(text, choices)}"


def from_file(path: Path) -> dict[str, Any]:
    """The settings of a YAML or JSON file, or of a run's own config.json, by full name."""
    options = opts.config_options(RunConfig())
    return _without_sections(flat(read_file(path, options)), options, str(path))


def read_file(path: Path, options: Sequence[Option]) -> dict[str, Any]:
    """The content of a YAML or JSON file whose names and types are those of `options`.

    Raises:
        ConfigError: No such file, neither YAML nor JSON, an unknown name, a value of another type.
    """
    if not path.is_file():
        raise ConfigError(f"There is no config file {path}.")
    try:
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            return {}
        if path.suffix == ".json":
            content = json.loads(text)
            if isinstance(content, dict) and "format" in content and "config" in content:
                content = content["config"]
            text = json.dumps(content)  # one line: tabs between values are no YAML
    except ValueError as error:
        raise ConfigError(f"{path} is not {path.suffix[1:].upper() or 'YAML'}: {error}.") from error
    return _parsed(text, options, str(path))


def checked(values: Mapping[str, Any], options: Sequence[Option], where: str) -> dict[str, Any]:
    """Settings by full name, with their types; a whole section may stand under its name.

    Args:
        values: As read from a file: `{"search.epochs": 3}` or `{"search": {"epochs": 3}}`.
        options: The settings that are known here.
        where: Named in the message.

    Raises:
        ConfigError: An unknown name, or a value of another type.
    """
    plain = flat(values)
    if not plain:
        return {}
    _without_sections(plain, options, where)
    return flat(_parsed(json.dumps(nested(plain)), options, where))


def _parsed(text: str, options: Sequence[Option], where: str) -> dict[str, Any]:
    try:
        read: dict[str, Any] = _parser(options).parse_string(text, defaults=False).as_dict()
    except ArgumentError as error:
        raise ConfigError(f"{where}: {_plain(str(error), options)}") from error
    except ValueError as error:
        raise ConfigError(f"{where} is not YAML: {error}.") from error
    return read


def _without_sections(
    values: dict[str, Any], options: Sequence[Option], where: str
) -> dict[str, Any]:
    sections = {option.section for option in options}
    for key, value in values.items():
        if key in sections:
            raise ConfigError(
                f"{where}: {key} is {value!r}; it is a section with settings of its own."
            )
    return values


def _plain(message: str, options: Sequence[Option]) -> str:
    """The library's message about a config file, in our words."""
    kinds = {option.key: option for option in options}
    if unknown := re.search(r"Option '([^']+)' is not accepted", message):
        return f"there is no setting {unknown[1]!r}.{did_you_mean(unknown[1], list(kinds))}"
    if wrong := re.search(r'key "([^"]+)":\s+.*(?:Got|Given) value: (.*)', message, re.DOTALL):
        allowed = _allowed(kinds[wrong[1]], wrong[2]) if wrong[1] in kinds else "wrong kind."
        if wrong[1] in kinds and kinds[wrong[1]].kind is str:
            allowed = f'it takes a text. Write a number in quotes: "{wrong[2]}"'
        return f"{wrong[1]} is {wrong[2]!r}; {allowed}"
    return " ".join(message.split())


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Sections to full names."""
    named: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            named |= flat(value, f"{prefix}{name}.")
        else:
            named[prefix + name] = value
    return named


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Full names to sections, as `config.from_dict` takes them."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        section, _, leaf = key.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[leaf] = value
    return tree


def as_yaml(config: RunConfig) -> str:
    """Valid YAML, which `--config` reads back; a JSON scalar is a YAML scalar."""
    lines: list[str] = []
    for name, value in configs.to_dict(config).items():
        if isinstance(value, dict):
            lines.append(f"{name}:")
            lines += [
                f"  {leaf}: {json.dumps(inner, ensure_ascii=False)}"
                for leaf, inner in value.items()
            ]
        else:
            lines.append(f"{name}: {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines)
