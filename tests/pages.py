"""What a page holds, and how a browser shows it."""

import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def screenshot(address, folder, *switches):
    """The picture of a page in a browser, whose files go into a folder; the test is skipped without a browser."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(BROWSERS)})")
    switches = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
        *(f"--user-data-dir={folder / 'profile'}", "--window-size=1000,900"),
        f"--screenshot={folder / 'page.png'}",
        *switches,
    ]
    subprocess.run([browser, *switches, address], check=True, capture_output=True, timeout=120)
    return Image.open(folder / "page.png").convert("RGB")


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
