"""The rule of docs/architecture.md: a file imports only from floors below, never a stranger."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import kinocell

ROOT = Path(str(kinocell.__file__)).parent
FLOORS = {
    0: ["errors"],
    1: [
        *(
            "config",
            "config_checks",
            "console",
            "locks",
            "options",
            "presets",
            "processes",
            "ranks",
        ),
        *("recipes", "runs", "settings", "signals"),
    ],
    2: ["data", "learning", "space"],
    3: ["baselines", "strategies"],
    4: ["stages"],
    5: ["__init__", "__main__", "cli", "verbs", "actions"],
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
OUTSIDE = {
    "av": {"data/decode_pyav.py", "data/video_writer.py"},
    "cv2": {"data/decode_opencv.py"},
    "jsonargparse": {"settings.py"},
    "onnx": {"stages/export.py"},
    "onnxruntime": {"stages/export.py"},
    "submitit": {"stages/many/slurm.py"},
}
"""Libraries that few files may know: one reads with them, one writes."""


def room_of(module: str) -> str:
    """`"kinocell.space.ops"` -> `"space"`."""
    return module.split(".")[1] if "." in module else "__init__"


def imported_modules(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            module = str(node.module)
            # `from kinocell import runs` imports the module `kinocell.runs`.
            whole = module == "kinocell"
            names |= {f"{module}.{alias.name}" for alias in node.names} if whole else {module}
    return names


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_file_imports_only_from_below(path: Path) -> None:
    room = path.relative_to(ROOT).with_suffix("").parts[0]
    for module in imported_modules(path):
        if not module.startswith("kinocell"):
            continue
        other = room_of(module)
        same_room = other == room
        # The house's own front door may be used by the floor behind it: `kinocell.__version__`.
        neighbours = FLOOR_OF[room] in (1, 5) and FLOOR_OF.get(other) == FLOOR_OF[room]
        below = FLOOR_OF.get(other, 5) < FLOOR_OF[room]
        assert same_room or neighbours or below, f"{room} must not import {module}"


@pytest.mark.parametrize("library", OUTSIDE)
def test_library_is_known_to_few_files_only(library: str) -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if any(module.split(".")[0] == library for module in imported_modules(path))
    }
    assert users == OUTSIDE[library]


@pytest.mark.parametrize("path", sorted((ROOT / "baselines").glob("*.py")), ids=lambda p: p.name)
def test_baseline_knows_torch_errors_and_its_own_room_only(path: Path) -> None:
    # So that its file can be read beside the paper, and taken elsewhere, without the house.
    own = [module for module in imported_modules(path) if module.startswith("kinocell")]
    assert {room_of(module) for module in own} <= {"baselines", "errors"}
