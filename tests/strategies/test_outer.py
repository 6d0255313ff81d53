"""The three alpha gradients against differences of the whole procedure, in float64."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import Function
from torch.func import functional_call

from kinocell.learning.optim import optimizer_drift, sgd
from kinocell.space.ops import OPS
from kinocell.space.supernet import SuperNet
from kinocell.space.wiring import SearchSpace
from kinocell.strategies.outer import Loss, Method, outer_gradient
from kinocell.strategies.relax import softmax
from tests.calls import Calls

STEP = 0.5


class Smooth:
    """A mixed network without kinks: tanh layers, an average over time; float64.

    On ReLU and max pool, difference quotients disagree at the kinks, so no parity is asked there.
    """

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.weights = {"first": draw(3, 5) / 2, "second": draw(3, 5) / 2, "last": draw(5, 4) / 2}
        self.alphas = draw(2, 3)
        self.train = (draw(6, 8, 3), torch.tensor([0, 1, 2, 3, 1, 2]))
        self.valid = (draw(6, 8, 3), torch.tensor([3, 2, 1, 0, 0, 1]))

    def loss(self, data: tuple[Tensor, Tensor]) -> Loss:
        clips, labels = data

        def value(weights: Mapping[str, Tensor], alphas: Tensor) -> Tensor:
            mixing = softmax(alphas)
            first = torch.tanh(clips @ weights["first"])
            second = torch.tanh(clips @ weights["second"])
            hidden = mixing[0, 0] * first + mixing[0, 1] * second
            hidden = mixing[1, 0] * hidden + mixing[1, 1] * hidden.tanh()
            logits = hidden.mean(dim=1) @ weights["last"]
            return torch.nn.functional.cross_entropy(logits, labels)

        return value

    def gradient(self, method: Method, drift: Mapping[str, Tensor] | None = None) -> Tensor:
        return outer_gradient(
            self.loss(self.train),
            self.loss(self.valid),
            self.weights,
            self.alphas,
            step=STEP,
            method=method,
            drift=drift,
        )

    def procedure(self, alphas: Tensor, drift: Mapping[str, Tensor] | None = None) -> float:
        """Held-out loss after the unrolled step, everything computed anew."""
        weights = {name: w.clone().requires_grad_() for name, w in self.weights.items()}
        inner = torch.autograd.grad(self.loss(self.train)(weights, alphas), list(weights.values()))
        moved = {
            name: w.detach() - STEP * (g + (drift[name] if drift else 0.0))
            for (name, w), g in zip(weights.items(), inner, strict=True)
        }
        return float(self.loss(self.valid)(moved, alphas))

    def differences(self, drift: Mapping[str, Tensor] | None = None) -> Tensor:
        """Central differences of `procedure` in every entry of alpha."""
        h = 1e-5
        result = torch.zeros_like(self.alphas)
        for place in range(self.alphas.numel()):
            shift = torch.zeros_like(self.alphas)
            shift.view(-1)[place] = h
            ahead = self.procedure(self.alphas + shift, drift)
            behind = self.procedure(self.alphas - shift, drift)
            result.view(-1)[place] = (ahead - behind) / (2 * h)
        return result


@pytest.mark.parametrize("seed", range(3))
def test_exact_is_the_derivative_of_the_whole_procedure(seed: int) -> None:
    problem = Smooth(seed)
    torch.testing.assert_close(
        problem.gradient("exact"), problem.differences(), atol=1e-8, rtol=1e-6
    )


@pytest.mark.parametrize("seed", range(3))
def test_finite_agrees_with_the_derivative_of_the_whole_procedure(seed: int) -> None:
    problem = Smooth(seed)
    error = (problem.gradient("finite") - problem.differences()).abs().max()
    assert error < 1e-6


def test_the_second_order_term_is_not_small_here() -> None:
    """Else the two tests above could not fail: first order must be far from the truth."""
    problem = Smooth()
    error = (problem.gradient("first") - problem.differences()).abs().max()
    assert error > 1e-3


def test_first_is_the_partial_derivative_of_the_held_out_loss() -> None:
    problem = Smooth()
    alphas = problem.alphas.clone().requires_grad_()
    (expected,) = torch.autograd.grad(problem.loss(problem.valid)(problem.weights, alphas), alphas)
    torch.testing.assert_close(problem.gradient("first"), expected)


@pytest.mark.parametrize("method", ["finite", "exact"])
def test_momentum_and_decay_enter_the_unrolled_step(method: Method) -> None:
    problem = Smooth()
    parameters = {name: torch.nn.Parameter(w.clone()) for name, w in problem.weights.items()}
    optimizer = sgd(parameters.values(), learning_rate=STEP, momentum=0.9, decay=3e-4)
    for parameter in parameters.values():
        optimizer.state[parameter]["momentum_buffer"] = torch.ones_like(parameter) / 3
    drift = optimizer_drift(optimizer, parameters)
    gradient = problem.gradient(method, drift)
    torch.testing.assert_close(gradient, problem.differences(drift), atol=1e-6, rtol=1e-5)
    assert (gradient - problem.gradient(method)).abs().max() > 1e-4


def test_the_unrolled_step_is_the_step_that_sgd_takes() -> None:
    problem = Smooth()
    parameters = {name: torch.nn.Parameter(w.clone()) for name, w in problem.weights.items()}
    optimizer = sgd(parameters.values(), learning_rate=STEP, momentum=0.9, decay=3e-4)
    loss = problem.loss(problem.train)
    for _ in range(2):  # the second step has momentum
        drift = optimizer_drift(optimizer, parameters)
        before = {name: p.detach().clone() for name, p in parameters.items()}
        optimizer.zero_grad()
        loss(parameters, problem.alphas).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for name, parameter in parameters.items():
            assert parameter.grad is not None
            expected = before[name] - STEP * (parameter.grad + drift[name])
            torch.testing.assert_close(parameter.detach(), expected)


@pytest.mark.parametrize("method", ["first", "finite", "exact"])
def test_nothing_that_is_passed_in_is_changed(method: Method) -> None:
    problem = Smooth()
    parameters = {name: torch.nn.Parameter(w.clone()) for name, w in problem.weights.items()}
    alphas = torch.nn.Parameter(problem.alphas.clone())
    outer_gradient(
        problem.loss(problem.train),
        problem.loss(problem.valid),
        parameters,
        alphas,
        step=STEP,
        method=method,
    )
    assert torch.equal(alphas, problem.alphas)
    assert alphas.grad is None
    for name, parameter in parameters.items():
        assert torch.equal(parameter, problem.weights[name])
        assert parameter.grad is None
        assert parameter.requires_grad


@pytest.mark.parametrize("method", ["first", "finite", "exact"])
def test_a_loss_without_alpha_has_no_gradient(method: Method) -> None:
    weights = {"w": torch.ones(2, dtype=torch.float64)}

    def loss(weights: Mapping[str, Tensor], alphas: Tensor) -> Tensor:
        return weights["w"].square().sum() + 0.0 * alphas.sum()

    gradient = outer_gradient(
        loss, loss, weights, torch.ones(1, 2, dtype=torch.float64), step=STEP, method=method
    )
    assert torch.equal(gradient, torch.zeros(1, 2, dtype=torch.float64))


def test_another_method_is_refused() -> None:
    problem = Smooth()
    with pytest.raises(ValueError, match="must be first, finite or exact"):
        problem.gradient("second")  # type: ignore[arg-type]


def test_exact_differentiates_through_the_real_supernet() -> None:
    """Tanh for ReLU is not needed here: along one direction, off the kinks, both agree."""
    space = SearchSpace(nodes=1, ops={n: OPS[n] for n in ("conv_1", "avg_pool_3", "skip", "zero")})
    torch.manual_seed(0)
    network = SuperNet(space, 3, channels=2, layers=1, stem_stride=1).double()
    clips = torch.randn(4, 3, 3, 5, 5, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0])

    def loss(weights: Mapping[str, Tensor], alphas: Tensor) -> Tensor:
        logits = functional_call(network, dict(weights), (clips, softmax(alphas)))
        return torch.nn.functional.cross_entropy(logits, labels)

    weights = dict(network.named_parameters())
    alphas = torch.randn(2, 4, dtype=torch.float64)
    exact, finite = (
        outer_gradient(loss, loss, weights, alphas, step=0.05, method=method)
        for method in ("exact", "finite")
    )
    first = outer_gradient(loss, loss, weights, alphas, step=0.05, method="first")
    assert (exact - finite).abs().max() < 0.05 * (exact - first).abs().max()


# --- digits ------------------------------------------------------------------------------------


def digits() -> tuple[str, str]:
    """What fp32 stands for in convolutions and in matrix products on a GPU."""
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    return convolutions.fp32_precision, torch.backends.cuda.matmul.fp32_precision


@pytest.fixture
def tf32() -> Iterator[None]:
    """Allowed in matrix products too; in convolutions it is by default."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    assert digits() == ("tf32", "tf32")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("tf32")
@pytest.mark.parametrize("fails", [False, True])
def test_difference_passes_compute_in_whole_fp32_and_nothing_else_does(fails: bool) -> None:
    """Also where a pass raises, PyTorch's settings are put back."""
    seen: list[tuple[str, tuple[str, str]]] = []

    class Noted(Function):
        """Looks at the settings in the backward pass."""

        @staticmethod
        def forward(_ctx: Any, value: Tensor) -> Tensor:
            return value.clone()

        @staticmethod
        def backward(_ctx: Any, gradient: Tensor) -> Tensor:
            seen.append(("backward", digits()))
            if fails and len(seen) == 6:
                raise ZeroDivisionError
            return gradient

    def loss(weights: Mapping[str, Tensor], alphas: Tensor) -> Tensor:
        seen.append(("forward", digits()))
        mixed: Tensor = Noted.apply(weights["w"] * alphas.exp())  # type: ignore[no-untyped-call]
        return mixed.square().sum()

    weights, alphas = {"w": torch.tensor([1.0, 2.0])}, torch.tensor([0.5, -0.5])
    with pytest.raises(ZeroDivisionError) if fails else contextlib.nullcontext():
        outer_gradient(loss, loss, weights, alphas, step=0.1, method="finite")
    plain, whole = ("tf32", "tf32"), ("ieee", "ieee")
    passes = [plain, plain, whole] if fails else [plain, plain, whole, whole]
    assert seen == [(way, kept) for kept in passes for way in ("forward", "backward")]
    assert digits() == plain
    assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.enabled


# --- what a GPU is told to do ------------------------------------------------------------------


@pytest.mark.parametrize("with_drift", [False, True])
def test_number_of_calls_of_finite_does_not_grow_with_the_number_of_weights(
    with_drift: bool,
) -> None:
    """A search network has hundreds of weights; a loss of all in one keeps its own calls few."""

    def loss(weights: Mapping[str, Tensor], alphas: Tensor) -> Tensor:
        flat = torch.cat([weight.flatten() for weight in weights.values()])
        return flat.square().sum() * alphas.sum()

    counts = []
    for number in (3, 30):
        weights = {str(place): torch.ones(2, 3) for place in range(number)}
        drift = {name: torch.ones(2, 3) for name in weights} if with_drift else None
        with Calls() as calls:
            outer_gradient(
                loss, loss, weights, torch.ones(2, 2), step=0.1, method="finite", drift=drift
            )
        counts.append(len(calls.names))
    assert counts[0] == counts[1]


def test_inner_gradient_of_finite_does_not_reach_alpha() -> None:
    """Nobody asks for that: a captured backward pass would compute it in every step."""
    problem, learned = Smooth(), []

    def train(weights: Mapping[str, Tensor], alphas: Tensor) -> Tensor:
        learned.append((weights["first"].requires_grad, alphas.requires_grad))
        return problem.loss(problem.train)(weights, alphas)

    methods: list[Method] = ["finite", "exact"]
    for method in methods:
        outer_gradient(
            train, problem.loss(problem.valid), problem.weights, problem.alphas,
            step=STEP, method=method,
        )  # fmt: skip
    assert learned == [(True, False), (False, True), (False, True), (True, True)]
