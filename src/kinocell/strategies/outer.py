"""The gradient of the held-out loss with respect to alpha: first, finite, exact.

Nothing about networks or data: both losses are functions of weights and alphas.

With one unrolled step  w' = w - step * dL_train/dw (w, alpha)  the gradient is

    dL_valid/dalpha (w', alpha) - step * d2L_train/(dalpha dw) (w, alpha) . dL_valid/dw (w', alpha)

(Peng et al. 2019, Eq. 3 and 4, after DARTS).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]
Loss = Callable[[Weights, Tensor], Tensor]
Method = Literal["first", "finite", "exact"]

DIFFERENCE_SCALE = 0.01
"""Of the central difference: r = 0.01 / ||v|| (DARTS, section 2.3)."""


def outer_gradient(
    train_loss: Loss,
    valid_loss: Loss,
    weights: Weights,
    alphas: Tensor,
    *,
    step: float,
    method: Method,
    drift: Weights | None = None,
) -> Tensor:
    """Gradient of the held-out loss after one unrolled weight step, `[edges, operators]`.

    Nothing that is passed in is changed, and no weight gradient is accumulated anywhere.

    Args:
        train_loss: Loss on the weights' half, as a function of weights and alphas; a scalar.
        valid_loss: Loss on alpha's half, likewise.
        weights: The network's parameters by name.
        alphas: Architecture parameters, `[edges, operators]`.
        step: Length of the unrolled step; the weights' current learning rate.
        method: "first" takes the step as 0; "finite" takes the second derivative by central
            differences; "exact" by automatic differentiation (the oracle).
        drift: What the optimizer adds to the training gradient in the unrolled step (momentum,
            weight decay); it does not depend on alpha. None: plain SGD, as in the paper's Eq. 3.

    Raises:
        ValueError: Another method.
    """
    names = list(weights)
    fixed = {name: weights[name].detach().requires_grad_() for name in names}
    alphas = alphas.detach().requires_grad_()
    if method == "first":
        return _gradient_of_alphas(valid_loss, weights, alphas)
    if method not in ("finite", "exact"):
        raise ValueError(f"method is {method!r}; it must be first, finite or exact.")

    exact = method == "exact"
    inner = torch.autograd.grad(
        # Without `exact` nobody differentiates the inner gradient by alpha.
        train_loss(fixed, alphas if exact else alphas.detach()), list(fixed.values()),
        create_graph=exact, materialize_grads=True,
    )  # fmt: skip
    unrolled = _moved(fixed, inner, step, drift)
    if exact:
        (total,) = torch.autograd.grad(valid_loss(unrolled, alphas), alphas, materialize_grads=True)
        return total

    unrolled = {name: value.detach().requires_grad_() for name, value in unrolled.items()}
    direct, *direction = torch.autograd.grad(
        valid_loss(unrolled, alphas), [alphas, *unrolled.values()], materialize_grads=True
    )
    return direct - step * _mixed_product(
        train_loss, weights, alphas, dict(zip(names, direction, strict=True))
    )


def _moved(
    weights: Weights, gradients: tuple[Tensor, ...], step: float, drift: Weights | None
) -> dict[str, Tensor]:
    """The weights behind the unrolled step.

    All at once, here and below: a GPU would be told hundreds of times to add a few numbers.
    """
    if drift is not None:
        gradients = torch._foreach_add(gradients, [drift[name] for name in weights])
    moved = torch._foreach_sub([*weights.values()], torch._foreach_mul(gradients, step))
    return dict(zip(weights, moved, strict=True))


def _mixed_product(
    train_loss: Loss, weights: Weights, alphas: Tensor, direction: Weights
) -> Tensor:
    """d2L/(dalpha dw) . direction, by central differences of dL/dalpha along `direction`."""
    slopes = [direction[name] for name in weights]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(slopes)))
    # A zero direction has a zero product; the tiny floor keeps 0/0 out of it.
    radius = DIFFERENCE_SCALE / norm.clamp_min(torch.finfo(norm.dtype).tiny ** 0.5)
    # New tensors on both sides: w + rv - 2rv + rv in place does not come back bit for bit.
    here, shifts = [w.detach() for w in weights.values()], torch._foreach_mul(slopes, radius)
    ahead = dict(zip(weights, torch._foreach_add(here, shifts), strict=True))
    behind = dict(zip(weights, torch._foreach_sub(here, shifts), strict=True))
    with _full_precision(alphas.device):
        difference = _gradient_of_alphas(train_loss, ahead, alphas) - _gradient_of_alphas(
            train_loss, behind, alphas
        )
    return difference / (2 * radius)


@contextlib.contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Whatever the caller computes in: in fewer digits the difference would be noise.

    Neither autocast nor TF32, which PyTorch takes for convolutions on a GPU even where all numbers
    are fp32: its 10 bits leave the second-order term an error of a quarter, fp32 one of 1 %. By
    operator, which is what the kernels read; PyTorch's older `allow_tf32` follows.
    """
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    products = torch.backends.cuda.matmul
    before = convolutions.fp32_precision, products.fp32_precision
    convolutions.fp32_precision = products.fp32_precision = "ieee"
    known = torch.amp.is_autocast_available(device.type)
    try:
        with torch.autocast(device.type, enabled=False) if known else contextlib.nullcontext():
            yield
    finally:
        convolutions.fp32_precision, products.fp32_precision = before


def _gradient_of_alphas(loss: Loss, weights: Weights, alphas: Tensor) -> Tensor:
    # Detached weights: no weight gradient is computed, which is most of the backward pass.
    detached = {name: weight.detach() for name, weight in weights.items()}
    (gradient,) = torch.autograd.grad(loss(detached, alphas), alphas, materialize_grads=True)
    return gradient
