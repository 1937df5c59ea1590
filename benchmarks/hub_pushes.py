"""Pushes of a 20 MB student over HTTP: seconds and bytes, and whether any is lost where the Hub fails.

    python benchmarks/hub_pushes.py

The server of tests/hub_server.py stands in for the Hub, on this machine and in this process. First a push and pulls
without any fault, beside plain transfers of the same bytes. Then 50 pushes of `hf-distill push`, each with new weights
and a fault, drawn from FAULTS; where the command gives up, it is given once more. After each, what a fresh cache
downloads must be what was trained, to the byte, and the folder must be as it was.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from common import describe_machine, pick_device, print_table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from hub_server import HubServer

TOKEN = "hf_" + "aB3" * 11 + "x"
REPO = "tester/student"
WEIGHTS = "model.safetensors"
LAST = 10**9
"""Of the requests that a fault hits: all, until the Hub works again."""

FAULTS: Mapping[str, tuple[int | None, str, int]] = {
    "nothing at all": (200, "/none/", 0),
    "500 once, asking how to upload": (500, "/preupload/", 1),
    "503 twice, asking where to upload": (503, "/batch", 2),
    "500 once, upload": (500, "/stored/", 1),
    "429 once, Retry-After 7, upload": (429, "/stored/", 1),
    "cut once in the middle of the upload": (0, "/stored/", 1),
    "500 once, check of the upload": (500, "/verify/", 1),
    "500 once, commit": (500, "/commit/", 1),
    "cut once in the middle of the commit": (0, "/commit/", 1),
    "cut once after the commit was made": (-1, "/commit/", 1),
    "401 everywhere": (401, "", LAST),
    "403, commit": (403, "/commit/", LAST),
    "409, commit": (409, "/commit/", LAST),
    "429, Retry-After 7, commit": (429, "/commit/", LAST),
    "500 everywhere": (500, "", LAST),
    "507, commit": (507, "/commit/", LAST),
    "cut in the middle of each upload": (0, "/stored/", LAST),
    "cut in the middle of each commit": (0, "/commit/", LAST),
    "no network": (None, "", LAST),
}
"""Status (0: the connection is cut), part of the address, and how many requests it hits; ``None`` stops the server."""


@dataclass
class Options:
    """What can be chosen on the command line."""

    pushes: int = field(default=50, metadata={"help": "Pushes with a fault."})
    rounds: int = field(default=5, metadata={"help": "Timed rounds without."})
    seed: int = field(default=0, metadata={"help": "Of the order of the faults and of the weights."})


# ---- The student ----


def make_student(folder: Path) -> None:
    """A random BERT of 5 M parameters with tokenizer and card, as a recipe leaves it."""
    from tokenizers import Tokenizer, models
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    from hf_distill.model_card import CardFacts, TeacherFacts, write_card

    words = ["[PAD]", "[UNK]", *(f"word{index}" for index in range(7998))]
    config = BertConfig(
        vocab_size=len(words), hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokens = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    write_card(CardFacts("student", "text-classification", teachers=[TeacherFacts("teacher")])).save(
        folder / "README.md"
    )


def train(folder: Path, seed: int) -> None:
    """Other weights."""
    from safetensors.torch import load_file, save_file

    generator = torch.Generator().manual_seed(seed)
    weights = load_file(folder / WEIGHTS)
    changed = {name: value + torch.randn(value.shape, generator=generator) * 1e-3 for name, value in weights.items()}
    save_file(changed, folder / WEIGHTS, {"format": "pt"})


def digests(folder: Path) -> dict[str, str]:
    """A hash for each file."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# ---- Without faults ----


def timed(hub: HubServer, work: Callable[[], object]) -> tuple[float, int, int]:
    """Seconds, and the bytes that the server received and sent."""
    received, sent, start = hub.received, hub.sent, time.perf_counter()
    work()
    return time.perf_counter() - start, hub.received - received, hub.sent - sent


def plain(hub: HubServer, method: str, address: str, content: bytes | None = None) -> bytes:
    """One request by the standard library."""
    connection = http.client.HTTPConnection(hub.url.removeprefix("http://"))
    connection.request(method, address, content)
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"{method} {address}: {answer.status}")
    return answer.read()


def clean_rounds(hub: HubServer, folder: Path, options: Options) -> Iterator[list[str]]:
    """A row for each way to move a student, the median of the rounds."""
    from huggingface_hub import snapshot_download
    from transformers import AutoModelForSequenceClassification

    found: dict[str, list[tuple[float, int, int]]] = {}

    def add(name: str, work: Callable[[], object]) -> None:
        found.setdefault(name, []).append(timed(hub, work))

    push_or_fail(folder)  # the first one imports much
    for turn in range(options.rounds):
        train(folder, options.seed + turn)
        content = (folder / WEIGHTS).read_bytes()
        address = f"/stored/{hashlib.sha256(content).hexdigest()}"
        for repo in hub.repos.values():
            repo.clear()
        add("floor: a plain PUT of the weights", lambda: plain(hub, "PUT", address, content))  # noqa: B023
        hub.objects.clear()
        add("push", lambda: push_or_fail(folder))
        add("push, nothing changed", lambda: push_or_fail(folder))
        hub.uploaded.clear()
        add("floor: a plain GET of the weights", lambda: plain(hub, "GET", f"/{REPO}/resolve/main/{WEIGHTS}"))
        with tempfile.TemporaryDirectory() as cache:
            add("from_pretrained", lambda: AutoModelForSequenceClassification.from_pretrained(REPO, cache_dir=cache))
        with tempfile.TemporaryDirectory() as cache:
            add("snapshot_download", lambda: snapshot_download(REPO, cache_dir=cache))
    for name, rounds in found.items():
        seconds, received, sent = (list(column) for column in zip(*rounds, strict=True))
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        yield [name, f"{median(seconds):.2f}", spread, f"{median(received):,.0f}", f"{median(sent):,.0f}"]


def push_or_fail(folder: Path) -> None:
    if (told := push(folder)) is not None:
        raise RuntimeError(told)


# ---- With faults ----


def push(folder: Path) -> str | None:
    """The user's command; what it says where it gives up."""
    from hf_distill.cli import main

    told = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(told):
        code = main(["push", str(folder), REPO])
    return None if code == 0 else told.getvalue().strip().splitlines()[-1]


def fresh_download(folder: Path) -> dict[str, str]:
    """A hash for each file that the Hub gives to somebody who has none of them yet."""
    from huggingface_hub import snapshot_download

    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        return digests(Path(snapshot_download(REPO, local_dir=f"{place}/there", cache_dir=f"{place}/cache")))


def faulty_push(hub: HubServer, folder: Path, fault: str) -> tuple[str, str]:
    """How one push ended, and the last words of a first command that gave up."""
    status, where, times = FAULTS[fault]
    before, published = digests(folder), dict(hub.repos.get(REPO, {}))
    hub.stop() if status is None else hub.fail(status, where, {"Retry-After": "7"} if status == 429 else {}, times)
    told, again = push(folder), None
    hub.recover()
    if status is None:
        hub.start()
    if told is not None:
        half = hub.repos.get(REPO, {}) != published and status != -1
        again = "half a model was published" if half else push(folder)
    there, ours = fresh_download(folder), digests(folder)
    hub.objects.clear()
    hub.uploaded.clear()
    # The card names the repository there, and the folder here; all else is the same.
    card = (folder / "README.md").read_text(encoding="utf-8").replace('model="student"', f'model="{REPO}"')
    card = card.replace("  # the folder that holds these files", "").replace("your-name/student", REPO)
    whole = there == {**ours, "README.md": hashlib.sha256(card.encode()).hexdigest()}
    if again is not None or not whole or ours != before:
        return "lost", again or told or ""
    return ("by itself" if told is None else "second push"), told or ""


def faulty_rounds(hub: HubServer, folder: Path, options: Options, waits: list[float]) -> Iterator[list[str]]:
    """A row for each fault."""
    rng = random.Random(options.seed)
    each, more = divmod(options.pushes, len(FAULTS))
    drawn = list(FAULTS) * each + rng.sample(list(FAULTS), more)
    rng.shuffle(drawn)
    ends: dict[str, Counter[str]] = {name: Counter() for name in FAULTS}
    longest: dict[str, float] = dict.fromkeys(FAULTS, 0.0)
    for turn, fault in enumerate(drawn):
        train(folder, options.seed + 1000 + turn)
        waits.clear()
        end, told = faulty_push(hub, folder, fault)
        longest[fault] = max(longest[fault], sum(waits))
        ends[fault][end] += 1
        print(f"{turn + 1:3d} {fault}: {end}. {told}", file=sys.stderr)
    for name, counts in ends.items():
        columns = [str(counts[end]) for end in ("by itself", "second push", "lost")]
        yield [name, str(counts.total()), *columns, f"{longest[name]:.0f}"]
    total = sum(ends.values(), Counter[str]())
    yield ["all", str(total.total()), *(str(total[end]) for end in ("by itself", "second push", "lost")), ""]


def main() -> None:
    """Measure and print."""
    with HubServer(TOKEN, large=(".safetensors",)) as hub, tempfile.TemporaryDirectory() as place:
        settings: dict[str, Any] = {"HF_ENDPOINT": hub.url, "HF_HOME": f"{place}/home", "HF_TOKEN": TOKEN}
        os.environ.update({**settings, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"})
        from huggingface_hub.utils import disable_progress_bars
        from huggingface_hub.utils import logging as hub_logging
        from transformers import HfArgumentParser
        from transformers.utils import logging

        (options,) = HfArgumentParser(Options, description=__doc__).parse_args_into_dataclasses()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        disable_progress_bars()
        hub_logging.set_verbosity_error()
        warnings.simplefilter("ignore")
        folder = Path(place) / "student"
        make_student(folder)
        total = sum(path.stat().st_size for path in folder.iterdir())
        print(describe_machine(pick_device(True), ["huggingface_hub"]))
        print(f"{WEIGHTS}: {(folder / WEIGHTS).stat().st_size:,} bytes, all files: {total:,}", end="\n\n")
        header = ["", "seconds", "least to most", "bytes received", "bytes sent"]
        print_table(header, clean_rounds(hub, folder, options))
        print()
        waits: list[float] = []
        with mock.patch("huggingface_hub.utils._http.time.sleep", waits.append):
            header = ["fault", "pushes", "by itself", "on the second push", "lost", "s waited at most"]
            print_table(header, faulty_rounds(hub, folder, options, waits))


if __name__ == "__main__":
    main()
