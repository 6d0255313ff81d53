"""Searches and trainings whose passes are captured as graphs, for real on the CPU.

Capturing takes seconds per graph, so the networks are as small as they can be.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from functorch.compile import make_boxed_func  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters

from kinocell.config import RunConfig
from kinocell.errors import ConfigError
from kinocell.learning import graphs
from kinocell.space import norm
from kinocell.space.layers import Norm, batch_norm
from kinocell.space.ops import OPS, Mid
from kinocell.space.supernet import SuperNet
from kinocell.space.wiring import SearchSpace
from kinocell.stages.search import search, search_epochs
from kinocell.stages.search_state import _logits
from kinocell.stages.train import train, train_epochs
from kinocell.strategies.outer import Weights, outer_gradient
from kinocell.strategies.relax import softmax
from kinocell.strategies.strategy import Strategy
from kinocell.strategies.table import STRATEGIES
from tests.modules import MODULE

# PyTorch asks every tensor for its gradient, and hides its own warning, unless it is an error.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")

Tiny = Callable[..., RunConfig]
Newest = Callable[[Path], dict[str, Any]]
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """PyTorch writes a trace of all that it compiles where somebody listens, and pytest does."""
    logger = logging.getLogger("torch.__trace")
    before, logger.propagate = logger.propagate, False
    yield
    logger.propagate = before


@pytest.fixture
def one_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norm is PyTorch's own everywhere, as it is in a graph: then no bit may differ."""
    monkeypatch.setattr(norm, "has_fast_path", lambda x: False)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def captured_graphs() -> int:
    """How many there are; none has broken into parts."""
    assert not counters["graph_break"]
    return counters["stats"]["unique_graphs"]


SMALL = {"nodes": 1, "layers": 1, "epochs": 1}
"""Of a search: all operators, on two connections."""


def state(config: RunConfig, newest_state: Newest, stage: str = "search") -> dict[str, Any]:
    return newest_state(Path(config.out) / stage)


def same(found: dict[str, Any], expected: dict[str, Any], *, atol: float, rtol: float) -> None:
    for name in {"alphas", "weights", "averaged"} & expected.keys():
        torch.testing.assert_close(found[name], expected[name], atol=atol, rtol=rtol)


# --- the search --------------------------------------------------------------------------------


def test_gradients_of_all_operators_are_those_without_graphs() -> None:
    """In float64, at weights that are not the network's own, for two different steps."""
    torch.manual_seed(0)
    network = SuperNet(SearchSpace(nodes=1), 5, channels=2, layers=1).double()
    plain = partial(_logits, network)
    in_graphs = graphs.captured(plain, "graphs", torch.device("cpu"))
    clips, labels = torch.randn(2, 2, 3, 3, 9, 11).double(), torch.tensor([1, 2])
    alphas = torch.randn(2, 8).double()
    for number in range(2):
        weights = {n: w + 0.1 * number * torch.rand_like(w) for n, w in network.named_parameters()}
        found = []
        for passes in (plain, in_graphs):

            def loss(half: int, weights: Weights, alphas: Tensor, passes: Any = passes) -> Tensor:
                return F.cross_entropy(passes(weights, clips[half], softmax(alphas)), labels)

            of_alpha = outer_gradient(
                partial(loss, 0), partial(loss, 1), weights, alphas, step=0.05, method="finite"
            )
            own = {n: w.detach().requires_grad_() for n, w in weights.items()}
            slopes = torch.autograd.grad(loss(0, own, alphas), list(own.values()))
            found.append([of_alpha, *slopes])
        torch.testing.assert_close(found[1], found[0], atol=1e-9, rtol=1e-9)
    assert captured_graphs() == 3


def as_cuda_graphs(nodes: list[torch.fx.Node]) -> Callable[..., Any]:
    """A backend that treats memory as a CUDA graph does: each result has one place for ever.

    Args:
        nodes: Gets all that is computed in the graphs.
    """

    def compiler(graph: torch.fx.GraphModule, _: Sequence[Tensor]) -> Callable[..., Any]:
        nodes.extend(graph.graph.nodes)
        places: list[Tensor | None] = []

        def run(*arguments: Any) -> list[Any]:
            results = graph(*arguments)
            if not places:
                places.extend(r.clone() if isinstance(r, Tensor) else None for r in results)
            for place, result in zip(places, results, strict=True):
                if place is not None:
                    place.copy_(result)
            return [None if place is None else place.detach() for place in places]

        boxed: Callable[..., Any] = make_boxed_func(run)
        return boxed

    backend: Callable[..., Any] = aot_autograd(fw_compiler=compiler, bw_compiler=compiler)
    return backend


@pytest.mark.usefixtures("one_norm")
def test_a_search_in_graphs_whose_results_are_overwritten_is_the_search(
    tiny: Tiny, tmp_path: Path, newest_state: Newest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three graphs (weights and alpha, alpha, weights), in which all is computed from inputs.

    A constant, or a question to the numbers, would keep the whole of it out of a CUDA graph.
    """
    plain = tiny(tmp_path / "plain", search=SMALL)
    config = replace(plain, out=str(tmp_path / "graphs"), compile="graphs")
    nodes: list[torch.fx.Node] = []
    monkeypatch.setitem(graphs.MAKERS, ("graphs", "cpu"), {"backend": as_cuda_graphs(nodes)})
    assert search(plain).nodes == search(config).nodes
    assert captured_graphs() == 3
    found, expected = state(config, newest_state), state(plain, newest_state)
    same(found, expected, atol=1e-6, rtol=1e-5)
    assert found["weights"].keys() == expected["weights"].keys()
    assert len(nodes) > 500
    assert not [node.name for node in nodes if node.op == "get_attr"]
    asking = ("_local_scalar_dense", "nonzero", "repeat_interleave.Tensor", "unique")
    assert not [str(n.target) for n in nodes if any(name in str(n.target) for name in asking)]


@pytest.mark.slow
@pytest.mark.usefixtures("one_norm")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stopped_search_in_graphs_goes_on_bit_for_bit_and_without_graphs_too(
    precision: str, tiny: Tiny, tmp_path: Path, newest_state: Newest
) -> None:
    settings = SMALL | {"epochs": 2}
    config = tiny(tmp_path / "run", search=settings, compile="graphs", precision=precision)
    search(config)
    assert captured_graphs() == 3
    stopped, without = (replace(config, out=str(tmp_path / n)) for n in ("stopped", "without"))
    epochs = search_epochs(stopped)
    next(epochs)
    epochs.close()  # type: ignore[attr-defined]
    shutil.copytree(stopped.out, without.out)
    search(stopped)
    same(state(stopped, newest_state), state(config, newest_state), atol=0.0, rtol=0.0)
    search(replace(without, compile="off"))
    same(state(without, newest_state), state(config, newest_state), atol=1e-5, rtol=1e-4)


def test_what_takes_second_derivatives_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path / "named", search=SMALL | {"strategy": "exact"}, compile="graphs")
    with pytest.raises(ConfigError, match="no second derivatives, which the strategy exact takes"):
        search(config)
    assert not Path(config.out).exists()
    own = Strategy(outer_grad=STRATEGIES["exact"].outer_grad)
    config = tiny(tmp_path / "own", search=SMALL, compile="graphs")
    with pytest.raises(ConfigError, match="no second derivatives, which this strategy takes"):
        search(config, strategy=own)


class _Asking(nn.Module):
    """An operator whose result depends on a question to the numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.detach().sum()) > 0 else -x


def asking(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
    del channels, norm, mid
    return _Asking()


def test_an_operator_that_cannot_be_captured_is_told_with_its_line(
    tiny: Tiny, tmp_path: Path
) -> None:
    space = SearchSpace(nodes=1, ops={**OPS, "asking": asking})
    config = tiny(tmp_path / "run", search=SMALL, compile="graphs")
    with pytest.raises(ConfigError, match=r"(?s)cannot capture.*test_graphs\.py, line.*out\.$"):
        search(config, space=space)


# --- the training ------------------------------------------------------------------------------

PLAIN = {"dropout": 0.0, "ema": 0.9, "schedule": "cosine"}


@pytest.mark.usefixtures("one_norm")
def test_a_training_in_graphs_is_the_training(
    tiny: Tiny, tmp_path: Path, newest_state: Newest
) -> None:
    found = []
    for how in ("off", "graphs"):
        config = tiny(tmp_path / how, train=PLAIN, compile=how)
        train(config, genotype=MODULE)
        found.append(state(config, newest_state, "train"))
    same(found[1], found[0], atol=1e-6, rtol=1e-5)
    assert found[1]["weights"].keys() == found[0]["weights"].keys()
    assert captured_graphs() == 1


@pytest.mark.slow
def test_drop_path_grows_within_one_graph_and_goes_on_bit_for_bit(
    tiny: Tiny, tmp_path: Path, newest_state: Newest
) -> None:
    config = tiny(tmp_path / "run", train={"drop_path": 0.5, "ema": 0.9}, compile="graphs")
    train(config, genotype=MODULE)
    assert captured_graphs() == 1
    stopped = replace(config, out=str(tmp_path / "stopped"))
    epochs = train_epochs(stopped, genotype=MODULE)
    next(epochs)
    epochs.close()  # type: ignore[attr-defined]
    train(stopped, genotype=MODULE)
    same(
        state(stopped, newest_state, "train"),
        state(config, newest_state, "train"),
        atol=0.0,
        rtol=0.0,
    )


# --- kernels that are written for it -----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, of its own
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_kernels_that_pytorch_writes_compute_the_same() -> None:
    torch.manual_seed(0)
    network = SuperNet(SearchSpace(nodes=1), 5, channels=2, layers=1).double()
    plain, weights = partial(_logits, network), dict(network.named_parameters())
    fused = graphs.captured(plain, "fused", torch.device("cpu"))
    clips, mixing = torch.randn(2, 3, 3, 9, 11).double(), torch.rand(2, 8).double().requires_grad_()
    found = [
        torch.autograd.grad(
            passes(weights, clips, mixing).square().sum(), [mixing, *weights.values()]
        )
        for passes in (plain, fused)
    ]
    torch.testing.assert_close(found[1], found[0], atol=1e-9, rtol=1e-7)


# --- on a GPU ----------------------------------------------------------------------------------


@pytest.mark.slow
@GPU
@pytest.mark.parametrize("how", ["graphs", "fused"])
def test_a_search_and_a_training_on_a_gpu_are_the_same_in_cuda_graphs(
    how: str, tiny: Tiny, tmp_path: Path, newest_state: Newest
) -> None:
    found = []
    for which in ("off", how):
        config = tiny(tmp_path / which, train=PLAIN, device="cuda", compile=which)
        search(config)
        train(config, genotype=MODULE)
        found.append([state(config, newest_state, stage) for stage in ("search", "train")])
    for one, other in zip(*found, strict=True):
        same(other, one, atol=1e-3, rtol=1e-2)
    assert not counters["inductor"]["cudagraph_skips"]
