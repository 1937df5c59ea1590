"""VGG in both forms, against independent ``nn.Sequential`` layouts, and as a citizen of transformers."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForImageClassification, ViTImageProcessorPil, pipeline, set_seed

from hf_distill import DistillationTrainer, VGGConfig, VGGForImageClassification
from hf_distill.models import VGGModel


def small(**config: Any) -> VGGForImageClassification:
    set_seed(0)
    classes = {} if "id2label" in config else {"num_labels": 5}
    return VGGForImageClassification(VGGConfig.vgg8(**{"width": 0.125, **classes, **config}))


def images(count: int = 4, size: int = 32, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=dtype)


def multiplications(model: nn.Module, size: int) -> int:
    """Of convolutions and linear layers in one forward pass, counted by hooks."""
    counted: list[int] = []

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        each = module.weight[0].numel()  # type: ignore[union-attr]
        counted.append(output[0].numel() * each)

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    model.eval()(images(1, size))
    for handle in handles:
        handle.remove()
    return sum(counted)


# ---- What is computed ----


def test_sizes_of_the_small_form() -> None:
    """By hand: 9 in out + out for each convolution, 2 out for its normalisation, 512 classes + classes for the head.

    The published counts for 100 classes are 3.965 M and 9.462 M.
    """
    widths = {"vgg8": [3, 64, 128, 256, 512, 512], "vgg13": [3, 64, 64, 128, 128, 256, 256, 512, 512, 512, 512]}
    for name, published in (("vgg8", 3_965_028), ("vgg13", 9_462_180)):
        pairs = zip(widths[name][:-1], widths[name][1:], strict=True)
        by_hand = sum(9 * i * o + o + 2 * o for i, o in pairs) + 512 * 100 + 100
        model = VGGForImageClassification(getattr(VGGConfig, name)(num_labels=100))
        assert model.num_parameters() == by_hand == published


def test_the_small_form_equals_a_sequence_of_plain_layers() -> None:
    """The layout of the CIFAR networks, written down layer by layer; float64, also the gradients."""
    model = VGGForImageClassification(VGGConfig.vgg11(width=0.125, num_labels=5)).double()
    layers: list[nn.Module] = []
    channels = 3
    for place, out in enumerate((8, 16, 32, 32, 64, 64, 64, 64)):
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if place in (0, 1, 3) else []
        channels = out
    plain = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5)).double()
    for own, other in zip(model.parameters(), plain.parameters(), strict=True):
        other.data.copy_(own.data)
    x = images(dtype=torch.float64)
    weights = torch.randn(4, 5, dtype=torch.float64)
    (model.train()(x).logits * weights).sum().backward()
    (plain(x) * weights).sum().backward()
    torch.testing.assert_close(model(x).logits, plain(x), rtol=1e-10, atol=1e-12)
    for own, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-9, atol=1e-12)


class Torchvision(nn.Module):
    """The layout of torchvision's VGGs, from its documentation: ``features``, ``avgpool``, ``classifier``."""

    def __init__(self, blocks: list[list[int]], batch_norm: bool, hidden: int = 24, classes: int = 6) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for block in blocks:
            for out in block:
                layers.append(nn.Conv2d(channels, out, kernel_size=3, padding=1))
                layers += [nn.BatchNorm2d(out)] if batch_norm else []
                layers.append(nn.ReLU(inplace=True))
                channels = out
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(channels * 7 * 7, hidden), nn.ReLU(True), nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(True),
            nn.Dropout(), nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))
        return out


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(
    "blocks",
    [
        [[4], [6], [8, 8], [8, 8], [8, 8]],
        [[4, 4], [6, 6], [8, 8], [8, 8], [8, 8]],
        [[4, 4], [6, 6], [8] * 3, [8] * 3, [8] * 3],
        [[4, 4], [6, 6], [8] * 4, [8] * 4, [8] * 4],
    ],
    ids=["vgg11", "vgg13", "vgg16", "vgg19"],
)
def test_torchvision_weights_give_the_same_logits(blocks: list[list[int]], batch_norm: bool) -> None:
    set_seed(3)
    original = Torchvision(blocks, batch_norm)
    for module in original.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    model = VGGForImageClassification.from_torchvision(original.state_dict()).double()
    original.double()
    assert not model.training
    assert model.config.depths == [len(block) for block in blocks]
    assert model.num_parameters() == sum(parameter.numel() for parameter in original.parameters())
    for size in (64, 96):  # a last map of 2x2 is blown up to 7x7, one of 3x3 too
        x = images(2, size, torch.float64)
        torch.testing.assert_close(model(x).logits, original.eval()(x), rtol=1e-10, atol=1e-12)
    set_seed(5)
    dropped = model.train()(x).logits
    set_seed(5)
    torch.testing.assert_close(dropped, original.train()(x), rtol=1e-8, atol=1e-10)


def test_the_large_form_is_what_torchvision_has() -> None:
    """The parameter counts in torchvision's documentation of ``vgg11`` and ``vgg19_bn``; built without memory."""
    with torch.device("meta"):
        assert (
            VGGForImageClassification(
                VGGConfig.vgg11(imagenet=True, batch_norm=False, num_labels=1000)
            ).num_parameters()
            == 132_863_336
        )
        assert (
            VGGForImageClassification(VGGConfig.vgg19(imagenet=True, num_labels=1000)).num_parameters() == 143_678_248
        )


def test_the_classes_of_torchvision_weights_can_be_named() -> None:
    original = Torchvision([[2], [2]], batch_norm=True, classes=2)
    model = VGGForImageClassification.from_torchvision(original.state_dict(), id2label={0: "cat", 1: "dog"})
    assert model.config.id2label == {0: "cat", 1: "dog"}
    original.classifier[6].bias.data += 1  # the model has weights of its own
    assert not torch.equal(model.classifier[7].bias, original.classifier[6].bias)


def test_weights_of_something_else() -> None:
    with pytest.raises(ValueError, match=r"not the weights of a VGG of torchvision.*found \['0.bias', '0.weight'\]"):
        VGGForImageClassification.from_torchvision(nn.Sequential(nn.Linear(2, 2)).state_dict())
    state = Torchvision([[2], [2]], batch_norm=True).state_dict()
    del state["features.1.running_mean"]
    with pytest.raises(ValueError, match="running_mean"):
        VGGForImageClassification.from_torchvision(state)


def test_a_student_of_half_the_width_is_five_times_smaller_and_faster() -> None:
    teacher = multiplications(VGGForImageClassification(VGGConfig.vgg13(num_labels=10)), 32)
    assert (
        teacher
        == 32**2 * 9 * (3 * 64 + 64 * 64)
        + 16**2 * 9 * (64 * 128 + 128**2)
        + 8**2 * 9 * (128 * 256 + 256**2)
        + 4**2 * 9 * (256 * 512 + 3 * 512**2)
        + 512 * 10
    )
    assert teacher > 5 * multiplications(VGGForImageClassification(VGGConfig.vgg8(num_labels=10, width=0.5)), 32)


def test_weights_start_as_kaiming_has_it_and_the_answer_nearly_even() -> None:
    model = small(width=1.0)
    layer = model.vgg.blocks[2].layers[0]  # 128 channels to 256
    assert layer.convolution.weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)
    assert layer.convolution.bias.abs().max() == 0
    assert model.classifier[-1].weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert model.classifier[-1].bias.abs().max() == 0
    assert torch.equal(layer.normalization.weight, torch.ones(256))


# ---- What transformers expects of a model ----


def test_hidden_states_are_what_the_blocks_put_out() -> None:
    for config, sizes in (({}, (32, 16, 8, 4, 4)), ({"imagenet": True, "width": 0.03}, (32, 16, 8, 4, 2))):
        model = small(**config).eval()
        seen: list[Tensor] = []
        for block in model.vgg.blocks:
            block.register_forward_hook(lambda *step, seen=seen: seen.append(step[2]))
        found = model(images(), output_hidden_states=True).hidden_states
        assert [state.shape[-1] for state in found] == list(sizes)
        assert all(torch.equal(state, expected) for state, expected in zip(found, seen, strict=True))
        body = model.vgg(images(), output_hidden_states=True)
        assert torch.equal(body.last_hidden_state, body.hidden_states[-1])
        assert model(images()).hidden_states is None


def test_outputs_as_a_tuple() -> None:
    model = small().eval()
    logits, states = model(images(), output_hidden_states=True, return_dict=False)
    assert torch.equal(logits, model(images()).logits)
    assert len(states) == 5


def test_the_loss_of_the_head() -> None:
    model, x = small().eval(), images()
    labels = torch.tensor([0, 1, 4, 2])
    output = model(x, labels=labels)
    torch.testing.assert_close(output.loss, F.nll_loss(output.logits.log_softmax(-1), labels))
    one = small(num_labels=1).eval()
    output = one(x, labels=torch.ones(4))
    torch.testing.assert_close(output.loss, (output.logits.squeeze() - 1).square().mean())


def test_the_model_survives_saving(tmp_path: Path) -> None:
    model = small(id2label={0: "cat", 1: "dog"}).to(memory_format=torch.channels_last)
    model.train()(images())  # moves the statistics of the normalisation
    model.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert isinstance(again, VGGForImageClassification)
    assert again.config.id2label == {0: "cat", 1: "dog"}
    assert torch.equal(again(images()).logits, again(images()).logits)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    body = AutoModel.from_pretrained(tmp_path)
    assert isinstance(body, VGGModel)
    assert torch.equal(body.blocks[0].layers[0].convolution.weight, model.vgg.blocks[0].layers[0].convolution.weight)


def test_another_head_keeps_the_body(tmp_path: Path) -> None:
    small(num_labels=5).save_pretrained(tmp_path)
    model = AutoModelForImageClassification.from_pretrained(tmp_path, num_labels=2, ignore_mismatched_sizes=True)
    assert model.classifier[-1].weight.shape == (2, 64)
    for name, value in small().vgg.state_dict().items():
        assert torch.equal(value, model.vgg.state_dict()[name])


ELSEWHERE = """
import sys

class Absent:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "hf_distill":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import torch
from transformers import AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained(sys.argv[1], trust_remote_code=True)
assert not any(name.startswith("hf_distill") for name in sys.modules)
torch.save(model(torch.load(sys.argv[2])).logits.detach(), sys.argv[3])
model.save_pretrained(sys.argv[1] + "/again")
"""


@pytest.mark.slow
def test_others_load_it_without_this_package(tmp_path: Path) -> None:
    folder, asked, answer = tmp_path / "model", tmp_path / "x.pt", tmp_path / "y.pt"
    model = small().eval()
    model.save_pretrained(folder)
    torch.save(images(), asked)
    command = [sys.executable, "-c", ELSEWHERE, *map(str, (folder, asked, answer))]
    environment = {"PATH": "", "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    torch.testing.assert_close(torch.load(answer), model(images()).logits.detach())
    assert {path.name for path in (folder / "again").glob("*.py")} == {path.name for path in folder.glob("*.py")}


def test_the_pipeline_reads_pictures(tmp_path: Path) -> None:
    classes = {0: "cat", 1: "dog", 2: "owl"}
    model = small(id2label=classes)
    model.classifier[-1].weight.data *= 100
    model.save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    [first, *_] = answers = pipeline("image-classification", model=str(tmp_path))(Image.fromarray(pixels))
    # By hand: the processor's means and deviations are all 0.5.
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 * 2 - 1
    expected = model.eval()(x).logits.softmax(-1)[0].detach()
    assert first["label"] == classes[int(expected.argmax())]
    assert {a["label"]: a["score"] for a in answers} == pytest.approx(
        {classes[i]: float(p) for i, p in enumerate(expected)}, abs=1e-5
    )


@pytest.mark.parametrize("imagenet", [False, True])
def test_channels_last_and_bfloat16(imagenet: bool) -> None:
    model = small(imagenet=imagenet, width=0.125).eval()
    expected = model(images()).logits
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    for x in (images(), images().contiguous(memory_format=torch.channels_last)):
        output = other(x, output_hidden_states=True)
        torch.testing.assert_close(output.logits, expected, rtol=1e-4, atol=1e-6)
        assert output.hidden_states[0].is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        low = other(images()).logits
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), expected, rtol=0.05, atol=0.05 * expected.abs().max().item())
    with torch.autocast("cpu", torch.bfloat16):
        other.train()(images(), labels=torch.tensor([0, 1, 2, 3])).loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in other.parameters())


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (3, 32, 32), (2, 3, 4, 32)])
def test_images_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"needs \(batch, 3, height, width\) with at least 8x8.*convert\('RGB'\)"):
        small()(torch.zeros(shape))


# ---- Distilled ----


def test_a_teacher_with_batch_normalisation_teaches_a_student(tmp_path: Path) -> None:
    """The teacher's statistics stay as they are, the student's move, and the student comes closer."""
    config = {"hidden_sizes": [4, 8], "depths": [1, 1], "batch_norm": True}
    teacher, student = tiny.vgg(seed=1, **{**config, "depths": [2, 2]}), tiny.vgg(**config)
    teacher.train()
    before = copy.deepcopy(teacher.state_dict())
    own = copy.deepcopy(student.state_dict())
    args = tiny.arguments(tmp_path, distillation_weight=1.0, learning_rate=0.01, num_train_epochs=8)
    trainer = DistillationTrainer(student, args, teacher_model=teacher, train_dataset=tiny.dataset("vgg"))
    trainer.train()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    mean = "vgg.blocks.0.layers.0.normalization.running_mean"
    assert not torch.equal(student.state_dict()[mean], own[mean])
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
