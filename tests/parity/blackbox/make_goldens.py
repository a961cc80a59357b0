#!/usr/bin/env python3
"""Goldens from real PyTorch for blackbox_parity_test.cc: run in an environment with torch and numpy, and onnx for the
export (`pip install onnx`), from this folder.

    python make_goldens.py

Writes, all of the same small classifier of 16 x 16 pixels (random weights, seed 7) with ImageNet's mean and deviation:
  classifier.pt      torch.jit.trace, logits of three classes
  classifier.onnx    the same, opset 11 (OpenCV 4.6's)
  scripted.pt        torch.jit.script, with a branch on the input's values, which tracing cannot hold; one probability
  not_a_model.pt     a state dict, as torch.save writes it: what people give by mistake
  outputs.json       pixels (two images, 0..255, as a formula: see pixels()) -> outputs of each in fp32; versions
"""
import json

import torch
from torch import nn

SIZE = 16
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def pixels(image):
    """Value of pixel (y, x), channel c: the test has the same formula."""
    y, x, c = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), torch.arange(3), indexing="ij")
    return ((7 * y + 13 * x * (image + 1) + 29 * c + 3 * y * x) % 256).float()


def tensor(image):
    x = pixels(image).permute(2, 0, 1)[None] / 255
    return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(DEVIATION).view(1, 3, 1, 1)


class Classifier(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(8 * 4 * 4, outputs)

    def forward(self, x):
        return self.head(torch.flatten(self.features(x), 1))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Classifier(1)

    def forward(self, x):
        z = self.inner(x)
        if bool(x.mean() > 0):
            z = z + 0.25
        return torch.sigmoid(z)


def main():
    torch.manual_seed(7)
    torch.set_num_threads(1)
    model = Classifier(3).eval()
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.uniform_(-0.5, 0.5)
                norm.running_var.uniform_(0.5, 2)
    branching = Branching().eval()
    example = tensor(0)
    torch.jit.trace(model, example).save("classifier.pt")
    torch.jit.script(branching).save("scripted.pt")
    torch.save({"weight": torch.zeros(1)}, "not_a_model.pt")
    torch.onnx.export(model, example, "classifier.onnx", opset_version=11, dynamo=False)
    with torch.no_grad():
        outputs = {"classifier": [model(tensor(i))[0].tolist() for i in range(2)],
                   "scripted": [branching(tensor(i))[0].tolist() for i in range(2)]}
    with open("outputs.json", "w") as out:
        json.dump({"torch": torch.__version__, "seed": 7, **outputs}, out, indent=1)
        out.write("\n")


if __name__ == "__main__":
    main()
