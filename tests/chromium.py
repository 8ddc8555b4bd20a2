"""A headless Chromium that opens local pages: real keys, sizes of windows, errors of the console, requests, pictures.

It speaks the DevTools protocol over pipes, so nothing but the browser need be installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Codes and texts of keys that are no letters.
PRESSED = {"Enter": (13, "\r"), "Tab": (9, ""), " ": (32, " ")}


class Page:
    """One page in the browser.

    Attributes:
        errors: What the console said as an error or a warning, and exceptions that nothing caught.
        requests: Addresses that were asked for.
    """

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._buffer, self._count, self._session = b"", 0, ""
        self.errors: list[str] = []
        self.requests: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the protocol and wait for its answer."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._count:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            more = os.read(self._read, 1 << 20)
            if not more:
                raise RuntimeError("the browser has ended")
            self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        said = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(said["exceptionDetails"]))
        elif event.get("method") == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(said["args"]))
        elif event.get("method") == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.errors.append(json.dumps(said["entry"]))
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])

    def open(self, file: Path, width: int = 1400, height: int = 900) -> None:
        """Open a local page in a window of this size and wait until it is drawn."""
        self.resize(width, height)
        self.send("Page.navigate", url=file.resolve().as_uri())
        complete = "document.readyState === 'complete'"
        self.value(f"new Promise(done => {complete} ? done(1) : addEventListener('load', () => done(1)))")

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window another size."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def value(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"]))
        return found["result"].get("value")

    def press(self, *keys: str) -> None:
        """Press keys one after the other, as a person does: letters, ``Tab``, ``Enter``, `` ``."""
        for key in keys:
            code, text = PRESSED.get(key, (ord(key[0].upper()), key))
            about = {"key": key, "windowsVirtualKeyCode": code, "text": text}
            self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **about)
            self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def overflow(self) -> list[str]:
        """Elements that stick out of the window to the right, but for those that scroll by themselves."""
        return list(
            self.value(
                """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, pre, svg')
                && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
                .map(e => e.tagName + ' ' + e.className + ' ' + (e.textContent || '').slice(0, 40))"""
            )
        )


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A browser with a fresh profile in a folder; it ends with the block."""
    assert BROWSER is not None
    to_browser, from_browser = os.pipe(), os.pipe()
    # Chromium reads commands from file 3 and answers on file 4.
    command = f'exec "$0" "$@" 3<&{to_browser[0]} 4>&{from_browser[1]}'
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars"]
    flags += [
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        f"--user-data-dir={profile}",
    ]
    process = subprocess.Popen(
        ["bash", "-c", command, BROWSER, *flags, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(to_browser[0], from_browser[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser[0])
    os.close(from_browser[1])
    try:
        yield Page(to_browser[1], from_browser[0])
    finally:
        os.close(to_browser[1])
        process.terminate()
        process.wait()
        os.close(from_browser[0])
