"""What a card says about serving runs as it stands, for texts and for images; what was not tried says so."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import exported
import huggingface_hub
import numpy as np
import pytest
import tiny
from PIL import Image
from transformers import AutoConfig, ViTImageProcessorPil

from hf_distill import export
from hf_distill.export import export_onnx
from hf_distill.model_card import CardFacts, write_card
from hf_distill.predictor import Predictor
from hf_distill.serving import TEI_ARCHITECTURES, onnx_file

TEXT = "Put a text of your own here."
FACTS = CardFacts("student", "text-classification", architecture="bert", onnx_file="onnx/model.onnx")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("texts") / "student"
    exported.model().save_pretrained(folder)
    exported.tokenizer().save_pretrained(folder)
    (folder / "onnx").mkdir()
    shutil.copy(exported.bert().path, folder / "onnx" / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VGG, whose code lies beside it."""
    folder: Path = tmp_path_factory.mktemp("images") / "student"
    model = tiny.vgg()
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    for place in (folder, folder.parent):
        Image.fromarray(pixels).save(place / "photo.png")
    predictor = Predictor.load(folder)
    export_onnx(
        model,
        folder / "onnx" / "model.onnx",
        examples=predictor.rows([str(folder / "photo.png")] * 4),
        data_collator=predictor.collate,
    )
    return folder


def said(block: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a block of the card prints."""
    capsys.readouterr()
    exec(compile(block, "card", "exec"), {})
    return capsys.readouterr().out.strip()


def blocks(facts: CardFacts) -> list[str]:
    return re.findall(r"```python\n(.*?)```", write_card(facts).text, re.DOTALL)


@pytest.mark.parametrize("task", ["text", "image"])
def test_pipeline_and_onnx_runtime_answer_as_the_model_does(
    task: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder: Path = request.getfixturevalue(f"{task}s")
    [expected] = Predictor.load(folder)([TEXT if task == "text" else str(folder / "photo.png")])
    facts = replace(FACTS, task=f"{task}-classification", brings_code=task == "image", onnx_file=onnx_file(folder))
    with_pipeline, with_onnx, *_ = blocks(facts)

    monkeypatch.chdir(folder.parent)
    assert f"'label': '{expected.label}', 'score': {expected.score:.4f}" in said(with_pipeline, capsys)
    monkeypatch.chdir(folder)
    assert said(with_onnx, capsys) == expected.label


def test_the_blocks_about_onnx_in_the_guide_run(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tiny model in place of that of SST-2; both answer as PyTorch does."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sst2").symlink_to(texts)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export, "_write", lambda model, batch, path: shutil.copy(exported.bert().path, path))
    page = Path(__file__).parents[1] / "docs" / "deploy.md"
    in_python, on_a_server = re.findall(r"```py\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    known: dict[str, Any] = {"texts": ["w5 w6 w7", "w8"] * 4, "labels": [0, 1] * 4}
    exec(compile(in_python, page, "exec"), known)
    assert known["result"].within_bound in (True, False)
    [expected] = Predictor.load(texts)(["A fine film."])
    assert [answer.label for answer in known["answers"]] == [expected.label]
    served: dict[str, Any] = {}
    exec(compile(on_a_server, page, "exec"), served)
    probabilities = np.exp(served["logits"]) / np.exp(served["logits"]).sum()
    assert probabilities.max() == pytest.approx(expected.score, abs=1e-4)


@pytest.mark.parametrize("task", ["text", "image"])
def test_an_endpoint_is_asked_for_as_the_library_wants_it(task: str) -> None:
    """Not tried for real, and the card says so; the names of the arguments are the library's."""
    facts = replace(FACTS, task=f"{task}-classification", model_name="My student_v1." + "x" * 40)
    with mock.patch.object(huggingface_hub, "create_inference_endpoint", autospec=True) as create:
        exec(compile(blocks(facts)[-1], "card", "exec"), {})
    [name] = create.call_args.args
    assert re.fullmatch(r"[a-z0-9-]{4,32}", name)
    assert create.call_args.kwargs["repository"] == f"your-name/{name}"
    assert "### Inference Endpoints\n\nNot tried." in write_card(facts).text
    client = create.return_value.wait.return_value.client
    assert [call[0] for call in client.method_calls] == [f"{task}_classification"]


def test_text_embeddings_inference_is_shown_for_what_it_serves() -> None:
    def shown(**changes: Any) -> bool:
        text = write_card(replace(FACTS, **changes)).text
        return "### text-embeddings-inference\n\nNot tried." in text and "--model-id tester/it\n" in text

    assert all(shown(architecture=name, repo_id="tester/it") for name in TEI_ARCHITECTURES)
    assert not shown(architecture="distilbert", repo_id="tester/it")
    assert not shown(architecture=None, repo_id="tester/it")
    assert not shown(task="image-classification", repo_id="tester/it")
    assert all(AutoConfig.for_model(name).model_type == name for name in TEI_ARCHITECTURES)
