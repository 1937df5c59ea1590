"""What a user does with the Hub, each function in a process of its own: ``python hub_sessions.py push FOLDER``.

The server runs in the same process, so that it can fail at a chosen moment. Results go to ``FOLDER/<function>.json``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

from hub_server import HubServer

TOKEN = "hf_" + "aB3" * 11 + "x"
REPO = "tester/student"
SOFT_LABELS = "tester/soft-labels"
TEXTS = ["w5 w6 w7", "w8 w9"]


def push(folder: Path) -> dict[str, Any]:
    """Train a step, then push: while the Hub fails in several ways, when it works again, and other weights to v2."""
    with HubServer(TOKEN) as hub:
        prepare(hub, folder)
        trainer, log = trained(folder), Log()
        logging.getLogger("hf_distill").addHandler(log)
        output = Path(trainer.args.output_dir)
        faults = {
            "server error": lambda: hub.fail(500),
            "bad token": lambda: hub.fail(401),
            "refused": hub.stop,
            "full": lambda: hub.fail(507, "/commit/"),
            "server error at upload": lambda: hub.fail(500, "/preupload/"),
        }
        attempts = {}
        for name, begin in faults.items():
            for path in output.glob("*.*"):
                path.unlink()
            begin()
            attempts[name] = {**attempt(trainer, log), "files": names(output), "loads": same_as_saved(trainer, output)}
            hub.recover()
            if name == "refused":
                hub.start()
        attempts["works again"] = attempt(trainer, log)
        result = {"attempts": attempts, "logits": logits(trainer.model, trainer.processing_class)}
        result["digests"] = {name: digests(output)[name] for name in hub.repos[REPO]}
        trainer.model.classifier.weight.data.mul_(-3)
        trainer.push_to_hub(revision="v2")
        hub.save(folder / "hub")
        (folder / "uploaded.bin").write_bytes(b"\n".join(hub.uploaded))
    return {**result, "logits of v2": logits(trainer.model, trainer.processing_class)}


def pull(folder: Path) -> dict[str, Any]:
    """Load from the Hub what ``push`` left there, in a private repository that has another branch, too."""
    with HubServer(TOKEN, {repo: HubServer.saved(folder / "hub", repo) for repo in (REPO, f"{REPO}@v2")}) as hub:
        hub.private.add(REPO)
        prepare(hub, folder)
        from huggingface_hub import snapshot_download
        from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

        refused = ""
        try:
            AutoModelForSequenceClassification.from_pretrained(REPO)
        except OSError as error:
            refused = str(error)
        os.environ["HF_TOKEN"] = TOKEN
        model, tokenizer = AutoModelForSequenceClassification.from_pretrained(REPO), AutoTokenizer.from_pretrained(REPO)
        branch = AutoModelForSequenceClassification.from_pretrained(REPO, revision="v2")
        return {
            "logits": logits(model, tokenizer),
            "answers": pipeline("text-classification", model=REPO)(TEXTS),
            "digests": digests(Path(snapshot_download(REPO))),
            "logits of v2": logits(branch, AutoTokenizer.from_pretrained(REPO, revision="v2")),
            "without_a_token": refused,
        }


def learn(folder: Path) -> dict[str, Any]:
    """Load soft labels from the Hub, without a token, and learn from them. Of the teacher nothing is here."""
    repo = f"datasets/{SOFT_LABELS}"
    with HubServer(TOKEN, {repo: HubServer.saved(folder / "hub", repo)}) as hub:
        prepare(hub, folder)
        from cached_runs import renamed
        from datasets import load_dataset

        from hf_distill import ColumnTeacher

        rows, teacher = load_dataset(SOFT_LABELS, split="train"), ColumnTeacher("teacher_logits")
        student = renamed(teacher, folder / "student", rows)
        return {
            "logits": rows["teacher_logits"][:],
            "classes": teacher.classes,
            "student": {name: value.tolist() for name, value in student.items()},
        }


def prepare(hub: HubServer, folder: Path) -> None:
    """Point the libraries at the server. Before the first import of any of them."""
    assert "huggingface_hub" not in sys.modules
    os.environ.pop("HF_TOKEN", None)
    os.environ.update(HF_ENDPOINT=hub.url, HF_HOME=str(folder / "home"), HF_HUB_DISABLE_XET="1", HF_HUB_OFFLINE="0")


def trained(folder: Path) -> Any:
    """A trainer after one step, with things in its output folder that must not be published."""
    import tiny
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

    from hf_distill import DistillationTrainer, DistillationTrainingArguments

    tokens = Tokenizer(
        models.WordLevel({"[PAD]": 0, "[UNK]": 1, **{f"w{i}": i for i in range(2, 40)}}, unk_token="[UNK]")
    )
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        folder / "base"
    )
    tiny.bert(labels=2).save_pretrained(folder / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    teacher = tiny.bert(labels=2, layers=2, seed=1)
    teacher.save_pretrained(folder / "my-teacher")
    output = folder / "student"
    args = DistillationTrainingArguments(
        str(output),
        max_steps=1,
        save_steps=1,
        hub_token=TOKEN,
        use_cpu=True,
        teacher_score_examples=0,
        disable_tqdm=True,
    )
    trainer = DistillationTrainer(
        AutoModelForSequenceClassification.from_pretrained(folder / "base"),
        args,
        teacher_model=AutoModelForSequenceClassification.from_pretrained(folder / "my-teacher"),
        train_dataset=Dataset.from_dict({**tokenizer(TEXTS, padding=True), "labels": [0, 1]}),
        processing_class=tokenizer,
    )
    trainer.train()
    for private in ("_cache/logits.arrow", "_teacher/model.safetensors"):
        (output / private).parent.mkdir()
        (output / private).write_text("not for others")
    return trainer


class Log(logging.Handler):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def attempt(trainer: Any, log: Log) -> dict[str, Any]:
    """Push once; the waiting between retries is counted, not done."""
    log.messages.clear()
    waits: list[float] = []
    start = time.monotonic()
    error = None
    with mock.patch("huggingface_hub.utils._http.time.sleep", waits.append):
        try:
            trainer.push_to_hub()
        except Exception as raised:  # any error: the test looks at its type and text
            error = f"{type(raised).__name__}: {raised}"
    return {"error": error, "seconds": time.monotonic() - start + sum(waits), "log": list(log.messages)}


def digests(folder: Path) -> dict[str, str]:
    """A hash of each file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def same_as_saved(trainer: Any, folder: Path) -> bool:
    """Whether the folder holds a student and a tokenizer that answer as those of the trainer do."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        return logits(model, AutoTokenizer.from_pretrained(folder)) == logits(trainer.model, trainer.processing_class)
    except (OSError, ValueError):
        return False


def logits(model: Any, tokenizer: Any) -> list[list[float]]:
    import torch

    with torch.no_grad():
        return model.eval()(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.tolist()


if __name__ == "__main__":
    function, folder = sys.argv[1], Path(sys.argv[2])
    result = {"push": push, "pull": pull, "learn": learn}[function](folder)
    (folder / f"{function}.json").write_text(json.dumps(result))
