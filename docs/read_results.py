#!/usr/bin/env python3
"""A study's results as NumPy arrays, and the seed paper's Table 1 made of them again. Needs NumPy and nothing of Dermis:

  dermis results STUDY -o json > study.json
  dermis results STUDY --model study.safetensors --explanations explained     # if wanted
  python3 read_results.py study.json [study.safetensors [explained/attributions.safetensors]]

Take the functions from here: this file is meant to be copied.
"""
import json
import struct
import sys

import numpy as np

TYPES = {"F64": np.float64, "F32": np.float32, "I64": np.int64, "I32": np.int32, "U32": np.uint32, "U16": np.uint16,
         "U8": np.uint8}


def read_safetensors(path):
    """Name -> array; the metadata, name -> text. Also of the attributions that `--explanations` writes."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    metadata = header.pop("__metadata__", {})
    return {name: np.frombuffer(data[slice(*of["data_offsets"])], TYPES[of["dtype"]]).reshape(of["shape"])
            for name, of in header.items()}, metadata


def scores_of(rows):
    """Names, labels and logits (images x classes) of a list of scored images."""
    return ([row["image"] for row in rows], np.array([row["label"] for row in rows]),
            np.array([row["logits"] for row in rows], np.float32))


def probability_of(logits):
    """Of the last class, the positive one."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted[:, -1] / shifted.sum(axis=1)


def area_under_roc(probability, positive):
    """Mann and Whitney's, ties count half."""
    order = np.sort(probability)
    rank = (np.searchsorted(order, probability, "left") + np.searchsorted(order, probability, "right") + 1) / 2
    n = positive.sum()
    return (rank[positive].sum() - n * (n + 1) / 2) / (n * (~positive).sum())


def average_precision(probability, positive):
    """The mean, over the positive images, of the precision at their own score as threshold."""
    hits, all_scores = np.sort(probability[positive]), np.sort(probability)
    found = len(hits) - np.searchsorted(hits, hits, "left")
    return (found / (len(all_scores) - np.searchsorted(all_scores, hits, "left"))).mean()


def table_one(probability, positive, threshold=0.5):
    """The seed counts false positives and negatives as fractions of all test images; the usual ones stand beside."""
    predicted = probability >= threshold
    hits, false_positive = (predicted & positive).sum(), (predicted & ~positive).sum()
    false_negative, n = (~predicted & positive).sum(), len(positive)
    return {"accuracy": (predicted == positive).mean(), "precision": hits / max(1, predicted.sum()),
            "FPR of all": false_positive / n, "FNR of all": false_negative / n,
            "FPR of the class": false_positive / (~positive).sum(), "FNR of the class": false_negative / positive.sum(),
            "area": area_under_roc(probability, positive), "average precision": average_precision(probability, positive)}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        study = json.load(file)
    models = {"network": study["test"],
              **{f'network, seed {s["seed"]}': s["test"] for s in study["seeds"]["each"]},
              **{f'{b["name"]}, {b["size"]} px': b["test"] for b in study["baselines"]}}
    for name, rows in models.items():
        if not rows:
            print(f"{name:32} not evaluated yet")
            continue
        _, label, logits = scores_of(rows)
        row = table_one(probability_of(logits), label == logits.shape[1] - 1)
        print(f"{name:32}", "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    if len(sys.argv) > 2:
        weights, metadata = read_safetensors(sys.argv[2])
        print(f"{sum(w.size for w in weights.values())} weights in {len(weights)} arrays; {metadata}")
    if len(sys.argv) > 3:
        attributions, metadata = read_safetensors(sys.argv[3])
        print(f"{len(attributions)} attributions of {metadata['output']}, class {metadata['class']}")
        for name, values in attributions.items():  # "IMAGE/METHOD/..."
            print(f"{name:48} {'x'.join(map(str, values.shape)):12} sum {values.sum(dtype=np.float64):+.9g} "
                  f"first {values.flat[0]:+.9g} last {values.flat[-1]:+.9g}")


if __name__ == "__main__":
    main()
