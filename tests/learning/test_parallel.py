"""What two real processes tell each other, and what one that is alone gets back.

They are started as any launcher would, from the environment; torchrun is used in `stages`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinocell.errors import ConfigError
from kinocell.learning import parallel
from kinocell.space.norm import batch_normalise, synchronise
from tests.torchruns import kept_port

PROGRAM = """
import json, sys
import torch
from torch import nn
from pathlib import Path
from kinocell.errors import KinocellError
from kinocell.learning import parallel
from tests.learning.test_parallel import (
    cubic, cubic_derivatives, norm_derivatives, normed, whole_clips, whole_norms
)

parallel.start(torch.device("cpu"))
rank, found = parallel.rank(), {}


def refused(action):
    try:
        action()
    except KinocellError as error:
        return f"{type(error).__name__}: {error}"


gradients = [torch.full((2, 3), 1.0 + rank), torch.arange(16.0).view(1, 2, 2, 2, 2)]
gradients[1] = (gradients[1] * (1 + rank)).contiguous(memory_format=torch.channels_last_3d)
parallel.average(gradients)
found["average"] = [gradient.tolist() for gradient in gradients]
found["rows"] = parallel.rows([float(rank), 0.1 + rank])
found["largest"] = parallel.largest([rank, -rank, 5])
found["all_of"] = [parallel.all_of(True), parallel.all_of(rank == 0)]
found["rounds"] = list(parallel.rounds(iter("ac" if rank == 0 else "b"), 3))
found["told"] = parallel.told(lambda: {"by": rank})


def failing():
    raise KinocellError("no")


found["failed"] = refused(lambda: parallel.told(failing))
found["bytes"] = parallel.bytes_of_first(lambda: b"of %d" % rank).decode()
found["no_bytes"] = parallel.bytes_of_first(lambda: b"").decode()
mine = [torch.full((3,), rank), torch.rand(1, 2, 2, 2, 2) + rank]
mine[1] = mine[1].contiguous(memory_format=torch.channels_last_3d)
parallel.same_as_first(mine)
found["same"] = [tensor.tolist() for tensor in mine]
found["part"] = [parallel.part_of(6, "--x"), parallel.said_of(6)]
found["no_part"] = refused(lambda: parallel.part_of(5, "--x"))
found["cubic"] = cubic_derivatives(parallel.over_all(cubic(rank)))
found["norm"] = norm_derivatives(whole_clips().chunk(2)[rank], parallel.of_all)
found["norms"] = whole_norms(rank, 2, parallel.of_all)
bits = parallel.checksum([torch.tensor([1.0 + 1e-7 * rank])])
highest, lowest = parallel.largest([bits, -bits])
found["other_bits"] = refused(lambda: parallel.check_same("alpha", bits, highest, -lowest))
Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(found))
"""


# --- what both sides compute -------------------------------------------------------------------


def cubic(rank: int) -> Callable[[Any, Tensor], Tensor]:
    """A loss of this rank's own data, with derivatives of every order."""
    data = torch.tensor([0.5, -1.5], dtype=torch.float64)[rank]

    def loss(weights: Any, alphas: Tensor) -> Tensor:
        first = (weights["w"] * data + alphas[0]) ** 3
        value: Tensor = (first + alphas[1] * weights["v"] ** 2 * data).sum()
        return value

    return loss


def cubic_derivatives(loss: Callable[[Any, Tensor], Tensor]) -> list[Any]:
    """The loss, its gradients, and the gradient of the gradients' square."""
    weights = {
        "w": torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True),
        "v": torch.tensor([2.0], dtype=torch.float64, requires_grad=True),
    }
    alphas = torch.tensor([0.2, 0.4], dtype=torch.float64, requires_grad=True)
    inputs = [*weights.values(), alphas]
    value = loss(weights, alphas)
    first = torch.autograd.grad(value, inputs, create_graph=True)
    square = torch.stack([gradient.square().sum() for gradient in first]).sum()
    second = torch.autograd.grad(square, inputs)
    return [value.item(), [g.tolist() for g in first], [g.tolist() for g in second]]


def whole_clips() -> Tensor:
    """`[n, c, t, h, w]` far from zero, the two halves unlike each other."""
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(4, 3, 2, 2, 3, generator=generator, dtype=torch.float64) + 3
    clips[2:] *= 2
    return clips.contiguous(memory_format=torch.channels_last_3d)


def normed(x: Tensor, scale: Tensor, of_all: Callable[[Tensor], Tensor] | None) -> Tensor:
    return batch_normalise(x, scale, scale * 2, of_all=of_all)[0]


def norm_derivatives(
    clips: Tensor, of_all: Callable[[Tensor], Tensor] | None = None
) -> dict[str, Any]:
    """Output of a batch norm, first and second derivatives of a function of it, by this part."""
    x = clips.detach().requires_grad_()
    scale = torch.tensor([0.5, 1.5, -2.0], dtype=torch.float64, requires_grad=True)
    y = normed(x, scale, of_all)
    value = (y.pow(3) + y.cos()).sum()
    first = torch.autograd.grad(value, [x, scale], create_graph=True)
    second = torch.autograd.grad(first[0].pow(2).sum(), [x, scale])
    return {
        "y": y.tolist(),
        "x": [first[0].tolist(), second[0].tolist()],
        "scale": [first[1].tolist(), second[1].tolist()],
    }


def whole_norms(
    part: int, parts: int, of_all: Callable[[Tensor], Tensor] | None = None
) -> list[Any]:
    """PyTorch's batch norms of vectors, images and clips: output, gradients, averages."""
    found = []
    for norm, shape in ((nn.BatchNorm1d(3), (4, 3)), (nn.BatchNorm2d(3), (4, 3, 2, 5)),
                        (nn.BatchNorm3d(3, momentum=0.3), (4, 3, 2, 3, 2))):  # fmt: skip
        network = nn.Sequential(norm).double()
        if of_all is not None:
            synchronise(network, of_all, parts)
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(*shape, generator=generator, dtype=torch.float64).chunk(parts)[part]
        x.requires_grad_()
        y = network(x)
        y.pow(3).sum().backward()
        assert x.grad is not None
        gradients = [weight.grad.tolist() for weight in network.parameters()]  # type: ignore[union-attr]
        averages = {name: value.tolist() for name, value in network.state_dict().items()}
        network.eval()
        found.append([y.tolist(), x.grad.tolist(), gradients, averages, network(x).tolist()])
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes have found."""
    folder = tmp_path_factory.mktemp("two")
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    with kept_port() as port:
        place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(folder)],
                env={**os.environ, **place, "RANK": str(rank), "PYTHONPATH": path},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        for process in processes:
            _, talk = process.communicate(timeout=500)
            assert process.returncode == 0, talk
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


# --- two processes -----------------------------------------------------------------------------


def test_gradients_become_their_mean_in_any_memory_format(two: list[dict[str, Any]]) -> None:
    mean = [[[1.5] * 3] * 2, (torch.arange(16.0).view(1, 2, 2, 2, 2) * 1.5).tolist()]
    assert two[0]["average"] == two[1]["average"] == mean


def test_small_values_are_known_to_all_in_the_order_of_ranks(two: list[dict[str, Any]]) -> None:
    for found in two:
        assert found["rows"] == [[0.0, 0.1], [1.0, 1.1]]
        assert found["largest"] == [1, 0, 5]
        assert found["all_of"] == [True, False]


def test_ranks_go_through_as_many_rounds(two: list[dict[str, Any]]) -> None:
    assert [found["rounds"] for found in two] == [["a", "c"], ["b", None]]


def test_first_rank_tells_what_it_got_and_that_it_has_failed(two: list[dict[str, Any]]) -> None:
    for found in two:
        assert found["told"] == {"by": 0}
        assert (found["bytes"], found["no_bytes"]) == ("of 0", "")
    assert two[0]["failed"] == "KinocellError: no"
    assert two[1]["failed"].startswith("SaidElsewhereError")


def test_starting_state_is_that_of_the_first_rank(two: list[dict[str, Any]]) -> None:
    assert two[0]["same"] == two[1]["same"]
    assert two[1]["same"][0] == [0, 0, 0]


def test_batch_is_cut_into_equal_parts_or_refused(two: list[dict[str, Any]]) -> None:
    for found in two:
        assert found["part"] == [3, ", batch 6 = 2 x 3"]
        assert found["no_part"] == (
            "ConfigError: A batch of 5 clips cannot be cut into equal parts for 2 processes. "
            "Choose --x 4 or 6, or another number of processes."
        )


def test_other_bits_are_an_error_on_both(two: list[dict[str, Any]]) -> None:
    for found in two:
        assert found["other_bits"].startswith("RankError: The 2 processes of this run do not hold")


def test_derivatives_of_a_loss_over_all_are_those_of_the_mean_loss(
    two: list[dict[str, Any]],
) -> None:
    """First and second; the same numbers on both ranks."""
    parts = [cubic(0), cubic(1)]
    expected = cubic_derivatives(
        lambda weights, alphas: (parts[0](weights, alphas) + parts[1](weights, alphas)) / 2
    )
    assert two[0]["cubic"] == two[1]["cubic"]
    for found, true in zip(flat(two[0]["cubic"]), flat(expected), strict=True):
        assert found == pytest.approx(true, rel=1e-14)


def test_batch_norm_of_two_parts_is_that_of_the_whole_batch(two: list[dict[str, Any]]) -> None:
    """Output, first and second derivatives; a parameter's are added up over the ranks."""
    x = whole_clips()
    truth = F.batch_norm(x, None, None, training=True)
    expected = norm_derivatives(x)
    scale = torch.tensor([0.5, 1.5, -2.0]).double().view(-1, 1, 1, 1)
    torch.testing.assert_close(torch.tensor(expected["y"]).double(), truth * scale + 2 * scale)
    for name in ("y", "x"):
        joined = [torch.tensor(found["norm"][name]).double() for found in two]
        whole = torch.cat(joined, dim=0 if name == "y" else 1)
        torch.testing.assert_close(whole, torch.tensor(expected[name]).double())
    total = sum(torch.tensor(found["norm"]["scale"]).double() for found in two)
    torch.testing.assert_close(total, torch.tensor(expected["scale"]).double())


def test_pytorchs_batch_norms_see_the_whole_batch_too(two: list[dict[str, Any]]) -> None:
    """Of vectors, images and clips, with their running averages, and in evaluation."""
    for kind, expected in enumerate(whole_norms(0, 1)):
        y, x, weights, averages, tested = zip(*(found["norms"][kind] for found in two), strict=True)
        for parts, whole in ((y, expected[0]), (x, expected[1]), (tested, expected[4])):
            joined = torch.cat([torch.tensor(part) for part in parts])
            torch.testing.assert_close(joined, torch.tensor(whole))
        for number, whole in enumerate(expected[2]):
            total = sum(torch.tensor(of_rank[number]) for of_rank in weights)
            torch.testing.assert_close(total, torch.tensor(whole))
        assert averages[0] == averages[1]
        for name, value in expected[3].items():
            assert flat(averages[0][name]) == pytest.approx(flat(value)), name


def flat(value: Any) -> list[float]:
    """The numbers in lists of lists."""
    return [x for item in value for x in flat(item)] if isinstance(value, list) else [value]


# --- one that is alone -------------------------------------------------------------------------


def test_process_that_is_alone_gets_back_what_it_gave() -> None:
    parallel.start(torch.device("cpu"))
    assert (parallel.world(), parallel.rank(), parallel.is_first()) == (1, 0, True)
    loss = cubic(0)
    assert parallel.over_all(loss) is loss
    gradient = torch.ones(2)
    parallel.average([gradient])
    parallel.same_as_first([gradient])
    assert gradient.tolist() == [1, 1]
    assert parallel.rows([1.0, 2]) == [[1.0, 2]]
    assert parallel.largest([3, -3]) == [3, -3]
    assert parallel.told(lambda: "mine") == "mine"
    assert parallel.bytes_of_first(lambda: b"mine") == b"mine"
    assert list(parallel.rounds(iter("ab"), 2)) == ["a", "b"]
    assert (parallel.part_of(5, "--x"), parallel.said_of(5)) == (5, "")


def test_what_fails_in_a_process_that_is_alone_is_its_own_error() -> None:
    def failing() -> None:
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        parallel.told(failing)
