#!/usr/bin/env python3
"""Goldens from real torchvision for resnet_parity_test.cc: run in an environment with torch, torchvision,
safetensors and numpy, from this folder.

    python make_goldens.py

Writes <model>-<stem>.safetensors, what torchvision makes, in double, of an input and weights that both sides draw
from the same formula (none are stored):
  evaluation.logits   [4, 5]
  training.logits     [4, 5], with batch statistics
  training.loss       [1], mean cross entropy; image i has label i
  training.gradients  [parameters, 2], in torchvision's order: norm, and sum of gradient_i * cos(i)
  training.running    [statistics, 2], the same of the running statistics after that step
Metadata: names of parameters and running statistics in torchvision's order, versions.

The formula: element i of tensor number k has v = 2 hash(i, k) - 1 in [-1, 1), and is
  sqrt(6 / fan_in) * v   weight of a convolution        v / sqrt(features)   fc
  0.4 + 0.1 v            scale of a batch norm          0.3 v, 1 + 0.4 v     running mean, running variance
  +-(0.9 + 0.5 |v|)      shift of a batch norm, sign of v: most channels lie on one side of ReLU's kink, some pixels on
                         the other, and few so near to it that rounding decides
k counts parameters, then statistics, from 0. The input (NHWC) is 1.5 v of a tensor from 1000 on, the one of sixteen
whose pixels all stay farthest from every ReLU's kink: beyond it rounding would decide, which no tolerance could absorb.
"""

import numpy as np
import torch
import torchvision
from safetensors.numpy import save_file

BATCH, CLASSES = 4, 5


def unit(k, count):
    """hash(i, k) for i < count: the finaliser of MurmurHash3, 24 bits."""
    with np.errstate(over="ignore"):
        h = np.arange(count, dtype=np.uint32) + np.uint32(k * 0x9E3779B9 & 0xFFFFFFFF)
        h ^= h >> np.uint32(16)
        h *= np.uint32(0x85EBCA6B)
        h ^= h >> np.uint32(13)
        h *= np.uint32(0xC2B2AE35)
        h ^= h >> np.uint32(16)
    return (h >> np.uint32(8)).astype(np.float64) * 2.0 ** -24


def fill(name, k, shape):
    v = 2 * unit(k, int(np.prod(shape))) - 1
    if name.startswith("fc."):
        v = v / np.sqrt(FEATURES)
    elif len(shape) == 4:
        v = v * np.sqrt(6 / np.prod(shape[1:]))
    elif name.endswith(".weight"):
        v = 0.4 + 0.1 * v
    elif name.endswith(".bias"):
        v = np.where(v < 0, -1.0, 1.0) * (0.9 + 0.5 * np.abs(v))
    elif name.endswith("running_mean"):
        v = 0.3 * v
    else:
        v = 1 + 0.4 * v
    return torch.tensor(v.astype(np.float32).astype(np.float64).reshape(shape))


def summary(tensors):
    rows = []
    for t in tensors:
        t = t.detach().double().flatten()
        rows.append([t.norm().item(), (t * torch.cos(torch.arange(t.numel(), dtype=torch.float64))).sum().item()])
    return np.array(rows)


def make_input(k, size):
    x = (1.5 * (2 * unit(k, BATCH * size * size * 3) - 1)).astype(np.float32).astype(np.float64)
    return torch.tensor(x.reshape(BATCH, size, size, 3)).permute(0, 3, 1, 2)


def margin(model, x):
    """The smallest distance of a value from a ReLU's kink, in training."""
    smallest = []
    # A block's ReLU is one module that is called after each convolution.
    hooks = [m.register_forward_pre_hook(lambda _, inputs: smallest.append(inputs[0].abs().min().item()))
             for m in model.modules() if isinstance(m, torch.nn.ReLU)]
    model.train()
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return min(smallest)


def make(name, stem):
    global FEATURES
    model = getattr(torchvision.models, name)(num_classes=CLASSES)
    size = 64
    if stem == "small":
        size = 32
        model.conv1 = torch.nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        model.maxpool = torch.nn.Identity()
    FEATURES = model.fc.in_features
    model = model.double()
    parameters = list(model.named_parameters())
    statistics = [(n, b) for n, b in model.named_buffers() if not n.endswith("num_batches_tracked")]
    with torch.no_grad():
        for k, (n, t) in enumerate(parameters + statistics):
            t.copy_(fill(n, k, tuple(t.shape)))
    k = max(range(1000, 1016), key=lambda k: margin(model, make_input(k, size)))
    x = make_input(k, size)
    with torch.no_grad():
        for i, (n, t) in enumerate(statistics):  # As before the search.
            t.copy_(fill(n, len(parameters) + i, tuple(t.shape)))
    model.eval()
    with torch.no_grad():
        evaluation = model(x).numpy()
    model.train()
    logits = model(x)
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(BATCH))
    loss.backward()
    save_file(
        {"evaluation.logits": evaluation, "training.logits": logits.detach().numpy(),
         "training.loss": loss.detach().reshape(1).numpy(), "training.gradients": summary(p.grad for _, p in parameters),
         "training.running": summary(b for _, b in statistics)},
        f"{name}-{stem}.safetensors",
        {"made_by": "tests/parity/models/make_goldens.py", "torch": torch.__version__,
         "torchvision": torchvision.__version__, "numpy": np.__version__, "size": str(size), "input": str(k),
         "parameters": " ".join(n for n, _ in parameters), "statistics": " ".join(n for n, _ in statistics)})
    print(name, stem, "input", k, "margin", margin(model, x), "logits", logits[0].tolist(), "evaluation", evaluation[0].tolist(), "loss", loss.item())


def main():
    torch.set_num_threads(1)
    for name in ("resnet18", "resnet34", "resnet50"):
        for stem in ("imagenet", "small"):
            make(name, stem)


if __name__ == "__main__":
    main()
