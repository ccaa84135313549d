"""What a page holds, how a browser shows it, and what it does when a person types and clicks."""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from html.parser import HTMLParser

import pytest
from PIL import Image

from videomatch.app import client
from videomatch.app.server import http_server

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def started(folder):
    """The command of a headless browser, whose files go into a folder; the test is skipped without a browser."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(BROWSERS)})")
    return [
        browser,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
        *(f"--user-data-dir={folder / 'profile'}", "--window-size=1000,900"),
    ]


def screenshot(address, folder, *switches):
    """The picture of a page in a browser."""
    command = [*started(folder), f"--screenshot={folder / 'page.png'}", *switches, address]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return Image.open(folder / "page.png").convert("RGB")


class Browser:
    """A headless browser that is steered through pipes, by the Chrome DevTools Protocol."""

    def __init__(self, folder):
        command = [*started(folder), "--remote-debugging-pipe", "about:blank"]
        (theirs, self.write), (self.read, answers) = os.pipe(), os.pipe()

        def adopt():  # the browser reads 3 and writes 4
            apart = [fcntl.fcntl(end, fcntl.F_DUPFD, 64) for end in (theirs, answers)]
            for end, number in zip(apart, (3, 4), strict=True):
                os.dup2(end, number)

        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, pass_fds=(3, 4), preexec_fn=adopt, **quiet)
        os.close(theirs)
        os.close(answers)
        self.number, self.rest, self.session = 0, b"", None
        targets = self.do("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self.session = self.do("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        self.do("Page.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.write)  # it ends by that
        self.process.wait(30)
        os.close(self.read)

    def do(self, method, **params):
        """The result of a command."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                self.rest += os.read(self.read, 1 << 16)
            line, self.rest = self.rest.split(b"\0", 1)
            answer = json.loads(line)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, address, width=1000, height=900):
        """Load a page in a window of a size."""
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.do("Page.navigate", url=address)
        self.until(f"location.href === {json.dumps(address)} && document.readyState === 'complete'")

    def run(self, expression):
        """The value of an expression of JavaScript."""
        result = self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression, seconds=60):
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({expression})"):
            assert time.monotonic() < end, f"{expression} is never true"
            time.sleep(0.05)

    def type(self, text):
        """Type into what has the focus."""
        self.do("Input.insertText", text=text)

    def press(self, key, code=None, **more):
        """Press a key: ``Enter``, ``Tab``, `` `` …"""
        codes = {"Enter": 13, "Tab": 9, " ": 32}
        key_of = {"key": key, "code": code or key, "windowsVirtualKeyCode": codes[key]} | more
        text = {"Enter": {"text": "\r"}, " ": {"text": " "}}.get(key, {})
        self.do("Input.dispatchKeyEvent", type="keyDown", **key_of, **text)
        self.do("Input.dispatchKeyEvent", type="keyUp", **key_of)

    def click(self, selector, left=0.5, bottom=0.5):
        """Click into the first element that a selector finds: shares of its width and height, or pixels from there."""
        edges = "(r => [r.left, r.bottom, r.width, r.height])(e.getBoundingClientRect())"
        found = (
            f"(e => (e.scrollIntoView({{block: 'center'}}), {edges}))(document.querySelector({json.dumps(selector)}))"
        )
        x, y, width, height = self.run(found)
        x, y = x + left * (width if left < 1 else 1), y - bottom * (height if bottom < 1 else 1)
        self.do("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self.do("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)


@contextlib.contextmanager
def served(app):
    """The port of a server of an application, in a thread."""
    with socket.create_server((client.HOST, 0)) as listener:
        running = http_server(app)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        running.should_exit = True
        thread.join()


class Page(HTMLParser):
    """Tags with attributes, and the words outside of styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.inside = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data):
        if self.inside != "style":
            self.words.append(data)

    def of(self, tag, kind=None):
        return [a for found, a in self.tags if found == tag and (kind is None or a.get("class") == kind)]
