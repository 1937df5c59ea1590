from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from transformers import HfArgumentParser

from hf_distill import DistillationTrainingArguments


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": 0.0}, "temperature must be a finite number > 0, got 0"),
        ({"temperature": float("nan")}, "temperature"),
        ({"distillation_weight": 1.1}, "distillation_weight.*1.1"),
        ({"distillation_weight": -0.1}, "distillation_weight"),
        ({"teacher_score_examples": -1}, "teacher_score_examples"),
        ({"teacher_dtype": "int8"}, "teacher_dtype.*int8"),
        ({"fp16": True}, "fp16 does nothing on a CPU: use bf16"),
    ],
)
def test_a_setting_out_of_range_is_named(tmp_path: Path, setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillationTrainingArguments(str(tmp_path), use_cpu=True, **setting)


def test_round_trip_through_the_argument_parser(tmp_path: Path) -> None:
    parser = HfArgumentParser(DistillationTrainingArguments)
    flags = [
        "--output_dir",
        str(tmp_path),
        "--temperature",
        "3.5",
        "--distillation_weight",
        "0.25",
        "--use_cpu",
        "True",
    ]
    (parsed,) = parser.parse_args_into_dataclasses([*flags, "--teacher_dtype", "bfloat16"])
    assert (parsed.temperature, parsed.distillation_weight, parsed.teacher_dtype) == (3.5, 0.25, "bfloat16")
    known = {key: value for key, value in parsed.to_dict().items() if not str(value).startswith("<")}
    (again,) = parser.parse_dict(known, allow_extra_keys=True)
    ours = ("temperature", "distillation_weight", "teacher_dtype", "teacher_score_examples")
    assert [getattr(again, name) for name in ours] == [getattr(parsed, name) for name in ours]


def test_help_prints(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        HfArgumentParser(DistillationTrainingArguments).parse_args_into_dataclasses(["--help"])
    assert ended.value.code == 0
    assert "--distillation_weight" in capsys.readouterr().out


def test_the_token_is_not_stored_with_the_arguments(tmp_path: Path) -> None:
    args = DistillationTrainingArguments(str(tmp_path), use_cpu=True, hub_token="hf_secret", temperature=3.0)
    stored = pickle.dumps(args)
    assert b"hf_secret" not in stored
    assert pickle.loads(stored).temperature == 3.0
    assert [copy.copy(args).hub_token, copy.deepcopy(args).hub_token] == ["hf_secret", "hf_secret"]
    assert args.hub_token == "hf_secret"
