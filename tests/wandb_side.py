"""What W&B receives: the files that it writes offline, and a small server on 127.0.0.1."""

import gzip
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from wandb.util import get_core_path


def wandb_records(path: Path) -> list[dict[str, Any]]:
    """The complete records in a .wandb file, as W&B's own program prints them."""
    program = [get_core_path(), "leet", "inspect", "-no-observability", "-json", "-run-file", path]
    printed = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


class Attempt:
    """What W&B has written in one attempt: from a start of the run to its end or its kill."""

    def __init__(self, file: Path) -> None:
        self.files = file.parent / "files"
        records = wandb_records(file)

        def of_type(name: str) -> list[dict[str, Any]]:
            return [record[name] for record in records if record["type"] == name]

        self.runs = of_type("run")
        self.ids = {run["run_id"] for run in self.runs}
        self.history = [row["item"] for row in of_type("history")]
        self.steps = [row["_step"] for row in self.history]
        self.summary: dict[str, Any] = {}
        for summary in of_type("summary"):
            self.summary |= summary.get("update", {})
        self.config: dict[str, Any] = {}
        for config in [run["config"] for run in self.runs] + of_type("config"):
            self.config |= config["update"]
        self.artifacts = of_type("artifact")

    def column(self, name: str) -> dict[int, Any]:
        """The values of a metric by step."""
        return {row["_step"]: row[name] for row in self.history if name in row}


def read_attempts(run: Path) -> list[Attempt]:
    """All attempts of a run in which W&B has written something, oldest first."""
    files = sorted(run.glob("wandb/*run-*/run-*.wandb"), key=lambda file: file.parent.name)
    return [Attempt(file) for file in files]


class Server(ThreadingHTTPServer):
    """As much of W&B's server as an online run needs, and a request to save a workspace."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, dict[str, Any]] = {}
        self.views: list[dict[str, Any]] = []
        self.artifacts: list[dict[str, Any]] = []
        self.sweep = ""
        self.point: dict[str, object] = {}
        """the flags of the one run of a sweep"""

    def handle_error(self, *_: object) -> None:
        """W&B closes connections that it keeps alive when it ends."""

    @property
    def environment(self) -> dict[str, str | None]:
        """For a program that is to log in here."""
        url = f"http://127.0.0.1:{self.server_port}"
        return {"WANDB_BASE_URL": url, "WANDB_API_KEY": "k" * 40, "WANDB_MODE": None}

    def history(self, run_id: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.runs[run_id]["history"]]

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        known = self.runs.get(given.get("name") or "")
        project = {"id": "p", "name": given.get("project"), "entity": {"id": "e", "name": "me"}}
        if operation == "RunResumeStatus":
            bucket = known and {
                **{"id": "r", "name": given["name"], "displayName": "", "tags": [], "notes": None},
                **{"logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]"},
                "historyLineCount": len(known["history"]),
                "historyTail": json.dumps(known["history"][-1:]),
                "summaryMetrics": known["summary"],
                "config": known["config"],
                "wandbConfig": '{"t": 1}',
            }
            return {"model": {**project, "bucket": bucket}}
        if operation == "UpsertBucket":
            new = {"history": [], "summary": "{}", "config": "{}"}
            run = self.runs.setdefault(given["name"], new)
            run["config"] = given.get("config") or run["config"]
            bucket = {"id": "r", "name": given["name"], "displayName": "", "project": project}
            return {"upsertBucket": {"bucket": {**bucket, "config": run["config"]}}}
        if operation == "UpsertView2":
            self.views.append(given)
            return {"upsertView": {"view": {"id": "v", "name": given["name"]}, "inserted": True}}
        if operation == "CreateRunFiles":
            url = f"http://127.0.0.1:{self.server_port}/file"
            files = [{"name": name, "uploadUrl": url} for name in given["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if operation == "ArtifactType":  # of an artifact that is not there yet
            return {"project": {"artifact": None}}
        if operation == "CreateArtifact":
            self.artifacts.append(given["input"])
            sequence = {"latestArtifact": None}
            artifact = {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": artifact}}
        if operation == "UpsertSweep":
            self.sweep = given["config"]
            return {"upsertSweep": {"sweep": {"name": "ID", "project": project}}}
        if operation == "SweepWithRuns":
            sweep = {"id": "s", "name": "ID", "config": self.sweep, "runs": {"edges": []}}
            return {"project": {"sweep": sweep}}
        if operation == "CreateAgent":
            return {"createAgent": {"agent": {"id": "g"}}}
        if operation == "Heartbeat":
            args = {name: {"value": value} for name, value in self.point.items()}
            run = {"type": "run", "run_id": "point0", "program": "train.py", "args": args}
            commands = [] if json.loads(given["runState"]) else [run if args else {"type": "exit"}]
            self.point = {}
            return {"agentHeartbeat": {"agent": {"id": "g"}, "commands": json.dumps(commands)}}
        viewer = {"id": "u", "entity": "me", "username": "me", "flags": "{}"}
        viewer |= {"teams": {"edges": []}}
        return {"viewer": viewer} if operation in ("Viewer", "GetDefaultEntity") else {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        answer = {}
        if self.path.endswith("/graphql"):
            asked = json.loads(body)
            found = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            name = asked.get("operationName") or (found[1] if found else "")
            answer = {"data": self.server.answer(name, asked.get("variables") or {})}
        elif self.path.endswith("/file_stream"):
            run = self.server.runs[self.path.split("/")[-2]]
            files = json.loads(body).get("files") or {}
            if history := files.get("wandb-history.jsonl"):
                run["history"][history["offset"] :] = history["content"]
            if content := files.get("wandb-summary.json", {}).get("content"):
                run["summary"] = content[-1]
        encoded = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    do_PUT = do_GET = do_POST  # noqa: N815


@contextmanager
def wandb_server() -> Iterator[Server]:
    """A server while the block runs."""
    with Server() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
