"""What the documents say is so: commands are understood, names exist, files are where they say."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import shlex
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

import kinocell
from kinocell import cli, presets
from kinocell.actions import Request
from kinocell.verbs import VERBS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "kinocell"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks/README.md"])
CHEAP = ("list",)
"""Verbs that are run as they stand; of the others, what they would do is asked for."""


def blocks(path: Path, language: str) -> list[str]:
    """The code blocks of a document in one language."""
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def lines(path: Path) -> list[str]:
    """Every line that a document asks to type."""
    found = "".join(blocks(path, "sh")).replace("\\\n", " ")
    return [line for line in found.splitlines() if line.strip()]


TYPED = sorted({line for path in DOCUMENTS for line in lines(path)})
COMMANDS = [line for line in TYPED if line.startswith(("kinocell ", "torchrun "))]
PROGRAMS = [(path, block) for path in DOCUMENTS for block in blocks(path, "python")]


def test_readme_starts_with_the_two_commands_and_the_whole_job() -> None:
    typed = lines(ROOT / "README.md")
    assert typed[:3] == ["make demo", "make test", "kinocell run --data PATH --out DIR"]


@pytest.mark.parametrize("line", COMMANDS)
def test_command_is_understood(
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[Request] = []
    for name, verb in VERBS.items():
        if name not in CHEAP:
            monkeypatch.setitem(VERBS, name, dataclasses.replace(verb, action=asked.append))
    program, *words = shlex.split(line)
    if program == "torchrun":
        shared = get_args_parser().parse_args(words)
        assert (shared.module, shared.training_script) == (True, "kinocell")
        words = shared.training_script_args
        assert VERBS[words[0]].many
    assert cli.main(words) == cli.DONE, capsys.readouterr().err
    # Help, lists and settings were really printed; everything else has reached its verb.
    assert len(asked) == 1 or capsys.readouterr().out


@pytest.mark.parametrize("line", sorted(set(TYPED) - set(COMMANDS)))
def test_other_command_names_what_there_is(line: str) -> None:
    program, *words = shlex.split(line)
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        for word in words:
            name, equals, _ = word.partition("=")
            assert re.search(rf"^{name} \?=" if equals else rf"^{name}:", makefile, re.M), word
    elif program == "python":
        assert (ROOT / words[0]).is_file()
    else:
        assert program == "pip"
        assert (ROOT / words[words.index("-c") + 1]).is_file()


@pytest.mark.parametrize(
    ("path", "block"), PROGRAMS, ids=[f"{p.stem}-{i}" for i, (p, _) in enumerate(PROGRAMS)]
)
def test_program_compiles_and_its_names_exist(path: Path, block: str) -> None:
    tree = ast.parse(block, str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "kc":
                assert node.attr in kinocell.__all__
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Attribute)
            and node.value.attr == "presets"
        ):
            assert node.attr in presets.PRESETS


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def file_map(document: str = "docs/files.md", heading: str = "# Every file") -> list[str]:
    """The paths of a document's file map; a folder ends in a slash."""
    text = (ROOT / document).read_text(encoding="utf-8").partition(heading)[2]
    text = text.partition("```\n")[2]
    paths: list[str] = []
    folder = ""
    for line in text.partition("```")[0].splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name
        paths.append(folder + name if line.startswith(" ") else name)
    return paths


@pytest.mark.parametrize(
    "where", [("docs/files.md", "# Every file"), ("README.md", "## File map")], ids=lambda w: w[0]
)
def test_file_map_names_what_exists(where: tuple[str, str]) -> None:
    assert len(file_map(*where)) > 20
    for name in file_map(*where):
        path = ROOT / name
        assert path.is_dir() if name.endswith("/") else path.is_file(), name


def test_file_map_misses_no_file_of_the_package() -> None:
    known = file_map()
    whole = [a for a in known if a.endswith("/") and not any(b != a and a in b for b in known)]
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if path.stat().st_size:  # a room's empty __init__.py is no file to read
            assert name in known or name.startswith(tuple(whole)), name


def test_a_search_step_is_followed_through_files_and_functions_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## One search step")[2].partition("## File map")[0]
    files = re.findall(r"`([a-z]+/[a-z_]+\.py)`", section)
    code = "\n".join((SOURCE / name).read_text(encoding="utf-8") for name in files)
    code += (SOURCE / "learning/steps.py").read_text(encoding="utf-8")
    code += (SOURCE / "space/derivation.py").read_text(encoding="utf-8")
    for name in re.findall(r"`([A-Za-z_]+)[.(`]", section):
        assert re.search(rf"(def|class) {name}\b|^{name}\b", code, re.M), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_number_is_still_to_be_measured(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "to be measured" not in text
    assert not re.search(r"\b[A-Z]+_[A-Z_]+\b \|", text)  # a cell that waits for its number
