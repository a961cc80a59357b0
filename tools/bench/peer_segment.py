"""scikit-image's superpixels of one image, one thread: milliseconds, as bench_segment.cc.

  peer_segment.py image OUT [JPEG]   writes what both cut: the picture's pixels, or drawn ones
  peer_segment.py slic|quickshift IMAGE
"""
import json
import statistics
import sys
import time

import numpy as np

SIZE = 224


def drawn():
    """A lesion on skin with hairs and noise."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(float)
    rng = np.random.default_rng(1)
    image = np.stack([205 - x / 9, 160 + y / 12, 140 + (x + y) / 20], 2)
    ragged = ((x - 112) / 60) ** 2 + ((y - 105) / 45) ** 2 + .15 * np.sin(x / 7) + .15 * np.cos(y / 5)
    image[ragged < 1] *= .55
    image[ragged < .35] *= .7
    for k in range(6):
        image[np.abs(y - 30 * k - x * (.3 + .1 * k)) < 1.2] *= .4
    return (image + rng.normal(0, 5, image.shape)).clip(0, 255).astype(np.uint8)


def main():
    what, path = sys.argv[1:3]
    if what == "image":
        if len(sys.argv) > 3:
            from PIL import Image
            pixels = np.asarray(Image.open(sys.argv[3]).convert("RGB").resize((SIZE, SIZE)))
        else:
            pixels = drawn()
        pixels.tofile(path)
        print(json.dumps({"value": pixels.size}))
        return
    from skimage.segmentation import quickshift, slic
    image = np.fromfile(path, dtype=np.uint8).reshape(SIZE, SIZE, 3)
    taken = []
    for _ in range(10):
        start = time.perf_counter()
        if what == "slic":
            slic(image, n_segments=50, compactness=10, sigma=1, start_label=0)
        else:
            quickshift(image, kernel_size=4, max_dist=200, ratio=.2)
        taken.append((time.perf_counter() - start) * 1e3)
    print(json.dumps({"value": statistics.median(taken), "unit": "ms"}))


if __name__ == "__main__":
    main()
