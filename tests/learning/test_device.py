"""The choice of a device, on a machine with or without a GPU."""

from __future__ import annotations

import pytest
import torch

from kinocell.errors import ConfigError
from kinocell.learning.device import choose_device, deterministic, device_name, tried_out


def test_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")


def test_auto_takes_the_gpu_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_unknown_device_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match="'tpu'; it must be auto, cpu, cuda or cuda:N"):
        choose_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_missing_gpu_is_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}', but no CUDA device is visible.*--device cpu"):
        choose_device(name)


@pytest.mark.parametrize(("number", "words"), [(1, "1 thread"), (2, "2 threads")])
def test_name_of_the_cpu_says_how_many_threads(
    number: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: number)
    assert device_name(torch.device("cpu")).endswith(f", {words}")


def test_pytorchs_settings_are_put_back_behind_a_deterministic_block() -> None:
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == before
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("before", [False, True])
def test_setting_of_cudnn_is_put_back_behind_what_is_tried_out(
    before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "benchmark", before)
    seen = []
    with tried_out(True):
        seen.append(cudnn.benchmark)
        with deterministic(True):
            seen.append(cudnn.benchmark)
    with tried_out(False):
        seen.append(cudnn.benchmark)
    with pytest.raises(ZeroDivisionError), tried_out(True):
        raise ZeroDivisionError
    assert [*seen, cudnn.benchmark] == [True, False, before, before]


def test_operation_that_cannot_repeat_itself_is_named() -> None:
    target = torch.zeros(3)
    with (
        pytest.raises(ConfigError, match=r"^put_ does not have .*Run without --deterministic\.$"),
        deterministic(True),
    ):
        target.put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))


def test_other_errors_of_a_deterministic_block_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), deterministic(True):
        torch.ones(2, 3) @ torch.ones(2, 3)
