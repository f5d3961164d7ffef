"""A headless Chromium that tests see pages with: started once a page, or driven by keys."""

import fcntl
import json
import os
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: the page is not seen by a browser")
TIMEOUT = 60  # s, for one answer
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "Space": (32, " ")}  # code, text
WATCHED = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
STOP = """(() => {
  const stop = document.activeElement, box = stop.getBoundingClientRect(), style = getComputedStyle(stop);
  const ring = style.outlineStyle != "none" && parseFloat(style.outlineWidth) >= 2;
  return {name: stop == document.body ? "" : stop.textContent.trim(), tag: stop.localName, id: stop.id,
          seen: ring && box.width > 0 && box.top >= 0 && box.left >= 0 && box.bottom <= innerHeight};
})()"""


def command(profile: Path, *options: str) -> list[str]:
    """Return the command line of a headless browser."""
    line = [BROWSER, "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    line += ["--disable-component-update", "--disable-sync", f"--user-data-dir={profile}"]
    return [*line, *(["--no-sandbox"] if os.geteuid() == 0 else []), *options]


def browse(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a file in a browser, and wait until it has ended."""
    line = command(path.parent / "profile", "--enable-logging=stderr", "--virtual-time-budget=4000")
    line += ["--hide-scrollbars", *options, path.as_uri()]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what the page sent to the console."""
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


class Keyboard:
    """A page in a browser that is driven by keys: DevTools messages through two pipes, file descriptors 3 and 4."""

    def __init__(self, path: Path, width: int) -> None:
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (*os.pipe(), *os.pipe())]
        read, self.write, self.read, write = ends
        line = command(path.parent / "profile", "--remote-debugging-pipe", "about:blank")
        script = f'exec "$@" 3<&{read} 4>&{write}'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "-", *line], pass_fds=(read, write), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read)
        os.close(write)
        self.received, self.count, self.session, self.complaints = b"", 0, {}, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        still = [{"name": "prefers-reduced-motion", "value": "reduce"}]
        self.call("Emulation.setEmulatedMedia", features=still)
        self.call("Page.navigate", url=path.as_uri())
        self.run("new Promise(done => document.readyState == 'complete' ? done() : addEventListener('load', done))")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send a message; return the answer to it, and keep what the page says meanwhile to the console."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters, **self.session}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self.count:
            self.complaints += [answer["params"]] if answer["method"] in WATCHED else []
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self.received:
            assert select.select([self.read], [], [], TIMEOUT)[0], "the browser does not answer"
            part = os.read(self.read, 1 << 16)
            assert part, "the browser has ended"
            self.received += part
        first, _, self.received = self.received.partition(b"\0")
        return json.loads(first)

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    def press(self, key: str, shift: bool = False) -> dict[str, Any]:
        """Press a key; return where the focus then is: name, tag, id, and whether it is seen."""
        code, text = KEYS[key]
        what = {"key": text if key == "Space" else key, "code": key, "windowsVirtualKeyCode": code}
        what["modifiers"] = 8 if shift else 0
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **what)
        self.call("Input.dispatchKeyEvent", type="keyUp", **what)
        return self.run(STOP)

    def walk(self) -> list[dict[str, Any]]:
        """Press Tab until the focus leaves the page; return the stops."""
        stops = []
        while (stop := self.press("Tab"))["tag"] != "body":
            stops.append(stop)
            assert len(stops) < 100, "the focus does not leave the page"
        return stops

    def close(self) -> None:
        """End the browser."""
        self.process.terminate()
        self.process.wait(TIMEOUT)
        os.close(self.read)
        os.close(self.write)
