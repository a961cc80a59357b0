"""A headless Chromium, driven over its debugging pipe: no port, no driver, nothing but Python's own library."""
import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time


def find():
    """Chromium's path; None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    def __init__(self, width=1400, height=900, mobile=False, dark=False):
        self.width = width
        self.profile = tempfile.mkdtemp(prefix="dermis-browser-")
        to_browser, self.write_end = os.pipe()
        self.read_end, from_browser = os.pipe()

        def descriptors():  # Chromium reads commands from 3 and writes answers to 4.
            a, b = os.dup(to_browser), os.dup(from_browser)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self.process = subprocess.Popen(
            [find(), "--headless=new", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors", "--no-first-run",
             "--disable-background-networking", "--disable-dev-shm-usage", "--remote-debugging-pipe",
             f"--user-data-dir={self.profile}", f"--window-size={width},{height}", "about:blank"],
            preexec_fn=descriptors, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.buffer = b""
        self.last = 0
        self.events = []
        self.session = None
        pages = []
        while not pages:  # It may answer before it has opened its first one.
            pages = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        target = pages[0]
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.write_end)
        os.close(self.read_end)
        shutil.rmtree(self.profile, ignore_errors=True)

    def _message(self, seconds):
        end = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.read_end], [], [], left)[0]:
                return None
            piece = os.read(self.read_end, 1 << 20)
            if not piece:
                raise RuntimeError("the browser has ended")
            self.buffer += piece
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        self.last += 1
        number = self.last
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 60
        while True:
            answer = self._message(end - time.monotonic())
            if answer is None:
                raise TimeoutError(method)
            if answer.get("id") != number:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            else:
                return answer["result"]

    def go(self, url):
        self.call("Page.navigate", url=url)

    def js(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, expression, seconds=60):
        """Waits until the expression is true in the page, and gives its value."""
        end = time.monotonic() + seconds
        while True:
            value = self.js(expression)
            if value or value == {}:  # An element has no value.
                return value
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {expression}\n{self.js('document.body.innerText')}")
            time.sleep(0.1)

    def text(self):
        return self.js("document.body.innerText")

    def press(self, key, text=""):
        code = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39, "ArrowLeft": 37}.get(key, 0)
        extra = {"text": text} if text else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **extra)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def drag(self, x, y0, y1):
        for kind, y in (("mousePressed", y0), ("mouseMoved", (y0 + y1) / 2), ("mouseMoved", y1), ("mouseReleased", y1)):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def choose(self, selector, path):
        """A file in a file field, as the browser's own dialog would set it."""
        field = self.call("Runtime.evaluate", expression=f"document.querySelector('{selector}')")["result"]["objectId"]
        self.call("DOM.setFileInputFiles", objectId=field, files=[str(path)])

    def nameless(self):
        """Controls and pictures of which a screen reader could only say what they are."""
        kinds = {"button", "link", "image", "img", "textbox", "combobox", "checkbox", "progressbar"}
        return [node for node in self.call("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]
                and node["role"]["value"] in kinds and not node.get("name", {}).get("value", "").strip()]

    def complaints(self):
        """What the page's console said was wrong: errors, refused scripts, exceptions."""
        self.js("1")
        out = []
        for event in self.events:
            parameters = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                out.append(details.get("exception", {}).get("description", details["text"]))
            elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                out.append(parameters["entry"]["text"] + " " + parameters["entry"].get("url", ""))
        return out

    def picture(self, path, whole=True):
        metrics = self.call("Page.getLayoutMetrics")
        size = metrics["cssContentSize"] if whole else metrics["cssLayoutViewport"] | {
            "width": metrics["cssLayoutViewport"]["clientWidth"], "height": metrics["cssLayoutViewport"]["clientHeight"]}
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True,
                           clip={"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1})
        with open(path, "wb") as out:
            out.write(base64.b64decode(answer["data"]))
