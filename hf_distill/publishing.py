"""What a trainer writes beside the student, and how it goes to the Hub."""

from __future__ import annotations

import json
import logging
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import Trainer

from hf_distill.card_facts import facts_of
from hf_distill.model_card import write_card
from hf_distill.objective import Objective
from hf_distill.teachers import Teacher

logger = logging.getLogger(__name__)

OBJECTIVE_FILE = "objective.json"
"""Beside every saved student: the terms it was trained with, and its teachers."""


class PublishingTrainer(Trainer):
    """The part of :class:`~hf_distill.DistillationTrainer` that saves and publishes.

    Attributes:
        teachers: By name.
        distillation_objective: What is minimised.
        report: What :func:`~hf_distill.compare` found, as a dict, for the model card; set it before pushing.
        student_origin: What the student was before, in words, for a card that has no base model on the Hub to name.
    """

    teachers: dict[str, Teacher]
    report: Mapping[str, Any] | None = None
    student_origin: str | None = None

    @property
    @abstractmethod
    def distillation_objective(self) -> Objective:
        """What is minimised."""

    def _settings(self) -> dict[str, Any]:
        teachers = {name: teacher.name for name, teacher in self.teachers.items()}
        return {"terms": self.distillation_objective.describe(), "teachers": teachers}

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            path = Path(output_dir or self.args.output_dir) / OBJECTIVE_FILE
            path.write_text(json.dumps(self._settings(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def warn_of_changes(self, checkpoint: str | Path) -> None:
        """Warn where a checkpoint was trained with other terms or teachers, and name them."""
        saved = Path(checkpoint) / OBJECTIVE_FILE
        if not saved.is_file():
            return
        before, now = json.loads(saved.read_text(encoding="utf-8")), self._settings()
        for kind in now:
            for name in sorted({*before.get(kind, {}), *now[kind]}):
                old, new = before.get(kind, {}).get(name), now[kind].get(name)
                if old != new:
                    logger.warning(
                        "Resuming with another %s %r: %s in the checkpoint, %s now.", kind[:-1], name, old, new
                    )

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """Write the model card, with the results in ``self.report`` if there are any. Arguments as in ``Trainer``."""
        if self.is_world_process_zero():
            facts = facts_of(self, language, license, tags, model_name, finetuned_from, tasks, dataset or dataset_tags)
            write_card(facts, self.report).save(Path(self.args.output_dir) / "README.md")

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Push as ``Trainer`` does, with student, tokenizer and card on disk first: a Hub that fails loses nothing."""
        self.save_model(_internal_call=True)
        self.create_model_card(**kwargs)
        try:
            return super().push_to_hub(commit_message, blocking, token, revision, private, **kwargs)
        except Exception:
            logger.error(
                "The Hub did not take the model. Nothing is lost: student, tokenizer and card are saved in %s. When "
                "the Hub works again, trainer.push_to_hub() finishes the job.",
                self.args.output_dir,
            )
            raise
