"""A model on disk: whole, on its own, and refused where it does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from kinocell.config import RunConfig
from kinocell.data.clips import open_prepared
from kinocell.data.manifest import Manifest
from kinocell.errors import GenotypeError, RunError
from kinocell.space.genotype import Genotype
from kinocell.stages import model as model_file
from kinocell.stages.model import (
    check_classes,
    load_model,
    save_model,
    split_fingerprint,
    split_names,
)


@pytest.fixture
def best(tiny_run: RunConfig) -> Path:
    return Path(tiny_run.out) / "train" / "best.safetensors"


@pytest.fixture
def manifest(tiny_prepared: Path) -> Manifest:
    return open_prepared(tiny_prepared).manifest


def rewritten(best: Path, path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The same weights with other metadata."""
    with safetensors.safe_open(best, framework="pt") as file:
        metadata = json.loads(file.metadata()["kinocell"])
    change(metadata)
    weights = safetensors.torch.load_file(best)
    safetensors.torch.save_file(weights, path, metadata={"kinocell": json.dumps(metadata)})
    return path


def test_saved_model_comes_back_as_it_was(best: Path, tmp_path: Path) -> None:
    model = load_model(best)
    save_model(tmp_path / "copy.safetensors", model)
    again = load_model(tmp_path / "copy.safetensors")
    clips = torch.randn(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.network(clips), again.network(clips))
    assert replace(again, network=model.network) == model
    assert (tmp_path / "copy.safetensors").read_bytes() == best.read_bytes()


def test_model_knows_classes_clips_split_and_module(
    best: Path, tiny_run: RunConfig, manifest: Manifest
) -> None:
    model = load_model(best)
    found = Genotype.load(Path(tiny_run.out) / "search" / "genotype.json")
    assert model.class_names == manifest.class_names
    assert model.genotype == found
    assert replace(model.clips, workers=0) == tiny_run.clips
    assert (model.short_side_px, model.split) == (20, split_fingerprint(manifest))
    assert not model.network.training
    assert (model.config.search, model.config.train) == (tiny_run.search, tiny_run.train)
    assert set(model.splits) == set(manifest.paths)
    assert model.splits[manifest.paths[int(manifest.rows("test")[0])]] == "test"


def test_very_many_videos_are_known_by_their_fingerprint_alone(
    best: Path, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_file, "MOST_LISTED", len(manifest) - 1)
    assert split_names(manifest) == {}
    save_model(tmp_path / "large.safetensors", replace(load_model(best), splits={}))
    model = load_model(tmp_path / "large.safetensors")
    check_classes(model, manifest, best)
    turned = replace(manifest, splits=np.where(manifest.splits == 0, 2, 0).astype(np.int8))
    with pytest.raises(RunError, match="another split"):
        check_classes(model, turned, best)


def test_missing_file_is_refused_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=rf"kinocell train --out {tmp_path}"):
        load_model(tmp_path / "train" / "best.safetensors")


@pytest.mark.parametrize("kept_share", [0.0, 0.01, 0.5, 0.999])
def test_cut_off_file_is_one_clear_sentence(kept_share: float, best: Path, tmp_path: Path) -> None:
    data = best.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: int(kept_share * len(data))])
    with pytest.raises(RunError, match=r"cut\.safetensors is damaged or not a kinocell model"):
        load_model(tmp_path / "cut.safetensors")


def test_weights_of_another_program_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(RunError, match="not a kinocell model"):
        load_model(path)


@pytest.mark.parametrize("name", ["genotype", "class_names", "clips", "split", "settings"])
def test_missing_field_is_one_clear_sentence(name: str, best: Path, tmp_path: Path) -> None:
    path = rewritten(best, tmp_path / "x.safetensors", lambda values: values.pop(name))
    with pytest.raises(RunError, match=f"damaged .*{name}"):
        load_model(path)


def test_other_number_of_classes_than_weights_is_one_clear_sentence(
    best: Path, tmp_path: Path
) -> None:
    path = rewritten(best, tmp_path / "x.safetensors", lambda values: values["class_names"].pop())
    with pytest.raises(RunError, match="damaged"):
        load_model(path)


def test_other_format_is_refused(best: Path, tmp_path: Path) -> None:
    path = rewritten(best, tmp_path / "x.safetensors", lambda values: values.update(format=9))
    with pytest.raises(RunError, match="has format 9, this kinocell reads 1"):
        load_model(path)


def test_operator_that_is_not_known_is_refused_with_the_way_to_pass_it(
    best: Path, tmp_path: Path
) -> None:
    def change(values: dict[str, Any]) -> None:
        values["genotype"]["nodes"][0][0]["op"] = "mine"
        values["genotype"]["space"]["ops"].append("mine")

    path = rewritten(best, tmp_path / "x.safetensors", change)
    with pytest.raises(GenotypeError, match=r"'mine', which is not known here.*ops="):
        load_model(path)


def test_fingerprint_tells_splits_but_not_orders_apart(manifest: Manifest) -> None:
    mark = split_fingerprint(manifest)
    order = np.arange(len(manifest))[::-1]
    assert split_fingerprint(manifest.select(order)) == mark
    splits = manifest.splits.copy()
    splits[0] = 2
    assert split_fingerprint(replace(manifest, splits=splits)) != mark


def test_same_classes_in_another_order_are_refused(best: Path, manifest: Manifest) -> None:
    model = load_model(best)
    check_classes(model, manifest, best)
    turned = replace(manifest, class_names=manifest.class_names[::-1])
    with pytest.raises(RunError, match="the same names in another order"):
        check_classes(model, turned, best)
