"""The settings as command-line options: their names, short names, and the help text.

No parsing library and no torch: a help page is on screen in a tenth of a second. Types and
config files are the business of `cli.py`.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kinocell import config as configs
from kinocell.errors import did_you_mean

WIDTH = 80
COLUMN = 29  # where the explanation starts
METAVARS = {
    "data": "PATH", "out": "DIR", "prepared": "DIR", "config": "FILE", "preset": "NAME",
    "recipe": "NAME",
    "dataset": "NAME", "split": "N|all", "to": "DIR", "mirror": "URL",
    "device": "NAME", "file": "FILE", "strategy": "NAME", "genotype": "FILE", "run": "DIR",
    "models": "NAMES", "runs": "DIRS", "budget": "epochs=N",
}  # fmt: skip
ALIASES = {"root": "data"}
"""Other names of options, by their first."""

TRUE, FALSE = ("true", "yes"), ("false", "no")


class UsageError(Exception):
    """What was typed cannot be understood; the command line leaves with exit code 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option: `--search.epochs`."""

    key: str
    """Its full name with underscores: "search.epochs", "out"."""

    kind: typing.Any
    """Its type, as annotated: `int`, `Literal["best", "last"]`."""

    help: str
    """One sentence."""

    default: object = None
    """Shown in the help; None shows nothing."""

    @property
    def leaf(self) -> str:
        """The name without its section."""
        return self.key.rpartition(".")[2]

    @property
    def section(self) -> str:
        """The section, or an empty string."""
        return self.key.rpartition(".")[0]


def dashed(key: str) -> str:
    """How an option is typed: `"--search.batch-size"`."""
    return "--" + key.replace("_", "-")


def field_docs(kind: type) -> dict[str, str]:
    """The string under each field of a dataclass, on one line."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name)
            docs[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return docs


def section_doc(section: str) -> str:
    """The first line of a section's docstring."""
    kind = typing.get_type_hints(configs.RunConfig)[section]
    return str(kind.__doc__).partition("\n")[0]


def config_options(config: typing.Any, prefix: str = "") -> list[Option]:
    """Every field of a config, sections too, as an option with the config's value as default.

    Args:
        config: A dataclass of `config.py`.
        prefix: In front of every key: "search.".
    """
    hints = typing.get_type_hints(type(config))
    docs = field_docs(type(config))
    options: list[Option] = []
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            options += config_options(value, f"{key}.")
        else:
            options.append(
                Option(key=key, kind=hints[field.name], help=docs[field.name], default=value)
            )
    return options


def resolve(name: str, options: Sequence[Option], own: str) -> Option:
    """The option that a typed name means.

    Args:
        name: As typed, without the leading dashes: "epochs", "search.batch-size".
        options: The options of this verb.
        own: The section whose short names win where several sections share one.

    Raises:
        UsageError: Unknown, or more than one option has this short name.
    """
    key = name.replace("-", "_")
    key = ALIASES.get(key, key)
    if exact := [option for option in options if option.key == key]:
        return exact[0]
    short = [option for option in options if option.leaf == key]
    if mine := [option for option in short if option.section == own]:
        return mine[0]
    if len(short) > 1:
        names = " or ".join(dashed(option.key) for option in short)
        raise UsageError(f"--{name} is ambiguous here: {names}.")
    if short:
        return short[0]
    known = sorted({typed for o in options for typed in (dashed(o.key), dashed(o.leaf))})
    raise UsageError(f"There is no option --{name}.{did_you_mean('--' + name, known)}")


def shortest(option: Option, options: Sequence[Option], own: str) -> str:
    """The shortest name that means this option in this verb: `"--epochs"`."""
    try:
        found = resolve(option.leaf, options, own)
    except UsageError:
        return dashed(option.key)
    return dashed(option.leaf if found == option else option.key)


def read_arguments(
    argv: Sequence[str], options: Sequence[Option], own: str
) -> tuple[list[tuple[Option, str]], list[str]]:
    """What was typed after the verb, as (option, text) pairs and the words that are no options.

    Accepts `--name value`, `--name=value`, `--switch`, `--no-switch`; after `--` everything is
    a word.

    Raises:
        UsageError: An unknown or ambiguous name, or a value that is missing.
    """
    pairs: list[tuple[Option, str]] = []
    words: list[str] = []
    rest = list(argv)
    while rest:
        typed = rest.pop(0)
        if typed == "--":
            words += rest
            break
        if not typed.startswith("-") or typed == "-":
            words.append(typed)
            continue
        name, equals, value = typed.partition("=")
        option, negated = _find(name, options, own)
        if negated and equals:
            raise UsageError(f"{name} takes no value.")
        if option.kind is bool and not equals:
            given = bool(rest) and not negated and rest[0].lower() in TRUE + FALSE
            value = rest.pop(0).lower() if given else str(not negated).lower()
        elif not equals:
            if not rest or rest[0].startswith("--"):
                raise UsageError(f"{name} needs a value.")
            value = rest.pop(0)
        pairs.append((option, value))
    return pairs, words


def _find(name: str, options: Sequence[Option], own: str) -> tuple[Option, bool]:
    """The option of a typed name, and whether it was switched off: `--no-flip`."""
    if not name.startswith("--"):
        raise UsageError(f"There is no option {name}; names start with two dashes.")
    switches = [option for option in options if option.kind is bool]
    switch_off = name.replace("_", "-").startswith("--no-")
    if switch_off and name[5:].replace("-", "_") in [s.leaf for s in switches]:
        return resolve(name[5:], switches, own), True
    return resolve(name[2:], options, own), False


def words(kind: typing.Any) -> tuple[str, ...]:
    """The words that a type allows: `Literal["best", "last"]`, `int | Literal["auto"]`."""
    kinds = typing.get_args(kind) if is_union(kind) else (kind,)
    return tuple(
        word
        for each in kinds
        if typing.get_origin(each) is typing.Literal
        for word in typing.get_args(each)
    )


def is_union(kind: typing.Any) -> bool:
    """Whether a type is one of several: `int | Literal["auto"]`."""
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def metavar(option: Option) -> str:
    """What stands for the value in the help: `"N"`, `"best|last"`."""
    if choices := words(option.kind):
        return "|".join(("N", *choices) if is_union(option.kind) else choices)
    if option.kind is bool:
        return ""
    return METAVARS.get(option.leaf) or {int: "N", float: "X"}.get(option.kind, "TEXT")


def shown_default(option: Option) -> str:
    """The default as the help shows it: `" [50]"`; nothing where there is none."""
    if option.default in (None, ""):
        return ""
    value = option.default
    if isinstance(value, bool):
        return " [on]" if value else " [off]"
    return f" [{value:g}]" if isinstance(value, float) else f" [{value}]"


def help_lines(options: Iterable[Option], visible: Sequence[Option], own: str) -> list[str]:
    """The help of some options, at most 80 columns wide."""
    lines: list[str] = []
    for option in options:
        name = shortest(option, visible, own)
        if option.kind is bool and option.default is True:
            name = f"--[no-]{name[2:]}"
        also = "".join(f" Also {dashed(a)}." for a, key in ALIASES.items() if key == option.key)
        text = option.help + also + shown_default(option)
        lines += aligned(f"{name} {metavar(option)}".rstrip(), text)
    return lines


def paragraph(text: str) -> list[str]:
    """A text in lines of at most 80 columns."""
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False)


def aligned(left: str, right: str) -> list[str]:
    """Two columns, the right one wrapped."""
    wrapped = textwrap.wrap(right, WIDTH - COLUMN, break_on_hyphens=False)
    first = f"  {left}"
    if len(first) > COLUMN - 1:
        return [first, *(" " * COLUMN + line for line in wrapped)]
    return [first.ljust(COLUMN) + wrapped[0], *(" " * COLUMN + line for line in wrapped[1:])]
