"""Where settings come from: typed options, config files, presets, the run folder.

The only file that imports the command-line library; it knows neither verbs nor stages. Five
places, each one over the one before:

    1. the preset `small`, or `demo` where there is no data
    2. OUT/config.json, what an existing run folder remembers
    3. --preset
    4. --config
    5. options
"""

from __future__ import annotations

import json
import re
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinocell import config as configs
from kinocell import options as opts
from kinocell import presets, runs
from kinocell.config import RunConfig
from kinocell.errors import ConfigError, did_you_mean
from kinocell.options import Option, UsageError


def layered(
    typed: Mapping[str, Any], files: Sequence[str], preset: str | None, *, fresh: bool
) -> RunConfig:
    """Lay the five places over each other.

    Args:
        typed: Values of options, by full name.
        files: Config files.
        preset: A name, or None.
        fresh: A whole run: a preset or a file replaces what its folder remembers.
    """
    if preset is not None and preset not in presets.PRESETS:
        raise UsageError(
            f"There is no preset {preset!r}.{did_you_mean(preset, list(presets.PRESETS))} "
            f"Known: {', '.join(presets.PRESETS)}."
        )
    over: dict[str, Any] = {}
    for file in files:
        over |= from_file(Path(file))
    over |= typed
    remembered = Path(str(over.get("out", RunConfig().out))) / "config.json"
    known = remembered.is_file() and not (fresh and (preset is not None or files))
    if known:
        values = _flat(configs.to_dict(_remembered(remembered)))
    else:
        default = "small" if over.get("data") or over.get("prepared") else "demo"
        values = _flat(configs.to_dict(presets.PRESETS[default]()))
    if preset is not None:
        values |= _of_preset(presets.PRESETS[preset]())
    return configs.from_dict(RunConfig, nested(values | over), "The command line")


def _of_preset(config: RunConfig) -> dict[str, Any]:
    """A preset's sections, and of the other settings (data, out, ...) those that it names."""
    plain = _flat(configs.to_dict(RunConfig()))
    values = _flat(configs.to_dict(config))
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
    words = {int: "it takes a whole number.", float: "it takes a number.", bool: "it takes true or "
             "false."}  # fmt: skip
    if option.kind in words:
        return words[option.kind]
    choices = opts.metavar(option).split("|")
    return f"it takes {' or '.join(choices)}.{did_you_mean(text, choices)}"


def from_file(path: Path) -> dict[str, Any]:
    """The settings of a YAML or JSON file, or of a run's own config.json, by full name."""
    if not path.is_file():
        raise ConfigError(f"There is no config file {path}.")
    options = opts.config_options(RunConfig())
    parser = _parser(options)
    try:
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            return {}
        if path.suffix == ".json":
            content = json.loads(text)
            if isinstance(content, dict) and "format" in content and "config" in content:
                content = content["config"]
            text = json.dumps(content)  # one line: tabs between values are no YAML
        read = parser.parse_string(text, defaults=False)
    except ArgumentError as error:
        raise ConfigError(f"{path}: {_plain(str(error), [o.key for o in options])}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not {path.suffix[1:].upper() or 'YAML'}: {error}.") from error
    values = _flat(read.as_dict())
    keys = {option.key for option in options}
    for key, value in values.items():
        if key not in keys:
            raise ConfigError(
                f"{path}: {key} is {value!r}; it is a section with settings of its own."
            )
    return values


def _plain(message: str, keys: list[str]) -> str:
    """The library's message about a config file, in our words."""
    if unknown := re.search(r"Option '([^']+)' is not accepted", message):
        return f"there is no setting {unknown[1]!r}.{did_you_mean(unknown[1], keys)}"
    if wrong := re.search(r'key "([^"]+)":\s+.*Got value: (.*)', message, re.DOTALL):
        kinds = {option.key: option for option in opts.config_options(RunConfig())}
        allowed = _allowed(kinds[wrong[1]], wrong[2]) if wrong[1] in kinds else "wrong kind."
        if wrong[1] in kinds and kinds[wrong[1]].kind is str:
            allowed = f'it takes a text. Write a number in quotes: "{wrong[2]}"'
        return f"{wrong[1]} is {wrong[2]!r}; {allowed}"
    return " ".join(message.split())


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


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
