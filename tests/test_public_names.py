"""The public face: these names, each importable, and nothing heavy before one is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import kinocell

NAMES = """
check show prepare search search_epochs derive train train_epochs evaluate predict export report run
load
Manifest SearchSpace Strategy Genotype Network OPS STRATEGIES
RunConfig PrepareConfig ClipsConfig AugmentConfig SearchConfig
TrainConfig EvaluateConfig SyntheticConfig
KinocellError presets recipes
"""


def test_public_names_are_these() -> None:
    assert set(kinocell.__all__) == set(NAMES.split())


@pytest.mark.parametrize("name", NAMES.split())
def test_public_name_is_there(name: str) -> None:
    assert getattr(kinocell, name) is not None
    assert name in dir(kinocell)


def test_verbs_are_functions_and_not_the_modules_of_their_name() -> None:
    assert callable(kinocell.search)
    assert callable(kinocell.report)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        getattr(kinocell, "serch")  # noqa: B009


@pytest.mark.parametrize(
    "program", ["import kinocell", "from kinocell.cli import main; main(['run', '--help'])"]
)
def test_nothing_heavy_is_imported_at_first(program: str) -> None:
    check = "import sys; assert not {'torch', 'numpy', 'av', 'jsonargparse'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{program}\n{check}"], check=True, capture_output=True)
