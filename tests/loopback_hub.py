"""A Hub on this machine that models and data sets are loaded from and data sets pushed to."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".parquet", ".safetensors", ".onnx", ".pt2")
"""endings of files that are uploaded by themselves, before the commit"""


class HubHandler(BaseHTTPRequestHandler):
    """The few endpoints of the Hub that loading, and pushing a data set, need."""

    repositories: dict[str, dict[str, bytes]]
    uploads: dict[str, bytes]
    """large files by their SHA-256, before a commit says their paths"""
    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        match = re.fullmatch(
            r"(?:/api)?(?:/datasets|/models)?/([\w-]+/[\w-]+)(?:/(\w+)/\w+(?:/(.*))?)?", url.path
        )
        if not match or match[1] not in self.repositories:
            return self.reply(404, b"", "RepoNotFound")
        files, what, path = self.repositories[match[1]], match[2], unquote(match[3] or "")
        if what == "resolve":
            return self.reply(*((200, files[path]) if path in files else (404, b"")))
        if what == "tree":
            recursive = parse_qs(url.query).get("recursive") == ["true"]
            found = list(self.tree(files, path + "/" if path else "", recursive))
            return self.reply(200 if found else 404, json.dumps(found).encode() if found else b"")
        return self.reply(200, json.dumps({"id": match[1], "sha": self.commit}).encode())

    do_HEAD = do_GET  # noqa: N815

    def tree(
        self, files: dict[str, bytes], folder: str, recursive: bool
    ) -> Iterator[dict[str, object]]:
        inside = sorted(path for path in files if path.startswith(folder))
        folders = {folder + path[len(folder) :].split("/")[0] for path in inside} - set(inside)
        for path in sorted(folders):
            yield {"type": "directory", "path": path, "oid": "0", "size": 0}
        for path in inside:
            if recursive or "/" not in path[len(folder) :]:
                yield {"type": "file", "path": path, "oid": "0", "size": len(files[path])}

    def reply(self, status: int, body: bytes, code: str = "EntryNotFound") -> None:
        self.send_response(status)
        if status == 404:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass

    @property
    def home(self) -> str:
        """Its address."""
        return f"http://{self.headers['Host']}"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path).path
        match = re.search(r"/(?:datasets|models)/([\w-]+/[\w-]+)", path)
        if path.endswith("/objects/batch"):
            objects = [
                one
                if one["oid"] in self.uploads
                else {**one, "actions": {"upload": {"href": f"{self.home}/upload"}}}
                for one in json.loads(body)["objects"]
            ]
            said: dict[str, object] = {"transfer": "basic", "objects": objects}
        elif "/preupload/" in path:
            modes = {True: "lfs", False: "regular"}
            files = [
                {
                    "path": one["path"],
                    "uploadMode": modes[one["path"].endswith(LARGE)],
                    "shouldIgnore": False,
                    "oid": None,
                }
                for one in json.loads(body)["files"]
            ]
            said = {"files": files}
        elif "/commit/" in path:
            assert match
            files_there = self.repositories.setdefault(match[1], {})
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "lfsFile":
                    files_there[value["path"]] = self.uploads[value["oid"]]
                elif entry["key"] == "file":
                    files_there[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "deletedFile":
                    del files_there[value["path"]]
            said = {
                "commitOid": self.commit,
                "commitUrl": f"{self.home}/datasets/{match[1]}/commit/{self.commit}",
            }
        elif path == "/api/repos/create":
            name = json.loads(body)
            self.repositories.setdefault(f"{name['organization']}/{name['name']}", {})
            said = {"url": f"{self.home}/datasets/{name['organization']}/{name['name']}"}
        else:  # validate-yaml
            said = {"errors": [], "warnings": []}
        self.reply(200, json.dumps(said).encode())

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.uploads[hashlib.sha256(body).hexdigest()] = body
        self.reply(200, b"")
