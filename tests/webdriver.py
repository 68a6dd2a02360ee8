"""A browser for tests: Chromium through chromedriver, spoken to in plain WebDriver over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: WebDriver's name of an element's reference.
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_PATIENCE = 60.0  # seconds


def missing() -> str:
    """Return what is not installed and how to get it, "" if all is there."""
    if any(map(shutil.which, _BROWSERS)) and shutil.which("chromedriver"):
        return ""
    return "there is no Chromium with chromedriver: apt-get install chromium chromium-driver"


class Browser:
    """A window that shows a page, without a screen."""

    def __init__(self, address: str) -> None:
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]}
        binary = next(path for path in map(shutil.which, _BROWSERS) if path is not None)
        capabilities = {
            "browserName": "chrome",
            "goog:chromeOptions": {**options, "binary": binary},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        self._address = address
        made = self._send("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self._session = f"/session/{made['sessionId']}"

    def _send(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._address + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        """Show a page, and wait until it is loaded."""
        self._send("POST", f"{self._session}/url", {"url": url})

    def resize(self, width: int, height: int) -> None:
        """Change the size of the window."""
        self._send("POST", f"{self._session}/window/rect", {"width": width, "height": height})

    def run(self, script: str) -> Any:
        """Return what a function body in JavaScript returns."""
        return self._send("POST", f"{self._session}/execute/sync", {"script": script, "args": []})

    def click(self, selector: str) -> None:
        """Click on what a CSS selector finds first, as a user does: it must be visible."""
        found = self._send("POST", f"{self._session}/element", {"using": "css selector", "value": selector})
        self._send("POST", f"{self._session}/element/{found[_ELEMENT]}/click", {})

    def prefer_color_scheme(self, scheme: str) -> None:
        """Show pages as a user sees them who prefers "light" or "dark"; "" for what the browser starts with."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        command = {"cmd": "Emulation.setEmulatedMedia", "params": {"features": [feature]}}
        self._send("POST", f"{self._session}/goog/cdp/execute", command)

    def log(self) -> list[str]:
        """Return what the console has been told, errors of the page and of what it loads among it."""
        entries = self._send("POST", f"{self._session}/se/log", {"type": "browser"})
        return [f"{entry['level']} {entry['message']}" for entry in entries]

    def close(self) -> None:
        """Close the window."""
        self._send("DELETE", self._session)


@contextmanager
def browser() -> Iterator[Browser]:
    """Start chromedriver and a browser, and end both."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    driver = subprocess.Popen(
        ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        _wait_for(address)
        window = Browser(address)
        try:
            yield window
        finally:
            window.close()
    finally:
        driver.terminate()
        driver.wait(_PATIENCE)


def _wait_for(address: str) -> None:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"{address}/status", timeout=_PATIENCE):
                return
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
