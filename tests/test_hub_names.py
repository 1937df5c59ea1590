"""What is a name on the Hub."""

import pytest

from hf_distill.hub_names import hub_id


@pytest.mark.parametrize("name", ["a/b/c", "../x", "./x", "", "two words", "a--b", "x..y", "train.jsonl", "-x", "a/.b"])
def test_what_cannot_be_a_hub_name(name):
    assert hub_id(name) is None


@pytest.mark.parametrize("name", ["bert-base-uncased", "org/name", "microsoft/deberta-v3-base", "a_b/c.d-1"])
def test_what_can_be_a_hub_name(name):
    assert hub_id(name) == name
