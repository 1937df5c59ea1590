"""What a user does with an image model and the Hub, as in ``hub_sessions.py``: ``python hub_images.py push FOLDER``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from hub_server import HubServer
from hub_sessions import REPO, TOKEN, digests, prepare


def push(folder: Path) -> dict[str, Any]:
    """Save a VGG with its image processor, export it and push it."""
    with HubServer(TOKEN, large=(".safetensors", ".onnx")) as hub:
        prepare(hub, folder)
        os.environ["HF_TOKEN"] = TOKEN
        import numpy as np
        import tiny
        import torch
        from PIL import Image
        from transformers import ViTImageProcessorPil

        from hf_distill import Predictor, cli

        student = folder / "student"
        model = tiny.vgg().eval()
        model.save_pretrained(student)
        ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=[0.2] * 3).save_pretrained(student)
        (student / "modeling_of_my_firm.py").write_text("secret = 1\n")
        pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photo.png")
        codes = [cli.main(["export", str(student)]), cli.main(["push", str(student), REPO])]
        predictor = Predictor.load(student)
        with torch.no_grad():
            batch = predictor.collate(predictor.rows([str(folder / "photo.png")]))
            logits = model(**batch).logits.tolist()
        hub.save(folder / "hub")
        local = digests(student)
    return {"codes": codes, "logits": logits, "digests": {name: local[name] for name in hub.repos[REPO]}}


def pull(folder: Path) -> dict[str, Any]:
    """Load it where this package is not installed."""
    with HubServer(TOKEN, {REPO: HubServer.saved(folder / "hub", REPO)}) as hub:
        prepare(hub, folder)
        sys.modules["hf_distill"] = None  # type: ignore[assignment]  # an import of it fails
        import onnxruntime
        import torch
        from huggingface_hub import snapshot_download
        from PIL import Image
        from transformers import AutoImageProcessor, pipeline

        classifier = pipeline("image-classification", model=REPO, trust_remote_code=True)
        place = Path(snapshot_download(REPO))
        photo = Image.open(folder / "photo.png")
        inputs = AutoImageProcessor.from_pretrained(REPO)(photo, return_tensors="np")
        with torch.no_grad():
            logits = classifier.model(torch.from_numpy(inputs["pixel_values"])).logits.tolist()
        session = onnxruntime.InferenceSession(place / "onnx" / "model.onnx")
        return {
            "class": type(classifier.model).__module__,
            "answers": classifier(photo),
            "logits": logits,
            "ONNX": session.run(["logits"], dict(inputs))[0].tolist(),
            "digests": digests(place),
        }


if __name__ == "__main__":
    function, folder = sys.argv[1], Path(sys.argv[2])
    result = {"push": push, "pull": pull}[function](folder)
    (folder / f"{function}.json").write_text(json.dumps(result))
