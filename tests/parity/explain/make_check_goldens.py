#!/usr/bin/env python3
"""Makes golden/checks.json: what SciPy and scikit-image give for fixed pairs of maps. Run by hand, rarely:

    python3 -m venv VENV && VENV/bin/pip install scipy==1.17.1 scikit-image==0.26.0
    VENV/bin/python tests/parity/explain/make_check_goldens.py

Maps are rounded to float32 before they are compared, so that both sides see the same numbers.
"""
import json
import pathlib

import numpy as np
import scipy
import skimage
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

OUT = pathlib.Path(__file__).parent / "golden" / "checks.json"


def superpixels(height, width, rng):
    """Every pixel belongs to the nearest of a dozen points: like superpixels, flat within and with sharp borders."""
    points = rng.uniform(0, 1, (12, 2)) * [height, width]
    y, x = np.mgrid[:height, :width]
    distance = (y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2
    return distance.argmin(-1)


def maps(rng):
    for height, width in [(7, 7), (9, 12), (24, 17)]:
        noise = rng.uniform(0, 1, (2, height, width))
        yield "noise", *noise
        yield "alike", noise[0], np.clip(noise[0] + rng.normal(0, 0.05, (height, width)), 0, 1)
        labels = superpixels(height, width, rng)
        values = rng.uniform(0, 1, (2, 12))
        yield "superpixels", values[0][labels], values[1][labels]
        # Many equal values, as maps have where nothing is attributed.
        yield "ties", np.round(noise[0] * 4) / 4, np.round(noise[1] * 4) / 4


def main():
    rng = np.random.default_rng(7)
    cases = []
    for name, a, b in maps(rng):
        a, b = a.astype(np.float32), b.astype(np.float32)
        cases.append(dict(
            name=f"{name} {a.shape[0]} x {a.shape[1]}", height=a.shape[0], width=a.shape[1],
            a=a.ravel().tolist(), b=b.ravel().tolist(),
            # In double: skimage computes in the type of its input.
            ssim=float(structural_similarity(a.astype(np.float64), b.astype(np.float64), data_range=1.0)),
            spearman=float(spearmanr(a.ravel(), b.ravel()).statistic)))
    OUT.write_text(json.dumps(dict(numpy=np.__version__, scipy=scipy.__version__, skimage=skimage.__version__,
                                   seed=7, window=7, cases=cases)) + "\n")
    print(OUT, OUT.stat().st_size)


main()
