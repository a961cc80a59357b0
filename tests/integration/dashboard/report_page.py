#!/usr/bin/env python3
"""A report in headless Chromium, as people read it: filtered, without overlays, with the pointer on an embedding, on a phone, in the dark, on paper,
without scripts. report_test.cc makes the page. Exit code 77 (skipped) where there is no Chromium.

  report_page.py PAGE [FOLDER for pictures]
"""
import base64
import json
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import browser  # noqa: E402

# What of each explained image is seen, and what its own text says of it: not what the filters go by.
CASES = """[...document.querySelectorAll('.case')].map(one => {
    const p = Number([...one.querySelectorAll('.facts div')].find(d => d.innerText.startsWith('probability') || d.textContent.startsWith('probability'))
        .querySelector('dd').textContent);
    return {seen: one.checkVisibility(), outcome: one.querySelector('.why').textContent.split(',')[0], sure: Math.max(p, 1 - p),
            linked: document.querySelector('.index a[href="#' + one.id + '"]').checkVisibility()}; })"""
# A pixel: whether anything was drawn, and the mean colour.
MEAN = """const mean = picture => { const c = new OffscreenCanvas(32, 32), t = c.getContext('2d'); t.drawImage(picture, 0, 0, 32, 32);
    const d = t.getImageData(0, 0, 32, 32).data; const of = k => d.filter((_, i) => i % 4 === k).reduce((a, b) => a + b) / 1024; return [of(0), of(1), of(2), of(3)]; };"""


def check(holds, text):
    assert holds, text
    print(f"  {text}", flush=True)


def light_of(page):
    """Of the page's ground, 0 to 1."""
    return sum(map(int, re.findall(r"\d+", page.js("getComputedStyle(document.body).backgroundColor"))[:3])) / 765


def look(page, width, dark):
    page.width = width
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])


def well_formed(page, name):
    # Not innerWidth: a phone zooms out until all that is too wide fits.
    problems = page.js("""[
      document.documentElement.scrollWidth > """ + str(page.width) + """ && 'wider than the screen: ' + document.documentElement.scrollWidth,
      document.querySelectorAll('h1').length !== 1 && 'not one h1',
      ...[...document.querySelectorAll('a[href^="#"]')].map(a => !document.getElementById(a.hash.slice(1)) && 'a link to nothing: ' + a.hash),
      new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size !== document.querySelectorAll('[id]').length && 'an id comes twice',
    ].filter(Boolean)""") + [f"no name: {node['role']['value']}" for node in page.nameless()]
    check(not problems, f"{name} is well formed" if not problems else f"{name}: {problems}")


def set_control(page, label, value):
    """A control of the filters, by its visible name, as a hand sets it: its events bubble."""
    page.js(f"""(() => {{ const label = [...document.querySelectorAll('.filters label')].find(l => l.textContent.startsWith('{label}'));
        const field = label.querySelector('select, input');
        if (field.type === 'checkbox') {{ field.click(); return; }}
        field.value = '{value}';
        for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, {{bubbles: true}})); }})()""")


def shows_only(page, wanted, text):
    cases = page.js(CASES)
    check(cases and all(c["seen"] == c["linked"] == wanted(c) for c in cases) and
          page.js("document.querySelector('.filters output').textContent") == f"{sum(map(wanted, cases))} of {len(cases)} images", text)


def filters(page):
    everything = page.js(CASES)
    outcomes = {c["outcome"] for c in everything}
    check(all(c["seen"] for c in everything) and len(outcomes) > 1, f"all {len(everything)} explained images are there, of {len(outcomes)} outcomes")
    for outcome in sorted(outcomes):
        set_control(page, "outcome", outcome)
        shows_only(page, lambda c: c["outcome"] == outcome, f"only the {outcome}s")
    # A link to what is filtered away brings it back.
    other = page.js("document.querySelector('.case[hidden]').id")
    page.js(f"location.hash = '#{other}'")
    page.until(f"document.getElementById('{other}').checkVisibility()")
    set_control(page, "outcome", "all")
    # Between two of the confidences: what is at the edge may be rounded either way.
    sure = sorted(c["sure"] for c in everything)
    gap, edge = max((b - a, (a + b) / 2) for a, b in zip(sure, sure[1:]))
    check(gap > 0.02, "the images differ in confidence")
    edge = f"{edge:.2f}"
    set_control(page, "confidence", edge)
    shows_only(page, lambda c: c["sure"] > float(edge), f"only those of confidence {edge} or more")
    set_control(page, "outcome", everything[0]["outcome"])
    shows_only(page, lambda c: c["sure"] > float(edge) and c["outcome"] == everything[0]["outcome"], "both filters together")
    set_control(page, "outcome", "all")
    set_control(page, "confidence", "0.5")
    captions = """[...document.querySelectorAll('.case figcaption b, .case summary')].filter(b => b.checkVisibility() && !b.closest('.of-model')).map(
        b => b.firstChild.textContent.replace(/^.*: /, '').trim())"""
    methods = page.js("[...[...document.querySelectorAll('.filters label')].find(l => l.textContent.startsWith('method')).querySelectorAll('option')].map(o => o.value)")[1:]
    check(len(methods) >= 4, f"methods: {', '.join(methods)}")
    for method in methods:
        set_control(page, "method", method)
        # The parts of Grad-CAM are its layers.
        kinds = {re.sub(r"^conv\d+", "", c) for c in page.js(captions)} - {""}
        check(kinds - {"Original"} in ({method}, {method + " by layer"}), f"only {method} is seen: {sorted(kinds)}")
    set_control(page, "method", "all")
    shows_only(page, lambda c: True, "and all again")


def photograph(page, selector):
    """A picture of an element as it is seen, once it is drawn: as two in a row are the same."""
    box = page.js(f"(() => {{ const e = {selector}; e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect(); return [b.x + scrollX, b.y + scrollY, b.width, b.height]; }})()")
    clip = dict(zip(("x", "y", "width", "height"), map(round, box)), scale=1)
    last = None
    for _ in range(50):
        taken = page.call("Page.captureScreenshot", format="png", clip=clip)["data"]
        if taken == last:
            return taken
        last = taken
    raise AssertionError(f"never drawn twice alike: {selector}")


def differ(page, a, b):
    """Mean difference of two pictures of one size, of 255."""
    return page.js("""(async () => {
        const [a, b] = await Promise.all(['""" + a + "', '" + b + """'].map(async text => {
          const image = new Image(); image.src = 'data:image/png;base64,' + text; await image.decode();
          const c = new OffscreenCanvas(160, 160), t = c.getContext('2d'); t.drawImage(image, 0, 0, 160, 160);
          return t.getImageData(0, 0, 160, 160).data; }));
        return a.reduce((sum, v, i) => sum + Math.abs(v - b[i]), 0) / a.length; })()""")


def overlays(page):
    case = "document.querySelector('.case')"
    pictures = {"Original": f"{case}.querySelector('.figures svg')"}
    for label in page.js(f"[...{case}.querySelectorAll('svg')].filter(s => s.querySelector('.overlay')).map(s => s.getAttribute('aria-label'))"):
        pictures[label] = f"[...{case}.querySelectorAll('svg')].find(s => s.getAttribute('aria-label') === {label!r})"
    check(len(pictures) >= 5, f"{len(pictures) - 1} overlays on the first image")
    before = {name: photograph(page, at) for name, at in pictures.items()}
    set_control(page, "overlays", "")
    without = {name: photograph(page, at) for name, at in pictures.items()}
    set_control(page, "overlays", "")
    check(without["Original"] == before["Original"] and all(without[n] != before[n] for n in pictures if n != "Original"),
          "without overlays every picture but the original looks different")
    check({name: photograph(page, at) for name, at in pictures.items()} == before, "and with them as before")
    set_control(page, "outlines", "")
    bare = photograph(page, pictures["Original"])
    set_control(page, "outlines", "")
    check(bare != before["Original"], "the mask's outline goes")
    for name in pictures:
        if "LIME" in name or "Grad-CAM" in name:
            far, near = differ(page, before[name], bare), differ(page, without[name], bare)
            check(near < 3 < far, f"beneath is the image itself ({near:.1f} from it, {far:.1f} with the overlay): {name[:40]}")


def point_at(page, plot, number):
    """Moves the pointer onto where a point is drawn; what the page shows then."""
    x, y = page.js(f"""(() => {{
        const plot = document.querySelectorAll('.scatter')[{plot}], svg = plot.querySelector('svg'), at = plot.dataset.points.split(' ').map(Number);
        svg.scrollIntoView({{block: 'center'}});
        const p = new DOMPoint(at[2 * {number}], at[2 * {number} + 1]).matrixTransform(svg.getScreenCTM()); return [p.x, p.y]; }})()""")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    return page.js("(() => {" + MEAN + """const box = document.querySelector('.hover');
        return box.checkVisibility() ? [box.querySelector('span').textContent, mean(box.querySelector('canvas'))] : null; })()""")


def embeddings(page):
    count, points, names = page.js("""[document.querySelectorAll('.scatter').length, document.querySelector('.scatter').dataset.points.split(' ').map(Number),
        JSON.parse(document.querySelector('#scatter-data').textContent).names]""")
    check(len(points) == 2 * len(names), f"{count} plots of {len(names)} images")
    # Those whose neighbours are far: the pointer means no other.
    at = list(zip(points[::2], points[1::2]))
    alone = [i for i, (x, y) in enumerate(at) if all(j == i or (x - u) ** 2 + (y - v) ** 2 > 25 for j, (u, v) in enumerate(at))]
    ends = {f(alone, key=lambda i: at[i][k]) for f in (min, max) for k in (0, 1)}
    for i in sorted(ends | set(alone[:6])):
        shown = point_at(page, 0, i)
        check(shown and shown[0].startswith(names[i] + " · "), f"the pointer on {at[i]} shows {names[i]}" if shown else f"nothing is shown at {at[i]}")
    # Whether it is that image: its mean colour is that of the original among the explanations.
    found = page.js("""(async () => {""" + MEAN + """const out = [];
        for (const one of document.querySelectorAll('.case')) {
          const image = new Image(); image.src = one.querySelector('svg image').getAttribute('href'); await image.decode();
          out.push([one.querySelector('h3').textContent, mean(image)]); }
        return out; })()""")
    for name, colour in found[:4]:
        i = names.index(name)
        j = min(range(len(at)), key=lambda k: (at[k][0] - at[i][0]) ** 2 + (at[k][1] - at[i][1]) ** 2)
        if i != j:
            continue  # Another one lies on it.
        shown = point_at(page, 0, i)
        check(max(abs(a - b) for a, b in zip(colour, shown[1])) < 8, f"and its picture: mean colour {[round(v) for v in shown[1][:3]]}, as among the explanations")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    check(not page.js("document.querySelector('.hover').checkVisibility()"), "it goes with the pointer")
    page.js("document.querySelector('.scatter button').focus()")
    page.press("Enter", "\r")
    page.until("document.querySelector('.scatter button[aria-pressed=true]')")
    off = page.js("""(() => { const plot = document.querySelector('.scatter'), svg = plot.querySelector('svg'), canvas = plot.querySelector('canvas');
        const at = plot.dataset.points.split(' ').map(Number), area = canvas.getBoundingClientRect(), t = canvas.getContext('2d');
        let most = 0;
        for (let i = 0; i < at.length; i += 2) {  // Where the point is drawn lies the middle of its image.
          const p = new DOMPoint(at[i], at[i + 1]).matrixTransform(svg.getScreenCTM());
          most = Math.max(most, Math.hypot((p.x - area.x) / area.width * canvas.width - at[i] * 3, (p.y - area.y) / area.height * canvas.height - at[i + 1] * 3));
          if (t.getImageData(at[i] * 3, at[i + 1] * 3, 1, 1).data[3] !== 255) return -1;
        }
        return most; })()""")
    check(0 <= off < 3, f"images stand in the places of their points (at most {off:.1f} of 1380 off)")
    page.press("Enter", "\r")
    page.until("!document.querySelector('.scatter canvas')")


def prints(page):
    """On paper: light, although the reader chose the dark, and nothing folded away."""
    page.js("document.querySelector('.theme').click()")
    check(light_of(page) < 0.2, "its button turns it off again")
    page.call("Emulation.setEmulatedMedia", media="print")
    check(light_of(page) > 0.8, "its printed ground is light")
    page.call("Emulation.setEmulatedMedia", media="")
    # The page's own listeners were first.
    folded = "[...document.querySelectorAll('details')].map(d => d.open)"
    before = page.js(folded)
    page.js(f"addEventListener('beforeprint', () => {{ window.unfolded = {folded}; }})")
    pdf = base64.b64decode(page.call("Page.printToPDF", printBackground=True)["data"])
    sheets = len(re.findall(rb"/Type\s*/Page\b", pdf))
    check(pdf.startswith(b"%PDF-") and sheets > 3, f"{sheets} pages are printed, {len(pdf):,} bytes")
    check(not all(before) and page.js("unfolded") == [True] * len(before), f"all {len(before)} details are open on them, of which {before.count(False)} were closed")
    page.until(f"JSON.stringify({folded}) === '{json.dumps(before, separators=(',', ':'))}'")


def without_scripts(page, url):
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.go("about:blank")
    page.go(url)
    page.until("document.querySelector('footer')")
    check(not page.js("document.querySelector('.theme, .filters, .hover')"), "without scripts nothing stands there that would need them")
    check(all(c["seen"] for c in page.js(CASES)) and page.js("document.querySelectorAll('.scatter svg .points').length") > 0, "all explanations and plots are there")
    well_formed(page, "the page without scripts")
    page.call("Emulation.setScriptExecutionDisabled", value=False)


def main(path, pictures):
    url = pathlib.Path(path).resolve().as_uri()
    start = time.monotonic()
    with browser.Browser() as page:
        page.go(url)
        page.until("document.readyState === 'complete' && document.querySelector('.filters')")
        tall = page.js("document.documentElement.scrollHeight")
        page.js("""(async () => { document.documentElement.style.scrollBehavior = 'auto';
            for (const image of document.images) { image.loading = 'eager'; await image.decode(); } })()""")
        check(page.js("document.documentElement.scrollHeight") == tall, "no picture that comes late moves what is read")
        filters(page)
        overlays(page)
        embeddings(page)
        for dark in (False, True):
            for width in (390, 820, 1400):
                look(page, width, dark)
                page.until(f"document.documentElement.clientWidth <= {width}")
                well_formed(page, f"the page at {width}, {'dark' if dark else 'light'}")
                check((light_of(page) < 0.2) == dark, "its ground is as the reader's system is")
                if pictures:
                    page.picture(f"{pictures}/{width}{'-dark' if dark else ''}.png")
        page.js("document.querySelector('.theme').click()")
        check(light_of(page) > 0.8, "its button turns on the light")
        prints(page)
        without_scripts(page, url)
        complaints = page.complaints()
        check(not complaints, "the console has no complaints" if not complaints else f"console: {complaints}")
        asked = [e["params"]["request"]["url"] for e in page.events if e.get("method") == "Network.requestWillBeSent"]
        outside = {u[:100] for u in asked if u != url and not u.startswith(("data:", "about:"))}
        check(url in asked and not outside, "nothing but the page was asked for" if not outside else f"asked for: {outside}")
    print(f"all holds, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    if browser.find() is None:
        print("there is no Chromium (Debian: chromium): the report's page is not tested in a browser")
        sys.exit(77)
    main(*(sys.argv[1:] + [None])[:2])
