"""Goldens of PCA and t-SNE by scikit-learn and openTSNE, on 300 of scikit-learn's handwritten digits (UCI).

  python make_goldens.py            writes embedding.safetensors beside this file
  python make_goldens.py --keep     the same, with the embeddings that are in it already (they take minutes)

Needs numpy, scikit-learn, openTSNE and safetensors; their versions are written into the file.
"""
import os
import sys

import numpy as np
import openTSNE
import safetensors.numpy
import sklearn
from scipy.spatial.distance import pdist, squareform
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.manifold._t_sne import _joint_probabilities, _kl_divergence

N, COMPONENTS, PERPLEXITY, ROWS, SEEDS = 300, 20, 30, 40, 5
HERE = os.path.dirname(os.path.abspath(__file__))


def kl(p, y):
    weights = 1 / (1 + squareform(pdist(y, "sqeuclidean")))
    np.fill_diagonal(weights, 0)
    p, q = p.toarray(), weights / weights.sum()
    return (p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum()


def embed(x):
    embeddings = {"sklearn": [], "openTSNE": []}
    for seed in range(SEEDS):
        t = TSNE(perplexity=PERPLEXITY, init="random", random_state=seed, max_iter=1000, n_iter_without_progress=1000,
                 min_grad_norm=0)
        embeddings["sklearn"].append(t.fit_transform(x).astype(np.float64))
        t = openTSNE.TSNE(perplexity=PERPLEXITY, initialization="random", random_state=seed,
                          early_exaggeration_iter=250, n_iter=750, neighbors="exact")
        embeddings["openTSNE"].append(np.array(t.fit(x), dtype=np.float64))
    return embeddings


def main():
    x = load_digits().data[:N]
    bytes_ = x.astype(np.uint8)
    assert (bytes_ == x).all()
    tensors = {"digits": bytes_}

    pca = PCA(COMPONENTS, svd_solver="full").fit(x)
    scores = pca.transform(x)
    tensors |= {"pca.components": pca.components_, "pca.variance_ratio": pca.explained_variance_ratio_,
                "pca.singular_values": pca.singular_values_, "pca.scores": scores}

    # P of scikit-learn, over all pairs; it looks for the width to 1e-5 of the entropy only.
    condensed = _joint_probabilities(squareform(pdist(x, "sqeuclidean")).astype(np.float32), PERPLEXITY, False)
    dense = squareform(condensed)
    tensors["p.dense"] = dense[:ROWS].astype(np.float32)
    # P of openTSNE, of 3 perplexity neighbours.
    sparse = openTSNE.affinity.PerplexityBasedNN(x, PERPLEXITY, method="exact").P
    tensors["p.sparse"] = sparse.toarray()[:ROWS].astype(np.float32)

    if "--keep" in sys.argv:
        old = safetensors.numpy.load_file(os.path.join(HERE, "embedding.safetensors"))
        embeddings = {name: list(old[f"embeddings.{name}"]) for name in ("sklearn", "openTSNE")}
    else:
        embeddings = embed(x)
    for name, found in embeddings.items():
        # Rounded first: the test reads these very numbers.
        stack = np.stack(found).astype(np.float32)
        tensors[f"embeddings.{name}"] = stack
        y = stack.astype(np.float64)
        tensors[f"kl.dense.{name}"] = np.array([_kl_divergence(e.ravel(), condensed, 1, N, 2)[0] for e in y])
        tensors[f"gradient.dense.{name}"] = np.stack(
            [_kl_divergence(e.ravel(), condensed, 1, N, 2)[1].reshape(N, 2) for e in y[:1]])
        # By the definition, with openTSNE's P: its own estimate is lower by .004 even at theta 0.
        tensors[f"kl.sparse.{name}"] = np.array([kl(sparse, e) for e in y])
        print(name, tensors[f"kl.dense.{name}"], tensors[f"kl.sparse.{name}"])
    tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    safetensors.numpy.save_file(tensors, os.path.join(HERE, "embedding.safetensors"),
                                {"scikit-learn": sklearn.__version__, "openTSNE": openTSNE.__version__,
                                 "numpy": np.__version__})


if __name__ == "__main__":
    main()
