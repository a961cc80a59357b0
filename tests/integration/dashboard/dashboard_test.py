#!/usr/bin/env python3
"""The dashboard of a running cluster, in headless Chromium, as people use it: signed in by the printed address, asked about a picture, at phone
and desktop width, by keyboard, through the coordinator's death. Exit code 77 (skipped) where there is no Chromium.

  dashboard_test.py [FOLDER for pictures]
"""
import hashlib
import http.client
import json
import os
import pathlib
import re
import signal
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import browser  # noqa: E402

BUILD = pathlib.Path(os.environ.get("DERMIS_BUILD_DIR", "build"))
STUDY = """
name: race
seed: 3
images: {set: small, size: 32, split: {test: 0.25, validation: 0.2}}
training: {logical_shards: 2, batch_size: 32, epochs: 4}
sweep:
  axes:
    - {key: training.optimizer.rmsprop.learning_rate, values: [1e-3, 3e-4, 1e-4]}
    - {key: training.augment, values: [true, false]}
  halving: {rungs: [2], factor: 2}
explanation:
  images: {per_confusion_cell: {most_confident: 1, least_confident: 0, random: 0}}
  methods:
    - lime: {samples: 300, superpixels: {slic: {count: 12}}}
    - shapley: {permutations: 8, superpixels: {slic: {count: 12}}}
    - grad_cam
"""
# Trials that have their numbers from `race` in part, and 2,000 that nobody will ever train: the study is cancelled.
WIDE = """
name: wide
seed: 3
images: {set: small, size: 32, split: {test: 0.25, validation: 0.2}}
training: {logical_shards: 2, batch_size: 32, epochs: 2}
sweep:
  axes:
    - {key: training.optimizer.rmsprop.learning_rate, range: {low: 1e-5, high: 1e-2, log: true}}
    - {key: training.augment, values: [true, false]}
    - {key: training.batch_size, values: [16, 32, 64]}
  random: {trials: 10000}
"""
# Its weights are no numbers after a few steps: what is to use them fails.
DIVERGES = """
name: diverges
seed: 3
images: {set: small, size: 32, split: {test: 0.25, validation: 0.2}}
training: {logical_shards: 2, batch_size: 32, epochs: 4, optimizer: {sgd: {learning_rate: 1000}}}
"""
# One of the learning rates spoils all that it touches; the rest matters less.
MATTERS = """
name: matters
seed: 3
images: {set: small, size: 32, split: {test: 0.25, validation: 0.2}}
training: {logical_shards: 2, epochs: 2}
sweep:
  axes:
    - {key: training.optimizer.rmsprop.learning_rate, values: [1e-3, 100]}
    - {key: training.augment, values: [true, false]}
    - {key: training.batch_size, values: [8, 16, 32]}
"""


class Cluster:
    def __init__(self, folder):
        self.folder = folder
        self.directory = f"{folder}/cluster"

    def run(self, *arguments, check=True):
        done = subprocess.run([BUILD / "bin/dermis", *arguments, "--cluster", self.directory], capture_output=True, text=True, timeout=300)
        assert not check or done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def start(self):
        self.run("cluster", "start", "--workers", "2", "--threads", "1")

    def url(self, *arguments):
        return self.run("dashboard", *arguments).strip()

    def pid(self, name):
        return int(pathlib.Path(self.directory, "pids", name).read_text().split()[0])


def ask(url, path, token=None):
    """Status and body, over TLS that trusts nothing but the cluster's CA."""
    host = re.match(r"https://([^/]+)", url).group(1)
    context = ssl.create_default_context(cafile=f"{cluster.directory}/certs/ca.crt")
    connection = http.client.HTTPSConnection(host, context=context, timeout=60)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def check(holds, text):
    assert holds, text
    print(f"  {text}", flush=True)


def refusals(url):
    """What cannot be served is refused at the start, with what to do."""
    def coordinator(*arguments):
        done = subprocess.run([BUILD / "bin/dermis-coordinator", "--store", f"{cluster.folder}/other", "--listen", "127.0.0.1:0", *arguments],
                              capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr

    taken = re.search(r":(\d+)/", url).group(1)
    certs = ["--certs", f"{cluster.directory}/certs"]
    code, text = coordinator("--insecure", "--dashboard", "0.0.0.0:0")
    check(code == 2 and "loopback only" in text, "plain text beyond loopback is refused")
    code, text = coordinator(*certs, "--dashboard", "nonsense")
    check(code == 2 and "HOST:PORT" in text, "an address that is none is refused")
    code, text = coordinator(*certs, "--dashboard", f"127.0.0.1:{taken}")
    check(code == 4 and "another HOST:PORT" in text, "a port that is taken is refused")


def secrets(url):
    token = url.split("#token=")[1]
    log = pathlib.Path(cluster.directory, "logs/coordinator.log").read_text()
    commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    check(token not in log and token not in commands, "the token stands in no log and no command line")
    check(token not in cluster.run("cluster", "status"), "the status shows the address without it")
    check(ask(url, "/api/studies")[0] == 401 and ask(url, "/metrics", "0" * 64)[0] == 401, "strangers are refused")
    check(ask(url, "/healthz") == (200, "ok\n") and ask(url, "/readyz") == (200, "ready\n"), "it is healthy and ready")
    status, text = ask(url, "/metrics", token)
    check(status == 200 and "dermis_workers" in text, "Prometheus reads metrics with the token")


def by_keyboard(page, name, wanted):
    """Every control is reached by Tab, and says what it is."""
    page.js("document.querySelector('.skip').focus()")
    reached, nameless = set(), []
    for _ in range(120):
        page.press("Tab")
        what = page.js("""(() => { const e = document.activeElement;
            const name = e.getAttribute('aria-label') || e.innerText || (e.labels && e.labels[0] && e.labels[0].innerText) || '';
            return e === document.body ? null : [e.tagName, name.trim().slice(0, 40), e.dataset.act || e.dataset.pick || e.name || '']; })()""")
        if what is None:
            break
        reached.add(what[0] + " " + what[2])
        if not what[1] and what[0] not in ("DIV", "PRE", "MAIN"):
            nameless.append(what)
    check(not nameless, f"{name}: every control that Tab reaches has a name" if not nameless else f"no name: {nameless}")
    for needed in wanted:
        check(needed in reached, f"{name}: Tab reaches {needed}")


def well_formed(page, name):
    # Not innerWidth: a phone zooms out until all that is too wide fits.
    problems = page.js("""[
      document.documentElement.scrollWidth > """ + str(page.width) + """ && 'wider than the screen: ' + document.documentElement.scrollWidth,
      document.documentElement.lang !== 'en' && 'no language',
      document.querySelectorAll('h1').length !== 1 && 'not one h1',
      ...[...document.querySelectorAll('table')].map(t => !t.querySelector('th[scope]') && 'a table without headers'),
      ...[...document.querySelectorAll('canvas, svg')].map(s => !s.closest('[role=img],[aria-hidden=true],[aria-label]') && 'a picture without words: ' + s.outerHTML.slice(0, 80)),
      ...[...document.querySelectorAll('[aria-labelledby]')].map(e => !document.getElementById(e.getAttribute('aria-labelledby')) && 'a label that is not there'),
      new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size !== document.querySelectorAll('[id]').length && 'an id comes twice',
    ].filter(Boolean)""") + [f"no name: {node['role']['value']}" for node in page.nameless()]
    check(not problems, f"{name} is well formed" if not problems else f"{name}: {problems}")


def many_trials(page):
    """The table answers at once, the page never stands still, and who does not see it hears what happened."""
    sort, forth = "[data-act=sort][data-key={}]", ".pager button:last-child"
    steps = [sort.format("trial"), forth, forth, sort.format("trial"), sort.format("epochs"), sort.format("score")]
    took, pauses = zip(*page.js("""(async steps => {
        let longest = 0;
        const watch = list => list.forEach(entry => longest = Math.max(longest, entry.duration));
        const observer = new PerformanceObserver(list => watch(list.getEntries()));
        observer.observe({type: 'longtask'});
        const shown = () => document.querySelector('.trials').textContent;  // Its arrows, too: without scores two orders may be one.
        const out = [];
        for (const step of steps) {
          const before = shown(), start = performance.now();
          longest = 0;
          document.querySelector(step).click();
          while (shown() === before) await new Promise(requestAnimationFrame);
          const took = performance.now() - start;
          await new Promise(done => setTimeout(done, 400));
          watch(observer.takeRecords());
          out.push([took, longest]);
        }
        return out; })(""" + json.dumps(steps) + ")"))
    # On a machine with other work any one step may be late; a page that is slow is so in all.
    print(f"  steps took {[round(t) for t in took]} ms, with pauses of {[round(p) for p in pauses]} ms")
    check(statistics.median(took) < 1000, "10,000 trials are sorted and paged within a second")
    check(statistics.median(pauses) < 200, "the page does not stand still meanwhile")
    page.until("document.querySelector('#spoken[role=status]').textContent.includes('Sorted by score')")
    check(True, "what the table shows now is said")


def spot(x, y):
    """Something round on skin."""
    return (96, 52, 40) if (x - 40) ** 2 + (y - 52) ** 2 < 400 else (205, 160 + x // 8, 140 + y // 8)


def noise(x, y):
    """Tiles of any colour: nothing that grows on skin."""
    return hashlib.sha256(bytes((x // 6, y // 6))).digest()[:3]


def png(pixel, side=96):
    rows = b"".join(b"\0" + b"".join(bytes(pixel(x, y)) for x in range(side)) for y in range(side))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


PIXELS = """const pixels = canvas => new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    const flat = canvas => pixels(canvas).every((p, _, all) => p === all[0]);
    const same = (a, b) => { const of = pixels(b); return pixels(a).every((p, i) => p === of[i]); };
    const given = document.querySelector('#given'), overlays = [...document.querySelectorAll('[data-method]')];"""


def answered(page, file):
    """The whole answer about a picture stands on the page. Gives whether it is called unlike the training images."""
    page.until("document.querySelector('#given') && document.querySelector('#spoken').textContent === 'The explanation is complete.'", 120)
    page.until("(() => {" + PIXELS + """return overlays.length && overlays.every(c => !same(c, given)) &&
        [given, ...overlays, ...document.querySelectorAll('[data-near]')].every(c => !flat(c)); })()""")
    drawn, near, said, chances, text = page.js("(() => {" + PIXELS + """return [overlays.map(c => c.dataset.method), document.querySelectorAll('[data-near]').length,
        document.querySelector('#said').textContent,
        [...document.querySelectorAll('.chances td.n')].map(c => parseInt(c.textContent)), document.querySelector('main').innerText]; })()""")
    check(sorted(drawn) == ["grad_cam", "lime", "shapley"], "all methods are drawn over the picture")
    check(near == 5, "five nearest training images are drawn")
    unlike = said == "Unlike the training images"
    check("no confidence is given" in text and not chances if unlike else len(chances) == 2 and 99 <= sum(chances) <= 101 and said in ("benign", "malignant"),
          f"{file}: {said} {chances}")
    check(file in text and "Research, not diagnosis." in text, "the file's name, and that this is no diagnosis")
    check(not page.js("document.querySelector('main [role=alert], main [role=progressbar]')"), "nothing went wrong, and nothing is awaited")
    return unlike


def explain(url, pictures):
    base = url.split("#")[0]
    address = cluster.url("--user")
    files = {name: pathlib.Path(cluster.folder, name) for name in ("brown.png", "noise.png", "notes.txt")}
    files["brown.png"].write_bytes(png(spot))
    files["noise.png"].write_bytes(png(noise))
    files["notes.txt"].write_text("a picture of words\n")
    with browser.Browser() as page:
        page.go(url)
        page.until("document.querySelector('table a')")
        page.go(base + "#/explain")
        page.until("document.querySelector('#user-token')")
        check("dermis dashboard --user" in page.text() and not page.js("document.querySelector('#picture')"), "the dashboard's token alone asks nothing")
        well_formed(page, "the form for a user's token")
        page.js("document.querySelector('#user-token').focus()")
        page.call("Input.insertText", text=url.split("#token=")[1])
        page.press("Enter", "\r")
        page.until("document.querySelector('#picture')")
        page.choose("#picture", files["brown.png"])
        page.js("document.querySelector('form.ask button').click()")
        page.until("document.querySelector('#user-token') && document.querySelector('main [role=alert]')")
        check(not page.js("document.querySelector('#said')"), "given in its place it is refused, and a user's asked for again")
        page.go("about:blank")  # Else the address differs by its fragment alone.
        page.go(address)
        page.until("document.querySelector('#asked option[value=race]')")
        check("user=" not in page.js("location.href"), "the user's token leaves the address bar, too")
        page.js("(field => { field.value = 'race'; field.dispatchEvent(new Event('change', {bubbles: true})); })(document.querySelector('#asked'))")
        page.choose("#picture", files["brown.png"])
        page.js("document.querySelector('form.ask button').focus()")
        page.press("Enter", "\r")
        answered(page, "brown.png")
        near = page.js("document.querySelector('[data-near]').dataset.near")
        page.js("document.querySelector('[data-act=overlay]').focus()")
        for key, text, pressed in ((" ", " ", "false"), ("Enter", "\r", "true")):
            page.press(key, text)
            page.until(f"document.activeElement.dataset.act === 'overlay' && document.activeElement.getAttribute('aria-pressed') === '{pressed}'")
            page.until("(() => {" + PIXELS + f"return overlays.every(c => same(c, given) === {'true' if pressed == 'false' else 'false'}); }})()")
        check(True, "overlays go and come by keyboard")
        by_keyboard(page, "Explain", ("SELECT study", "INPUT picture", "BUTTON overlay"))
        well_formed(page, "the answer")
        if pictures:
            page.picture(f"{pictures}/explain.png")
        page.choose("#picture", files["noise.png"])
        page.js("document.querySelector('form.ask button').click()")
        page.until("document.querySelector('main').innerText.includes('noise.png')")
        check(answered(page, "noise.png"), "what is unlike the training images is called so")
        percent = page.js("document.querySelector('main').innerText.match(/\\d\\s*%/)")
        check(percent is None, "and no percentage stands anywhere on the page")
        well_formed(page, "the answer about noise")
        if pictures:
            page.picture(f"{pictures}/explain-noise.png")
        page.choose("#picture", files["notes.txt"])
        page.js("document.querySelector('form.ask button').click()")
        page.until("document.querySelector('main [role=alert]')")
        check("neither a JPEG nor a PNG" in page.js("document.querySelector('main [role=alert]').textContent") and not page.js("document.querySelector('#said, canvas')"),
              "what is no picture gets the reason and no answer")
        well_formed(page, "the refusal")
        complaints = [c for c in page.complaints() if "401" not in c and "400" not in c]
        check(not complaints, "the console has no complaints" if not complaints else f"console: {complaints}")
    with browser.Browser(390, 844, mobile=True) as page:
        page.go(address)
        page.until("document.querySelector('#asked option[value=race]')")
        well_formed(page, "Explain on a phone")
        page.go(base + "#/explain/race")
        page.until("document.querySelector('#asked') && document.querySelector('#asked').value === 'race'")
        # One of the images that the model was trained on: that is the nearest one, and no stranger.
        page.js("""(async () => {
            const picture = await createImageBitmap(await (await fetch('/api/studies/race/images/""" + near + """')).blob());
            const canvas = new OffscreenCanvas(picture.width, picture.height);
            canvas.getContext('2d').drawImage(picture, 0, 0);
            const data = new DataTransfer();
            data.items.add(new File([await canvas.convertToBlob()], 'dropped.png', {type: 'image/png'}));
            document.querySelector('form.ask label').dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})); })()""")
        check(not answered(page, "dropped.png"), "a training image is not unlike them")
        check(page.js("document.querySelectorAll('.chances tr').length") == 2, "an image of the training set gets a chance for each class")
        check(page.js("document.querySelector('[data-near]').dataset.near") == near and "distance 0.000" in page.js("document.querySelector('#near-0').innerText"),
              "it is its own nearest image")
        well_formed(page, "the answer on a phone")
        if pictures:
            page.picture(f"{pictures}/explain-phone.png")


def failures(page, base):
    """A failed task: which it is, why, and what happened to it."""
    page.go(base + "#/study/diverges")
    page.until("document.querySelector('header .chip.failed') && document.querySelectorAll('details.failure').length === 2", 120)
    tasks = page.js("""[...document.querySelectorAll('details.failure')].map(d => { d.querySelector('summary').focus(); d.querySelector('summary').click();
        return [d.open, d.querySelector('summary').innerText, d.querySelector('pre').innerText, d.querySelector('h3') && d.querySelector('h3').innerText]; })""")
    check(page.js("document.querySelector('#failed').innerText") == f"Failed tasks ({len(tasks)})" and len(tasks) == 2, "both failed tasks are listed")
    for opened, what, cause, log in tasks:
        check(opened and "evaluate" in what and "on worker-" in what and "NaN or infinity: the training diverged" in cause, f"with the cause: {what}")
        check(log == "What happened to it", "and its log")
    page.until("[...document.querySelectorAll('details.failure')].every(d => d.open && [...d.querySelectorAll('li')].some(li => li.checkVisibility() && li.innerText.includes('failed')))")
    check("dermis retry diverges" in page.text(), "and what to do")
    well_formed(page, "the page of a study that failed")


def importance(page, base, token):
    """The setting that was planted as the one that matters is told so."""
    page.go(base + "#/study/matters")
    page.until("document.querySelector('.chip.done')", 240)
    page.until("document.querySelectorAll('table.importance tbody tr').length === 3")
    rows = {key: (int(re.match(r"(\d+)\s*%", share).group(1)), bar, correlation) for key, share, bar, correlation in page.js(
        """[...document.querySelectorAll('table.importance tbody tr')].map(r => [r.querySelector('th').innerText, r.querySelector('.share span').innerText,
            r.querySelector('.share rect').width.baseVal.value, r.querySelector('td.n').innerText])""")}
    known = json.loads(ask(base, "/api/studies/matters/importance", token)[1])
    check(set(rows) == {k["key"] for k in known["keys"]} == {"learning_rate", "augment", "batch_size"}, "each axis has its importance")
    share, bar, correlation = rows.pop("learning_rate")
    check(share >= 50 and all(2 * other[0] < share for other in rows.values()), f"the learning rate explains {share} %, the others {[other[0] for other in rows.values()]} %")
    check(all(2 * other[1] < bar for other in rows.values()), "as their bars show")
    check(re.match(r"[+−]\d\.\d\d$", correlation) is not None and known["trials"] == 12 and "12 trials" in page.text(), "with its correlation, of all 12 trials")


def walk(url, pictures):
    base = url.split("#")[0]
    with browser.Browser() as page:
        page.go(base)
        page.until("document.querySelector('#token')")
        well_formed(page, "the sign-in form")
        page.js("document.querySelector('#token').value = 'wrong'")
        page.press("Tab")
        page.press("Enter", "\r")
        page.until("document.body.innerText.includes('not the token')")
        check(True, "a wrong token is told so")
        page.go(url)
        page.until("document.querySelector('table a')")
        check("token" not in page.js("location.href"), "the token leaves the address bar")
        check(page.js("document.cookie") == "", "no script can read the cookie")
        well_formed(page, "the list of studies")
        page.go(base + "#/study/race")
        page.until("document.querySelectorAll('.trials tbody tr').length === 6")
        page.until("document.querySelector('.series, .dot')", 120)
        check(True, "curves appear while the study runs")
        page.js("document.querySelector('[data-act=measure][data-to=accuracy]').focus()")
        page.press("Enter", "\r")
        page.until("document.querySelector('.names text').textContent.includes('accuracy')")
        check(page.js("document.activeElement.dataset.to") == "accuracy", "the focus stays where it was")
        page.until("document.querySelector('.chip.done')", 240)
        page.until("[...document.querySelectorAll('.gallery canvas')].every(c => c.dataset.map)", 60)
        page.until("[...document.querySelectorAll('.gallery canvas')].every(c => c.getContext('2d').getImageData(112, 112, 1, 1).data[3] > 0)")
        check(True, "explanations are drawn")
        check(page.js("document.querySelectorAll('tr.ours .chip.chosen').length") == 1, "the trial that was taken stands out")
        page.js("document.querySelector('.chart').focus()")
        page.press("ArrowRight")
        page.until("document.querySelector('.readout').textContent.startsWith('epoch ')")
        check(True, "arrow keys read the curves")
        page.js("document.querySelector('[data-act=sort][data-key=trial]').click()")
        page.until("document.querySelector('.trials tbody th').textContent === '0'")
        check(page.js("document.querySelector('[aria-sort]').textContent.trim().startsWith('Trial')"), "a heading sorts, and says so")
        page.until("document.querySelector('.parallel .brush .overlay')")
        box = page.js("(() => { const r = document.querySelectorAll('.parallel .brush .overlay')[1]; r.scrollIntoView({block: 'center'}); const b = r.getBoundingClientRect(); return [b.x + b.width / 2, b.y, b.height]; })()")
        page.drag(box[0], box[1] + 2, box[1] + box[2] * 0.4)
        page.until("document.querySelectorAll('.trials tbody tr').length === 3")
        check(True, "brushing an axis filters the table")
        by_keyboard(page, "the study's page", ("BUTTON sort", "BUTTON measure", "INPUT pick", "SELECT state", "SELECT method", "INPUT from"))
        well_formed(page, "the study's page")
        if pictures:
            page.picture(f"{pictures}/study.png")
        for name in ("workers", "events"):
            page.go(base + "#/" + name)
            page.until(f"document.querySelector('nav [aria-current]').dataset.page === '{name}' && document.querySelector('main table, main li')")
            well_formed(page, name)
        check("killed by signal 9" not in page.text(), "nobody has died yet")
        worker = int(subprocess.run(["pgrep", "-P", str(cluster.pid("worker-1"))], capture_output=True, text=True, check=True).stdout)
        os.kill(worker, signal.SIGKILL)
        page.until("document.body.innerText.includes('killed by signal 9')")
        told = [line.strip() for line in page.js("document.querySelector('.events details pre').textContent").splitlines()]
        log = pathlib.Path(cluster.directory, "logs/worker-1.log").read_text().splitlines()
        death = next(i for i, line in enumerate(log) if f"the worker process {worker} died" in line)
        # Its last 30 lines, or fewer where those are long: then the first of them is cut.
        check(1 < len(told) <= 30 and told[1:] == log[:death][1 - len(told):],
              "a worker's death is told with the end of its log")
        failures(page, base)
        importance(page, base, url.split("#token=")[1])
        page.go(base + "#/study/none")
        page.until("document.body.innerText.includes('no study none')")
        page.go(base + "#/study/wide")
        page.until("document.querySelectorAll('.trials tbody tr').length === 25 && document.body.innerText.includes('of 10,000')")
        rows = page.js("document.querySelectorAll('*').length")
        check(rows < 2500, f"10,000 trials are {rows} elements")
        well_formed(page, "the page of 10,000 trials")
        many_trials(page)
        complaints = [c for c in page.complaints() if "401" not in c and "404" not in c]
        check(not complaints, "the console has no complaints" if not complaints else f"console: {complaints}")

        os.kill(cluster.pid("coordinator"), signal.SIGKILL)
        page.until("document.body.innerText.includes('does not answer')")
        check(True, "a dead coordinator is noticed")
        cluster.start()
        page.until("!document.body.innerText.includes('does not answer')")
        page.until("document.body.innerText.includes('of 10,000')")
        check(cluster.url() == url, "it comes back under the same address, and nobody has to sign in again")
    for dark in (False, True):
        with browser.Browser(390, 844, mobile=True, dark=dark) as page:
            page.go(url)
            page.until("document.querySelector('table a')")
            well_formed(page, "the list on a phone")
            page.go(base + "#/study/race")
            page.until("document.querySelector('.gallery canvas')")
            well_formed(page, "the study on a phone")
            if pictures:
                page.picture(f"{pictures}/phone{'-dark' if dark else ''}.png")


def exports(url):
    token = url.split("#token=")[1]
    lines = ask(url, "/api/studies/race/trials.csv", token)[1].splitlines()
    check(len(lines) == 7 and lines[0].startswith("trial,state"), "CSV has a line a trial")
    trials = [json.loads(line) for line in ask(url, "/api/studies/race/trials.jsonl", token)[1].splitlines()]
    check([t["trial"] for t in trials] == list(range(6)) and sum(t["state"] == "chosen" for t in trials) == 1, "JSON lines have the same trials")


if __name__ == "__main__":
    if browser.find() is None:
        print("there is no Chromium (Debian: chromium): the dashboard's pages are not tested")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="dermis-dashboard-") as folder:
        cluster = Cluster(folder)
        try:
            subprocess.run([BUILD / "bin/dermis", "synth", "--count", "200", "--size", "64", "-o", f"{folder}/small.images"], check=True, capture_output=True)
            nothing = subprocess.run([BUILD / "bin/dermis", "dashboard", "--cluster", cluster.directory], capture_output=True, text=True, timeout=60)
            check(nothing.returncode == 1 and "dermis cluster start" in nothing.stderr, "without a cluster it is said what to do")
            cluster.start()
            url = cluster.url()
            refusals(url)
            secrets(url)
            for name, text in (("wide", WIDE), ("race", STUDY), ("diverges", DIVERGES), ("matters", MATTERS)):
                pathlib.Path(folder, name + ".yaml").write_text(text)
                with subprocess.Popen([BUILD / "bin/dermis", "run", f"{folder}/{name}.yaml", "--images", f"{folder}/small.images", "--cluster", cluster.directory],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
                    while name not in cluster.run("status"):
                        assert run.poll() is None, "the study was not taken"
                        time.sleep(0.2)
                    run.send_signal(signal.SIGINT)  # The study goes on.
                if name == "wide":
                    time.sleep(5)  # Some trials get their first epochs.
                    cluster.run("cancel", "wide")
            walk(url, sys.argv[1] if len(sys.argv) > 1 else None)
            explain(url, sys.argv[1] if len(sys.argv) > 1 else None)
            exports(url)
            lines = [json.loads(line) for line in cluster.run("audit", "show", "-o", "json").splitlines()]
            check(any(line["call"] == "the dashboard" for line in lines) and not [line for line in lines if line["outcome"].startswith("cut off")],
                  "no browser was taken for a slow client")
            print("all holds")
        finally:
            cluster.run("cluster", "stop", check=False)
