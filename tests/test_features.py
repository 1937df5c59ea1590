"""Collected features against plain indexing and PyTorch's own hidden states; and what cannot be collected."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from hf_distill.features import (
    check_checkpointing,
    check_gradient,
    check_no_class_scores,
    find_module,
    first_tensor,
    tapped,
)

INPUTS = {"input_ids": torch.tensor([[5, 6, 7, 8]])}


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_features_are_the_hidden_states_with_their_gradient() -> None:
    model = tiny.bert(layers=2)
    with tapped(model, ["bert.encoder.layer.0", "bert.encoder.layer.1", "bert.embeddings"]) as features:
        output = model(**INPUTS, output_hidden_states=True)
    expected = dict(
        zip(("bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1"), output.hidden_states, strict=True)
    )
    assert features.keys() == expected.keys()
    for path, value in expected.items():
        assert torch.equal(features[path], value)
    for collected, shown in zip(
        torch.autograd.grad(features["bert.encoder.layer.0"].square().sum(), model.bert.embeddings.parameters()),
        torch.autograd.grad(model(**INPUTS, output_hidden_states=True).hidden_states[1].square().sum(),
                            model.bert.embeddings.parameters()),
        strict=True,
    ):  # fmt: skip
        assert torch.equal(collected, shown)


def test_nothing_is_left_on_the_model_even_after_an_error() -> None:
    model = tiny.bert()
    with tapped(model, ["bert.pooler"]):
        model(**INPUTS)
        assert hooks(model) == 1
    assert hooks(model) == 0
    with pytest.raises(RuntimeError, match="in between"), tapped(model, ["bert.pooler"]):
        raise RuntimeError("in between")
    with pytest.raises(KeyError), tapped(model, ["bert.pooler", "zzz"]):
        pass
    assert hooks(model) == 0


def test_the_rest_of_the_model_goes_on_with_a_transformed_output_and_the_output_itself_is_collected() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    given = torch.ones(1, 2)
    with tapped(model, ["0"], {"0": lambda output: 2 * output + 1}) as features:
        output = model(given)
    assert torch.equal(features["0"], model[0](given))
    assert torch.equal(output, model[2](torch.relu(2 * model[0](given) + 1)))
    assert torch.equal(model(given), model[2](torch.relu(model[0](given))))


def test_several_outputs_are_not_transformed() -> None:
    model = tiny.bert()
    message = r"'bert' puts out a BaseModelOutput.*Choose a module that puts out one tensor"
    with pytest.raises(ValueError, match=message), tapped(model, ["bert"], {"bert": torch.relu}):
        model(**INPUTS)


class Wrapper(nn.Module):
    """What DistributedDataParallel looks like from outside."""

    def __init__(self, module: nn.Module, name: str = "module") -> None:
        super().__init__()
        self.add_module(name, module)

    def forward(self, **inputs: Any) -> Any:
        return next(self.children())(**inputs)


def test_wrappers_do_not_change_a_path() -> None:
    model = tiny.bert()
    wrapped = Wrapper(Wrapper(model, "_orig_mod"))
    assert find_module(wrapped, "bert.pooler") is model.bert.pooler
    with tapped(wrapped, ["bert.pooler"]) as features:
        wrapped(**INPUTS)
    assert features["bert.pooler"].shape == (1, 16)
    with pytest.raises(KeyError, match=r"did you mean 'bert\.pooler'"):
        find_module(wrapped, "bert.poolr")


def test_an_unknown_path_names_the_nearest() -> None:
    with pytest.raises(KeyError, match=r"no module 'bert.encoder.layers.0'; did you mean 'bert.encoder.layer.0'"):
        find_module(tiny.bert(), "bert.encoder.layers.0")


@pytest.mark.parametrize(
    "output",
    [
        torch.ones(2),
        (torch.ones(2), torch.zeros(2)),
        [None, torch.ones(2)],
        {"a": torch.ones(2)},
        BaseModelOutput(last_hidden_state=torch.ones(2)),
    ],
)
def test_the_first_tensor_counts(output: Any) -> None:
    assert torch.equal(first_tensor(output, "path"), torch.ones(2))


def test_a_module_without_a_tensor_is_refused() -> None:
    with pytest.raises(ValueError, match="'path' puts out no tensor but dict"):
        first_tensor({"a": 1}, "path")


class Odd(nn.Module):
    """One module runs twice, one never, one is overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never, self.overwritten, self.last = (nn.Linear(2, 2) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.overwritten(self.twice(self.twice(x))).relu_())


@pytest.mark.parametrize(
    ("path", "message"), [("twice", "more than once"), ("never", "did not run"), ("overwritten", "in place")]
)
def test_an_output_that_is_not_what_it_seems_is_refused(path: str, message: str) -> None:
    model = Odd()
    with pytest.raises(ValueError, match=message), tapped(model, [path]):
        model(torch.zeros(1, 2))
    with tapped(model, ["last"]) as features:
        output = model(torch.zeros(1, 2))
    assert features["last"] is output


def test_checkpointing_is_refused_where_it_cuts_gradients_off() -> None:
    model = tiny.bert(layers=2)
    check_checkpointing(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    check_checkpointing(model)
    model.gradient_checkpointing_enable({"use_reentrant": True})
    with pytest.raises(ValueError, match=r'"use_reentrant": False'):
        check_checkpointing(model)


def test_features_without_a_gradient_are_refused_in_training_only() -> None:
    features = {"alive": torch.ones(1, requires_grad=True), "dead": torch.ones(1)}
    with pytest.raises(ValueError, match=r"through \['dead'\]"):
        check_gradient(features)
    with torch.no_grad():
        check_gradient(features)


def test_scores_of_classes_are_known_by_their_shape() -> None:
    """Those of an example ``(B, C)`` or a token ``(B, L, C)``, but not a map that is as wide as there are classes."""
    others = {"pooler": torch.ones(2, 4), "hidden": torch.ones(2, 3, 4), "map": torch.ones(2, 4, 3, 3)}
    check_no_class_scores("t", others, classes=3)
    for shape in ((2, 3), (2, 5, 3)):
        with pytest.raises(ValueError, match=r"'t' .* 3 classes .*\['head'\]"):
            check_no_class_scores("t", {**others, "head": torch.ones(shape)}, classes=3)
