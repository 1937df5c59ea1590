"""``--push_to_hub``: asked before hours of training whether the Hub will take the result."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from hf_distill.pushing import make_repo
from hf_distill.training_args import DistillationTrainingArguments


def check_push(args: DistillationTrainingArguments) -> None:
    """Make the repository that ``args`` name, or find it, on the main process, where the student is to be pushed.

    Args:
        args: With ``push_to_hub``; the others of ``hub_`` as in ``Trainer``.

    Raises:
        PermissionError: the Hub does not accept the token, or not for this repository.
        ConnectionError: the Hub cannot be reached, or refuses for now.
        ValueError: the repository is public against ``hub_private_repo``.
    """
    if args.push_to_hub and args.process_index == 0:
        name = args.hub_model_id or Path(args.output_dir).absolute().name
        make_repo(name, args.output_dir, private=bool(args.hub_private_repo), api=HfApi(token=args.hub_token))
