"""The report is one safe, self-contained page that says what the arrays say; a slow test drives it in Chromium."""

import base64
import fcntl
import io
import json
import os
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from unclouded.errors import UncloudedError, UsageError
from unclouded.report_html import Histogram, histogram, write_report

NASTY = '<script>alert("x")</script>&\'$title'


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def by_id(self, name):
        return next(attrs for _, attrs in self.tags if attrs.get("id") == name)


def picture(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def preview(value, rows=40, cols=60):
    return np.full((3, rows, cols), value, np.uint8)


def report(path, **options):
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 30:], mask[:5] = 2, 255
    spread = np.tile(np.linspace(0, 8, 60), (40, 1))
    spread[0] = np.nan
    settings = {"mask": mask, "uncertainty": spread, "units": "DN", "facts": {"steps": 10, NASTY: NASTY}}
    write_report(path, preview(200), preview(60), **{**settings, **options})
    return path.read_text(encoding="utf-8")


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    text = report(tmp_path / "r.html")
    page = Page(text)
    links = [attrs[name] for _, attrs in page.tags for name in ("src", "href") if name in attrs]
    assert len(links) == 4
    assert all(link.startswith("data:image/") for link in links)
    assert not re.search(r"https?://|url\(|@import|fetch\(", text)
    policy = next(attrs["content"] for _, attrs in page.tags if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'")


def test_the_pictures_are_those_given(tmp_path):
    page = Page(report(tmp_path / "r.html"))
    assert abs(picture(page.by_id("before")["src"]).astype(int) - 200).max() <= 2
    assert abs(picture(page.by_id("after")["src"]).astype(int) - 60).max() <= 2
    mask = picture(page.by_id("mask")["src"])
    assert (mask[:, :30, 3] == 0).all()
    assert (mask[5:, 30:, 3] > 0).all()
    assert (mask[:5, :, 3] == 0).all()  # no data
    spread = picture(page.by_id("uncertainty")["src"])
    assert (spread[0, :, 3] == 0).all()
    assert (np.diff(spread[1, :, :3].sum(axis=1).astype(int)) >= 0).all()


def test_strings_from_outside_are_text(tmp_path):
    page = Page(report(tmp_path / "r.html", title=NASTY, units="<i>", histograms=[Histogram(NASTY, *np.eye(3)[:, :2])]))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert page.text.count(NASTY) == 5  # title, heading, fact's name and value, band
    assert "estimates, not observations" in page.text


def test_layers_that_are_not_there_have_no_toggles(tmp_path):
    page = Page(report(tmp_path / "r.html", mask=None, uncertainty=None))
    assert not [attrs for _, attrs in page.tags if "data-layer" in attrs]
    assert "does not say which pixels" in page.text
    assert "does not say which pixels" not in Page(report(tmp_path / "s.html")).text


def test_large_previews_are_reduced(tmp_path):
    write_report(tmp_path / "r.html", preview(9, 20, 4000), preview(9, 20, 4000))
    assert picture(Page((tmp_path / "r.html").read_text()).by_id("before")["src"]).shape == (8, 1600, 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (203, 101)])
def test_awkward_sizes(tmp_path, shape):
    write_report(tmp_path / "r.html", preview(1, *shape), preview(2, *shape), np.zeros(shape), np.full(shape, np.nan))
    assert picture(Page((tmp_path / "r.html").read_text()).by_id("mask")["src"]).shape == (*shape, 4)


def test_a_histogram_counts_every_finite_value_over_the_shared_range():
    h = histogram("nir", np.array([0.0, 1.0, np.nan, 4.0]), np.array([[2, 8]], np.uint8), bins=4)
    np.testing.assert_array_equal(h.edges, [0, 2, 4, 6, 8])
    np.testing.assert_array_equal(h.before, [2, 0, 1, 0])
    np.testing.assert_array_equal(h.after, [0, 1, 0, 1])
    assert histogram("empty", np.array([np.nan]), np.array([np.nan])).before.sum() == 0
    assert histogram("flat", np.full(5, 3), np.full(5, 3)).after.sum() == 5


def test_what_does_not_fit_is_named_and_nothing_is_written(tmp_path):
    with pytest.raises(UsageError, match="mask has the size"):
        report(tmp_path / "r.html", mask=np.zeros((3, 3)))
    with pytest.raises(UsageError, match="float64"):
        write_report(tmp_path / "r.html", np.zeros((3, 4, 4)), preview(1))
    with pytest.raises(UncloudedError, match="Choose another"):
        report(tmp_path / "absent" / "r.html")
    assert not list(tmp_path.iterdir())


class Chromium:
    """A headless browser, driven over the debugging pipe (file descriptors 3 and 4, messages end with a zero byte)."""

    FLAGS = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars"),
        "--remote-debugging-pipe",
    )

    def __init__(self, program, profile):
        read, self._out = self._pipe()
        self._in, write = self._pipe()
        redirect = f'exec "$@" 3<&{read} 4>&{write}'
        words = ["bash", "-c", redirect, "chromium", program, *self.FLAGS, f"--user-data-dir={profile}", "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(words, pass_fds=(read, write), **quiet)
        os.close(read)
        os.close(write)
        self._number, self._rest, self._session = 0, b"", None
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]

    @staticmethod
    def _pipe():
        """A pipe beyond the descriptors 3 and 4."""
        ends = os.pipe()
        moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
        for end in ends:
            os.close(end)
        return moved

    def call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                chunk = os.read(self._in, 1 << 20)
                assert chunk, "the browser ended"
                self._rest += chunk
            answer, _, self._rest = self._rest.partition(b"\0")
            found = json.loads(answer)
            if found.get("id") == self._number:
                assert "error" not in found, found
                return found["result"]

    def ask(self, script):
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def open(self, path, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + 30
        while self.ask("document.readyState + location.protocol + !!window.swipe") != "completefile:true":
            assert time.monotonic() < deadline, "the page did not load"
            time.sleep(0.05)

    def drag(self, *points, touch):
        """Press at the first point, move through the others, let go at the last; with a finger or the mouse."""
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        kinds = ("touchStart", "touchMove", "touchEnd") if touch else ("mousePressed", "mouseMoved", "mouseReleased")
        steps = [(kinds[0], points[0]), *((kinds[1], point) for point in points[1:]), (kinds[2], points[-1])]
        for kind, (x, y) in steps:
            if touch:
                fingers = [] if kind == "touchEnd" else [{"x": x, "y": y}]
                self.call("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)
            else:
                self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def key(self, name, code):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def screenshot(self):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))

    def close(self):
        self._process.terminate()
        self._process.wait(20)
        os.close(self._in)
        os.close(self._out)


@pytest.fixture
def chromium(tmp_path):
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium in the PATH; install it to run this test")
    browser = Chromium(program, tmp_path / "profile")
    yield browser
    browser.close()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_slider_is_dragged_and_the_layers_toggle(tmp_path, chromium, width, height):
    write_report(tmp_path / "r.html", preview(200, 300, 400), preview(60, 300, 400), np.full((300, 400), 2, np.uint8))
    chromium.open(tmp_path / "r.html", width, height)
    assert chromium.ask("document.documentElement.scrollWidth") <= width
    left, top, wide, high = chromium.ask("(r => [r.x, r.y, r.width, r.height])(stage.getBoundingClientRect())")
    middle = top + high * 0.8

    def shown(share):
        return chromium.screenshot()[int(middle), int(left + wide * share)].astype(int).mean()

    assert shown(0.25) > 180
    assert shown(0.75) < 80
    path = [(left + wide * share, middle) for share in (0.5, 0.6, 0.75, 0.9)]
    chromium.drag(*path, touch=width < 500)
    position = int(chromium.ask("swipe.value"))
    assert position == pytest.approx(90, abs=2)
    assert shown(0.75) > 180
    chromium.ask("swipe.focus()")
    for _ in range(3):
        chromium.key("ArrowLeft", 37)
    assert int(chromium.ask("swipe.value")) == position - 3
    chromium.ask("document.querySelector('button[data-at=\"0\"]').click()")
    assert shown(0.25) < 80
    plain = chromium.screenshot()[int(middle), int(left + wide * 0.25)].astype(int)
    chromium.ask("document.querySelector('[data-layer=mask]').click()")
    tinted = chromium.screenshot()[int(middle), int(left + wide * 0.25)].astype(int)
    assert tinted[0] > plain[0] + 50
    assert tinted[1] < plain[1]
