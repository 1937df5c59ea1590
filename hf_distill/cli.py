"""``hf-distill``: what one does with a trained student. Thin: each command calls one room of the package.

hf-distill report DIR
hf-distill export DIR --data validation.parquet --int8
hf-distill predict DIR --text "A fine film."
hf-distill push DIR owner/name
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import datasets
import transformers

from hf_distill.deployment import deployment, deployment_rows, joined
from hf_distill.deployment_table import deployment_lines
from hf_distill.export import OnnxExport, export_folder, export_onnx
from hf_distill.inputs import Inputs, existing, find_images, read_evaluation, read_texts
from hf_distill.labels import class_order
from hf_distill.model_card import with_deployment, with_onnx_route
from hf_distill.onnx_classifier import ONNX_FILES
from hf_distill.predictor import Answer, Predictor
from hf_distill.pushing import push_folder
from hf_distill.recipe.exports import EXPORTS, export_teacher
from hf_distill.recipe.program import MISTAKES, print_utf8, said
from hf_distill.report import DistillationReport
from hf_distill.report_page import report_page
from hf_distill.whole_file import whole_file

logger = logging.getLogger(__name__)

MADE_UP = 64
"""So many inputs check an export where the user gives none."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: As on the command line; default those there.

    Returns:
        The exit code: 0, or 1 after a mistake of the user's, which is one line on the standard error.
    """
    chosen = parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("hf_distill").setLevel(logging.INFO)
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    print_utf8()
    try:
        chosen.run(chosen)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except MISTAKES as error:
        if chosen.debug:
            raise
        print(f"error: {' '.join(said(error).split())}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="hf-distill", description="Look at, export, try and publish a trained student.")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str, example: str) -> argparse.ArgumentParser:
        # The % of a help text is a format for argparse; there is none in these.
        form = argparse.RawDescriptionHelpFormatter
        added = commands.add_parser(
            name, help=text, description=text, epilog=f"example:\n  {example}", formatter_class=form
        )
        added.add_argument("folder", metavar="DIR", help="folder of the trained model")
        added.add_argument("--debug", action="store_true", help="show where in the code an error came from")
        added.set_defaults(run=run)
        return added

    report = command(
        "report",
        _report,
        "Show report.json as a table, or as an HTML page.",
        "hf-distill report out/sst2 --html report.html",
    )
    report.add_argument("--html", metavar="FILE", help="write one page with the plots in it, in place of the table")

    export = command(
        "export",
        _export,
        "Write the model as an ONNX file, once it answers as PyTorch does; what is measured goes into the report.",
        "hf-distill export out/sst2 --data validation.parquet --int8",
    )
    export.add_argument("--format", choices=["onnx"], default="onnx", help="the only one so far")
    export.add_argument(
        "--data",
        metavar="PATH",
        help="inputs to check it on, a file, or a folder as in the recipes; default made-up ones",
    )
    export.add_argument("--split", help="of the data; default validation, else test, else all of it")
    export.add_argument("--label-column", "--label_column", metavar="NAME", help="found if left out")
    export.add_argument(
        "--int8", action="store_true", help="a second file with weights as 8-bit integers: a quarter of the size"
    )
    export.add_argument(
        "--teacher", metavar="DIR", help="a classifier for the same classes, to be measured beside it in the same forms"
    )
    export.add_argument(
        "--bound", type=float, default=0.01, help="what int8 may lose of accuracy before it is warned of (%(default)s)"
    )
    export.add_argument(
        "--tolerance", type=float, default=1e-4, help="largest difference of a logit without int8 (%(default)s)"
    )
    export.add_argument(
        "--output",
        metavar="FILE",
        help=f"one file, written there and nowhere else; default DIR/{ONNX_FILES[False]}, and DIR/{ONNX_FILES[True]}",
    )

    predict = command(
        "predict",
        _predict,
        "Classify texts or images.",
        "hf-distill predict out/sst2 --file reviews.csv --output labels.tsv",
    )
    inputs = predict.add_mutually_exclusive_group(required=True)
    inputs.add_argument("--text", nargs="+", metavar="TEXT", help="texts")
    inputs.add_argument(
        "--file", metavar="FILE", help=".txt with a text a line, .csv, .tsv, .json, .jsonl, .parquet, or - for stdin"
    )
    inputs.add_argument("--image", nargs="+", metavar="PATH", help="image files, or folders of them")
    predict.add_argument(
        "--onnx", nargs="?", const="", metavar="FILE", help=f"answer with an ONNX file; default DIR/{ONNX_FILES[False]}"
    )
    predict.add_argument(
        "--batch-size", "--batch_size", type=_positive, default=32, help="inputs a batch (%(default)s)"
    )
    predict.add_argument("--device", help="where PyTorch runs, such as cuda; default cpu")
    predict.add_argument("--format", choices=["tsv", "jsonl"], help="default tsv, or what the ending of --output says")
    predict.add_argument("--output", metavar="FILE", help="default the terminal")

    for reader in (export, predict):
        reader.add_argument("--text-column", "--text_column", metavar="NAME", help="two with a comma for pairs")

    push = command(
        "push",
        _push,
        "Publish the model on the Hub: weights, tokenizer, card, report, ONNX; nothing else.",
        "hf-distill push out/sst2 my-name/tiny-sentiment --private",
    )
    push.add_argument("repo", metavar="REPO", help="owner/name")
    push.add_argument("--private", action="store_true", help="in a private repository")
    push.add_argument("--revision", metavar="BRANCH", help="default the main branch")
    push.add_argument("--message", default="Upload a distilled model", help="what the history says (%(default)s)")
    return top


# ---- The commands ----


def _report(chosen: argparse.Namespace) -> None:
    folder = existing(Path(chosen.folder))
    try:
        report = _saved_report(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder} holds no report.json. The recipes write it at their end.") from error
    if chosen.html is None:
        print(report.to_table())
        return
    with _written(chosen.html) as file:
        file.write(report_page(report, folder if folder.is_dir() else folder.parent))
    logger.info("Wrote %s.", chosen.html)


def _export(chosen: argparse.Namespace) -> None:
    folder = _model_folder(chosen.folder)
    predictor = _loaded(folder, None, None)
    if chosen.data is None:
        if chosen.int8:
            raise ValueError("int8 changes decisions, and how many only real inputs show. Give some with --data PATH.")
        logger.warning("Checked on made-up inputs only. --data PATH checks it on real ones, and tells the accuracy.")
        data = Inputs(("input",), predictor.made_up(MADE_UP))
    else:
        data = read_evaluation(
            chosen.data,
            predictor.classes,
            images=not predictor.reads_text,
            split=chosen.split,
            text_column=chosen.text_column,
            label_column=chosen.label_column,
        )
        if data.split == "train":
            logger.warning("These are rows for training: if the model learned from them, their scores say little.")
    rows = predictor.rows(data.values, data.labels)
    if chosen.teacher is not None and (chosen.data is None or chosen.output is not None):
        raise ValueError("--teacher is measured on the same inputs, for the report: give --data PATH, and no --output.")
    teacher = None if chosen.teacher is None else _teacher(chosen.teacher, predictor)
    settings: dict[str, Any] = {
        **{"examples": rows, "data_collator": predictor.collate, "int8": chosen.int8},
        **{"tolerance": chosen.tolerance, "bound": chosen.bound},
    }
    if chosen.output is not None:
        _show_export(export_onnx(predictor.model, chosen.output, **settings))
        return
    exports = export_folder(predictor.model, folder, **settings)
    for found in exports:
        _show_export(found)
    _change_card(folder, lambda card: with_onnx_route(card, ONNX_FILES[False]))
    if chosen.data is not None:
        measured = deployment_rows(predictor.model, exports, rows, predictor.collate)
        if teacher is not None:
            inputs = teacher.rows(data.values, data.labels), teacher.collate
            measured = [
                *export_teacher(teacher.model, predictor.model, folder, *inputs, EXPORTS[1 + chosen.int8]),
                *measured,
            ]
        section = deployment(measured, dataset=chosen.data, split=data.split, examples=len(rows))
        print("", *deployment_lines(section), sep="\n")
        _write_down(folder, section)


def _teacher(name: str, student: Predictor) -> Predictor:
    """The teacher, once it is clear that it can be measured on the student's inputs."""
    teacher = _loaded(_model_folder(name), None, None)
    if teacher.reads_text != student.reads_text:
        kinds = ("texts", "images") if teacher.reads_text else ("images", "texts")
        raise ValueError(f"--teacher {name} classifies {kinds[0]}, and the student {kinds[1]}: name another one.")
    class_order(student.classes, teacher.classes)
    return teacher


def _show_export(found: OnnxExport) -> None:
    lines = {
        "size, MB": f"{found.size_mb:.1f} (PyTorch {found.pytorch_size_mb:.1f})",
        "largest difference of a logit": f"{found.max_error:.2g}",
        "same decision as PyTorch": f"{found.agreement:.4f} of {found.examples:,} examples",
    }
    if found.accuracy is not None:
        lines["accuracy"] = f"{found.accuracy:.4f} (PyTorch {found.pytorch_accuracy:.4f})"
    print(found.path, *(f"  {name:<31}{value}" for name, value in lines.items()), sep="\n")


def _write_down(folder: Path, section: dict[str, Any]) -> None:
    """Put what was measured into the report and the card of a folder, where it has them."""
    try:
        report = _saved_report(folder)
    except FileNotFoundError:
        return
    section = joined(report.deployment, section)
    replace(report, deployment=section).save(folder)
    changed = _change_card(folder, lambda card: with_deployment(card, section))
    logger.info("Written into %s of %s.", "report.json and README.md" if changed else "report.json", folder)


def _change_card(folder: Path, change: Callable[[str], str | None]) -> bool:
    """Change the card of a folder, and tell whether it has one with a place for the change."""
    card = folder / "README.md"
    text = change(card.read_text(encoding="utf-8")) if card.is_file() else None
    if text is None:
        return False
    with _written(str(card)) as file:
        file.write(text)
    return True


def _predict(chosen: argparse.Namespace) -> None:
    folder = _model_folder(chosen.folder)
    if chosen.text is not None:
        data = Inputs(("text",), chosen.text)
    elif chosen.file is not None:
        data = read_texts(chosen.file, chosen.text_column)
    else:
        data = find_images(chosen.image)
    onnx = None if chosen.onnx is None else Path(chosen.onnx or folder / ONNX_FILES[False])
    predictor = _loaded(folder, onnx, chosen.device)
    if predictor.reads_text != (chosen.image is None):
        kinds = ("texts", "--text or --file") if predictor.reads_text else ("images", "--image")
        raise ValueError(f"{folder} classifies {kinds[0]}: give it some with {kinds[1]}.")
    answers = predictor(data.values, chosen.batch_size)
    as_json = (chosen.format or Path(chosen.output or "").suffix.lstrip(".").lower()) in ("jsonl", "json")
    with _written(chosen.output) as file:
        (_write_json if as_json else _write_tsv)(file, data, answers)


def _push(chosen: argparse.Namespace) -> None:
    folder = _model_folder(chosen.folder)
    commit = push_folder(
        folder,
        chosen.repo,
        private=chosen.private,
        revision=chosen.revision,
        commit_message=chosen.message,
    )
    print(commit.commit_url)


# ---- What they share ----


def _model_folder(name: str) -> Path:
    folder = existing(Path(name).expanduser())
    if not (folder / "config.json").is_file():
        models = sorted(path.parent.name for path in folder.glob("*/config.json")) if folder.is_dir() else []
        near = f" There are models in it: {', '.join(models[:6])}." if models else ""
        raise FileNotFoundError(f"{name} holds no model: it has no config.json.{near}")
    return folder


def _saved_report(folder: Path) -> DistillationReport:
    try:
        return DistillationReport.load(folder)
    except json.JSONDecodeError as error:
        raise ValueError(f"The report.json of {folder} is no JSON ({error}). Is it complete?") from error


def _loaded(folder: Path, onnx: Path | None, device: str | None) -> Predictor:
    """A predictor, without a bar for each file that is read."""
    transformers.logging.disable_progress_bar()
    try:
        return Predictor.load(folder, onnx, device)
    finally:
        transformers.logging.enable_progress_bar()


def _write_tsv(file: TextIO, data: Inputs, answers: Sequence[Answer]) -> None:
    writer = csv.writer(file, delimiter="\t", lineterminator="\n")
    writer.writerow(["label", "score", *data.columns])
    for value, answer in zip(data.values, answers, strict=True):
        writer.writerow([answer.label, f"{answer.score:.4f}", *(value if isinstance(value, tuple) else (value,))])


def _write_json(file: TextIO, data: Inputs, answers: Sequence[Answer]) -> None:
    for value, answer in zip(data.values, answers, strict=True):
        values = value if isinstance(value, tuple) else (value,)
        row = {**dict(zip(data.columns, values, strict=True)), "label": answer.label, "score": round(answer.score, 6)}
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


@contextmanager
def _written(path: str | None) -> Iterator[TextIO]:
    """A file that gets its name when it is complete; the standard output without one."""
    if path is None:
        yield sys.stdout
        return
    target = Path(path).expanduser()
    if not target.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {target.parent} to write {target.name} into. Make it first.")
    with whole_file(target) as file:
        yield file


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
