"""A Hub in miniature: enough of its protocol for ``push_to_hub`` and ``from_pretrained``, with faults on demand.

Every file is uploaded in the ``regular`` way, inside the commit. Only the standard library is used, so that it can be
started before ``huggingface_hub`` is imported, which reads ``HF_ENDPOINT`` once::

    with HubServer(token) as hub:
        os.environ["HF_ENDPOINT"] = hub.url
        import transformers
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

OWNER = "tester"
REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
REPO_API = r"(?P<api>[\w.-]+/[\w.-]+)(?:/revision/[^/]+|(?P<tree>/tree/[^/]+(?P<folder>/.+)?))?"


class HubServer:
    """Repositories in memory behind HTTP on a port of this machine.

    Args:
        token: What a client must send in order to write.
        repos: The files, by path, of each repository that exists already; of another branch than the main one under
            ``owner/name@branch``.
    """

    def __init__(self, token: str, repos: Mapping[str, dict[str, bytes]] | None = None) -> None:
        self.token = token
        self.repos: dict[str, dict[str, bytes]] = dict(repos or {})
        self.uploaded: list[bytes] = []
        self.private: set[str] = set()
        self.fault: tuple[int, str] | None = None
        self.fault_headers: dict[str, str] = {}
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

    def fail(self, status: int, where: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Answer with ``status`` from now on, if the address of a request contains ``where``; 0 cuts the connection."""
        self.fault, self.fault_headers = (status, where), dict(headers or {})

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


def sha(files: Mapping[str, bytes]) -> str:
    """A commit's name: it changes whenever a file does."""
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """One request. Every answer closes its connection, so that a stopped server is really gone."""

    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.uploaded.append(body)
        if self.fails():
            return
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self.answer(401, {"error": "Invalid username or password."})
        path = unquote(urlsplit(self.path).path)
        if path == "/api/repos/create":
            return self.create_repo(json.loads(body))
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if match := re.fullmatch(f"/api/models/{REPO}/preupload/.+", path):
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            return self.answer(200, {"files": [{**file, "shouldIgnore": False} for file in files]})
        if match := re.fullmatch(f"/api/models/{REPO}/branch/(?P<branch>.+)", path):
            return self.create_branch(f"{match['repo']}@{match['branch']}", match["repo"])
        if match := re.fullmatch(f"/api/models/{REPO}/commit/(?P<branch>.+)", path):
            repo = match["repo"] if match["branch"] == "main" else f"{match['repo']}@{match['branch']}"
            return self.commit(repo, [json.loads(line) for line in body.splitlines()])
        self.answer(404, {"error": f"No such address: {path}"})

    def do_GET(self) -> None:
        if self.fails():
            return
        path = unquote(urlsplit(self.path).path)
        known = re.fullmatch(f"/{REPO}/resolve/[^/]+/(?P<file>.+)|/api/models/{REPO_API}", path)
        repo = (known["repo"] or known["api"]) if known else ""
        if repo not in self.hub.repos:
            return self.miss("RepoNotFound")
        files = self.hub.repos[repo]
        if known["file"]:
            return self.resolve(files, known["file"])
        if known["folder"]:
            return self.miss("EntryNotFound")
        if known["tree"]:
            return self.answer(
                200, [{"type": "file", "path": name, "size": len(files[name]), "oid": "0"} for name in files]
            )
        siblings = [{"rfilename": name} for name in files]
        private = repo in self.hub.private
        self.answer(200, {"id": repo, "sha": sha(files), "private": private, "tags": [], "siblings": siblings})

    do_HEAD = do_GET

    def create_repo(self, wanted: Mapping[str, Any]) -> None:
        repo = f"{wanted.get('organization') or OWNER}/{wanted['name']}"
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
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "deletedFile":
                files.pop(line["value"]["path"], None)
        self.answer(200, {"commitUrl": f"{self.hub.url}/{repo}/commit/{sha(files)}", "commitOid": sha(files)})

    def resolve(self, files: Mapping[str, bytes], name: str) -> None:
        if name not in files:
            return self.miss("EntryNotFound", commit=sha(files))
        etag = f'"{hashlib.sha1(files[name]).hexdigest()}"'
        self.send(200, files[name], {"ETag": etag, "X-Repo-Commit": sha(files)})

    def fails(self) -> bool:
        if self.hub.fault is None or self.hub.fault[1] not in self.path:
            return False
        if self.hub.fault[0] == 0:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            content = json.dumps({"error": "This fault was ordered."}).encode()
            self.send(self.hub.fault[0], content, {"Content-Type": "application/json", **self.hub.fault_headers})
        return True

    def miss(self, code: str, commit: str = "") -> None:
        self.send(404, b"{}", {"X-Error-Code": code, **({"X-Repo-Commit": commit} if commit else {})})

    def answer(self, status: int, value: Any) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass
