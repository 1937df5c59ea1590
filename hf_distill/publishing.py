"""What a trainer writes beside the student, and how it goes to the Hub."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi
from transformers import Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress

from hf_distill.card_facts import facts_of
from hf_distill.model_card import write_card
from hf_distill.objective import Objective
from hf_distill.public_files import public_files
from hf_distill.pushing import hub_errors_explained, push_folder
from hf_distill.teachers import Teacher
from hf_distill.whole_file import whole_file

logger = logging.getLogger(__name__)

OBJECTIVE_FILE = "objective.json"
"""Beside every saved student: the terms it was trained with, and its teachers."""

FAILED_PUSH = "A push during training failed; training goes on, and the next save pushes again. %s"


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
    hub_model_id: Any
    push_in_progress: Any = None

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
            with whole_file(Path(output_dir or self.args.output_dir) / OBJECTIVE_FILE) as file:
                file.write(json.dumps(self._settings(), indent=2, ensure_ascii=False) + "\n")

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
            facts = facts_of(self, language, license, tags, model_name, finetuned_from, tasks, dataset, dataset_tags)
            write_card(facts, self.report).save(Path(self.args.output_dir) / "README.md")

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository, or find it, with errors that say what to do.

        Args:
            token: Default ``args.hub_token``, then that of ``hf auth login``.
            private: Default ``args.hub_private_repo``; for a repository that is made.
        """
        if not self.is_world_process_zero():
            return
        name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        api = self._hub if token is None else HfApi(token=token)
        private = self.args.hub_private_repo if private is None else private
        with hub_errors_explained(name, self.args.output_dir):
            self.hub_model_id = api.create_repo(name, private=private, exist_ok=True).repo_id
        self.push_in_progress = None

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> CommitInfo | Future[CommitInfo] | None:
        """Publish student, tokenizer, card and report; they are on disk first, so that a Hub that fails loses nothing.

        What goes up is what :func:`~hf_distill.pushing.push_folder` takes, in one commit: no checkpoint, no optimizer,
        no ``training_args.bin``, which knows your folders.

        Args:
            commit_message: What the history says.
            blocking: Whether to wait for the end. If not, a copy goes up, so that the folder may change meanwhile.
            token: Default ``args.hub_token``, then that of ``hf auth login``.
            revision: The branch; default ``args.hub_revision``, then the main one.
            private: Default ``args.hub_private_repo``. A public repository that exists is then refused.
            **kwargs: For ``create_model_card``.

        Returns:
            The commit, or its future where ``blocking`` is false; ``None`` on all processes but the main one.

        Raises:
            PermissionError: the Hub does not accept the token, or not for this repository.
            ConnectionError: the Hub cannot be reached, or refuses for now.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        kwargs.setdefault("model_name", (self.args.hub_model_id or Path(self.args.output_dir).name).split("/")[-1])
        self.save_model(_internal_call=True)
        self.create_model_card(**kwargs)
        if not self.is_world_process_zero():
            return None
        private = self.args.hub_private_repo if private is None else private
        try:
            if self.hub_model_id is None:
                self.init_hf_repo(token=token, private=private)
                self.create_model_card(**kwargs)  # which knows the repository now
            self._finish_current_push()
            api = self._hub if token is None else HfApi(token=token)
            place = None if blocking else _staged(Path(self.args.output_dir), self.args.output_dir, shutil.copy)
            push = partial(
                push_folder,
                self.args.output_dir if place is None else place.name,
                self.hub_model_id,
                private=bool(private),
                revision=revision or self.args.hub_revision,
                commit_message=commit_message or "End of training",
                api=api,
            )
            return push() if place is None else api.run_as_future(_push_and_tidy, push, place)
        except Exception:
            logger.error(
                "The Hub did not take the model. Nothing is lost: student, tokenizer and card are saved in %s. When "
                "the Hub works again, trainer.push_to_hub() finishes the job.",
                self.args.output_dir,
            )
            raise

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Publish after a save what :meth:`push_to_hub` would, in the background; training goes on if that fails.

        With the strategies ``checkpoint`` and ``all_checkpoints`` it is ``Trainer`` that pushes, the optimizer too.
        """
        if self.args.hub_strategy != HubStrategy.EVERY_SAVE:
            super()._push_from_checkpoint(checkpoint_folder)
            return
        running = None if self.push_in_progress is None or self.push_in_progress.is_done() else self.push_in_progress
        if not self.is_world_process_zero() or (running is not None and not self.args.hub_always_push):
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        try:
            place = _staged(Path(checkpoint_folder), self.args.output_dir, _link)
        except OSError as error:  # no model there, as of a sharded one, or no room for a copy
            logger.error(FAILED_PUSH, error)
            return
        push = partial(
            push_folder,
            place.name,
            self.hub_model_id,
            private=bool(self.args.hub_private_repo),
            revision=self.args.hub_revision,
            commit_message=f"Training in progress, step {self.state.global_step}",
            api=self._hub,
        )
        job = self._hub.run_as_future(_push_in_training, push, place)
        self.push_in_progress = running or PushInProgress([])
        self.push_in_progress.jobs.append(job)

    @cached_property
    def _hub(self) -> HfApi:
        """One for all pushes, so that those in the background go one after the other."""
        return HfApi(token=self.args.hub_token)


def _staged(
    folder: Path, output_dir: str | None, put: Callable[[Path, Path], object]
) -> tempfile.TemporaryDirectory[str]:
    """What is published of a folder, in a place of its own: the next save may come while it is on its way.

    A checkpoint's files are deleted at most, so that links do; those of the output directory are written over.
    """
    place = tempfile.TemporaryDirectory(prefix="_push_", dir=output_dir)
    try:
        for name in public_files(folder):
            target = Path(place.name) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            put(folder / name, target)
    except OSError:
        place.cleanup()
        raise
    return place


def _link(source: Path, target: Path) -> None:
    """The same file in a second place, as a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def _push_in_training(push: Callable[[], CommitInfo], place: tempfile.TemporaryDirectory[str]) -> CommitInfo:
    try:
        return _push_and_tidy(push, place)
    except Exception as error:
        logger.error(FAILED_PUSH, error)
        raise


def _push_and_tidy(push: Callable[[], CommitInfo], place: tempfile.TemporaryDirectory[str]) -> CommitInfo:
    with place:
        return push()
