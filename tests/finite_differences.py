"""Value and gradient of a loss against an implementation in plain numpy, which shares no autograd with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Reference = Callable[[NDArray[np.float64], NDArray[np.float64]], "NDArray[np.float64] | float"]


def check_value_and_gradient(
    loss: Callable[[Tensor, Tensor], Tensor], reference: Reference, student: Tensor, teacher: Tensor
) -> None:
    """Assert that the loss has the reference's values, and its gradient by central differences, in float64."""
    student = student.detach().double().requires_grad_()
    values = loss(student, teacher.double())
    values.sum().backward()
    ours, theirs = student.detach().numpy().copy(), teacher.double().numpy()
    np.testing.assert_allclose(values.detach().numpy(), reference(ours, theirs), rtol=1e-9, atol=1e-12)
    expected, step = np.zeros_like(ours), 1e-6
    for index in np.ndindex(ours.shape):
        up, down = ours.copy(), ours.copy()
        up[index] += step
        down[index] -= step
        expected[index] = np.sum(np.asarray(reference(up, theirs)) - np.asarray(reference(down, theirs))) / (2 * step)
    np.testing.assert_allclose(student.grad.numpy(), expected, rtol=1e-5, atol=1e-8)
