"""The command line: from what was typed to one call of a verb, and from an error to an exit code.

What each verb does is in `verbs.py`, where settings come from in `settings.py`. Nothing heavy is
imported at import time: help needs neither torch nor the command-line library.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import kinocell
from kinocell import options as opts
from kinocell import presets, ranks, runs, signals
from kinocell.actions import Request
from kinocell.config import RunConfig
from kinocell.config_checks import check
from kinocell.console import result, say
from kinocell.errors import (
    ConfigError,
    KinocellError,
    SaidElsewhereError,
    SearchError,
    did_you_mean,
    is_out_of_memory,
)
from kinocell.options import Option, UsageError
from kinocell.verbs import VERBS, Verb

DONE, FAILED, USAGE, STOPPED, CLOSED_PIPE = 0, 1, 2, 130, 141
SIGNALLED = 128
"""Plus the number of the signal that ended the work: 130 Ctrl-C, 143 SIGTERM."""

OUT_OF_MEMORY = (
    "memory ran out. Lower --search.batch-size, --train.batch-size or --clips.size-px; what was "
    "finished is kept."
)

MET_BY_ALL = (ConfigError, SearchError, SaidElsewhereError)
"""What all processes of one run meet at once, so that the first one's words are enough."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 done, 1 an error, 2 usage, 130 or 143 stopped."""
    with signals.handled():
        return _main(list(sys.argv[1:] if argv is None else argv))


def _main(typed: list[str]) -> int:
    debug = "--debug" in typed
    verb = next((word for word in typed if word in VERBS), "")
    alike = False
    try:
        return _dispatch(typed)
    except UsageError as error:
        command = f"kinocell {verb}".rstrip()
        failure, code, alike = f"{error}\nSee `{command} --help`.", USAGE, True
    except KinocellError as error:
        failure, code, alike = str(error), FAILED, isinstance(error, MET_BY_ALL)
        if debug:
            traceback.print_exc()
    except BrokenPipeError:
        # The reader has gone (`| head`): nothing to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except OSError as error:
        full = error.errno in runs.DISK_FULL
        sentence = str(runs.disk_error(Path(error.filename or "a file"), error)) if full else error
        failure, code = f"{sentence} (--debug shows where.)", FAILED
        if debug:
            traceback.print_exc()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        failure, code = OUT_OF_MEMORY, FAILED
        if debug:
            traceback.print_exc()
    except KeyboardInterrupt as stop:
        failure = "stopped. Run the same command again to go on from here."
        code = SIGNALLED + stop.number if isinstance(stop, signals.Stopped) else STOPPED
        alike = True
    # Said only here, when the traceback is gone and with it any progress bar.
    here = ranks.here()
    who = "kinocell" if here.is_first else f"kinocell (rank {here.number})"
    say(f"{who}: {failure}", of_any_rank=not alike)
    return code


def _dispatch(typed: list[str]) -> int:
    # `kinocell --debug search`: a switch that every verb has may come first.
    leading = [word for word in typed[:1] if word == "--debug"]
    rest = typed[len(leading) :]
    if not rest or rest[0] in ("-h", "--help", "help"):
        result(_overview() if len(rest) < 2 or rest[1] not in VERBS else _help(rest[1]))
        return DONE if rest else USAGE
    if rest[0] in ("--version", "-V"):
        result(f"kinocell {kinocell.__version__}")
        return DONE
    name, arguments = rest[0], rest[1:]
    if name.startswith("-"):
        raise UsageError(f"The verb comes first: kinocell run {name} ...")
    if name not in VERBS:
        known = ", ".join(VERBS)
        raise UsageError(
            f"There is no verb {name!r}.{did_you_mean(name, list(VERBS))} Known: {known}."
        )
    if (world := ranks.here().world) > 1 and not VERBS[name].many:
        able = ", ".join(other for other, verb in VERBS.items() if verb.many)
        raise UsageError(
            f"`kinocell {name}` is done by one process, not by {world}; torchrun is for {able}."
        )
    # After `--` everything is a file name, `--help` too.
    if {"-h", "--help"} & set(_before_words(arguments)):
        result(_help(name))
        return DONE
    request = _request(name, arguments)
    if request is not None:
        VERBS[name].action(request)
    return DONE


def _overview() -> str:
    lines = [
        "kinocell finds, trains and ships small networks for actions in video.",
        "",
        "usage: kinocell VERB [options]",
        "",
        "The whole job:",
    ]
    for name, verb in VERBS.items():
        if name == "check":
            lines += ["", "A look at the videos:"]
        if name == "prepare":
            lines += ["", "One step at a time (each goes on from the run folder --out):"]
        if name == "predict":
            lines += ["", "Afterwards:"]
        lines.append(f"  {name:<10}{verb.summary}")
    lines += ["", "Start with:", "  kinocell run --preset demo --out demo-run"]
    lines += ["  kinocell run --data PATH --out my-run", ""]
    lines += ["More: kinocell VERB --help, kinocell list, kinocell --version"]
    return "\n".join(lines)


def _help(name: str) -> str:
    verb = VERBS[name]
    visible = verb.visible(presets.PRESETS[verb.preset or "small"]())
    groups: dict[str, list[Option]] = {}
    for option in visible:
        groups.setdefault(option.section, []).append(option)
    single = groups.pop("", [])
    lines = [f"usage: kinocell {name} {verb.words}".rstrip() + " [options]", "", verb.summary]
    if verb.settings:
        lines += ["[values] are the defaults; a run folder that exists brings its own."]
    if verb.many:
        lines += [f"On several devices: torchrun ... -m kinocell {name}, docs/many_devices.md."]
    lines += ["", "options:", *opts.help_lines(single, visible, verb.section)]
    for section, options in groups.items():
        title = opts.paragraph(f"{section}: {opts.section_doc(section)}")
        lines += ["", *title, *opts.help_lines(options, visible, verb.section)]
    lines += ["", "examples:"]
    for command, why in verb.examples:
        lines += [f"  # {why}", f"  {command}"]
    return "\n".join(lines)


def _before_words(arguments: list[str]) -> list[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _request(name: str, arguments: list[str]) -> Request | None:
    """What the arguments ask for; None where they ask to print the settings."""
    verb = VERBS[name]
    from kinocell import settings  # 0.15 s: the help does without

    pairs, words = _read(name, verb, arguments)
    if words and not verb.words:
        raise UsageError(f"{words[0]!r} is not an option; options start with two dashes.")
    sources = {"config", "preset", "print_config"}
    given = {option.key: text for option, text in pairs}
    typed = settings.typed_values(
        [(option, text) for option, text in pairs if option.key not in sources],
        verb.visible(RunConfig()),
        verb.section,
    )
    own = {option.key: typed.pop(option.key, option.default) for option in verb.own}
    typed.pop("debug", None)
    if not verb.settings:
        return Request(config=RunConfig(), own=own, words=words)
    if verb.word_is_source and words:
        run = runs.run_folder(Path(words[0]))
        typed = {"out": str(run)} | typed if run else {"data": words[0]} | typed
    files = [text for option, text in pairs if option.key == "config"]
    config = settings.layered(
        typed,
        files,
        given.get("preset"),
        fresh=name == "run",
        recipe=own.get("recipe"),
        default=verb.preset,
    )
    check(config)
    if given.get("print_config") == "true":
        result(settings.as_yaml(config))
        return None
    return Request(config=config, own=own, words=words, typed=frozenset(typed))


def _read(
    name: str, verb: Verb, arguments: list[str]
) -> tuple[list[tuple[Option, str]], list[str]]:
    try:
        return opts.read_arguments(arguments, verb.visible(RunConfig()), verb.section)
    except UsageError as error:
        # An option of another verb is a common slip: say whose it is.
        missing = re.match(r"There is no option --([\w.-]+)\.", str(error))
        key = missing[1].replace("-", "_") if missing else ""
        users = [
            f"`kinocell {other}`"
            for other, candidate in VERBS.items()
            if key in {part for o in candidate.visible(RunConfig()) for part in (o.key, o.leaf)}
        ]
        if missing and users:
            shown = users[0] if len(users) == 1 else ", ".join(users[:-1]) + f" and {users[-1]}"
            raise UsageError(
                f"`kinocell {name}` does not use --{missing[1]}; it belongs to {shown}."
            ) from error
        raise
