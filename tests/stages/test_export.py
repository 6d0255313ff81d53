"""The exported file, run by onnxruntime, says what the trained network says."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kinocell import cli
from kinocell.config import RunConfig
from kinocell.data.clips import as_input, open_prepared
from kinocell.errors import RunError
from kinocell.space.genotype import Genotype
from kinocell.space.ops import OPS, Builder
from kinocell.stages.evaluate import softmax
from kinocell.stages.export import export
from kinocell.stages.model import load_model, save_model
from kinocell.stages.networks import build
from kinocell.stages.predict import load, predict
from kinocell.stages.train import train

ROOT = Path(__file__).parents[2]
Tiny = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def exported(tiny_run: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file of the tiny run."""
    return export(tiny_run.out, tmp_path_factory.mktemp("exported") / "new" / "model.onnx")


def answers(path: Path, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What onnxruntime makes of a file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"clips": clips})
    assert isinstance(probabilities, np.ndarray)
    return probabilities


def about(path: Path) -> dict[str, Any]:
    """What a file says of itself."""
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    found: dict[str, Any] = json.loads(metadata["kinocell"])
    return found


def test_real_clips_get_the_probabilities_of_the_evaluation(
    exported: Path, tiny_run: RunConfig
) -> None:
    prepared = open_prepared(tiny_run.prepared)
    with np.load(Path(tiny_run.out) / "evaluate" / "logits.npz") as saved:
        rows, expected = saved["rows"], softmax(saved["logits"])
    # The first of two views takes a quarter of each slot; frames are cut as the test cuts them.
    for row, views in list(zip(rows, expected, strict=True))[:4]:
        num_frames = int(prepared.store.num_frames[row])
        edges = [i * num_frames // 4 for i in range(5)]
        chosen = [start + (stop - start) // 4 for start, stop in pairwise(edges)]
        frames = prepared.store.read(int(row), chosen)
        height, width = frames.shape[1:3]
        top, left = (height - 16) // 2, (width - 16) // 2
        clip = frames[:, top : top + 16, left : left + 16].transpose(3, 0, 1, 2)
        (found,) = answers(exported, clip[None])
        np.testing.assert_allclose(found, views[0], atol=1e-5)


@pytest.mark.parametrize("number", [1, 2, 7])
def test_any_number_of_clips_goes_in(number: int, exported: Path, tiny_run: RunConfig) -> None:
    clips = np.random.default_rng(number).integers(0, 256, (number, 3, 4, 16, 16), np.uint8)
    found = answers(exported, clips)
    network = load_model(Path(tiny_run.out) / "train" / "best.safetensors").network
    with torch.no_grad():
        logits = network(
            torch.from_numpy((clips / np.float32(255) - np.float32(0.45)) / np.float32(0.225))
        )
    np.testing.assert_allclose(found, logits.softmax(1).numpy(), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_file_is_plain_onnx_that_the_checker_accepts(exported: Path) -> None:
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    (entry,) = model.graph.input
    sizes = [size.dim_value or size.dim_param for size in entry.type.tensor_type.shape.dim]
    assert (entry.name, sizes) == ("clips", ["n", 3, 4, 16, 16])
    assert entry.type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_file_says_how_it_is_fed_and_what_its_answers_mean(
    exported: Path, tiny_run: RunConfig
) -> None:
    said = about(exported)
    model = load(tiny_run.out)
    assert said["classes"] == list(model.class_names)
    assert (said["clip_frames"], said["size_px"], said["short_side_px"]) == (4, 16, 20)
    assert (said["input"], said["crop"], said["views"]) == ("rgb", 0.8, 2)
    assert Genotype.from_dict(said["genotype"], where="the file") == model.genotype


def test_example_without_pytorch_names_what_predict_names(
    exported: Path, tiny_run: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    video = open_prepared(tiny_run.prepared).manifest.path(0)
    (expected,) = predict(tiny_run.out, [video], views=1)
    script = runpy.run_path(str(ROOT / "examples" / "use_onnx.py"))
    script["main"](str(exported), str(video))
    lines = capsys.readouterr().out.splitlines()
    found = {name: float(value) for value, name in (line.split(" ", 1) for line in lines)}
    assert found == pytest.approx(dict(expected.classes), abs=0.05)


def test_network_drawn_by_people_that_sees_differences_is_exported(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(
        tmp_path, clips={"input": "difference"}, train={"model": "movinet_a0", "epochs": 1}
    )
    train(config)
    path = export(tmp_path)
    assert path == tmp_path / "model.onnx"
    said = about(path)
    assert (said["baseline"], said["input"], said["clip_frames"]) == ("movinet_a0", "difference", 8)
    clips = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 16, 16), np.uint8)
    found = answers(path, clips)
    network = load_model(tmp_path / "train" / "best.safetensors").network
    changes = (clips[:, :, 1::2].astype(np.float32) - clips[:, :, 0::2]) / np.float32(255 * 0.225)
    with torch.no_grad():
        expected = network(torch.from_numpy(changes)).softmax(1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@torch.no_grad()
def tell_apart(network: nn.Module, clips: Tensor) -> None:
    """Scale the last layer until these clips get different answers, as of a trained network."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    for layer in layers:
        nn.init.zeros_(layer.bias)  # beside it, what is left of a small clip is nothing
    logits = network(clips)
    layers[-1].weight.div_(logits.std(0)[:, None])
    layers[-1].bias.sub_(logits.mean(0) / logits.std(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["c3d", "i3d", "stc_resnet_18"])
def test_network_that_looks_at_the_size_of_its_clips_is_exported(
    name: str, tiny_run: RunConfig, tmp_path: Path
) -> None:
    trained = load_model(Path(tiny_run.out) / "train" / "best.safetensors")
    settings = {"clip_frames": 4}
    clips = np.random.default_rng(0).integers(0, 256, (3, 3, 4, 16, 16), np.uint8)
    pixels = as_input(torch.from_numpy(clips), "rgb")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(name, 2, settings).eval()
    tell_apart(network, pixels)
    model = replace(trained, network=network, genotype=None, baseline=name, settings=settings,
                    class_names=("one", "other"))  # fmt: skip
    (tmp_path / "train").mkdir()
    save_model(tmp_path / "train" / "best.safetensors", model)
    found = answers(export(tmp_path), clips)
    with torch.no_grad():
        expected = network(pixels).softmax(1).numpy()
    assert np.ptp(expected[:, 0]) > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)


# --- what cannot be exported -------------------------------------------------------------------


class Changed(nn.Module):
    """Another operator in the exported file than in use."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 3 if torch.compiler.is_exporting() else x


class Asking(nn.Module):
    """Looks at values to decide what it does."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum().item() > 0 else x


def with_operator(run: RunConfig, folder: Path, ops: dict[str, Builder]) -> None:
    """A run folder whose module has `mine` in every place."""
    model = load_model(Path(run.out) / "train" / "best.safetensors")
    assert model.genotype is not None
    content = model.genotype.to_dict()
    content["space"]["ops"] = list(ops)
    for node in content["nodes"]:
        for kept in node:
            kept["op"] = "mine"
    genotype = Genotype.from_dict(content, where="here")
    network = build(genotype, len(model.class_names), dict(model.settings), ops=ops)
    (folder / "train").mkdir()
    changed = replace(model, network=network, genotype=genotype)
    save_model(folder / "train" / "best.safetensors", changed)


@pytest.mark.parametrize(
    ("operator", "words"),
    [(Changed, "differs from the trained one by"), (Asking, "cannot be written as ONNX")],
)
def test_operator_that_does_not_survive_leaves_no_file(
    operator: type[nn.Module], words: str, tiny_run: RunConfig, tmp_path: Path
) -> None:
    ops: dict[str, Builder] = {**OPS, "mine": lambda channels, norm=None, mid=None: operator()}
    with_operator(tiny_run, tmp_path, ops)
    with pytest.raises(RunError, match=words):
        export(tmp_path, ops=ops)
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_library_is_one_sentence(
    name: str,
    tiny_run: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["export", tiny_run.out]) == 1
    said = capsys.readouterr().err
    assert f"Exporting needs {name}, not installed here" in said
    assert '".[export]"' in said


def test_folder_without_a_network_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", str(tmp_path)]) == 1
    assert "does not exist. `kinocell train --out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
