import pytest

from hf_distill.redaction import public_settings, redacted, shortened

TOKEN = "hf_" + "aB3" * 11 + "x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.py --dataset /home/anna/data/sst2", "train.py --dataset path/to/sst2"),
        ("--teacher=/home/anna/teachers/minilm/", "--teacher=path/to/minilm"),
        ("--dataset ../../data/sst2 --output_dir out/sst2", "--dataset path/to/sst2 --output_dir out/sst2"),
        ("--dataset '/home/anna/My data/movie reviews'", "--dataset path/to/movie_reviews"),
        ("C:\\Users\\anna\\data\\train.csv", "path/to/train.csv"),
        ("\\\\server\\anna\\train.csv", "path/to/train.csv"),
        ("file:///home/anna/train.csv", "path/to/train.csv"),
        ("~/data/sst2 and ~anna/sst2", "path/to/sst2 and path/to/sst2"),
        ("--student config:/mnt/firm/x --seed 0", "--student config:path/to/x --seed 0"),
        ("--student config:C:\\firm\\x", "--student config:path/to/x"),
        ("--student 'config:/mnt/my firm/a base'", "--student config:path/to/a_base"),
        (
            "'--student=config:~/a base' '--data=/mnt/my firm/a.csv'",
            "--student=config:path/to/a_base --data=path/to/a.csv",
        ),
        ("/home/anna", "path/to/home"),
        ("/Users/anna/", "path/to/home"),
        ("/root", "path/to/home"),
        (f"push {TOKEN} now", "push *** now"),
        ("--hub_token abc --seed 0", "--hub_token *** --seed 0"),
        ("HF_TOKEN='abc def' python train.py", "HF_TOKEN=*** python train.py"),
        ("--api-key=abc", "--api-key=***"),
        (f"api_org_{TOKEN[3:]}, hf_oauth_{TOKEN[3:]}", "***, ***"),
        ("--wandb_key abc --keep_features x", "--wandb_key *** --keep_features x"),
    ],
)
def test_tokens_and_local_paths_are_taken_out(text, expected):
    assert redacted(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "LogitTerm(SoftTargetLoss(temperature=4.0), weight=0.7)",
        "[arXiv:1503.02531](https://arxiv.org/abs/1503.02531)",
        "sentence-transformers/all-MiniLM-L6-v2",
        "examples/s, and/or, 1 / 2, n/a, 'https://example.org/a'",
        "--student config:org/name:0,5",
        "accelerate launch recipes/sst2.py --preset quick --max_tokens 5",
        "hf_distillation_of_a_large_model",
    ],
)
def test_everything_else_stays(text):
    assert redacted(text) == text


def test_all_strings_inside_are_reached_and_other_values_stay():
    value = {"a": ["/srv/x/y", {"b": TOKEN}], "n": 1.5, "none": None, "flag": True}

    assert redacted(value) == {"a": ["path/to/y", {"b": "***"}], "n": 1.5, "none": None, "flag": True}


def test_settings_lose_what_is_named_after_a_secret_a_user_or_a_host():
    settings = {"hub_token": "x", "password": "x", "hostname": "x", "user": "x", "node": "x", "node_name": "x"}

    assert public_settings({**settings, "tokenizer": "t", "max_tokens": 5}) == {"tokenizer": "t", "max_tokens": 5}


def test_settings_lose_it_however_deep_it_lies():
    settings = {"deepspeed": {"comet": {"api_key": "x"}, "/srv/anna/x": 2}, "urls": ["https://anna:x@example.org/y"]}

    assert public_settings(settings) == {
        "deepspeed": {"comet": {}, "path/to/x": 2},
        "urls": ["https://***@example.org/y"],
    }


def test_a_name_with_spaces_becomes_one_word():
    assert shortened("/srv/movie reviews") == "path/to/movie_reviews"
