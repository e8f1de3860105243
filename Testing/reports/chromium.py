"""A headless Chromium, driven by the DevTools protocol over two pipes; no package is needed for it.

with Chromium() as browser:
    page = browser.open(path / "index.html")
    page.click("#next"); page.type("#q", "edema"); page.js("document.title")
    page.requests, page.complaints           # addresses asked for; errors in the console
"""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SECONDS = 60


def chromium_path() -> str | None:
    """The browser of this machine, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """One browser process, closed at the end of the block."""

    def __init__(self, size: tuple[int, int] = (1500, 1000)):
        self._folder = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        its_reads, self._write = os.pipe()
        self._read, its_writes = os.pipe()
        for end in (its_reads, its_writes):
            os.set_inheritable(end, True)
        options = (
            f'"$0" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run '
            f"--disable-background-networking --disable-component-update --disable-sync --disable-extensions "
            f"--hide-scrollbars --window-size={size[0]},{size[1]} --remote-debugging-pipe "
            f"--user-data-dir={self._folder.name} about:blank"
        )
        # Chromium reads file descriptor 3 and writes 4.
        command = f"exec 8<&{its_reads} 9>&{its_writes}; exec {options} 3<&8 4>&9"
        self._process = subprocess.Popen(
            ["bash", "-c", command, chromium_path()],
            pass_fds=(its_reads, its_writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(its_reads)
        os.close(its_writes)
        self._bytes, self._number, self._events = b"", 0, []

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            self.ask("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._folder.cleanup()

    def open(self, path: Path) -> "Page":
        """A tab with a file, loaded."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.ask(f"{domain}.enable")
        page.go(Path(path).resolve().as_uri())
        return page

    # -- the protocol -----------------------------------------------------------------------------------------------

    def ask(self, method: str, session: str | None = None, **parameters) -> dict:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + SECONDS
        while True:
            said = self._next(until)
            if said.get("id") == self._number:
                if "error" in said:
                    raise AssertionError(f"{method}: {said['error']['message']}")
                return said["result"]
            self._events.append(said)

    def events(self, session: str, seconds: float = 0.0) -> list[dict]:
        """What a tab told since the last call."""
        with contextlib.suppress(TimeoutError):
            until = time.monotonic() + seconds
            while True:
                self._events.append(self._next(until))
        mine = [e for e in self._events if e.get("sessionId") == session]
        self._events = [e for e in self._events if e.get("sessionId") != session]
        return mine

    def _next(self, until: float) -> dict:
        while b"\0" not in self._bytes:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError("Chromium does not answer")
            part = os.read(self._read, 1 << 20)
            if not part:
                raise OSError("Chromium has ended")
            self._bytes += part
        message, _, self._bytes = self._bytes.partition(b"\0")
        return json.loads(message)


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, session: str):
        self._browser, self._session = browser, session
        self._requests: list[str] = []
        self._complaints: list[str] = []

    def ask(self, method: str, **parameters) -> dict:
        return self._browser.ask(method, self._session, **parameters)

    def go(self, address: str) -> None:
        self.ask("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def js(self, expression: str):
        """The value of an expression; raises AssertionError for one that throws."""
        said = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in said:
            raise AssertionError(said["exceptionDetails"]["exception"].get("description", expression))
        return said["result"].get("value")

    def wait(self, expression: str, seconds: float = SECONDS) -> None:
        until = time.monotonic() + seconds
        while not self.js(expression):
            if time.monotonic() > until:
                raise AssertionError(f"not so within {seconds:g} s: {expression}")
            time.sleep(0.02)

    def texts(self, selector: str) -> list[str]:
        """The visible text of every element that matches."""
        return self.js(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText)")

    def click(self, selector: str) -> None:
        """Click in the middle of an element with the mouse."""
        find = f"const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
        at = self.js(
            f"(() => {{ {find} const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Replace what an input holds by typing."""
        self.js(f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.focus(); e.select(); }})()")
        if text:
            self.ask("Input.insertText", text=text)
        else:
            self.key("Backspace")

    def choose(self, selector: str, value: str) -> None:
        """Choose an entry of a drop-down list by its value."""
        self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {json.dumps(value)};"
            "e.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    def key(self, name: str) -> None:
        """Press a key; a single character is also typed."""
        text = {"text": name} if len(name) == 1 else {"text": "\r"} if name == "Enter" else {}
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "Backspace": 8}
        about = {"key": name, "code": name, "windowsVirtualKeyCode": codes.get(name, 0)}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **about)

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def images_loaded(self) -> None:
        """Until every picture in view is there."""
        self.wait(
            "[...document.images].filter((i) => { const r = i.getBoundingClientRect();"
            "return r.width && r.bottom > 0 && r.top < innerHeight; }).every((i) => i.complete && i.naturalWidth)"
        )

    def screenshot(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))
        return path

    @property
    def requests(self) -> list[str]:
        """Addresses that were asked for so far."""
        self._hear()
        return self._requests

    @property
    def complaints(self) -> list[str]:
        """Exceptions, errors and warnings so far."""
        self._hear()
        return self._complaints

    def _hear(self) -> None:
        for event in self._browser.events(self._session, 0.1):
            parameters = event["params"]
            if event["method"] == "Network.requestWillBeSent":
                self._requests.append(parameters["request"]["url"])
            elif event["method"] == "Runtime.exceptionThrown":
                self._complaints.append(str(parameters["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
                self._complaints.append(str(parameters["args"]))
            elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                self._complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
