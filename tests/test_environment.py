import os

import datasets
import torch
import transformers

from hf_distill.environment import library_versions, machine


def test_machine_names_the_processor_and_its_threads():
    found = machine("cpu")
    assert found["cpu"]
    assert (found["gpu"], found["cores"], found["threads"]) == (None, os.cpu_count(), torch.get_num_threads())


def test_versions_are_those_that_are_imported():
    found = library_versions()
    assert list(found) == ["python", "torch", "transformers", "datasets", "accelerate", "hf_distill"]
    assert (found["transformers"], found["datasets"]) == (transformers.__version__, datasets.__version__)
