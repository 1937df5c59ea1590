"""What a file tells of secrets and of the machine, and what only looks like it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_distill.leaks import leaks

TOKEN = "hf_" + "aB3" * 11 + "x"
KEY = "0123456789abcdef" * 2 + "01234567"
"""As W&B makes them: 40 hexadecimal digits."""

PLACES = [Path("/home/anna"), Path("/opt")]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("adapter_config.json", {"base_model_name_or_path": "/mnt/firm/models/base"}, "/mnt/firm/models/base"),
        ("report.json", {"command": "train.py --data ../../mine/films.csv --seed 1"}, "../../mine/films.csv"),
        ("report.json", {"command": "train.py --student config:/mnt/base"}, "/mnt/base"),
        ("report.json", {"other": [{"deep": ["C:\\Users\\anna\\x"]}]}, "C:\\Users\\anna\\x"),
        ("config.json", {"from": "file:///mnt/base"}, "file:///mnt/base"),
        ("tokenizer_config.json", {"name_or_path": "/mnt/firm/base"}, "/mnt/firm/base"),
        ("README.md", "cd /opt/firm && ls", "/opt/"),
        ("README.md", "`/opt/page`, path:/opt/page", "/opt/"),
        ("report.html", "<a href='file:///home/anna/x.html'>", "/home/anna/"),
        ("modeling_mine.py", 'DATA = "/home/anna/data"', "/home/anna/"),
    ],
)
def test_local_paths(name: str, text: object, expected: str) -> None:
    text = text if isinstance(text, str) else json.dumps(text)
    assert leaks(text, name, PLACES) == [f"the local path {expected}"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("adapter_config.json", {"wandb_api_key": KEY}),
        ("config.json", {"hub_token": KEY}),
        ("report.json", {"command": "train.py --api-key hunter2"}),
        ("report.json", {"command": f"WANDB_API_KEY={KEY} python train.py"}),
        ("README.md", f"run `WANDB_API_KEY={KEY} python train.py`"),
        ("modeling_mine.py", f'login(api_key="{KEY}")'),
        ("tokenizer_config.json", {"x": TOKEN}),
        ("README.md", f"hf download --token {TOKEN}"),
        ("README.md", "from https://anna:hunter2@example.org/films.csv"),
    ],
)
def test_tokens_and_keys(name: str, text: object) -> None:
    text = text if isinstance(text, str) else json.dumps(text)
    assert leaks(text, name) == ["a token or key"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "README.md",
            "See https://example.org/@anna:films and https://example.org/opt/page and https://example.org/home/anna/page.",
        ),
        ("README.md", "runs/opt/sst2, ./opt/sst2, ~/opt/sst2, ../opt/sst2, -/opt/, /optional/x and /home/annabel/x"),
        ("README.md", 'curl 127.0.0.1:8080/predict; <details></details>; "/no_think"; HF_TOKEN=... and token=True'),
        ("report.html", "<td>n/a</td><style>a{b:url(data:image/png;base64,ab/opt+cd/EF==)}</style>"),
        ("modeling_mine.py", 'def f(pad_token=None, api_key=os.environ["KEY_OF_MY_FIRM_2"], token=read(path)): ...'),
        ("tokenizer_config.json", {"eos_token": "</s>", "extra": ["/no_think", "</a>"], "pad_token": "[PAD]"}),
        ("config.json", {"auto_map": {"AutoModel": "modeling_mine.Model"}, "x": ["and/or", "google/bert", "1 / 2"]}),
        ("config.json", {"pad_token": "<pad>", "id2label": {"0": "/m/01g317"}, "size": 0.5, "none": None}),
        ("report.json", {"command": "train.py --data path/to/films.csv --hub_token *** --student layers:0,5"}),
    ],
)
def test_what_only_looks_like_it(name: str, text: object) -> None:
    text = text if isinstance(text, str) else json.dumps(text)
    assert leaks(text, name, PLACES, ["/m/01g317"]) == []


@pytest.mark.parametrize(
    "card", sorted((Path(__file__).parents[1] / "model_cards").glob("*-*")), ids=lambda path: path.name
)
def test_our_own_cards_and_reports_may_be_published(card: Path) -> None:
    assert leaks(card.read_text(encoding="utf-8"), card.name, [Path("/root"), Path("/tmp")]) == []
