import copy
import itertools
import json
import re
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from hf_distill.hub_names import hub_id
from hf_distill.losses import SoftTargetLoss
from hf_distill.model_card import CardFacts, TeacherFacts, sources, with_deployment, with_onnx_route, write_card

TOKEN = "hf_" + "aB3" * 11 + "x"


def scores(accuracy, **spread):
    per_class = {
        "negative": {"precision": 0.811, "recall": 0.822, "f1": 0.816, "support": 428},
        "positive": {"precision": 0.833, "recall": 0.844, "f1": 0.838, "support": 444},
    }
    return {
        "accuracy": accuracy,
        "macro_f1": accuracy - 0.0012,
        "ece": 0.0314,
        "parameters": 15_616_514,
        "size_mb": 62.47,
        "latency_ms": {"p50": 2.304, "p95": 2.987},
        "throughput_per_s": 1537.4,
        "per_class": per_class,
        "per_class_std": None,
        **spread,
    }


@pytest.fixture
def facts():
    return CardFacts(
        model_name="sst2-two-layers",
        task="text-classification",
        repo_id="anna/sst2-two-layers",
        teachers=[TeacherFacts("anna/minilm-sst2", revision="4f2c9d1")],
        base_model="sentence-transformers/all-MiniLM-L6-v2",
        datasets=["stanfordnlp/sst2"],
        language="en",
        license="apache-2.0",
        tags=["sentiment"],
        labels=["negative", "positive"],
        objective={"ce": "LabelTerm(weight=0.3)", "kd": "LogitTerm(SoftTargetLoss(temperature=4.0), weight=0.7)"},
        training={"learning_rate": 2e-4, "num_train_epochs": 3, "precision": "bf16", "seed": 0},
        versions={"torch": "2.13.0"},
        references=sources([SoftTargetLoss(4.0)]),
    )


@pytest.fixture
def report():
    spread = {"accuracy_std": 0.0021, "latency_ms_std": {"p50": 0.021, "p95": 0.05}}
    return {
        "teacher": scores(0.8971, accuracy_std=None),
        "student": scores(0.8704, **spread, per_class_std={"negative": {"f1": 0.004}, "positive": {"f1": 0.005}}),
        "control": scores(0.8542, **spread),
        "agreement": 0.934,
        "agreement_std": 0.003,
        "kl_nats": 0.081,
        "kl_nats_std": 0.004,
        "gap_closed": 0.378,
        "gap_closed_std": 0.052,
        "seeds": [0, 1, 2],
        "dataset": "stanfordnlp/sst2",
        "split": "validation",
        "examples": 1872,
        "machine": {"processor": "Xeon 8488C", "cores": 2},
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
        "command": "accelerate launch recipes/sst2.py --seeds 0,1,2",
        "training": {
            "published_seed": 2,
            "control": "the same student, trained on the same data but without the teacher",
            "settings": {"training examples": 67349, "learning_rate": 2e-4, "max_grad_norm": 5.0},
        },
        "other_splits": {"test": {"teacher": {"accuracy": 0.891}, "student": {"accuracy": 0.862}, "control": None}},
    }


def test_metadata_survives_saving_and_loading(facts, report, tmp_path):
    write_card(facts, report).save(tmp_path / "README.md")
    data = ModelCard.load(tmp_path / "README.md").data

    assert data.pipeline_tag == "text-classification"
    assert data.library_name == "transformers"
    assert data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert data.base_model_relation == "finetune"
    assert data.datasets == ["stanfordnlp/sst2"]
    assert data.language == ["en"]
    assert data.license == "apache-2.0"
    assert data.metrics == ["accuracy", "f1"]
    assert data.tags == ["knowledge-distillation", "hf-distill", "sentiment"]
    assert data.model_name == "sst2-two-layers"


def test_the_hubs_results_are_the_students_on_each_split(facts, report):
    results = ModelCard(str(write_card(facts, report))).data.eval_results

    found = {(result.dataset_split, result.metric_type): result.metric_value for result in results}
    assert found == {
        ("validation", "accuracy"): 0.8704,
        ("validation", "f1"): 0.8692,
        ("test", "accuracy"): 0.862,
    }
    assert {result.dataset_type for result in results} == {"stanfordnlp/sst2"}
    assert {result.metric_name for result in results} == {"Accuracy (mean of 3 seeds)", "Macro F1 (mean of 3 seeds)"}


def test_the_table_shows_mean_and_deviation_of_the_three_models(facts, report):
    text = write_card(facts, report).text

    assert "| Accuracy | 0.897 | 0.870 ± 0.002 | 0.854 ± 0.002 |" in text
    assert "| Parameters | 15,616,514 | 15,616,514 | 15,616,514 |" in text
    assert "| Latency p50, ms | 2.30 | 2.30 ± 0.02 | 2.30 ± 0.02 |" in text
    assert (
        "split `validation`, 1,872 examples: mean ± standard deviation over 3 training runs, seeds 0, 1, 2. "
        "These files are the model of seed 2." in text
    )
    assert "0.38 ± 0.05" in text  # gap closed
    assert "| negative | 0.811 | 0.822 | 0.816 ± 0.004 | 0.816 | 0.816 | 428 |" in text
    assert "| Accuracy | 0.891 | 0.862 | – |" in text  # test, where there is no control


def test_it_names_teacher_objective_settings_and_papers(facts, report):
    text = write_card(facts, report).text

    assert "[anna/minilm-sst2](https://huggingface.co/anna/minilm-sst2) at revision `4f2c9d1`" in text
    assert "| kd | `LogitTerm(SoftTargetLoss(temperature=4.0), weight=0.7)` |" in text
    assert "| learning_rate | 0.0002 |" in text
    assert "accelerate launch recipes/sst2.py \\\n  --seeds 0,1,2\n" in text
    assert "| processor | Xeon 8488C |" in text
    assert "| transformers | 5.23.0 |" in text
    assert "[arXiv:1503.02531](https://arxiv.org/abs/1503.02531)" in text


@pytest.mark.parametrize(
    ("task", "call"),
    [("text-classification", 'classifier("Put a text'), ("image-classification", 'classifier("photo.png")')],
)
def test_how_to_use_it_is_python_for_the_task(facts, task, call):
    text = write_card(replace(facts, task=task)).text
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]

    compile(code, "card", "exec")
    assert f'pipeline("{task}", model="anna/sst2-two-layers")' in code
    assert call in code


def test_without_a_report_there_is_no_result(facts):
    card = write_card(facts)

    assert "No results were recorded" in card.text
    assert card.data.eval_results is None
    assert card.data.metrics is None
    assert "Accuracy" not in card.text
    assert "±" not in card.text


def test_every_figure_of_the_results_is_in_the_report(facts, report):
    results = re.search(r"## Results\n(.*?)\n## Training", write_card(facts, report).text, re.DOTALL)[1]
    shown = re.findall(
        r"\d+(?:,\d{3})*(?:\.\d+)?", re.sub(r"sst2|F1|p\d\d|\dn", "", results.replace("over 3 training", ""))
    )
    known = numbers_in(report)

    assert len(shown) > 30
    for figure in shown:
        decimals = len(figure.partition(".")[2])
        assert any(f"{value:,.{decimals}f}" == figure for value in known), figure


def numbers_in(value):
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers_in(item)]
    if isinstance(value, list):
        return [number for item in value for number in numbers_in(item)]
    return [value] if isinstance(value, (int, float)) else []


def test_a_report_may_know_little(facts):
    text = write_card(facts, {"student": {"accuracy": 0.75}}).text

    assert "Measured on data without a name." in text
    assert "|  | Student |\n|:--|--:|\n| Accuracy | 0.750 |\n" in text


def test_one_seed_and_no_control_are_limits(facts, report):
    card = write_card(facts, {**report, "seeds": [0], "control": None, "gap_closed": None})

    assert "one training run, seed 0" in card.text
    assert "There was one training run: how far the figures vary with the seed is not known" in card.text
    assert "There is no control" in card.text
    assert "Gap closed" not in card.text
    assert "| Accuracy | 0.897 | 0.870" in card.text
    assert {result.metric_name for result in card.data.eval_results} == {"Accuracy", "Macro F1"}


def test_settings_are_the_reports_where_it_has_them(facts, report):
    text = write_card(facts, report).text

    assert "| training examples | 67349 |\n| learning_rate | 0.0002 |\n| max_grad_norm | 5.0 |\n\n" in text
    assert "num_train_epochs" not in text
    assert "| num_train_epochs | 3 |" in write_card(facts, {**report, "training": None}).text


def test_how_the_control_was_made_is_said_where_the_report_knows_it(facts, report):
    text = write_card(facts, report).text
    assert "Control is the same student, trained on the same data but without the teacher. What" in text
    assert "is what distillation brought." in text

    settings = {"of them without a label": 3}
    mixed = write_card(facts, {**report, "training": {**report["training"], "settings": settings}}).text
    assert "is what teacher and unlabelled examples brought." in mixed


def test_a_bare_comparison_says_nothing_of_seeds_and_steps(facts, report):
    """What ``compare`` alone finds, with seeds and without."""
    for bare in ({**report, "training": None}, {**report, "training": None, "seeds": []}):
        text = write_card(facts, bare).text
        assert "seeds was not recorded." in text
        for claim in ("same data for", "same number", "same seeds", "These files are", "brought", "one training run"):
            assert claim not in text
    assert "How far the figures vary with the seed is not known." in text


def test_what_is_not_a_number_is_a_dash(facts, report):
    report["student"]["ece"] = float("nan")
    report["student"]["latency_ms"] = None

    text = write_card(facts, report).text

    assert "| Calibration error (ECE) | 0.031 | – | 0.031 |" in text
    assert "| Latency p50, ms | 2.30 | – | 2.30 ± 0.02 |" in text


def test_no_path_token_user_or_host_comes_through(facts, report):
    home = "/home/berta"
    facts = replace(
        facts,
        model_name=f"{home}/out/student",
        repo_id=f"{home}/out/student",
        base_model=f"{home}/models/base",
        teachers=[TeacherFacts(f"{home}/models/teacher")],
        datasets=[f"{home}/data/sst2", "C:\\Users\\berta\\more.csv"],
        student_origin=f"layers of {home}/models/teacher",
        objective={"kd": f"LogitTerm(teacher={home}/models/teacher)"},
        training={"output_dir": f"{home}/out", "hub_token": TOKEN, "run_name": TOKEN},
        limits=[f"See {home}/notes.txt"],
    )
    report["dataset"] = f"{home}/data/sst2"
    report["training"]["settings"] = {"deepspeed": f"{home}/ds.json", "hub_token": TOKEN, "run_name": TOKEN}
    report["machine"] = {"hostname": "bertas-laptop", "user": "berta", "processor": "Xeon 8488C"}
    report["command"] = f"HF_TOKEN={TOKEN} python recipes/sst2.py --dataset {home}/data/sst2 --hub_token {TOKEN}"
    report["versions"] = {"hf-distill": f"file://{home}/hf_distill"}

    card = write_card(facts, report)

    assert not re.search(r"berta|/home|Users|hf_a", str(card))
    assert card.data.base_model is None
    assert "base_model_relation" not in card.data
    assert card.data.datasets is None
    assert card.data.eval_results[0].dataset_type == "unknown"
    assert card.data.eval_results[0].dataset_name == "sst2 (local)"
    assert "# student\n" in card.text
    assert "distilled from teacher (local)" in card.text
    assert 'model="student")  # the folder' in card.text


def test_a_folder_that_exists_is_no_hub_name(facts, tmp_path, monkeypatch):
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert hub_id("org/name") == "org/name"

    monkeypatch.chdir(tmp_path)

    assert hub_id("org/name") is None
    card = write_card(replace(facts, base_model="org/name", teachers=[TeacherFacts("org/name")]))
    assert card.data.base_model is None
    assert "huggingface.co/org/name" not in card.text


def test_a_configuration_stands_beside_its_data_set(facts, report):
    named = "nyu-mll/glue:sst2"
    card = write_card(replace(facts, datasets=[named]), {**report, "dataset": named})

    assert card.data.datasets == ["nyu-mll/glue"]
    assert {(found.dataset_type, found.dataset_config) for found in card.data.eval_results} == {
        ("nyu-mll/glue", "sst2")
    }
    link = "[nyu-mll/glue](https://huggingface.co/datasets/nyu-mll/glue), configuration sst2"
    assert f"- Data: {link}\n" in card.text
    assert f"Measured on {link}, split" in card.text


def test_a_name_in_words_gets_no_link(facts):
    text = write_card(replace(facts, teachers=[TeacherFacts("column teacher_logits"), TeacherFacts("minilm")])).text

    assert "distilled from column teacher_logits and minilm with" in text


def test_a_student_without_base_says_where_it_came_from(facts):
    card = write_card(replace(facts, base_model=None, student_origin="built from a configuration, random weights"))

    assert "- Student: built from a configuration, random weights" in card.text
    assert "base_model" not in card.data.to_dict()


def test_without_a_teacher_it_is_not_called_distilled(facts):
    card = write_card(replace(facts, teachers=[]))

    assert "knowledge-distillation" not in card.data.tags
    assert "trained with hf-distill without a teacher" in card.text
    assert "distilled" not in card.text


def test_odd_names_break_neither_tables_nor_html(facts, report):
    for model in ("teacher", "student", "control"):
        report[model]["per_class"] = {"a|b <script>": report[model]["per_class"]["negative"]}
        report[model]["per_class_std"] = None

    text = write_card(replace(facts, objective={"kd": "Term(`a|b`)"}), report).text

    assert "| a\\|b &lt;script> | 0.811 |" in text
    assert "| kd | `Term('a\\|b')` |" in text


def test_a_class_may_be_called_user_or_token(facts, report):
    for model in ("teacher", "student", "control"):
        report[model]["per_class"] = dict.fromkeys(["user", "token"], report[model]["per_class"]["negative"])

    text = write_card(facts, report).text

    assert "| user | 0.811" in text
    assert "| token | 0.811" in text


def test_the_page_is_tidy(facts, report):
    served = {"architecture": "bert", "onnx_file": "onnx/model.onnx"}
    for card in (
        write_card(facts, report),
        write_card(replace(facts, **served, plots={"a.png": "A", "b.png": "B"}), report),
        write_card(facts),
        write_card(CardFacts("x", "image-classification", **served)),
        write_card(CardFacts("x", "image-classification", brings_code=True)),
    ):
        text = card.text
        assert "\n\n\n" not in text
        assert not re.search(r"^ +\S", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
        assert not re.search(r"[ \t]$", text, re.MULTILINE)
        assert not re.search(r"<[a-z!]", text)
        assert not re.search(r"None|nan|\{\{|\{%", text)
        assert not re.search(r"^## .*\n+## ", text, re.MULTILINE), "an empty section"
        assert text.endswith("\n")
        lines = text.splitlines()
        for before, line in itertools.pairwise(lines):
            starts_block = line.startswith(("|", "- ", "#")) and not before.startswith(line[:1])
            assert not (starts_block and before.strip()), f"no blank line before {line!r}"
            if before.startswith("|") and line.startswith("|"):
                assert len(re.findall(r"(?<!\\)\|", before)) == len(re.findall(r"(?<!\\)\|", line))


def test_the_report_is_not_changed_and_may_come_from_json(facts, report):
    before = copy.deepcopy(report)

    card = write_card(facts, report)

    assert report == before
    assert str(write_card(facts, json.loads(json.dumps(report)))) == str(card)


def test_another_task_is_an_error(facts):
    with pytest.raises(ValueError, match="must be one of text-classification, image-classification; got 'translation'"):
        write_card(replace(facts, task="translation"))


def deployment(**changes):
    row = {
        **{"model": "student", "size_bytes": 62_469_512, "latency_ms": {"p50": 5.104, "p95": 9.0}},
        **{"throughput_per_s": 237.4, "accuracy": 0.8589, "agreement": None, "max_error": None, "format": "PyTorch"},
    }
    small = {"format": "ONNX int8", "agreement": 0.991, "max_error": 0.42, "bound": 0.02, "within_bound": False}
    return {
        **{
            "dataset": "/home/anna/sst2",
            "split": "validation",
            "examples": 1872,
            "versions": {"onnxruntime": "1.32.0"},
        },
        **{"machine": {"cpu": "Xeon 8488C", "cores": 2, "threads": 1}, "rows": [row, {**row, **small}]},
        "versions": {"onnxruntime": "1.32.0"},
        **changes,
    }


def test_pytorch_onnx_and_int8_stand_between_results_and_training(facts, report):
    text = write_card(facts, {**report, "deployment": deployment()}).text

    headings = re.findall(r"^## .*$", text, re.MULTILINE)
    assert headings[1:4] == ["## Results", "## As PyTorch and as ONNX", "## Training"]
    assert "Measured on sst2 (local), split `validation`, 1,872 examples." in text
    assert "| Student, PyTorch | 62.5 | 5.10 | 237 | 0.859 | – | – |" in text
    assert "| Student, ONNX int8 | 62.5 | 5.10 | 237 | 0.859 | 0.991 | 0.42 |" in text
    assert "Xeon 8488C, cores: 2, threads: 1" in text
    assert "int8 does NOT keep within its bound, a loss of 0.020 of accuracy" in text
    assert "onnxruntime 1.32.0" in text
    assert "ONNX" not in write_card(facts, report).text


def test_a_later_export_takes_the_place_of_an_earlier_one(facts, report):
    """The card ends up as it would have been written at once, whether or not it had such a section before."""
    before = f"{write_card(facts, report)}"
    with_one = f"{write_card(facts, {**report, 'deployment': deployment()})}"
    other = deployment(split="test", rows=deployment()["rows"][:1])

    assert with_deployment(before, deployment()) == with_one
    assert with_deployment(with_one, other) == f"{write_card(facts, {**report, 'deployment': other})}"
    assert with_deployment("# A card of somebody else's\n", deployment()) is None


def test_onnx_is_shown_where_there_is_a_file_and_after_an_export(facts, report):
    """The card ends up as it would have been written at once, whether or not it had such a section before."""
    before = f"{write_card(facts, report)}"
    shown = f"{write_card(replace(facts, onnx_file='onnx/model.onnx'), report)}"

    assert 'InferenceSession("onnx/model.onnx")' in shown
    assert "ONNX" not in before
    assert with_onnx_route(before, "onnx/model.onnx") == shown
    assert with_onnx_route(shown, "onnx/other.onnx") == shown.replace("onnx/model.onnx", "onnx/other.onnx")
    assert with_onnx_route("# A card of somebody else's\n", "onnx/model.onnx") is None


def test_plots_stand_under_the_results(facts, report):
    text = write_card(replace(facts, plots={"models.png": "Side by side."}), report).text

    assert "![Side by side.](models.png)" in re.search(r"## Results\n(.*?)\n## ", text, re.DOTALL)[1] + "\n"
    assert ".png" not in write_card(facts, report).text
    assert "models.png" not in write_card(replace(facts, plots={"models.png": "x"})).text


def test_time_and_energy_of_the_training_are_the_reports(facts, report):
    time = {"training_s": 1234.4, "training_s_std": 5.6}
    timed = write_card(facts, {**report, "student": {**report["student"], **time}}).text
    energy = {"training_energy_wh": 7.251, "training_energy_of": ["GPU"]}
    counted = write_card(facts, {**report, "student": {**report["student"], **time, **energy}}).text

    assert "| Training, s | – | 1,234 ± 6 | – |" in timed
    assert "energy was not measured" in timed
    assert "Training energy" not in timed
    assert "| Training energy, Wh | – | 7.25 | – |" in counted
    assert "the counters of GPU counted" in counted
    assert "Training, s" not in write_card(facts, report).text
