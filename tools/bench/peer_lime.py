"""The package lime on one image, its model in PyTorch: seconds an image, as bench_lime.cc. It explains the
model's own input size, which is what its users do and the cheaper way; superpixels are made before and handed in.
"""
import argparse
import json
import statistics
import time

import numpy as np
from lime import lime_image
from skimage.segmentation import slic

from peer_model import VARIANTS, classifier


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--samples", type=int, default=1000)
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--model", default="seed_cnn")
    p.add_argument("--size", type=int, default=32)
    p.add_argument("--batch", type=int, default=10)   # lime's own default.
    p.add_argument("--variant", choices=VARIANTS, default="channels-last")
    a = p.parse_args()
    logits = classifier(a.model, a.precision, a.threads, a.variant, a.batch, a.size)
    classify = lambda images: logits(images).softmax(1).numpy()
    image = np.random.default_rng(1).integers(0, 256, (a.size, a.size, 3), dtype=np.uint8)
    segments = slic(image, n_segments=50, compactness=10, sigma=1, start_label=0)
    explainer = lime_image.LimeImageExplainer(random_state=1)

    def explain(samples=a.samples):
        start = time.perf_counter()
        explainer.explain_instance(image, classify, top_labels=2, num_samples=samples, batch_size=a.batch,
                                   segmentation_fn=lambda _: segments, random_seed=1)
        return time.perf_counter() - start
    explain(2 * a.batch + a.samples % a.batch)   # Compiles, warms up: the sizes of all batches.
    print(json.dumps({"value": statistics.median(explain() for _ in range(a.repeats)), "unit": "s"}))


if __name__ == "__main__":
    main()
