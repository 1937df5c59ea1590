"""A folder that was trained earlier, on its way to the Hub: only what belongs there, in one commit."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi
from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled

from hf_distill.leaks import SPECIAL_TOKENS, leaks
from hf_distill.public_files import TOKENIZER_FILES, public_files

logger = logging.getLogger(__name__)

TEXT_FILES = {".json", ".jinja", ".md", ".html", ".py", ".txt"}
VOCABULARIES = {*TOKENIZER_FILES} - {*SPECIAL_TOKENS, "chat_template.jinja"}
REPOSITORY = re.compile(
    r"""(?mx)
    (?P<pipeline> ^classifier\ =\ pipeline\("[\w-]+",\ model=)"[^"]*"(?P<code>[^\n]*?)
        (?:\ \ \#\ the\ folder\ that\ holds\ these\ files)?$
    | (?P<endpoint> ^name,\ repo\ =\ "[\w-]*",\ )"[^"]*"$
    | (?P<server> --model-id\ )\S+
    """
)
"""Where a card names its repository, or a model that is not on the Hub yet; the template is that of the card."""


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    commit_message: str = "Upload a distilled model",
    api: HfApi | None = None,
) -> CommitInfo:
    """Publish a trained model from its folder, which is left as it is.

    The files go up in one commit, so that the repository never holds half a model. The repository is made where it is
    missing, and so is the branch. The card's examples of use are given the name of the repository.

    Args:
        folder: With ``config.json`` and ``model.safetensors``.
        repo_id: ``owner/name``.
        private: Make a private repository. One that exists must be private already.
        revision: The branch; default the main one.
        commit_message: What the history says.
        api: The Hub; default the usual one, with the token of ``hf auth login`` or ``HF_TOKEN``.

    Returns:
        The commit; its address is ``commit_url``.

    Raises:
        FileNotFoundError: the folder holds no model.
        ValueError: a file names a token or a local path, or the repository is public against ``private``.
        PermissionError: the Hub does not accept the token, or not for this repository.
        ConnectionError: the Hub cannot be reached, or refuses for now.
    """
    root, api = Path(folder), api or HfApi()
    files = public_files(root)
    classes = _class_names(root)
    contents = [(name, _content(root, name, repo_id, classes)) for name in files]
    kept = sorted(path.name for path in root.iterdir() if path.is_file() and path.name not in files)
    if kept:
        logger.info("Not published: %s.", ", ".join(kept))
    make_repo(repo_id, root, private=private, api=api)
    with hub_errors_explained(repo_id, root):
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(name, content) for name, content in contents]
        return api.create_commit(repo_id, operations, commit_message=commit_message, revision=revision)


def make_repo(repo_id: str, folder: str | Path, *, private: bool = False, api: HfApi | None = None) -> str:
    """Make a repository, or find it, with the errors of :func:`push_folder`.

    Args:
        repo_id: ``owner/name``, or a name alone for one of the token's owner.
        folder: What is to be pushed.
        private: Make a private repository. One that exists must be private already.
        api: As in :func:`push_folder`.

    Returns:
        ``owner/name``.
    """
    api = api or HfApi()
    with hub_errors_explained(repo_id, folder):
        repo_id = api.create_repo(repo_id, private=private or None, exist_ok=True).repo_id  # None: the owner's default
        if private and not api.repo_info(repo_id).private:
            raise ValueError(
                f"{repo_id} exists and is public, so nothing was sent. Make it private in its settings on the Hub, or "
                "choose another name."
            )
    return repo_id


@contextmanager
def hub_errors_explained(repo_id: str, folder: str | Path) -> Iterator[None]:
    """Turn the Hub's errors into those of :func:`push_folder`, which say what to do.

    Args:
        repo_id: ``owner/name``.
        folder: What was to be pushed.
    """
    try:
        yield
    except Exception as error:  # the client's library, and so its exceptions, differ between versions
        causes = (_explained(cause, repo_id, folder) for cause in _causes(error))
        explained = next((told for told in causes if told is not None), None)
        if explained is None:
            raise
        raise explained from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from: uploads of large files fail as a ``RuntimeError`` without a reason."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _class_names(folder: Path) -> list[str]:
    config = folder / "config.json"
    names = json.loads(config.read_text(encoding="utf-8")).get("id2label") if config.is_file() else None
    return list((names or {}).values())


def _content(folder: Path, name: str, repo_id: str, class_names: Sequence[str]) -> str | bytes:
    """What to send: the path of the file, or its text where that is changed.

    Raises:
        ValueError: the text says what must not be published.
    """
    path = folder / name
    if path.suffix not in TEXT_FILES or name in VOCABULARIES:
        return str(path)
    text = path.read_text(encoding="utf-8")
    if told := leaks(text, name, [Path.home(), folder.resolve().parent], class_names):
        raise ValueError(f"{path} names {' and '.join(told)}, so nothing was sent. Take it out and push again.")
    if name == "README.md":
        return addressed(text, repo_id).encode()
    return str(path)


def addressed(card: str, repo_id: str) -> str:
    """A card whose examples of use lead to this repository, whichever they led to before.

    Example:
        >>> addressed('classifier = pipeline("text-classification", model="student")', "anna/student")
        'classifier = pipeline("text-classification", model="anna/student")'
    """

    def line(match: re.Match[str]) -> str:
        if match["server"]:
            return f"{match['server']}{repo_id}"
        return f'{match["pipeline"] or match["endpoint"]}"{repo_id}"{match["code"] or ""}'

    return REPOSITORY.sub(line, card)


def _explained(error: BaseException, repo_id: str, folder: str | Path) -> OSError | None:
    """The same in words that say what to do; ``None`` where the Hub is not to blame."""
    again = f"Nothing in {folder} was changed; the same command, given again, finishes the job."
    login = "Log in with `hf auth login`, or set HF_TOKEN to a token that may write."
    if isinstance(error, LocalTokenNotFoundError):
        return PermissionError(f"There is no token for the Hub. {login} {again}")
    if isinstance(error, OfflineModeIsEnabled):
        return ConnectionError(f"HF_HUB_OFFLINE is set, so nothing can be sent. Unset it. {again}")
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status is None:
        no_answer = type(error).__module__.startswith(("httpx", "httpcore")) or isinstance(error, ConnectionError)
        what = f"The Hub cannot be reached, or the connection was cut ({error})."
        return ConnectionError(f"{what} Check the network. {again}") if no_answer else None
    wait = (getattr(response, "headers", None) or {}).get("Retry-After")
    when = f"in {wait} seconds" if wait else "in a few minutes"
    if status == 401:
        return PermissionError(f"The Hub does not accept the token (401). {login} {again}")
    if status == 403:
        return PermissionError(
            f"The token may not write to {repo_id} (403). Take a token with write access, or a name of your own or of "
            f"your organisation. {again}"
        )
    if status in (409, 412):
        return ConnectionError(f"Somebody else is changing {repo_id} at the same time ({status}). {again}")
    if status == 429:
        return ConnectionError(f"The Hub has had too many requests (429). Try again {when}. {again}")
    if status >= 500:
        return ConnectionError(f"The Hub fails at the moment ({status}). Try again {when}. {again}")
    return ConnectionError(f"The Hub refused ({status}): {' '.join(str(error).split())[:300]} {again}")
