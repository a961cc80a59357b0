"""scikit-learn's PCA and t-SNE and openTSNE's t-SNE: seconds, as bench_embedding.cc.

  peer_embedding.py images OUT [DIR]                    what all sides read: the JPEGs of DIR's two classes, or drawn
                                                        ones; n x 224 x 224 x 3 bytes
  peer_embedding.py pca IMAGES randomized|arpack|full --threads N
  peer_embedding.py tsne SCORES openTSNE|scikit-learn --threads N [--embedding OUT] [--seed N]    seed: a random start
"""
import argparse
import glob
import json
import os
import sys
import time

SIZE, DRAWN, COMPONENTS = 224, 3249, 50


def images(path, folder):
    import numpy as np
    from PIL import Image
    files = sorted(p for c in ("benign", "malignant") for p in glob.glob(os.path.join(folder, c, "*.jpg"))) \
        if folder else []
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE
    with open(path, "wb") as out:
        for name in files:
            np.asarray(Image.open(name).convert("RGB").resize((SIZE, SIZE))).tofile(out)
        for _ in range(0 if files else DRAWN):
            # A lesion on skin: place, size, shape and colours vary, and there is noise.
            cx, cy, a, b = rng.uniform(.35, .65, 2).tolist() + rng.uniform(.1, .35, 2).tolist()
            lesion = 1 / (1 + np.exp(20 * (((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 - 1)))
            skin, dark = rng.uniform(140, 220, 3), rng.uniform(.3, .8, 3)
            picture = skin * (1 - lesion[..., None] * (1 - dark)) + rng.normal(0, 6, (SIZE, SIZE, 3))
            (picture + rng.normal(0, 8, 3)).clip(0, 255).astype(np.uint8).tofile(out)
    return len(files) or DRAWN


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what")
    parser.add_argument("path")
    parser.add_argument("how", nargs="?", default="")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--embedding", default="")
    parser.add_argument("--seed", type=int)
    o = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(o.threads)   # Before numpy.
    import numpy as np
    if o.what == "images":
        print(json.dumps({"value": images(o.path, o.how)}))
        return
    if o.what == "pca":
        from sklearn.decomposition import PCA
        x = np.fromfile(o.path, dtype=np.uint8).reshape(-1, SIZE * SIZE * 3)
        start = time.perf_counter()
        # Of bytes it would make doubles: twice the memory, half the speed.
        PCA(COMPONENTS, svd_solver=o.how, random_state=0).fit_transform(x.astype(np.float32))
        print(json.dumps({"value": time.perf_counter() - start, "unit": "s"}))
        return
    x = np.fromfile(o.path, dtype=np.float64).reshape(-1, COMPONENTS)
    start_from, seed = ("pca", 0) if o.seed is None else ("random", o.seed)
    if o.how == "openTSNE":
        from openTSNE import TSNE
        start = time.perf_counter()
        y = TSNE(n_iter=750, early_exaggeration_iter=250, n_jobs=o.threads, initialization=start_from,
                 random_state=seed).fit(x)
    else:
        from sklearn.manifold import TSNE
        # Neither stops before its 1,000 iterations.
        t = TSNE(max_iter=1000, n_iter_without_progress=1000, min_grad_norm=0, init=start_from,
                 random_state=seed, n_jobs=o.threads)
        start = time.perf_counter()
        y = t.fit_transform(x)
    taken = time.perf_counter() - start
    if o.embedding:
        np.asarray(y, dtype=np.float64).tofile(o.embedding)
    print(json.dumps({"value": taken, "unit": "s"}))


if __name__ == "__main__":
    sys.exit(main())
