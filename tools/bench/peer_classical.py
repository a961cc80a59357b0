"""scikit-learn's baselines on the same bytes: seconds, as bench_classical.cc.

  peer_classical.py pack FOLDER [DATA]     writes rows.224, labels.224, rows.32, labels.32 into FOLDER: 2,339 images of
                                           DATA (a folder with benign/ and malignant/), or drawn ones
  peer_classical.py l2 FOLDER newton-cholesky|lbfgs
  peer_classical.py l1 FOLDER STRONGEST
  peer_classical.py forest FOLDER THREADS

l2: LogisticRegression cannot take a kernel, and 150,528 columns of doubles would be worse for every solver: it gets a
Cholesky factor of the centred products, 2,339 columns, which has the same optimum. Its tolerance is about the gradient
norm that Dermis stops at. Products, factor and path count, not the images' centred doubles; BLAS has one thread, as
Dermis. l1: liblinear, the fastest there for it; its penalised intercept is scaled away. forest: as many threads as Dermis,
images as float32 before the clock starts.
"""
import json
import os
import sys
import time

import numpy as np
from threadpoolctl import threadpool_limits

IMAGES = 2339   # As many as the study's training set.


def drawn(size, labels):
    """Skin of any shade, a lesion in its middle that is larger and darker where the label is 1, noise."""
    rng = np.random.default_rng(size)
    y, x = np.mgrid[0:size, 0:size] / size - .5
    out = np.empty((len(labels), size, size, 3), np.uint8)
    for k, label in enumerate(labels):
        a, b, turn = rng.uniform(.1, .3, 2).tolist() + [rng.uniform(0, 3)]
        u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        inside = ((u / (a + .03 * label)) ** 2 + (v / b) ** 2) < 1
        image = rng.uniform(140, 230, 3) + rng.normal(0, 40) * x[..., None] + rng.normal(0, 40) * y[..., None]
        image = np.where(inside[..., None], image * rng.uniform(.4, .8 - .1 * label, 3), image)
        out[k] = (image + rng.normal(0, 6, image.shape)).clip(0, 255)
    return out


def pack(folder, data=None):
    rng = np.random.default_rng(1)
    if data:
        from PIL import Image
        names = [(os.path.join(data, c, f), label) for label, c in enumerate(["benign", "malignant"])
                 for f in sorted(os.listdir(os.path.join(data, c)))]
        names = [names[k] for k in rng.permutation(len(names))[:IMAGES]]
        labels = np.array([label for _, label in names], np.uint8)
        files = {size: open(os.path.join(folder, f"rows.{size}"), "wb") for size in (224, 32)}
        for name, _ in names:
            image = Image.open(name).convert("RGB")
            for size, f in files.items():
                np.asarray(image.resize((size, size), Image.BOX)).tofile(f)
    else:
        labels = rng.integers(0, 2, IMAGES).astype(np.uint8)
        for size in (224, 32):
            drawn(size, labels).tofile(os.path.join(folder, f"rows.{size}"))
    for size in (224, 32):
        labels.tofile(os.path.join(folder, f"labels.{size}"))
    return IMAGES


def read(folder, size):
    labels = np.fromfile(os.path.join(folder, f"labels.{size}"), np.uint8)
    return np.fromfile(os.path.join(folder, f"rows.{size}"), np.uint8).reshape(len(labels), -1), labels


def strengths(strongest):
    return [10.0 ** e for e in range(-6, strongest + 1)]


def objective(model, x, y, penalty):
    margin = (x @ model.coef_[0] + model.intercept_[0]) * (2.0 * y - 1)
    return penalty + model.C * np.logaddexp(0, -margin).sum()


def l2(folder, solver):
    from scipy.linalg import cholesky
    from sklearn.linear_model import LogisticRegression
    rows, y = read(folder, 224)
    x = np.empty(rows.shape)
    np.divide(rows, 255.0, out=x)
    x -= x.mean(0)
    del rows
    with threadpool_limits(1):
        start = time.perf_counter()
        k = x @ x.T
        # Centred products have an eigenvalue 0; what is added is far below the tolerance.
        factor = cholesky(k + np.eye(len(k)) * 1e-9 * k.diagonal().max(), lower=True)
        print(f"products and factor {time.perf_counter() - start:.2f} s", file=sys.stderr)
        model = LogisticRegression(solver=solver, warm_start=True, max_iter=100_000)
        norm = None
        for c in strengths(2):
            if norm is None:   # At so small a C the gradient at 0 gives the weights.
                norm = c * np.linalg.norm(factor.T @ (y - y.mean()))
            model.C, model.tol = c, 1e-6 * 2 * norm / (c * len(y))
            model.fit(factor, y)
            norm = np.linalg.norm(model.coef_)
            margin = factor @ model.coef_[0] + model.intercept_[0]
            gradient = model.coef_[0] - c * factor.T @ (y - 1 / (1 + np.exp(-margin)))
            print(f"C {c:g}: objective {objective(model, factor, y, norm ** 2 / 2):.9g}, "
                  f"gradient {np.linalg.norm(gradient) / norm:.1e}, "
                  f"iterations {model.n_iter_[0]}, after {time.perf_counter() - start:.1f} s", file=sys.stderr)
        return time.perf_counter() - start


def l1(folder, strongest):
    from sklearn.linear_model import LogisticRegression
    rows, y = read(folder, 32)
    x = rows / 255.0
    x -= x.mean(0)
    start = time.perf_counter()
    for c in strengths(strongest):
        model = LogisticRegression(C=c, penalty="l1", solver="liblinear", tol=1e-5, intercept_scaling=1e3,
                                   max_iter=100_000, random_state=0).fit(x, y)
        print(f"C {c:g}: objective {objective(model, x, y, np.abs(model.coef_).sum()):.9g}, "
              f"pixels {(model.coef_ != 0).sum()}, after {time.perf_counter() - start:.1f} s", file=sys.stderr)
    return time.perf_counter() - start


def forest(folder, threads):
    from sklearn.ensemble import RandomForestClassifier
    rows, y = read(folder, 224)
    x = rows.astype(np.float32)
    start = time.perf_counter()
    RandomForestClassifier(20, max_depth=5, n_jobs=threads, random_state=1).fit(x, y)
    return time.perf_counter() - start


def main():
    what, folder, *rest = sys.argv[1:]
    if what == "pack":
        value = pack(folder, *rest)
    elif what == "l2":
        value = l2(folder, rest[0])
    elif what == "l1":
        value = l1(folder, int(rest[0]))
    else:
        value = forest(folder, int(rest[0]))
    print(json.dumps({"value": value, "unit": "s"}))


if __name__ == "__main__":
    main()
