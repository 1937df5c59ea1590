"""A Hub in miniature: enough of its protocol for ``push_to_hub``, ``from_pretrained`` and ``load_dataset``, with faults
on demand.

Every file is uploaded in the ``regular`` way, inside the commit, unless it is asked for large ones apart. Only the
standard library is used, so that it can be started before ``huggingface_hub`` is imported, which reads ``HF_ENDPOINT``
once::

    with HubServer(token) as hub:
        os.environ["HF_ENDPOINT"] = hub.url
        import transformers
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from card_rules import errors_of

OWNER = "tester"
REPO = r"(?P<repo>(?:datasets/)?[\w.-]+/[\w.-]+)"
REPO_API = (
    r"(?P<api>(?:datasets/)?[\w.-]+/[\w.-]+)"
    r"(?:/revision/(?P<revision>[^/]+)|(?P<tree>/tree/(?P<branch>[^/]+)(?:/(?P<folder>.+))?))?"
)


@dataclass
class Fault:
    """A status for so many requests to addresses that contain ``where``; see ``HubServer.fail``."""

    status: int
    where: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    times: float = math.inf


class HubServer:
    """Repositories in memory behind HTTP on a port of this machine.

    Args:
        token: What a client must send in order to write.
        repos: The files, by path, of each repository that exists already; of another branch than the main one under
            ``owner/name@branch``. Those of data sets are called ``datasets/owner/name``.
        large: The ends of the names of files that go up by themselves, as Git LFS does it, before the commit.

    Attributes:
        uploaded: The bodies of all requests, as far as they came.
        received: So many bytes in bodies of requests.
        sent: So many in bodies of answers.
        commits: So many were made.
    """

    def __init__(
        self, token: str, repos: Mapping[str, dict[str, bytes]] | None = None, large: tuple[str, ...] = ()
    ) -> None:
        self.token, self.large = token, large
        self.repos: dict[str, dict[str, bytes]] = dict(repos or {})
        self.objects: dict[str, bytes] = {}
        self.uploaded: list[bytes] = []
        self.private: set[str] = set()
        self.received = self.sent = self.commits = 0
        self.fault: Fault | None = None
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    def __enter__(self) -> HubServer:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen; after ``stop`` on the same port as before."""
        hub = self

        class BoundHandler(Handler):
            def __init__(self, *args: Any) -> None:
                self.hub = hub
                super().__init__(*args)

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), BoundHandler)
        self._port = self._server.server_port
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections; the repositories are kept."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def fail(
        self, status: int, where: str = "", headers: Mapping[str, str] | None = None, times: float = math.inf
    ) -> None:
        """Answer with ``status`` from now on, if the address of a request contains ``where``.

        0 cuts the connection when half of the request's body has come, and -1 when all is done but the answer.
        ``times`` ends it after so many requests.
        """
        self.fault = Fault(status, where, dict(headers or {}), times)

    def recover(self) -> None:
        """Work again."""
        self.fault = None

    def save(self, folder: Path) -> None:
        """Write all repositories below a folder."""
        for repo, files in self.repos.items():
            for path, content in files.items():
                (folder / repo / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / repo / path).write_bytes(content)

    @staticmethod
    def saved(folder: Path, repo: str) -> dict[str, bytes]:
        """The files of a repository that ``save`` wrote."""
        root = folder / repo
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@lru_cache(maxsize=32)
def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sha(files: Mapping[str, bytes]) -> str:
    """A commit's name: it changes whenever a file does."""
    return hashlib.sha1(repr(sorted((name, digest(files[name])) for name in files)).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """One request. Every answer closes its connection, so that a stopped server is really gone."""

    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        if (body := self.body()) is None:
            return
        wanted = urlsplit(self.path).path.removeprefix("/stored/")
        if digest(body) != wanted:
            return self.answer(400, {"error": "These are other bytes than those announced."})
        self.hub.objects[wanted] = body
        self.answer(200, {})

    def do_POST(self) -> None:
        if (body := self.body()) is None:
            return
        path = self.address()
        if path == "/api/validate-yaml":  # the one address that takes no token
            errors = [{"message": error} for error in errors_of(json.loads(body)["content"])]
            return self.answer(400 if errors else 200, {"errors": errors, "warnings": []})
        if not self.has_token():
            return self.answer(401, {"error": "Invalid username or password."})
        if path == "/api/repos/create":
            return self.create_repo(json.loads(body))
        if match := re.fullmatch(f"/api/{REPO}/preupload/.+", path):
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = ["lfs" if path.endswith(self.hub.large) else "regular" for path in paths]
            files = [{"path": path, "uploadMode": mode} for path, mode in zip(paths, modes, strict=True)]
            return self.answer(200, {"files": [{**file, "shouldIgnore": False} for file in files]})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.announce(json.loads(body)["objects"])
        if match := re.fullmatch("/verify/(.+)", path):
            return self.answer(200 if match[1] in self.hub.objects else 404, {})
        if match := re.fullmatch(f"/api/{REPO}/branch/(?P<branch>.+)", path):
            return self.create_branch(f"{match['repo']}@{match['branch']}", match["repo"])
        if match := re.fullmatch(f"/api/{REPO}/commit/(?P<branch>.+)", path):
            repo = match["repo"] if match["branch"] == "main" else f"{match['repo']}@{match['branch']}"
            return self.commit(repo, [json.loads(line) for line in body.splitlines()])
        self.answer(404, {"error": f"No such address: {path}"})

    def do_GET(self) -> None:
        if self.fails():
            return
        path = self.address()
        known = re.fullmatch(f"/{REPO}/resolve/(?P<at>[^/]+)/(?P<file>.+)|/api/{REPO_API}", path)
        repo = (known["repo"] or known["api"]) if known else ""
        if repo not in self.hub.repos or (repo in self.hub.private and not self.has_token()):
            return self.miss("RepoNotFound")
        files = self.files_at(repo, known["at"] or known["revision"] or known["branch"] or "main")
        if files is None:
            return self.miss("RevisionNotFound")
        if known["file"]:
            return self.resolve(files, known["file"])
        if known["tree"]:
            return self.tree(files, f"{known['folder']}/" if known["folder"] else "")
        siblings = [{"rfilename": name} for name in files]
        private = repo in self.hub.private
        self.answer(200, {"id": repo, "sha": sha(files), "private": private, "tags": [], "siblings": siblings})

    do_HEAD = do_GET

    def address(self) -> str:
        """What is asked for. The API has models and data sets side by side; elsewhere only data sets say that."""
        return unquote(urlsplit(self.path).path).replace("/api/models/", "/api/")

    def body(self) -> bytes | None:
        """What the request brings; ``None`` where the fault that was ordered keeps it from being answered."""
        length, cut = int(self.headers["Content-Length"]), self.faulty() and self.hub.fault.status == 0
        content = self.rfile.read(length // 2 if cut else length)
        self.hub.received += len(content)
        self.hub.uploaded.append(content)
        return None if self.fails() else content

    def has_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def files_at(self, repo: str, revision: str) -> dict[str, bytes] | None:
        """The files of a branch, or of the last commit of one."""
        branches = {name.partition("@")[2] or "main": name for name in self.hub.repos if name.split("@")[0] == repo}
        found = {branch: self.hub.repos[name] for branch, name in branches.items()}
        return next((files for branch, files in found.items() if revision in (branch, sha(files))), None)

    def create_repo(self, wanted: Mapping[str, Any]) -> None:
        kind = "datasets/" if wanted.get("type") == "dataset" else ""
        repo = f"{kind}{wanted.get('organization') or OWNER}/{wanted['name']}"
        status = 409 if repo in self.hub.repos else 200
        if status == 200 and (wanted.get("private") or wanted.get("visibility") == "private"):
            self.hub.private.add(repo)
        self.hub.repos.setdefault(repo, {})
        error = {"error": "You already created this model repo"} if status == 409 else {}
        self.answer(status, {"url": f"{self.hub.url}/{repo}", **error})

    def create_branch(self, branch: str, repo: str) -> None:
        status = 409 if branch in self.hub.repos else 200
        self.hub.repos.setdefault(branch, dict(self.hub.repos[repo]))
        self.answer(status, {"error": "Reference already exists"} if status == 409 else {})

    def commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        files = self.hub.repos[repo]
        self.hub.commits += 1
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                files[line["value"]["path"]] = self.hub.objects[line["value"]["oid"]]
            elif line["key"] == "deletedFile":
                files.pop(line["value"]["path"], None)
        self.answer(200, {"commitUrl": f"{self.hub.url}/{repo}/commit/{sha(files)}", "commitOid": sha(files)})

    def tree(self, files: Mapping[str, bytes], folder: str) -> None:
        """What lies in a folder, and below it where that is asked for."""
        inside = [name.removeprefix(folder) for name in files if name.startswith(folder)]
        if folder and not inside:
            return self.miss("EntryNotFound")
        deep = "recursive=true" in self.path.lower()
        found = [
            {"type": "file", "path": folder + name, "size": len(files[folder + name]), "oid": "0"}
            for name in inside
            if deep or "/" not in name
        ]
        folders = {folder + name.split("/")[0] for name in inside if "/" in name}
        self.answer(200, [*found, *({"type": "directory", "path": name, "oid": "0"} for name in sorted(folders))])

    def announce(self, objects: list[dict[str, Any]]) -> None:
        """Say where large files are to be put; those that are there already need no upload."""

        def actions(oid: str) -> dict[str, Any]:
            upload, verify = f"{self.hub.url}/stored/{oid}", f"{self.hub.url}/verify/{oid}"
            return {"actions": {"upload": {"href": upload}, "verify": {"href": verify}}}

        known = self.hub.objects
        answers = [{**entry, **({} if entry["oid"] in known else actions(entry["oid"]))} for entry in objects]
        self.answer(200, {"transfer": "basic", "objects": answers})

    def resolve(self, files: Mapping[str, bytes], name: str) -> None:
        if name not in files:
            return self.miss("EntryNotFound", commit=sha(files))
        self.send(200, files[name], {"ETag": f'"{digest(files[name])}"', "X-Repo-Commit": sha(files)})

    def faulty(self) -> bool:
        """Whether a fault was ordered for this request."""
        return self.hub.fault is not None and self.hub.fault.times > 0 and self.hub.fault.where in self.path

    def fails(self) -> bool:
        """Do what was ordered for this request, if anything was."""
        if not self.faulty() or self.hub.fault.status < 0:
            return False
        fault = self.hub.fault
        fault.times -= 1
        if fault.status == 0:
            self.cut()
        else:
            content = json.dumps({"error": "This fault was ordered."}).encode()
            self.send(fault.status, content, {"Content-Type": "application/json", **fault.headers})
        return True

    def cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def miss(self, code: str, commit: str = "") -> None:
        self.send(404, b"{}", {"X-Error-Code": code, **({"X-Repo-Commit": commit} if commit else {})})

    def answer(self, status: int, value: Any) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        if self.faulty() and self.hub.fault.status < 0:
            self.hub.fault.times -= 1
            return self.cut()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
            self.hub.sent += len(content)

    def log_message(self, *args: object) -> None:
        pass
