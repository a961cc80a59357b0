#!/usr/bin/env python3
"""Goldens of the gradient methods, from shap, captum and grad-cam, for gradients_parity_test.cc. Run by hand, rarely:

    python3 -m venv VENV && VENV/bin/pip install shap==0.51.0 numpy safetensors && VENV/bin/pip install --no-deps captum==0.9.0 grad-cam==1.5.7
    VENV/bin/python make_gradient_goldens.py            (with torch 2.11.0 and what these ask for)

Writes golden/gradients-<network>.safetensors, in double, of images and weights that both sides draw from the same
formula (none are stored). Networks: seed_cnn, and resnet18 and resnet50 with the small stem, which has no overlapping
pool: there shap and captum are right. Inputs are 16 x 16, two classes.
  deep_shap.<output>     [2, 16, 16, 3]   shap.DeepExplainer, images 0 and 1 against images 2 .. 9 (of resnet50: the margin)
  reference.<output>     [1]              its expected value
  integrated             [16, 16, 3]      captum.IntegratedGradients of the margin of image 0, 50 points of gausslegendre,
                                          baseline: the colour BASELINE
  cam.<kind>.<layer>     [h, w]           grad-cam's maps of the margin of image 0 before ReLU, scaling and resizing
  shown.<kind>.<layer>   [16, 16]         the same after ReLU, scaling to 0..1 and resizing to the image's size, in float as
                                          grad-cam has them; what it returns has been scaled to 0..1 once more
  float.<any but shown>   [1]              how far the package itself is from that when it works in float, over the largest
                                          value: ReLU's kink and Grad-CAM++'s small denominators magnify rounding
The formula: element i of tensor number k has v = 2 hash(i, k) - 1 in [-1, 1), and is by the tensor's kind
  sqrt(6 / fan_in) v    weight of a convolution          0.1 v             bias of one
  1 + 0.3 v             scale of a batch norm            0.2 v             its shift, and a running mean
  1 + 0.4 v             running variance                 0.4 sqrt(3 / fan_in) v, 0.1 v   weight and bias of the last layer
k counts parameters, then statistics, from 0, in the order of worker/models. Byte i (HWC) of image n is
floor(256 hash(i, 1000 + n)); input = (byte - 120) / (50 + 1e-7).

And golden/cams.safetensors: <kind> [4, 6], grad-cam's maps of given maps and gradients of 5 channels, elements
2 hash(i, 2000) - 1 and 2 hash(i, 2001) - 1: the formulas alone, both sides of the same bits.
"""

import captum.attr
import cv2
import numpy as np
import pytorch_grad_cam
import shap
import torch
import torchvision
from pytorch_grad_cam.utils.image import scale_cam_image
from safetensors.numpy import save_file
from torch import nn

SIZE, MEAN, DEVIATION, BACKGROUND = 16, 120.0, 50.0, 8
BASELINE = (141.5, 120.25, 99.0)


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


def value(name, shape, v):
    if name.endswith("running_mean"):
        return 0.2 * v
    if name.endswith("running_var"):
        return 1 + 0.4 * v
    if len(shape) == 4:
        return np.sqrt(6 / np.prod(shape[1:])) * v
    if len(shape) == 2:
        return 0.4 * np.sqrt(3 / shape[1]) * v
    if "bn" in name or "downsample.1" in name:
        return 1 + 0.3 * v if name.endswith("weight") else 0.2 * v
    return 0.1 * v


def fill(model, rename):
    named = list(model.named_parameters())
    named += [(n, b) for n, b in model.named_buffers() if not n.endswith("num_batches_tracked")]
    with torch.no_grad():
        for k, (name, tensor) in enumerate(named):
            v = 2 * unit(k, tensor.numel()) - 1
            data = value(rename(name), tuple(tensor.shape), v).astype(np.float32).astype(np.float64)
            tensor.copy_(torch.tensor(data.reshape(tuple(tensor.shape))))
    return model.eval()


class SeedCnn(nn.Module):
    def __init__(self):
        super().__init__()
        channels = 3
        for k, width in enumerate([32, 32, 64, 64, 128, 128], 1):
            setattr(self, f"conv{k}", nn.Conv2d(channels, width, 3, padding=1))
            setattr(self, f"bn{k}", nn.BatchNorm2d(width, eps=1e-3))
            channels = width
        self.dense = nn.Linear(128 * (SIZE // 8) ** 2, 2)
        for k in range(1, 7):
            setattr(self, f"elu{k}", nn.ELU())
        for k in range(1, 4):
            setattr(self, f"pool{k}", nn.MaxPool2d(2))

    def forward(self, x):
        for k in range(1, 7):
            x = getattr(self, f"bn{k}")(getattr(self, f"elu{k}")(getattr(self, f"conv{k}")(x)))
            if k % 2 == 0:
                x = getattr(self, f"pool{k // 2}")(x)
        return self.dense(x.flatten(1))


class Bottleneck(torchvision.models.resnet.Bottleneck):
    """As Block."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.relu, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x):
        out = self.relu2(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        return self.relu3(self.bn3(self.conv3(out)) + (x if self.downsample is None else self.downsample(x)))


class Block(torchvision.models.resnet.BasicBlock):
    """torchvision's, each ReLU a module of its own and nothing in place: what shap and captum can explain."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.relu, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu2(out + (x if self.downsample is None else self.downsample(x)))


def resnet(block, blocks):
    model = torchvision.models.ResNet(block, blocks, num_classes=2)
    model.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    model.maxpool, model.relu = nn.Identity(), nn.ReLU()
    return model


class Margin(nn.Module):
    """The margin, or its sigmoid: for two classes the positive one's probability."""

    def __init__(self, model, probability):
        super().__init__()
        self.model, self.last = model, nn.Linear(2, 1, bias=False)
        self.sigmoid = nn.Sigmoid() if probability else nn.Identity()
        with torch.no_grad():
            self.last.weight.copy_(torch.tensor([[-1.0, 1.0]]))

    def forward(self, x):
        return self.sigmoid(self.last(self.model(x)))


def images(count):
    pixels = np.stack([np.floor(256 * unit(1000 + n, SIZE * SIZE * 3)).reshape(SIZE, SIZE, 3) for n in range(count)])
    return torch.tensor((pixels - MEAN) / (DEVIATION + 1e-7)).permute(0, 3, 1, 2).contiguous()


KINDS = {"grad_cam": pytorch_grad_cam.GradCAM, "grad_cam_plus_plus": pytorch_grad_cam.GradCAMPlusPlus,
         "hires_cam": pytorch_grad_cam.HiResCAM, "layer_cam": pytorch_grad_cam.LayerCAM}


def formulas():
    maps, gradient = ((2 * unit(k, 5 * 4 * 6) - 1).reshape(1, 5, 4, 6) for k in (2000, 2001))
    found = {}
    for kind, make in KINDS.items():
        with make(model=nn.Conv2d(1, 1, 1), target_layers=[]) as cam:
            found[kind] = np.ascontiguousarray(cam.get_cam_image(None, None, None, maps, gradient, False)[0])
    return found


def cams(model, layers, x):
    def margin(logits):
        return logits[1] - logits[0]
    found = {}
    for kind, make in KINDS.items():
        for name, layer in layers.items():
            with make(model=model, target_layers=[layer]) as cam:
                returned = cam(input_tensor=x, targets=[margin])[0]
                store = cam.activations_and_grads
                activations, gradients = store.activations[0].numpy(), store.gradients[0].numpy()
                map_ = cam.get_cam_image(x, layer, [margin], activations, gradients, False)[0]
                shown = cam.compute_cam_per_layer(x, [margin], False)[0][0, 0]
            assert np.abs(returned - scale_cam_image(shown[None])[0]).max() < 1e-6
            assert shown.max() > .5
            found[f"cam.{kind}.{name}"] = map_
            found[f"shown.{kind}.{name}"] = shown
            if kind == "grad_cam_plus_plus" and x.dtype == torch.float64:
                sums = activations[0].sum((1, 2), keepdims=True)
                pole = np.abs(1 + sums * gradients[0] / 2)[gradients[0] > 0].min()
                print("  grad_cam_plus_plus", name, (sums < 0).sum(), "channels sum to less than 0, a denominator is down to",
                      pole, "of what it is without them")
    return found


def make(name, model, layers, rename, outputs=("margin", "logit", "probability")):
    model = fill(model.double(), rename)
    x = images(2 + BACKGROUND)
    explained, background = x[:2], x[2:]
    tensors = {}
    for output in outputs:
        f = model if output == "logit" else Margin(model, output == "probability").double().eval()
        explainer = shap.DeepExplainer(f, background)
        phi = explainer.shap_values(explained, check_additivity=False)[..., -1]
        tensors[f"deep_shap.{output}"] = np.moveaxis(phi, 1, -1)
        tensors[f"reference.{output}"] = np.array([np.atleast_1d(explainer.expected_value)[-1]])
        with torch.no_grad():
            change = f(explained)[:, -1].numpy() - tensors[f"reference.{output}"]
        print(name, output, "shap's residual", np.abs(change - phi.reshape(2, -1).sum(1)), "of", change)
        deep = captum.attr.DeepLiftShap(f).attribute(explained, background, target=f(explained).shape[1] - 1)
        deep = deep.detach().numpy()
        print("  captum against shap", np.abs(deep - phi).max() / np.abs(phi).max(), "captum's residual",
              np.abs(change - deep.reshape(2, -1).sum(1)))
    tensors.update(inner(model, layers, explained[:1]))
    single = inner(model.float(), layers, explained[:1].float())
    for key, golden in list(tensors.items()):
        if key in single and not key.startswith("shown."):
            tensors[f"float.{key}"] = np.array([np.abs(single[key] - golden).max() / np.abs(golden).max()])
            if tensors[f"float.{key}"] > 2e-5:
                print("  float and double are apart by", tensors[f"float.{key}"], "of the largest value:", key)
    for key in tensors:
        if not key.startswith("shown."):
            tensors[key] = np.asarray(tensors[key], np.float64)
    write(f"golden/gradients-{name}.safetensors", tensors)


def inner(model, layers, x):
    """Integrated gradients and class activation maps of one image, in the precision of the model."""
    baseline = torch.tensor([(c - MEAN) / (DEVIATION + 1e-7) for c in BASELINE]).reshape(1, 3, 1, 1)
    baseline = baseline.to(x.dtype).expand(1, 3, SIZE, SIZE)
    integrated = captum.attr.IntegratedGradients(Margin(model, False).to(x.dtype).eval()).attribute(
        x, baselines=baseline, target=0, n_steps=50, method="gausslegendre")
    return {"integrated": np.moveaxis(integrated[0].detach().numpy(), 0, -1),
            **cams(model, {k: getattr(model, v) for k, v in layers.items()}, x)}


def write(path, tensors):
    metadata = {"made_by": "tests/parity/explain/make_gradient_goldens.py", "torch": torch.__version__,
                "shap": shap.__version__, "captum": "0.9.0", "grad-cam": "1.5.7", "opencv": cv2.__version__,
                "numpy": np.__version__}
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path, metadata)


def main():
    torch.set_num_threads(1)
    layers = {f"conv{k}": f"elu{k}" for k in range(1, 7)}
    make("seed_cnn", SeedCnn(), {**layers, "pool3": "pool3"}, lambda name: name)
    stages = {"conv1": "relu", **{f"layer{k}": f"layer{k}" for k in range(1, 5)}}
    make("resnet18", resnet(Block, [2, 2, 2, 2]), stages, lambda name: name)
    make("resnet50", resnet(Bottleneck, [3, 4, 6, 3]), stages, lambda name: name, outputs=("margin",))
    write("golden/cams.safetensors", formulas())


if __name__ == "__main__":
    main()
