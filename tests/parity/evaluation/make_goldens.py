#!/usr/bin/env python3
"""Makes golden.json: what scikit-learn, statsmodels and SciPy give for fixed scores. Run by hand, rarely:

    python3 -m venv VENV && VENV/bin/pip install numpy==2.2.6 scipy==1.15.3 scikit-learn==1.7.0 statsmodels==0.14.4 pandas==2.2.3
    VENV/bin/python tests/parity/evaluation/make_goldens.py

No package of these has DeLong's test, net benefit or ECE: they are written out here from their definitions, DeLong's
over all pairs (not by ranks, as Dermis does); the ECE's bins are sklearn's calibration_curve.
"""
import json
import pathlib

import numpy as np
import scipy
import sklearn
import statsmodels
import statsmodels.api as sm
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import binom, norm
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, log_loss, precision_score, \
    recall_score, roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

VERSIONS = {m.__name__: m.__version__ for m in (np, scipy, sklearn, statsmodels)}


def delong(scores, y):
    """Areas and their covariance matrix, from all pairs."""
    v10, v01 = [], []
    for s in scores:
        pos, neg = s[y == 1], s[y == 0]
        wins = (pos[:, None] > neg[None, :]) + .5 * (pos[:, None] == neg[None, :])
        v10.append(wins.mean(1))
        v01.append(wins.mean(0))
    m, n = (y == 1).sum(), (y == 0).sum()
    return [v.mean() for v in v10], np.cov(v10) / m + np.cov(v01) / n


def ece(y, p):
    # calibration_curve gives no counts: its bins are counted by its own rule.
    share, mean = calibration_curve(y, p, n_bins=15, strategy="quantile")
    edges = np.percentile(p, np.linspace(0, 1, 16) * 100)
    count = np.bincount(np.searchsorted(edges[1:-1], p), minlength=15)
    count = count[count > 0]
    return float((count * np.abs(share - mean)).sum() / len(y)), share.tolist(), mean.tolist()


def case(n, seed, step=0):
    rng = np.random.RandomState(seed)
    y = (rng.rand(n) < .4).astype(int)
    first = 1.8 * y - .7 + 1.6 * rng.randn(n)
    second = .6 * first + .5 * y + rng.randn(n)
    # float32, as a model's logits; with `step` there are ties.
    scores = [np.float32(np.round(s / step) * step if step else s).astype(float) for s in (first, second)]
    margin = scores[0]
    p, q = expit(scores[0]), expit(scores[1])
    fit = sm.GLM(y, sm.add_constant(margin), family=sm.families.Binomial()).fit(tol=1e-14, maxiter=200)
    large = sm.GLM(y, np.ones(n), family=sm.families.Binomial(), offset=margin).fit(tol=1e-14, maxiter=200)
    nll = lambda beta: log_loss(y, expit(beta * margin))
    best = minimize_scalar(nll, bounds=(.01, 100), method="bounded", options=dict(xatol=1e-12, maxiter=1000))
    areas, cov = delong(scores, y)
    z = (areas[0] - areas[1]) / np.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])
    error, share, mean = ece(y, p)
    benefit = []
    for t in (.05, .2, .5, .8):
        treat = p >= t
        benefit.append([t, float((treat & (y == 1)).mean() - (treat & (y == 0)).mean() * t / (1 - t)),
                        float(y.mean() - (1 - y.mean()) * t / (1 - t))])
    return dict(
        label=y.tolist(), first=scores[0].tolist(), second=scores[1].tolist(),
        brier=brier_score_loss(y, p), log_loss=log_loss(y, p), average_precision=average_precision_score(y, p),
        area=roc_auc_score(y, p), precision=precision_score(y, p >= .5), recall=recall_score(y, p >= .5),
        f1=f1_score(y, p >= .5), intercept=fit.params[0], slope=fit.params[1], in_the_large=large.params[0],
        temperature=1 / best.x, ece=error, curve_share=share, curve_mean=mean, benefit=benefit,
        delong=dict(areas=areas, cov=cov.tolist(), z=z, p=2 * norm.sf(abs(z))))


def main():
    mc = []
    for a, b in ((0, 0), (0, 5), (3, 9), (10, 14), (12, 13), (20, 20), (8, 30), (61, 40)):
        exact = mcnemar([[50, a], [b, 40]], exact=True).pvalue
        k, n = min(a, b), a + b
        mid = min(1, 2 * (binom.cdf(k - 1, n, .5) + .5 * binom.pmf(k, n, .5)))
        mc.append([a, b, float(exact if n < 25 else mid), n < 25])
    p = [.001, .04, .03, .2, .005, .9, .03]
    golden = dict(VERSIONS, cases=[case(300, 1), case(121, 2, .5)], mcnemar=mc,
                  holm=dict(p=p, adjusted=multipletests(p, method="holm")[1].tolist()))
    path = pathlib.Path(__file__).parent / "golden.json"
    path.write_text(json.dumps(golden) + "\n")


main()
