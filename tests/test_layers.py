"""Imports go only downwards, and nothing in the package imports a recipe."""

from __future__ import annotations

import ast
from pathlib import Path

import hf_distill

PACKAGE = Path(hf_distill.__file__).parent
FLOORS = {
    "views": 0, "schedules": 0, "losses": 0, "metrics": 0, "randomness": 0, "redaction": 0, "environment": 0,
    "report": 0, "models": 0, "augmentation": 0, "draws": 0, "epochs": 0, "processes": 0, "onnx_classifier": 0,
    "image_input": 0, "deployment_table": 0, "hub_codes": 0, "energy": 0, "figures": 0, "templating": 0,
    "soundness": 0, "timm_models": 0, "hub_names": 0, "whole_file": 0, "checkpoints": 0, "pictures": 0,
    "generator": 0,
    "labels": 1, "inference": 1, "training_args": 1, "features": 1, "layers": 1, "adapters": 1,
    "image_views": 1, "fingerprints": 1, "fusion": 1, "example_ids": 1, "pushing": 1, "report_page": 1,
    "image_processors": 1, "image_check": 1, "serving": 1, "public_files": 1, "leaks": 1,
    "noise": 1, "generator_loss": 1,
    "plots": 2, "tracking": 2,
    "objective": 2, "feature_term": 2, "default_objective": 2, "teachers": 2, "teacher_check": 2, "student": 2,
    "cache": 2, "model_card": 2, "card_facts": 2, "review_term": 2, "contrastive_term": 2,
    "exit_term": 2,
    "bottleneck_term": 2,
    "tasks": 2,
    "batches": 3, "components": 3, "publishing": 3, "asking": 3, "adapting": 3, "trainer": 3, "evaluation": 3,
    "data_free_trainer": 3,
    "recipe": 4, "export": 4, "predictor": 4, "inputs": 4, "deployment": 4,
    "cli": 5,
}  # fmt: skip


def room(path: Path) -> str:
    """The first part of a module's name inside the package: ``losses/hint.py`` is in the room ``losses``."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports, also inside functions."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            if node.level == 1 and room(path) == "models":
                continue  # a neighbour, copied beside this file into the folder of a saved model
            assert node.level == 0, f"{path} has a relative import: write it in full."
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    parts = [module.split(".") for module in modules]
    assert not any(part[0] == "recipes" for part in parts), f"{path} imports a recipe."
    return {part[1] for part in parts if part[0] == "hf_distill" and len(part) > 1} & FLOORS.keys()


def files() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def test_every_room_has_a_floor() -> None:
    assert {room(path) for path in files()} == FLOORS.keys()


def test_no_import_goes_up() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} (floor {FLOORS[room(path)]}) imports {other} (floor {FLOORS[other]})"
        for path in files()
        for other in imported_rooms(path)
        if FLOORS[other] > FLOORS[room(path)]
    ]
    assert not wrong, wrong


def test_no_import_goes_round() -> None:
    edges: dict[str, set[str]] = {name: set() for name in FLOORS}
    for path in files():
        edges[room(path)] |= imported_rooms(path) - {room(path)}
    while leaves := {name for name, others in edges.items() if not others & edges.keys()}:
        edges = {name: others for name, others in edges.items() if name not in leaves}
    assert not edges, f"These import each other in a circle: {sorted(edges)}"


def test_files_that_are_saved_with_a_model_need_nothing_of_the_package() -> None:
    saved = [*PACKAGE.glob("models/*/configuration_*.py"), *PACKAGE.glob("models/*/modeling_*.py")]
    assert saved
    for path in saved:
        named = [
            name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        ]
        assert not any((name or "").startswith("hf_distill") for name in named), path


def test_the_objective_knows_no_loss() -> None:
    assert "losses" not in imported_rooms(PACKAGE / "objective.py")
