"""A headless Chromium, spoken to over a pipe by the DevTools protocol: what a page really does."""

import json
import os
import select
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None
)

_SECONDS = 60


class Page:
    """A page in a browser; `said` are its console messages, exceptions and refused loads."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._rest, self._id = write, read, b"", 0
        self.said: list[str] = []
        self._loaded = False
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command; raises RuntimeError with the error of the browser."""
        self._id += 1
        about = {"sessionId": self._session} if self._session else {}
        text = json.dumps({"id": self._id, "method": method, "params": params, **about})
        os.write(self._write, text.encode() + b"\0")
        while (message := self._message()).get("id") != self._id:
            self._note(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    def open(self, path: Path) -> None:
        """Load a file and wait until it is there."""
        self.open_url(path.as_uri())

    def open_url(self, url: str) -> None:
        """Load an address and wait until it is there."""
        self._loaded = False
        self.call("Page.navigate", url=url)
        while not self._loaded:
            self._note(self._message())

    def evaluate(self, code: str) -> Any:
        """The value of an expression of JavaScript."""
        found = self.call("Runtime.evaluate", expression=code, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, code: str) -> None:
        """Until an expression of JavaScript is true; raises RuntimeError where it does not
        become so."""
        watched = f"""new Promise((done, fail) => {{
            const end = Date.now() + {1000 * (_SECONDS - 5)};
            const look = () => ({code}) ? done(true)
                : Date.now() > end ? fail('not so') : setTimeout(look, 50);
            look();
        }})"""
        found = self.call("Runtime.evaluate", expression=watched, awaitPromise=True,
                          returnByValue=True)  # fmt: skip
        if "exceptionDetails" in found:
            raise RuntimeError(f"{code}: {found['exceptionDetails']}")

    def press(self, key: str) -> None:
        """A key, as a person presses it."""
        code = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowDown": 40}[key]
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                      windowsVirtualKeyCode=code, **text)  # fmt: skip

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def screenshot(self, path: Path, width: int, height: int) -> None:
        """Of the first `height` pixels; a PNG."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip
        path.write_bytes(b64decode(self.call("Page.captureScreenshot")["data"]))

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], _SECONDS)[0]:
                raise RuntimeError(f"the browser says nothing for {_SECONDS} seconds")
            more = os.read(self._read, 1 << 20)
            if not more:
                raise RuntimeError("the browser ended")
            self._rest += more
        text, self._rest = self._rest.split(b"\0", 1)
        return json.loads(text)

    def _note(self, message: dict[str, Any]) -> None:
        self._loaded |= message.get("method") == "Page.loadEventFired"
        if message.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled",
                                     "Log.entryAdded"):  # fmt: skip
            self.said.append(json.dumps(message["params"]))


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A browser with an empty profile in `folder`; it ends with the block."""
    assert PROGRAM is not None
    ours, theirs = os.pipe(), os.pipe()  # to it, and from it

    def as_3_and_4() -> None:
        at_3, at_4 = os.dup(ours[0]), os.dup(theirs[1])
        os.dup2(at_3, 3)
        os.dup2(at_4, 4)

    process = subprocess.Popen(
        [PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--no-first-run", "--no-proxy-server", f"--user-data-dir={folder / 'profile'}",
         "--remote-debugging-pipe", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False,
        preexec_fn=as_3_and_4,
    )  # fmt: skip
    os.close(ours[0])
    os.close(theirs[1])
    try:
        yield Page(ours[1], theirs[0])
    finally:
        process.kill()
        process.wait()
        os.close(ours[1])
        os.close(theirs[0])
