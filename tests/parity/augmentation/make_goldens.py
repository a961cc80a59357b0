#!/usr/bin/env python3
"""Goldens from real torchvision for augmentation_parity_test.cc: run in an environment with torch, torchvision,
safetensors and numpy, from this folder.

    python make_goldens.py

Writes augmentation.safetensors: `input`, 12 x 12 x 3 values of bytes, and what torchvision's functional transforms
make of it as a float image in 0..1 (stored times 255, height x width x channel). A name says the transform and its numbers:
  brightness 1.4, contrast 0.6, saturation 1.8, hue -0.35    adjust_*
  colours B C S H                                            the four in this order; B <= 1, so that nothing is clamped
                                                             before the contrast (Dermis takes its mean before the clamp)
  affine ANGLE DX DY SCALE SHEAR                             F.affine's own matrix and grid, read with a clamped border,
                                                             which F.affine itself does not offer
  crop TOP LEFT HEIGHT WIDTH                                 resized_crop to the whole size; the outermost pixels of its
                                                             own differ: it cannot see beyond the crop
"""
import math

import numpy as np
import torch
import torchvision
import torchvision.transforms.functional as F
from safetensors.numpy import save_file
from torchvision.transforms import _functional_tensor as T
from torchvision.transforms.functional import _get_inverse_affine_matrix

SIZE = 12


def image():
    """Smooth enough to look at, every hue in it, a grey and a black pixel."""
    values = [128 + 127 * math.sin(0.9 * (i // 3 % SIZE) + 0.4 * (i // 3 // SIZE) + 2.1 * (i % 3)) for i in range(3 * SIZE * SIZE)]
    pixels = np.round(values).astype(np.float32).reshape(SIZE, SIZE, 3)
    pixels[3, 4], pixels[8, 2] = 77, 0
    return pixels


def colours(x, brightness, contrast, saturation, hue):
    x = F.adjust_contrast(F.adjust_brightness(x, brightness), contrast)
    return F.adjust_hue(F.adjust_saturation(x, saturation), hue)


def affine(x, angle, dx, dy, scale, shear):
    matrix = _get_inverse_affine_matrix([0.0, 0.0], angle, [dx, dy], scale, [shear, 0.0])
    theta = torch.tensor(matrix, dtype=torch.float32).reshape(1, 2, 3)
    grid = T._gen_affine_grid(theta, w=SIZE, h=SIZE, ow=SIZE, oh=SIZE)
    return torch.nn.functional.grid_sample(x[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]


def crop(x, top, left, height, width):
    return F.resized_crop(x, int(top), int(left), int(height), int(width), [SIZE, SIZE], antialias=False)


TRANSFORMS = {"brightness": F.adjust_brightness, "contrast": F.adjust_contrast, "saturation": F.adjust_saturation,
              "hue": F.adjust_hue, "colours": colours, "affine": affine, "crop": crop}
CASES = ["brightness 0.4", "brightness 1.7", "contrast 0", "contrast 0.6", "contrast 1.9", "saturation 0", "saturation 0.3",
         "saturation 1.8", "hue 0.1", "hue -0.35", "hue 0.5", "colours 0.8 1.3 0.6 0.2", "colours 0.5 0.7 1.6 -0.1",
         "affine 30 0 0 1 0", "affine -75 0 0 1 0", "affine 0 2 -1.5 1 0", "affine 0 0 0 1.4 0", "affine 0 0 0 1 25",
         "affine 20 -1 2 0.8 -15", "crop 0 0 6 6", "crop 3 2 5 9"]


def main():
    torch.set_num_threads(1)
    pixels = image()
    x = torch.tensor(pixels).permute(2, 0, 1) / 255
    tensors = {"input": pixels}
    for case in CASES:
        name, *numbers = case.split()
        tensors[case] = (TRANSFORMS[name](x, *map(float, numbers)) * 255).permute(1, 2, 0).numpy()
    save_file({name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}, "augmentation.safetensors",
              {"made_by": "tests/parity/augmentation/make_goldens.py", "torchvision": torchvision.__version__})


if __name__ == "__main__":
    main()
