#!/usr/bin/env python3
"""Makes golden/{kernel,owen,lime-options}-*.json: what shap and lime give for fixed games. Run by hand, rarely:

    python3 -m venv VENV && VENV/bin/pip install shap==0.51.0 lime==0.2.0.1 scikit-learn==1.9.1
    VENV/bin/python tests/parity/explain/make_estimator_goldens.py

Each holds the masks that the package ran, the game's outputs for them (margin and probability) and the package's
answer, so the test needs neither the game nor the package's random numbers.
"""
import json
import pathlib

import lime.lime_base
import numpy as np
import shap
import sklearn
from sklearn.linear_model import Ridge

HERE = pathlib.Path(__file__).parent / "golden"
VERSIONS = dict(shap=shap.__version__, lime="0.2.0.1", sklearn=sklearn.__version__, numpy=np.__version__)


def write(name, content):
    (HERE / f"{name}.json").write_text(json.dumps(dict(VERSIONS, **content)) + "\n")


def text(masks):
    return ["".join("1" if bit else "0" for bit in mask) for mask in masks]


def game(features, seed):
    """A function of masks that is not additive: margin and probability, two columns."""
    rng = np.random.RandomState(seed)
    first, second = rng.normal(size=(features, 8)), rng.normal(size=8)

    def outputs(masks):
        margin = np.tanh(np.asarray(masks, float) @ first / np.sqrt(features)) @ second
        return np.stack([margin, 1 / (1 + np.exp(-margin))], 1)

    return outputs


def kernel(name, features, samples, seed):
    f = game(features, seed)
    np.random.seed(seed)
    explainer = shap.KernelExplainer(f, np.zeros((1, features)))
    values = explainer.shap_values(np.ones((1, features)), nsamples=samples, l1_reg=0, silent=True)[0]
    n = explainer.nsamplesAdded
    masks, weights = explainer.maskMatrix[:n], explainer.kernelWeights[:n]
    ends = f([np.ones(features), np.zeros(features)])
    outputs = f(masks)
    assert np.abs(values).max(0).min() > .01
    write(f"kernel-{name}", dict(
        seed=seed, features=features, samples=int(explainer.nsamples), masks=text(masks), weights=weights.tolist(),
        ends=ends.tolist(), margin=outputs[:, 0].tolist(), probability=outputs[:, 1].tolist(),
        margin_values=values[:, 0].tolist(), probability_values=values[:, 1].tolist()))


def owen(name, height, width, evaluations, seed):
    """shap's own tree of an image of one channel, every pixel a player."""
    f = game(height * width, seed)
    seen = {}

    def model(images):
        masks = images.reshape(len(images), -1) != 0
        outputs = f(masks)[:, 0]
        seen.update(zip(text(masks), outputs.tolist()))
        return outputs

    np.random.seed(seed)
    masker = shap.maskers.Image(np.zeros((height, width, 1)), (height, width, 1))
    explainer = shap.PartitionExplainer(model, masker)
    explained = explainer(np.ones((1, height, width, 1)), max_evals=evaluations, batch_size=10, silent=True)
    assert np.abs(explained.values).max() > .01
    write(f"owen-{name}", dict(seed=seed, height=height, width=width, evaluations=evaluations, outputs=seen,
                               values=explained.values.reshape(-1).tolist()))


def lime_options(name, rows, features, seed, num_features, selection, width, alpha):
    rng = np.random.RandomState(seed)
    masks = rng.randint(0, 2, rows * features).reshape(rows, features)
    masks[0, :] = 1
    outputs = game(features, seed)(masks)
    distances = sklearn.metrics.pairwise_distances(masks, masks[0].reshape(1, -1), metric="cosine").ravel()
    base = lime.lime_base.LimeBase(lambda d: np.sqrt(np.exp(-(d ** 2) / width ** 2)))
    content = dict(seed=seed, features=features, num_features=num_features, selection=selection, width=width,
                   alpha=alpha, masks=text(masks))
    for column, kind in enumerate(["margin", "probability"]):
        intercept, coefficients, score, _ = base.explain_instance_with_data(
            masks, outputs, distances, column, num_features, feature_selection=selection,
            model_regressor=Ridge(alpha=alpha, fit_intercept=True))
        ordered = [0.0] * features
        for feature, value in coefficients:
            ordered[feature] = float(value)
        assert np.abs(ordered).max() > .01
        content[kind] = dict(outputs=outputs[:, column].tolist(), coefficients=ordered, intercept=float(intercept),
                             score=float(score))
    write(f"lime-options-{name}", content)


def main():
    kernel("all", 7, 10000, 1)
    kernel("even", 12, 300, 2)
    kernel("odd", 15, 500, 3)
    kernel("wide", 50, 700, 4)
    owen("some", 9, 7, 200, 5)
    owen("all", 3, 4, 5000, 6)
    lime_options("forward", 200, 20, 7, 5, "auto", 0.25, 1.0)
    lime_options("highest", 200, 20, 8, 10, "auto", 0.25, 1.0)
    lime_options("many", 150, 15, 9, 9, "forward_selection", 0.25, 1.0)
    lime_options("kernel", 200, 20, 10, 100000, "auto", 0.75, 0.1)


main()
