"""How a batch is split must not change what is learned: against plain autograd on the whole batch."""

from __future__ import annotations

import gradients
import pytest
import torch
from torch import Tensor
from two_processes import run as run_in_two_processes


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name].float(), value.float(), atol=1e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize(("batch", "accumulation"), [(16, 1), (4, 4)])
@pytest.mark.parametrize("case", gradients.CASES, ids=str)
def test_gradients_and_logs_equal_those_of_the_whole_batch(
    case: tuple[str, str, float], batch: int, accumulation: int
) -> None:
    assert_same(gradients.trained(*case, batch, accumulation), gradients.expected(*case))


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """What two gloo processes found, with batches of 4, twice accumulated."""
    return run_in_two_processes(gradients, tmp_path_factory.mktemp("two") / "found.safetensors")


@pytest.mark.parametrize("case", gradients.CASES, ids=str)
def test_two_processes_give_the_same_gradients_and_logs(
    case: tuple[str, str, float], two_processes: dict[str, Tensor]
) -> None:
    prefix = f"{case}/"
    found = {key.removeprefix(prefix): value for key, value in two_processes.items() if key.startswith(prefix)}
    assert_same(found, gradients.expected(*case))


def test_batches_that_one_process_reads_for_all_give_the_same(two_processes: dict[str, Tensor]) -> None:
    prefix = "dispatched/"
    found = {key.removeprefix(prefix): value for key, value in two_processes.items() if key.startswith(prefix)}
    assert_same(found, gradients.expected(*gradients.CASES[0], rows=gradients.DISPATCHED_ROWS))


@pytest.mark.parametrize("when", ["evaluated", "trained"])
def test_two_processes_have_the_same_running_statistics(when: str, two_processes: dict[str, Tensor]) -> None:
    first, second = two_processes[f"statistics/{when}"]
    assert first.abs().sum() > 0
    assert torch.equal(first, second)


def test_two_processes_resume_in_the_middle_of_an_epoch_to_the_same_bits(two_processes: dict[str, Tensor]) -> None:
    whole, resumed = (
        {key.removeprefix(kind): value for key, value in two_processes.items() if key.startswith(kind)}
        for kind in ("whole/", "resumed/")
    )
    assert whole.keys() == resumed.keys()
    assert len(whole) > 0
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
