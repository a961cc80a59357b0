#!/usr/bin/env python3
"""Makes classical.safetensors: what scikit-learn's logistic regressions and random forests give for drawn images.
Run by hand, rarely:

    python3 -m venv VENV && VENV/bin/pip install numpy==2.2.6 scikit-learn==1.7.0 safetensors==0.8.0
    VENV/bin/python tests/parity/classical/make_goldens.py

Solvers run to far tighter tolerances than their defaults: what is compared is the optimum, not where a default stops. Of
forests no single tree can be compared (other random numbers), so their accuracies over seeds are.
"""
import pathlib

import numpy as np
import safetensors
import sklearn
from safetensors.numpy import save_file
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

SIZE, TRAINING, TEST = 6, 300, 600
LINEAR = 150               # The first images, of which the regressions see the training part.
L2 = [1e-4, 1e-2, 1.0, 100.0]
L1 = [0.1, 1.0, 10.0]
SEEDS = 20
FORESTS = [(20, 5), (5, 2), (10, 30)]   # Trees, depth (30: unlimited here).


def drawn():
    """Smooth noise, a brighter middle where the label is 1, and some labels wrong."""
    rng = np.random.RandomState(1)
    n = TRAINING + TEST
    labels = rng.randint(0, 2, n)
    coarse = rng.normal(0, 35, (n, 3, 3, 3)).repeat(2, 1).repeat(2, 2)
    images = 130 + coarse + rng.normal(0, 25, (n, SIZE, SIZE, 3)) + rng.normal(0, 20, (n, 1, 1, 1))
    images[:, 2:4, 2:4, :] += (labels * 2 - 1)[:, None, None, None] * 22
    labels = np.where(rng.rand(n) < .08, 1 - labels, labels)
    return images.clip(0, 255).astype(np.uint8).reshape(n, -1), labels.astype(np.uint8)


def main():
    images, labels = drawn()
    x = images[:LINEAR] / 255.0
    mean = x.mean(0)
    x = x - mean
    others = images[TRAINING:TRAINING + 100] / 255.0 - mean
    y = labels[:LINEAR]
    out = {"images": images, "labels": labels}
    for name, strengths, options in (
            ("l2", L2, dict(solver="newton-cholesky", tol=1e-14, max_iter=1000)),
            ("l1", L1, dict(penalty="l1", solver="saga", tol=1e-11, max_iter=2_000_000, random_state=0))):
        weights, intercepts, probabilities = [], [], []
        for c in strengths:
            model = LogisticRegression(C=c, **options).fit(x, y)
            weights.append(model.coef_[0])
            intercepts.append(model.intercept_[0])
            probabilities.append(model.predict_proba(others)[:, 1])
            print(name, c, model.n_iter_, (model.coef_ != 0).sum())
        out[f"{name}.strengths"] = np.array(strengths)
        out[f"{name}.weights"] = np.array(weights)
        out[f"{name}.intercepts"] = np.array(intercepts)
        out[f"{name}.probabilities"] = np.array(probabilities)
    accuracies, importances = [], []
    for trees, depth in FORESTS:
        scores, importance = [], []
        for seed in range(SEEDS):
            forest = RandomForestClassifier(trees, max_depth=depth, random_state=seed)
            forest.fit(images[:TRAINING], labels[:TRAINING])
            scores.append(forest.score(images[TRAINING:], labels[TRAINING:]))
            importance.append(forest.feature_importances_)
        accuracies.append(scores)
        importances.append(np.mean(importance, 0))
        print(trees, depth, np.mean(scores), np.std(scores))
    out["forest.cells"] = np.array(FORESTS, dtype=np.int64)
    out["forest.accuracies"] = np.array(accuracies)
    out["forest.importances"] = np.array(importances)
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()},
              pathlib.Path(__file__).parent / "classical.safetensors",
              dict(sklearn=sklearn.__version__, numpy=np.__version__, safetensors=safetensors.__version__))


if __name__ == "__main__":
    main()
