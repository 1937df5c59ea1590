import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from test_report import NAMES, figures, report

from hf_distill.plots import plot_confusion, plot_models, plot_reliability, plot_training_curves, save_plots

STUDENT = [
    {"loss": 0.5, "ce": 0.2, "kd": 0.3, "grad_norm": 1.0, "learning_rate": 1e-4, "epoch": 0.5, "step": 10},
    {"eval_loss": 0.6, "eval_accuracy": 0.7, "eval_runtime": 1.0, "epoch": 0.5, "step": 10},
    {"loss": 0.4, "ce": 0.1, "kd": 0.3, "grad_norm": 1.0, "learning_rate": 0.0, "epoch": 1.0, "step": 20},
    {"train_loss": 0.45, "train_runtime": 2.0, "epoch": 1.0, "step": 20},
]
CONTROL = [{"loss": 0.7, "ce": 0.7, "step": 10}, {"loss": 0.6, "ce": 0.6, "step": 20}]


def curves(axis):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.get_lines()}


def test_curves_show_every_component_and_nothing_else():
    training, loss, accuracy = plot_training_curves({"student": STUDENT, "control": CONTROL}).axes
    assert curves(training) == {
        "student: loss": ([10, 20], [0.5, 0.4]),
        "student: ce": ([10, 20], [0.2, 0.1]),
        "student: kd": ([10, 20], [0.3, 0.3]),
        "control: loss": ([10, 20], [0.7, 0.6]),
    }
    assert curves(loss) == {"student": ([10], [0.6])}
    assert curves(accuracy) == {"student": ([10], [0.7])}


def test_weights_and_temperatures_are_no_parts_of_the_loss():
    settings = {"ce_weight": 0.3, "kd_weight": 0.7, "kd_temperature": 4.0}
    history = [{**log, **settings, "body_weight": 0.1} if "loss" in log else log for log in STUDENT]
    training = plot_training_curves({"student": history}).axes[0]
    assert set(curves(training)) == {"student: loss", "student: ce", "student: kd", "student: body_weight"}


def test_several_evaluation_sets_are_told_apart():
    history = [*CONTROL, {"eval_dev_loss": 0.5, "eval_test_loss": 0.6, "step": 20}]
    _, loss = plot_training_curves({"control": history}).axes
    assert set(curves(loss)) == {"control dev", "control test"}


def test_models_side_by_side():
    accuracy, f1, size, latency = plot_models(report()).axes
    assert [text.get_text() for text in accuracy.texts] == ["0.900", "0.850", "0.800"]
    assert [label.get_text() for label in f1.get_xticklabels()] == ["teacher", "student", "control"]
    assert [bar.get_height() for bar in size.patches] == [90.9] * 3
    assert [bar.get_height() for bar in latency.patches] == [12.345] * 3


def test_a_teacher_without_size_and_speed_leaves_its_place_empty():
    soft = figures(0.9, size_mb=None, latency_ms=None)
    *_, size, latency = plot_models(report(teacher=soft)).axes
    assert (len(size.patches), len(latency.patches)) == (2, 2)
    assert size.texts[0].get_text() == "–"


def test_confusion_shows_shares_of_the_true_class():
    student = figures(confusion=[[3, 1, 0], [0, 4, 0], [2, 0, 2]])
    axis = plot_confusion(report(student=student)).axes[1]
    np.testing.assert_allclose(axis.images[0].get_array(), [[0.75, 0.25, 0], [0, 1, 0], [0.5, 0, 0.5]])
    assert [label.get_text() for label in axis.get_xticklabels()] == NAMES
    assert axis.texts[0].get_text() == "75.0%\n3"


def test_a_number_in_one_of_many_cells_fits_into_it():
    """A renderer measures both, at the size of the picture."""
    confusion = (np.eye(10) * 100).tolist()
    figure = plot_confusion(report(**dict.fromkeys(["teacher", "student", "control"], figures(confusion=confusion))))
    figure.draw_without_rendering()
    axis = figure.axes[0]
    cell = axis.get_window_extent().width / 10
    assert axis.texts[0].get_text() == "100"
    assert axis.texts[0].get_window_extent().width < cell


def test_curves_say_of_which_seed_they_are(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(Figure, "suptitle", lambda self, title: titles.append(title))
    save_plots(report(seeds=[7, 8]), tmp_path, {"student": STUDENT})
    assert "seed 7" in titles


def test_no_confusion_for_many_classes(tmp_path):
    many = report(student=figures(confusion=None))
    with pytest.raises(ValueError, match="100 classes"):
        plot_confusion(many)
    assert "confusion.png" not in {path.name for path in save_plots(many, tmp_path)}


def test_reliability_draws_the_bins_that_hold_examples():
    bins = {"confidence": [0, 0.5, 0.9], "accuracy": [0, 0.4, 0.8], "count": [0, 1, 3]}
    figure = plot_reliability(report(teacher=figures(reliability=bins, ece=0.123), control=None))
    top, _, bottom, _ = figure.axes
    assert [bar.get_height() for bar in top.patches] == [0.4, 0.8]
    assert [bar.get_height() for bar in bottom.patches] == [0.0, 0.25, 0.75]
    assert top.get_title() == "teacher: ECE 0.123"


def test_files_are_images_and_pyplot_stays_untouched(tmp_path):
    backend = matplotlib.get_backend()
    paths = save_plots(report(), tmp_path / "new", {"student": STUDENT})
    assert [path.name for path in paths] == ["confusion.png", "models.png", "reliability.png", "training_curves.png"]
    for path in paths:
        with Image.open(path) as image:
            assert image.size[0] > 400
            assert np.asarray(image.convert("L")).std() > 5
    assert matplotlib.get_backend() == backend
