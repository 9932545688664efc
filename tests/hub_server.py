"""A server with the few paths of the Hub that pushing and fetching a model use; files in memory."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub:
    """What the server holds, and what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        """Of its only repository, by name."""
        self.private: bool | None = None
        self.asked: list[str] = []
        """Methods and paths."""
        self.url = ""

    @property
    def commit(self) -> str:
        """Another one for other files."""
        content = b"".join(name.encode() + self.files[name] for name in sorted(self.files))
        return hashlib.sha1(content).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """A server until the block ends."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_file(with_body=False)

        def do_GET(self) -> None:
            self.send_file(with_body=True)

        def send_file(self, *, with_body: bool) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            found = re.fullmatch(r"/some/net/resolve/[^/]+/(.+)", self.path)
            content = hub.files.get(found[1]) if found else None
            if content is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound" if found else "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", hub.commit)
            self.end_headers()
            if with_body:
                self.wfile.write(content)

        def do_POST(self) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            said: dict = {}
            if self.path == "/api/repos/create":
                hub.private = json.loads(body).get("visibility") == "private" or bool(
                    json.loads(body).get("private")
                )
                said = {"url": f"{hub.url}/some/net"}
            elif "/preupload/" in self.path:
                asked = json.loads(body)["files"]
                said = {"files": [{"path": file["path"], "uploadMode": "regular",
                                   "shouldIgnore": False} for file in asked]}  # fmt: skip
            elif "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        value = line["value"]
                        hub.files[value["path"]] = base64.b64decode(value["content"])
                said = {"commitUrl": f"{hub.url}/some/net/commit/{hub.commit}",
                        "commitOid": hub.commit, "success": True}  # fmt: skip
            content = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
