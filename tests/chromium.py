"""A real browser, Debian's Chromium without a window, by its DevTools protocol."""

import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.waiting import PATIENCE_S, wait_for

# Without a look at the machine's other users, at its maker's hosts, or for a graphics card.
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--no-proxy-server", "--remote-debugging-port=0"),
)


def lacks() -> str:
    """Return why no browser can be started here; empty if one can."""
    for program in ("chromium", "certutil"):
        if shutil.which(program) is None:
            return f"`{program}` is not installed (Debian's packages chromium, libnss3-tools)"
    return ""


class Browser:
    """One page of a running browser."""

    def __init__(self, wire: ClientConnection) -> None:
        self._wire = wire
        self._numbers = itertools.count(1)
        self._loaded: set[str] = set()  # the documents that are loaded, by their loader's id

    def open(self, url: str) -> str:
        """Go to an address; return why that fails, empty once the page is loaded."""
        self._do("Page.enable")
        self._do("Page.setLifecycleEventsEnabled", enabled=True)
        begun = self._do("Page.navigate", url=url)
        error: str = begun.get("errorText", "")
        while not error and begun["loaderId"] not in self._loaded:
            # That may come before the answer.
            self._next()
        return error

    def ask(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript in the page; a promise's value, too."""
        told = self._do(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def wait(self, expression: str, what: str = "") -> Any:
        """Return the value of an expression as soon as it is true; while a page is loaded, it may have no value."""
        guarded = f"(() => {{ try {{ return ({expression}) }} catch {{ return false }} }})()"

        def value() -> Any:
            try:
                return self.ask(guarded)
            except AssertionError:  # the page that was asked is gone
                return None

        return wait_for(value, what or expression)

    def look(self, *, wide: int, high: int = 900, scheme: str = "light") -> None:
        """Show the page in a window of this size, to a visitor who prefers `light` or `dark`."""
        self._do("Emulation.setDeviceMetricsOverride", width=wide, height=high, deviceScaleFactor=1, mobile=False)  # fmt: skip
        told = [{"name": "prefers-color-scheme", "value": scheme}]
        self._do("Emulation.setEmulatedMedia", features=told)

    def picture(self) -> bytes:
        """Return the window as a PNG."""
        told = self._do("Page.captureScreenshot", format="png")
        return base64.b64decode(told["data"])

    def press(self, key: str) -> None:
        """Press a key, as a visitor without a mouse does."""
        text = {"Enter": "\r", "Tab": "\t"}.get(key, key)
        for kind in ("keyDown", "keyUp"):
            given = {"type": kind, "key": key, "text": text if kind == "keyDown" else ""}
            code = {"Enter": 13, "Tab": 9, "Escape": 27}.get(key, 0)
            self._do("Input.dispatchKeyEvent", windowsVirtualKeyCode=code, **given)

    def hide(self, *, hidden: bool) -> None:
        """Let the page believe that another tab is in front of it, or no longer."""
        state = "hidden" if hidden else "visible"
        self.ask(
            f"Object.defineProperty(document, 'hidden', {{get: () => {str(hidden).lower()}, configurable: true}});"
            f"Object.defineProperty(document, 'visibilityState', {{get: () => '{state}', configurable: true}});"
            "document.dispatchEvent(new Event('visibilitychange')); 1"
        )

    def _do(self, method: str, **given: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._wire.send(json.dumps({"id": number, "method": method, "params": given}))
        while (told := self._next()).get("id") != number:
            pass
        assert "error" not in told, told
        result: dict[str, Any] = told["result"]
        return result

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._wire.recv(timeout=PATIENCE_S))
        if message.get("method") == "Page.lifecycleEvent" and message["params"]["name"] == "load":
            self._loaded.add(message["params"]["loaderId"])
        return message


@contextlib.contextmanager
def running(home: Path, *flags: str) -> Iterator[Browser]:
    """Run a browser of a user with this home, with more flags for Chromium."""
    profile = home / "profile"
    port = profile / "DevToolsActivePort"
    port.unlink(missing_ok=True)
    with (home / "chromium.log").open("ab") as log:
        process = subprocess.Popen(
            ["chromium", *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"],
            env={**os.environ, "HOME": str(home)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        with connect(
            wait_for(lambda: _page(port), "Chromium"),
            proxy=None,
            open_timeout=PATIENCE_S,
            max_size=None,
        ) as wire:
            yield Browser(wire)
            wire.send(json.dumps({"id": 0, "method": "Browser.close"}))
            process.wait(PATIENCE_S)  # it waits for its own processes
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _page(port: Path) -> str:
    """Return the address of the first page, by the file with the browser's port; empty until both are there."""
    words = port.read_text().split() if port.exists() else []
    if len(words) != 2:
        return ""
    listed = httpx.get(f"http://127.0.0.1:{words[0]}/json", trust_env=False, timeout=PATIENCE_S)
    pages = [each for each in listed.json() if each["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"]) if pages else ""
