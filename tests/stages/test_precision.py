"""bf16 for real on the CPU: what computes in it, what never does, and that fp32 is untouched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kinocell import presets, runs
from kinocell.config import RunConfig
from kinocell.errors import RunError
from kinocell.learning.device import autocast
from kinocell.space.norm import SearchNorm
from kinocell.space.supernet import SuperNet
from kinocell.space.wiring import SearchSpace
from kinocell.stages import folders
from kinocell.stages.pipeline import run
from kinocell.stages.search import search
from kinocell.stages.train import train
from kinocell.strategies.outer import Weights, outer_gradient

Tiny = Callable[..., RunConfig]
Newest = Callable[[Path], dict[str, Any]]
CPU = torch.device("cpu")


def logits_and_gradients(precision: Any) -> list[Tensor]:
    torch.manual_seed(0)
    network = SuperNet(SearchSpace(), 5, channels=2)
    mixing = torch.rand(14, 8).softmax(1).requires_grad_()
    with precision:
        logits = network(torch.randn(3, 3, 4, 16, 16), mixing)
        loss = F.cross_entropy(logits, torch.tensor([0, 1, 2]))
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in (mixing, *network.parameters()) if p.grad is not None]
    return [logits.detach(), *gradients]


def test_fp32_changes_no_bit() -> None:
    import contextlib

    plain = logits_and_gradients(contextlib.nullcontext())
    asked = logits_and_gradients(autocast("fp32", CPU))
    assert all(torch.equal(a, b) for a, b in zip(plain, asked, strict=True))


def test_bf16_computes_in_bf16_and_is_near_fp32() -> None:
    full, half = (
        logits_and_gradients(autocast("fp32", CPU)),
        logits_and_gradients(autocast("bf16", CPU)),
    )
    assert half[0].dtype is torch.bfloat16
    assert all(gradient.dtype is torch.float32 for gradient in half[1:])
    torch.testing.assert_close(half[0].float(), full[0], atol=0.05, rtol=0.05)
    assert F.cosine_similarity(half[1].flatten(), full[1].flatten(), dim=0) > 0.98


@pytest.mark.parametrize("last", [True, False])
def test_statistics_of_half_precision_clips_are_summed_in_full(last: bool) -> None:
    """Half a million values near 30: a sum in bf16 would stop growing long before its end."""
    x = 30 + torch.randn(8, 4, 8, 44, 44, generator=torch.Generator().manual_seed(0))
    if last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    half = x.bfloat16()
    expected = SearchNorm(4)(half.float())
    torch.testing.assert_close(SearchNorm(4)(half).float(), expected, atol=0.02, rtol=0.01)


def test_difference_passes_never_see_half_precision() -> None:
    seen: list[tuple[str, bool]] = []

    def loss(name: str) -> Callable[[Weights, Tensor], Tensor]:
        def compute(weights: Weights, alphas: Tensor) -> Tensor:
            seen.append((name, torch.is_autocast_enabled("cpu")))
            return (weights["w"] * alphas.exp()).square().sum()

        return compute

    weights, alphas = {"w": torch.tensor([1.0, 2.0])}, torch.tensor([0.5, -0.5])
    with autocast("bf16", CPU):
        outer_gradient(loss("train"), loss("valid"), weights, alphas, step=0.1, method="finite")
    assert seen == [("train", True), ("valid", True), ("train", False), ("train", False)]


def test_search_and_training_in_bf16_keep_everything_in_fp32(
    tiny: Tiny, tmp_path: Path, newest_state: Newest
) -> None:
    config = tiny(tmp_path / "run", precision="bf16")
    search(config)
    train(config)
    for folder in (folders.search_folder(config), folders.train_folder(config)):
        state = newest_state(folder)
        tensors = [*state["weights"].values()]
        tensors += [state["alphas"]] if "alphas" in state else []
        floats = [t for t in tensors if t.is_floating_point()]
        assert floats
        assert all(t.dtype is torch.float32 for t in floats)
        written = runs.read_json(folder / "config.json", "settings")["config"]
        assert written["precision"] == "bf16"


def test_bf16_is_another_search(tiny: Tiny, tiny_run: RunConfig) -> None:
    with pytest.raises(RunError, match=r"precision: None there, 'bf16' now"):
        search(tiny(Path(tiny_run.out), precision="bf16"))


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_bf16_search_finds_the_module_of_fp32_on_the_demo(tmp_path: Path) -> None:
    from dataclasses import replace

    found = []
    for precision in ("fp32", "bf16"):
        config = replace(presets.demo(), out=str(tmp_path / precision), device="cuda")
        run(replace(config, precision=precision))
        found.append(search(replace(config, precision=precision)).nodes)
    assert found[0] == found[1]
