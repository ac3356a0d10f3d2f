"""A Hub on this machine that takes models; it knows one token."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR
from threading import Thread
from urllib.parse import urlsplit

from loopback_hub import LARGE, HubHandler

TOKEN = "hf_thisIsASecretThatNobodyMaySee"


class ModelHub(HubHandler):
    """The endpoints that a push of a model needs, too. It knows one token, that of `me`."""

    visibility: dict[str, str]
    requests: list[str]
    """method and path of each"""
    failing: dict[str, int]
    """how often a request whose path ends like this is still answered with an error"""
    closes: bool
    """whether the connection is closed in place of such an answer"""
    called: dict[str, Callable[[], None]]
    """what is called before the body of the first request is read whose path ends like this"""
    role: str

    def handle_one(self, answer) -> None:
        path = urlsplit(self.path).path
        self.requests.append(f"{self.command} {path}")
        for ending in filter(path.endswith, list(self.called)):
            self.called.pop(ending)()
        for ending, times in self.failing.items():
            if times and path.endswith(ending):
                self.failing[ending] -= 1
                if self.command in ("POST", "PUT"):
                    self.rfile.read(int(self.headers["Content-Length"]))
                if self.closes:
                    return self.connection.shutdown(SHUT_RDWR)
                # As a careless server does, with what it was sent.
                said = json.dumps({"error": f"broken for {self.headers['Authorization']}"}).encode()
                return self.reply(501, said)
        repository = "/".join(path.removeprefix("/api/models").split("/")[1:3])
        is_private = self.visibility.get(repository) == "private"
        authorised = self.headers["Authorization"] == f"Bearer {TOKEN}"
        if (is_private or path.startswith("/api/")) and not authorised:
            return self.reply(401, b"")
        return answer()

    def do_GET(self) -> None:  # noqa: N802
        self.handle_one(self.get)

    do_HEAD = do_GET  # noqa: N815

    def get(self) -> None:
        path = urlsplit(self.path).path
        if path == "/api/whoami-v2":
            who = {"name": "me", "orgs": [{"name": "team"}]}
            who["auth"] = {"accessToken": {"role": self.role}}
            return self.reply(200, json.dumps(who).encode())
        name = path.removeprefix("/api/models/").removesuffix("/revision/main")
        if path.startswith("/api/models/") and name in self.repositories:
            private = self.visibility.get(name) == "private"
            siblings = [self.sibling(*one) for one in self.repositories[name].items()]
            said = {"id": name, "sha": self.commit, "private": private, "siblings": siblings}
            return self.reply(200, json.dumps(said).encode())
        return HubHandler.do_GET(self)

    def sibling(self, path: str, data: bytes) -> dict[str, object]:
        own: dict[str, object] = {"rfilename": path, "size": len(data), "blobId": "0"}
        if path.endswith(LARGE):
            sha256 = hashlib.sha256(data).hexdigest()
            own["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 1}
        return own

    def do_POST(self) -> None:  # noqa: N802
        self.handle_one(self.post)

    def post(self) -> None:
        if urlsplit(self.path).path == "/api/repos/create":
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.repositories:
                return self.reply(409, json.dumps({"url": f"{self.home}/{name}"}).encode())
            self.repositories[name] = {}
            self.visibility[name] = asked.get("visibility", "public")
            return self.reply(200, json.dumps({"url": f"{self.home}/{name}"}).encode())
        return HubHandler.do_POST(self)

    def do_PUT(self) -> None:  # noqa: N802
        def put() -> None:
            HubHandler.do_PUT(self)

        self.handle_one(put)


@contextmanager
def served(folder: Path) -> Iterator[dict[str, str]]:
    """An empty Hub that runs; the variables by which other processes use it."""
    ModelHub.repositories, ModelHub.uploads, ModelHub.visibility = {}, {}, {}
    ModelHub.requests, ModelHub.failing, ModelHub.role = [], {}, "write"
    ModelHub.closes, ModelHub.called = False, {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), ModelHub)
    Thread(target=server.serve_forever, daemon=True).start()
    ModelHub.environment = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(folder / "other"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": TOKEN,
    }
    yield ModelHub.environment
    server.shutdown()
    server.server_close()
