"""A Hugging Face Hub in this process: repositories made, committed to and downloaded from over HTTP."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "hf_of_these_tests"
API = re.compile(r"/api/models/([^/]+/[^/]+)/(revision|tree|preupload|commit)/([^/?]+)")
FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/?]+)/([^?]+)")


class Repository:
    """What was committed: files by commit, the newest last, and whether only its owner sees it."""

    def __init__(self, private: bool) -> None:
        self.private, self.commits = private, {"0" * 40: {}}

    def commit(self, changes: list[dict]) -> str:
        """Apply the lines of a commit to the newest files; return its name."""
        files = dict(list(self.commits.values())[-1])
        for change in changes:
            if change["key"] == "file":
                files[change["value"]["path"]] = base64.b64decode(change["value"]["content"])
            if change["key"] == "deletedFile":
                del files[change["value"]["path"]]
        name = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[name] = files
        return name

    def name_of(self, revision: str) -> str | None:
        """Return the commit that a branch or a commit's name stands for."""
        return list(self.commits)[-1] if revision == "main" else revision if revision in self.commits else None


class Handler(BaseHTTPRequestHandler):
    """Serves the server's `repositories` to clients of the Hub, to owners alone where they are private."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refuse(401, "")
        if self.path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            if name in self.server.repositories:
                return self.answer({"url": f"{self.server.url}/{name}"}, 409)
            private = wanted.get("private") or wanted.get("visibility") == "private"
            self.server.repositories[name] = Repository(bool(private))
            return self.answer({"url": f"{self.server.url}/{name}"})
        if self.path == "/api/validate-yaml":
            self.server.pages.append(json.loads(body)["content"])
            return self.answer({"errors": [], "warnings": []})
        found = API.match(self.path)
        repository = self.server.repositories.get(found[1]) if found else None
        if repository is None:
            return self.refuse(404, "RepoNotFound")
        if found[2] == "preupload":
            files = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for each in json.loads(body)["files"]]  # fmt: skip
            return self.answer({"files": files})
        name = repository.commit([json.loads(line) for line in body.splitlines() if line])
        self.answer({"commitUrl": f"{self.server.url}/{found[1]}/commit/{name}", "commitOid": name})

    def do_GET(self) -> None:
        api, file = API.match(self.path), FILE.match(self.path)
        if api is None and file is None:
            return self.refuse(404, "")
        kind, name, revision = (api[2], api[1], api[3]) if api else ("file", file[1], file[2])
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            return self.refuse(401, "RepoNotFound")
        commit = repository.name_of(unquote(revision))
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        files = repository.commits[commit]
        if kind == "revision":
            siblings = [{"rfilename": each} for each in files]
            return self.answer({"id": name, "modelId": name, "sha": commit, "siblings": siblings})
        if kind == "tree":
            return self.answer([{"type": "file", "path": path, "size": len(content), "oid": _oid(content)}
                                for path, content in files.items()])  # fmt: skip
        if unquote(file[3]) not in files:
            return self.refuse(404, "EntryNotFound")
        content = files[unquote(file[3])]
        self.server.asked.append(unquote(file[3]))
        self.send(200, content, {"X-Repo-Commit": commit, "ETag": f'"{_oid(content)}"'})

    do_HEAD = do_GET

    def refuse(self, status: int, code: str) -> None:
        """Answer with an error of the Hub."""
        self.send(status, b"", {"X-Error-Code": code, "X-Error-Message": code or "no"})

    def answer(self, content: object, status: int = 200) -> None:
        """Answer with JSON."""
        self.send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        """Send an answer, of HEAD without its content."""
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: str) -> None:
        """Stay silent."""


def _oid(content: bytes) -> str:
    """Return git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def hub() -> Iterator[ThreadingHTTPServer]:
    """Serve a hub; its `repositories`, the `pages` that it checked and the files `asked` for tell what happened."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.repositories, server.pages, server.asked = {}, [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
