#!/usr/bin/env python3
"""Makes golden/: what scikit-image and lime give for fixed inputs. Run by hand, rarely:

    python3 -m venv VENV && VENV/bin/pip install lime==0.2.0.1 scikit-image==0.26.0 scikit-learn==1.9.1
    VENV/bin/python tests/parity/explain/make_goldens.py [--isic FOLDER]

Files hold one JSON header line, then raw little-endian data:
  slic-NAME, quickshift-NAME    uint16 labels, height x width
  lime-NAME.json                masks, outputs, coefficients, intercept, score
  lime-image.json               the same of a whole explain_instance with the default options, on a probability and its
                                margin; the superpixels and the colours that hide them, of pixels as bytes and as numbers
NAME is a drawn image (drawn by the same integers in the test) or the id of an ISIC image, of which the
middle 112 x 112 pixels are used; their pixels stay where they are, only labels are stored.
"""
import argparse
import hashlib
import json
import pathlib

import numpy as np
import lime.lime_base
import lime.lime_image
import skimage
import sklearn
from skimage.segmentation import quickshift, slic

HERE = pathlib.Path(__file__).parent / "golden"
ISIC = ["benign/ISIC_0000012", "malignant/ISIC_0000013"]


def drawn(height, width):
    """Blobs, a gradient and a texture, in integers only."""
    y, x = np.mgrid[:height, :width].astype(np.int64)
    r = 200 - (x * 60) // width + (x * y * 7919 % 23) - 11
    g = 150 + (y * 50) // height + ((x * 31 + y * 17) * 7907 % 19) - 9
    b = 120 + ((x + y) * 40) // (height + width) + ((x * x + 3 * y) % 17) - 8
    blob = (x - 50) ** 2 + 2 * (y - 30) ** 2 < 900
    spot = (x - 30) ** 2 + (y - 55) ** 2 < 150
    image = np.stack([r, g, b], -1)
    image[blob] -= np.array([90, 80, 50])
    image[spot] -= np.array([60, 20, 70])
    return np.clip(image, 0, 255).astype(np.uint8)


def write(name, header, data):
    header["numpy"], header["skimage"] = np.__version__, skimage.__version__
    with open(HERE / name, "wb") as f:
        f.write(json.dumps(header, sort_keys=True).encode() + b"\n" + data)


def segment(name, image):
    sha = hashlib.sha256(image.tobytes()).hexdigest()
    height, width = image.shape[:2]
    for count, compactness, sigma in [(50, 10.0, 1.0), (30, 20.0, 0.0)]:
        labels = slic(image, n_segments=count, compactness=compactness, sigma=sigma, start_label=0)
        write(f"slic-{name}-{count}", dict(height=height, width=width, count=count, pixels=sha,
              compactness=compactness, sigma=sigma), labels.astype("<u2").tobytes())
    labels = quickshift(image, kernel_size=4, max_dist=200, ratio=0.2, rng=42)
    write(f"quickshift-{name}", dict(height=height, width=width, kernel_size=4.0, max_dist=200.0,
          ratio=0.2, pixels=sha, rng=42), labels.astype("<u2").tobytes())


def fit(name, rows, features, seed, offset):
    """lime_image.explain_instance from the masks on: distances, kernel, explain_instance_with_data."""
    rng = np.random.RandomState(seed)
    masks = rng.randint(0, 2, rows * features).reshape(rows, features)
    masks[0, :] = 1
    if rows > 5:
        masks[5, :] = 0
    effect = rng.normal(size=features)
    outputs = offset + masks @ effect + 0.3 * np.sin(masks @ rng.normal(size=features))
    distances = sklearn.metrics.pairwise_distances(
        masks, masks[0].reshape(1, -1), metric="cosine").ravel()
    base = lime.lime_base.LimeBase(lambda d: np.sqrt(np.exp(-(d ** 2) / 0.25 ** 2)))
    intercept, coefficients, score, _ = base.explain_instance_with_data(
        masks, outputs.reshape(-1, 1), distances, 0, 100000)
    ordered = [0.0] * features
    for feature, value in coefficients:
        ordered[feature] = float(value)
    (HERE / f"lime-{name}.json").write_text(json.dumps(dict(
        lime="0.2.0.1", sklearn=sklearn.__version__, seed=seed, features=features,
        masks=["".join(map(str, row)) for row in masks.tolist()], outputs=outputs.tolist(),
        coefficients=ordered, intercept=float(intercept), score=float(score))) + "\n")


def classifier(images):
    """Probability and margin of images of 0..255, curved and of two textures: as in the test."""
    y, x = np.mgrid[:images.shape[1], :images.shape[2]]
    place = np.repeat(((x // 16 + 2 * (y // 16)) % 5 - 2)[..., None], 3, -1).reshape(-1) / 2000
    texture = (np.arange(place.size) * 7919 % 101 - 50) / 5000
    flat = (images.astype(np.float64).reshape(len(images), -1) - 120) / 50
    margin = 2 * np.tanh(flat @ place) + 0.5 * (flat @ texture)
    return np.stack([1 / (1 + np.exp(-margin)), margin], 1)


class Recorder(lime.lime_image.LimeImageExplainer):
    """Keeps what explain_instance does not give back."""

    def data_labels(self, image, fudged_image, *arguments, **named):
        self.fudged_image = fudged_image
        self.masks, self.outputs = super().data_labels(image, fudged_image, *arguments, **named)
        return self.masks, self.outputs


def whole(seed):
    image = drawn(64, 64)
    # Not the default's quickshift, which finds four pieces here; the rest is by default.
    labels = slic(image, n_segments=20, compactness=10.0, sigma=1.0, start_label=0)
    content = dict(lime="0.2.0.1", sklearn=sklearn.__version__, skimage=skimage.__version__, numpy=np.__version__,
                   seed=seed, side=64, labels=labels.reshape(-1).tolist())
    for kind, pixels in (("bytes", image), ("numbers", image.astype(np.float64))):
        explainer = Recorder(random_state=seed)
        explained = explainer.explain_instance(pixels, classifier, segmentation_fn=lambda _: labels)
        colors = [explainer.fudged_image[labels == k] for k in range(labels.max() + 1)]
        assert all((color == color[0]).all() for color in colors)
        content[f"colors_of_{kind}"] = [color[0].tolist() for color in colors]
    # The last: of numbers, whose mean colours are not cut to bytes.
    content["masks"] = ["".join(map(str, row)) for row in explainer.masks.tolist()]
    for column, kind in enumerate(["probability", "margin"]):
        # The score is the one of the label that is explained last.
        explained = Recorder(random_state=seed).explain_instance(
            pixels, classifier, labels=(column,), top_labels=None, segmentation_fn=lambda _: labels)
        coefficients = dict(explained.local_exp[column])
        ordered = [float(coefficients[k]) for k in range(labels.max() + 1)]
        assert np.abs(ordered).max() > .01
        content[kind] = dict(outputs=explainer.outputs[:, column].tolist(), coefficients=ordered,
                             intercept=float(explained.intercept[column]), score=float(explained.score))
    print("lime-image:", labels.max() + 1, "superpixels, probabilities", explainer.outputs[:, 0].min(), "to",
          explainer.outputs[:, 0].max(), "largest coefficients", [np.abs(content[k]["coefficients"]).max()
                                                                  for k in ("probability", "margin")])
    (HERE / "lime-image.json").write_text(json.dumps(content) + "\n")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--isic", type=pathlib.Path)
    options = options.parse_args()
    HERE.mkdir(exist_ok=True)
    segment("drawn", drawn(80, 100))
    fit("small", 64, 7, 1, 0.0)
    fit("wide", 30, 45, 2, 12.5)
    fit("usual", 300, 50, 3, -3.0)
    whole(11)
    if options.isic:
        from PIL import Image
        for name in ISIC:
            image = np.asarray(Image.open(options.isic / f"{name}.jpg").convert("RGB"))[56:168, 56:168]
            segment(name.split("/")[1], np.ascontiguousarray(image))


main()
