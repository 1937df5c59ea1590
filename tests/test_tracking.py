"""What trackers get. TensorBoard is read back from its files; W&B and trackio are modules that note their calls."""

from __future__ import annotations

import io
import json
import logging
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image
from test_report import figures as made_figures
from test_report import report
from transformers import TrainerControl, TrainerState, default_data_collator
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from hf_distill import DistillationTrainer, ModelTeacher
from hf_distill.recipe.runs import train_with_controls
from hf_distill.tracking import ObjectiveCallback, figures, objective_settings, own_run, run_name, track_report


class Tokenizer:
    """Stands in for a tokenizer that has nothing to save."""

    model_input_names = ("input_ids",)

    def save_pretrained(self, folder: str) -> None:
        (Path(folder) / "tokenizer.json").write_text("{}")


def trainer(folder: Path, *trackers: Any, **settings: Any) -> DistillationTrainer:
    return DistillationTrainer(
        tiny.bert(),
        tiny.arguments(folder, **{"max_steps": 2, **settings}),
        teacher_model=tiny.bert(seed=1),
        train_dataset=tiny.dataset(),
        eval_dataset=tiny.dataset(rows=8),
        callbacks=list(trackers),
    )


@pytest.fixture
def plots(tmp_path: Path) -> list[Path]:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)).save(tmp_path / "models.png")
    return [tmp_path / "models.png"]


def with_deployment() -> Any:
    """A report of a student that was exported, and whose training was measured."""
    row = {"model": "student", "format": "ONNX", "size_bytes": 62_500_000, "latency_ms": {"p50": 2.6}}
    row |= {"throughput_per_s": 256.2, "accuracy": 0.859, "agreement": 1.0, "max_error": 2.4e-6}
    section = {"rows": [row], "machine": {"cpu": "a CPU"}, "dataset": "toy", "split": "test", "examples": 50}
    return report(student=made_figures(0.85, 0.01, training_s=3.0, training_s_std=0.5), deployment=section)


DEPLOYED = ["student, ONNX", "62.5", "2.60", "256", "0.859", "1.000", "2.4e-06"]


# ---- TensorBoard ----


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    """What TensorBoard shows of the run in a folder."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    return lambda folder: EventAccumulator(str(folder)).Reload()


def text(events: Any, tag: str) -> str:
    return str(events.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0].decode())


def test_each_training_of_a_recipe_is_a_run(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    rows = tiny.dataset(rows=16)
    [student], [control] = train_with_controls(
        lambda seed: tiny.bert(seed=seed),
        tiny.arguments(tmp_path / "out", num_train_epochs=1, report_to="tensorboard", run_name="try"),
        rows,
        rows,
        None,
        teacher=ModelTeacher(tiny.bert(seed=9)),
        objective=None,
        seeds=[3],
        processing_class=Tokenizer(),
        collator=default_data_collator,
        about={},
    )
    where = tmp_path / "out" / "_tensorboard"
    assert sorted(path.name for path in where.iterdir()) == ["try-control-seed-3", "try-student-seed-3"]
    for one, terms in ((student, {"ce", "kd"}), (control, {"ce"})):
        events = read(where / f"try-{'student' if one is student else 'control'}-seed-3")
        logged = [entry for entry in one.state.log_history if "loss" in entry]
        tags = {"loss", *terms, *(f"{term}_weight" for term in terms), *({"kd_temperature"} if "kd" in terms else ())}
        assert {f"train/{tag}" for tag in tags} <= set(events.Tags()["scalars"])
        for tag in tags:
            found = [(event.step, event.value) for event in events.Scalars(f"train/{tag}")]
            assert found == [(entry["step"], pytest.approx(entry[tag], rel=1e-6)) for entry in logged]
        assert ("SoftTargetLoss(temperature=2.0)" in text(events, "objective")) == (one is student)
        assert one.args.run_name == "try"


def test_a_folder_that_is_given_has_one_beneath_it_for_each_run(
    tmp_path: Path, read: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "given"))
    for title, seed in (("student", 0), ("control", 1)):
        ours = trainer(tmp_path / "out", report_to="tensorboard", run_name="try", seed=seed)
        with own_run(ours, title):
            ours.log({"seed": float(seed)})
    read_back = {
        name: read(tmp_path / "given" / f"try-{name}").Scalars("train/seed") for name in ("student", "control")
    }
    assert {name: [event.value for event in events] for name, events in read_back.items()} == {
        "student": [0.0],
        "control": [1.0],
    }


def test_a_comparison_is_a_run_of_plots_tables_and_figures(
    tmp_path: Path, read: Callable[[Path], Any], plots: list[Path]
) -> None:
    validation = dict(report(student=made_figures(0.7)).of_split())
    compared = replace(with_deployment(), other_splits={"validation": validation})
    track_report(trainer(tmp_path / "out", report_to="tensorboard", run_name="try"), compared, plots)
    events = read(tmp_path / "out" / "_tensorboard" / "try-comparison")

    [image] = events.Images("plots/models")
    shown, drawn = Image.open(io.BytesIO(image.encoded_image_string)), Image.open(plots[0])
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(drawn))
    assert "| measure | teacher | student | control |" in text(events, "comparison/test")
    assert "| accuracy | 0.900 | 0.850 ± 0.010 | 0.800 ± 0.020 |" in text(events, "comparison/test")
    assert "| accuracy | 0.900 | 0.700 | 0.800 ± 0.020 |" in text(events, "comparison/validation")
    assert f"| {' | '.join(DEPLOYED)} |\n\nIn float32" in text(events, "deployment")
    assert events.Scalars("test/student/accuracy")[0].value == pytest.approx(0.85)
    assert events.Scalars("test/student/training_s_std")[0].value == pytest.approx(0.5)
    assert events.Scalars("validation/student/accuracy")[0].value == pytest.approx(0.7)
    about = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert all(word in about for word in (b"objective/kd", b"SoftTargetLoss", b"learning_rate", b"org/toy"))


def test_a_tracker_that_breaks_costs_a_warning(
    tmp_path: Path, read: Callable[[Path], Any], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(TensorBoardCallback):
        @property
        def tb_writer(self) -> Any:
            writer = getattr(self, "_writer", None)
            return writer and SimpleNamespace(add_scalar=writer.add_scalar, flush=writer.flush, close=writer.close)

        @tb_writer.setter
        def tb_writer(self, writer: Any) -> None:
            self._writer = writer

        def on_train_begin(self, args: Any, *_: Any, **__: Any) -> None:
            self._init_summary_writer(args)

    broken = Broken()
    broken.logging_dir = str(tmp_path / "runs")
    ours = trainer(tmp_path / "out", broken)
    with caplog.at_level(logging.WARNING, logger="hf_distill"):
        assert ours.train().global_step == 2
        track_report(ours, report(), [tmp_path / "missing.png"])
    assert "Broken did not take the objective: " in caplog.text
    assert "Broken did not take the comparison: " in caplog.text
    assert len(read(tmp_path / "runs").Scalars("train/kd")) == 2


# ---- W&B and trackio ----


class Run:
    """A run that writes down what it is given."""

    def __init__(self, name: str | None) -> None:
        self.name, self.exit_code = name, None
        self.config, self.summary, self.logged = Config(), {}, []

    def log(self, values: dict[str, Any]) -> None:
        assert self.exit_code is None, "the run has ended"
        self.logged.append(values)


class Config(dict[str, Any]):
    def update(self, values: dict[str, Any], allow_val_change: bool = True) -> None:  # type: ignore[override]
        super().update(values)


class Library:
    """The part of W&B and trackio that is used."""

    def __init__(self) -> None:
        self.run: Any = None
        self.runs: list[Run] = []
        self.asked: list[dict[str, Any]] = []

    def init(self, name: str | None = None, config: Any = None, **settings: Any) -> Run:
        self.run = Run(name)
        self.run.config.update(config or {})
        self.run.finish = self.finish
        self.runs.append(self.run)
        self.asked.append(settings)
        return self.run

    def finish(self, exit_code: int = 0) -> None:
        self.run.exit_code, self.run = exit_code, None

    @property
    def config(self) -> Config:
        return self.run.config

    @staticmethod
    def Table(columns: list[str], data: list[list[str]]) -> tuple[list[str], list[list[str]]]:
        return columns, data

    @staticmethod
    def Image(path: str) -> str:
        return path


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", library := Library())
    return library


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setitem(sys.modules, "trackio", library := Library())
    return library


class Wandb(WandbCallback):
    """As in transformers 5.23: it opens a run where none is open, and leaves it open."""

    def __init__(self) -> None:
        self._wandb, self._initialized = sys.modules["wandb"], False

    def setup(self, args: Any, *_: Any, **__: Any) -> None:
        self._initialized = True
        if self._wandb.run is None:
            self._wandb.init(name=args.run_name)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not self._initialized:
            self.setup(args)
        self._wandb.run.log(logs)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Nothing."""


class Trackio(TrackioCallback):
    """As in transformers 5.23, but for the configuration."""

    def __init__(self) -> None:
        self._trackio, self._initialized = sys.modules["trackio"], False

    def setup(self, args: Any, *_: Any, **__: Any) -> None:
        self._initialized, self._space_id = True, None
        self._trackio.init(name=args.run_name)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if self._initialized:
            self._trackio.run.log(logs)


def test_each_training_opens_a_run_and_ends_it(tmp_path: Path, wandb: Library, trackio: Library) -> None:
    for title in ("student, seed 0", "control, seed 0"):
        ours = trainer(tmp_path / "out", Wandb(), Trackio(), run_name="try")
        with own_run(ours, title):
            ours.train()
    for library in (wandb, trackio):
        names = [(run.name, run.exit_code) for run in library.runs]
        assert names == [("try-student-seed-0", 0), ("try-control-seed-0", 0)]
        for run in library.runs:
            assert (
                len([entry for entry in run.logged if {"loss", "kd", "kd_weight", "kd_temperature"} <= set(entry)]) == 2
            )
            assert "SoftTargetLoss(temperature=2.0)" in run.config["objective/kd"]
            assert run.config["teacher/teacher"] == "BertForSequenceClassification"


def test_what_is_logged_after_a_run_has_ended_is_another_run(tmp_path: Path, wandb: Library) -> None:
    ours = trainer(tmp_path / "out", Wandb(), run_name="try")
    order = [type(callback) for callback in ours.callback_handler.callbacks]
    for title in ("student", "again"):
        with own_run(ours, title):
            ours.evaluate()
    ours.evaluate()
    assert [(run.name, run.exit_code) for run in wandb.runs] == [("try-student", 0), ("try-again", 0), ("try", None)]
    assert [type(callback) for callback in ours.callback_handler.callbacks] == order


def test_a_training_that_fails_is_a_run_that_failed(tmp_path: Path, wandb: Library) -> None:
    ours = trainer(tmp_path / "out", Wandb())

    def train() -> None:
        with own_run(ours, "student"):
            ours.evaluate()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert [run.exit_code for run in wandb.runs] == [1]


def test_a_run_that_was_open_takes_everything(tmp_path: Path, wandb: Library, plots: list[Path]) -> None:
    mine = wandb.init(name="mine")
    ours = trainer(tmp_path / "out", Wandb())
    with own_run(ours, "student"):
        ours.evaluate()
    track_report(ours, report(), plots)
    assert (wandb.runs, mine.exit_code) == ([mine], None)
    assert "eval_loss" in mine.logged[0]
    assert mine.summary["test/gap_closed"] == 0.5


@pytest.mark.parametrize("kind", [Wandb, Trackio])
def test_tables_plots_and_figures_of_a_comparison(
    kind: Any, tmp_path: Path, wandb: Library, trackio: Library, plots: list[Path]
) -> None:
    secret = "hf_" + "a" * 34
    compared = replace(with_deployment(), command=f"python /home/anna/sst2.py --hub_token {secret}")
    ours = trainer(tmp_path / "out", kind(), run_name="try", project="films")
    track_report(ours, compared, plots)
    library = wandb if kind is Wandb else trackio
    [run], [asked] = library.runs, library.asked
    assert (run.name, run.exit_code, asked["project"]) == (
        "try-comparison",
        0,
        "huggingface" if kind is Wandb else "films",
    )
    [logged] = run.logged
    columns, data = logged["comparison/test"]
    assert columns == ["measure", "teacher", "student", "control"]
    assert data[0] == ["accuracy", "0.900", "0.850 ± 0.010", "0.800 ± 0.020"]
    columns, data = logged["deployment"]
    assert (columns[:2], data) == (["model", "size, MB"], [DEPLOYED])
    assert logged["plots/models"] == str(plots[0])
    assert (run.summary if kind is Wandb else logged)["test/student/accuracy_std"] == 0.01
    assert run.config["command"] == "python path/to/sst2.py --hub_token ***"
    assert {"objective/kd", "learning_rate", "dataset", "seeds"} <= set(run.config)


# ---- The real ones, where they are installed ----


def wandb_records(file: Path) -> Iterator[Any]:
    """What an offline run of W&B holds: records in the log format of LevelDB, in blocks of 32 KB."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, record = file.read_bytes(), 7, b""
    while place < len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(record)
            record = b""


@pytest.mark.slow
def test_wandb_itself_takes_all_of_it(tmp_path: Path, plots: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    ours = trainer(tmp_path / "out", report_to="wandb", run_name="try")
    with own_run(ours, "student"):
        ours.train()
    track_report(ours, with_deployment(), plots)
    wandb.teardown()  # until then a file is not complete

    found: dict[str, dict[str, Any]] = {}
    for file in tmp_path.glob("wandb/offline-run-*/*.wandb"):
        values: dict[str, Any] = {}
        for record in wandb_records(file):
            if record.HasField("run"):
                values["name"] = record.run.display_name
            for item in (*record.history.item, *record.summary.update, *record.config.update):
                values["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        found[values.pop("name")] = values
    assert set(found) == {"try-student", "try-comparison"}
    trained, compared = found["try-student"], found["try-comparison"]
    last = next(entry for entry in reversed(ours.state.log_history) if "kd" in entry)
    assert trained["train/kd"] == pytest.approx(last["kd"])
    assert trained["objective/kd"].startswith("LogitTerm(SoftTargetLoss(temperature=2.0)")
    assert compared["test/student/training_s"] == 3.0
    assert compared["dataset"] == "org/toy"
    tables = [json.loads(path.read_text()) for path in tmp_path.glob("wandb/offline-run-*/files/media/table/**/*.json")]
    assert [DEPLOYED] in [table["data"] for table in tables]
    assert len(tables) == 2
    [image] = tmp_path.glob("wandb/offline-run-*/files/media/images/**/*.png")
    np.testing.assert_array_equal(np.asarray(Image.open(image)), np.asarray(Image.open(plots[0])))


@pytest.mark.slow
def test_trackio_itself_takes_all_of_it(tmp_path: Path, plots: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read at the first import
    trackio = pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    ours = trainer(tmp_path / "out", report_to="trackio", run_name="try", project="films")
    with own_run(ours, "student"):
        ours.train()
    track_report(ours, with_deployment(), plots)

    assert set(SQLiteStorage.get_runs("films")) == {"try-student", "try-comparison"}
    trained = [entry for entry in SQLiteStorage.get_logs("films", "try-student") if "train/kd" in entry]
    expected = [entry["kd"] for entry in ours.state.log_history if "kd" in entry]
    assert [entry["train/kd"] for entry in trained] == pytest.approx(expected)
    configs = {run.name: run.config for run in trackio.Api().runs("films")}
    assert configs["try-student"]["objective/kd"].startswith("LogitTerm(SoftTargetLoss(temperature=2.0)")
    assert configs["try-comparison"]["dataset"] == "org/toy"
    [compared] = SQLiteStorage.get_logs("films", "try-comparison")
    assert [list(row.values()) for row in compared["deployment"]["_value"]] == [DEPLOYED]
    assert compared["comparison/test"]["_value"][0]["student"] == "0.850 ± 0.010"
    assert compared["test/student/training_s"] == 3.0
    assert compared["plots/models"]["_type"] == "trackio.image"


# ---- What is said ----


def test_figures_are_named_after_split_model_and_measure() -> None:
    validation = dict(report(teacher=made_figures(0.95)).of_split())
    found = figures(report(control=None, gap_closed=None, other_splits={"validation": validation}))
    assert found["test/teacher/accuracy"] == 0.9
    assert found["test/student/latency_ms_p95"] == 20.0
    assert found["test/student/latency_ms_p95_std"] == 0.01
    assert found["test/kl_nats"] == 0.0912
    effort = figures(report(student=made_figures(training_s=3.0, training_energy_wh=0.5, training_energy_wh_std=None)))
    expected = {"test/student/training_s": 3.0, "test/student/training_energy_wh": 0.5}
    assert {name: value for name, value in effort.items() if "training" in name} == expected
    assert found["validation/teacher/accuracy"] == 0.95
    assert found["validation/gap_closed_std"] == 0.125
    assert not {"test/gap_closed", "test/control/accuracy", "test/teacher/accuracy_std"} & set(found)
    assert not [name for name in found if name.startswith("validation/") and "latency" in name]


def test_settings_name_no_local_path(tmp_path: Path) -> None:
    ours = trainer(tmp_path)
    ours.teachers["teacher"].name = "/home/anna/bert"
    assert objective_settings(ours)["teacher/teacher"] == "path/to/bert"


def test_only_the_main_process_writes(tmp_path: Path, wandb: Library) -> None:
    wandb.init()
    ours = trainer(tmp_path, Wandb())
    ObjectiveCallback(ours).on_train_begin(ours.args, TrainerState(is_world_process_zero=False), TrainerControl())
    assert not wandb.run.config


def test_runs_are_named_after_the_recipes_folder_and_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda form: "20260102-030405")
    assert run_name(tiny.arguments("out/quick"), "student, seed 0") == "quick-20260102-030405-student-seed-0"
    assert run_name(tiny.arguments("out/quick/_teacher"), "teacher") == "quick-20260102-030405-teacher"
    assert run_name(tiny.arguments("out/_quick/_control-seed12"), "control") == "_quick-20260102-030405-control"
    assert run_name(tiny.arguments("out/_quick"), "student, seed 0") == "_quick-20260102-030405-student-seed-0"
