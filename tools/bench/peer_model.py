"""A network in PyTorch, in the variants that it has: images a second, as bench_model.cc."""
import argparse
import json
import time

import numpy as np
import torch
from torch import nn


def block(i, o, p):
    return [nn.Conv2d(i, o, 3, padding=1), nn.ELU(), nn.BatchNorm2d(o, eps=1e-3, momentum=0.01),
            nn.Conv2d(o, o, 3, padding=1), nn.ELU(), nn.BatchNorm2d(o, eps=1e-3, momentum=0.01),
            nn.MaxPool2d(2), nn.Dropout(p)]


def network(name):
    if name == "seed_cnn":
        return nn.Sequential(*block(3, 32, .2), *block(32, 64, .3), *block(64, 128, .4), nn.Flatten(),
                             nn.Linear(128 * 4 * 4, 2))
    import torchvision
    return getattr(torchvision.models, name)(num_classes=2)


# Contiguous and eager; the others have channels last.
VARIANTS = ["eager", "channels-last", "JIT-frozen", "compiled"]


def layout_of(variant):
    return torch.contiguous_format if variant == "eager" else torch.channels_last


def kind_of(precision):
    return torch.bfloat16 if precision == "bf16" else torch.float32


def prepare(threads):
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    torch.set_flush_denormal(True)  # As ours: denormals cost a factor of twenty, and depend on the weights.


def forward(name, precision, variant, batch, size):
    """The network's forward pass as a variant runs it, on images [N, 3, H, W]: bf16 means bf16 weights. Fails where its
    logits are not those of eager fp32."""
    kind, layout = kind_of(precision), layout_of(variant)
    model = network(name).eval()
    example = torch.randn(batch, 3, size, size)
    with torch.no_grad():
        expected = model(example)
    model = model.to(kind, memory_format=layout)
    convert = lambda x: x.to(kind, memory_format=layout)
    # Freezing wants constants, not inference's tensors.
    without_gradients = torch.no_grad if variant in ("JIT-frozen", "compiled") else torch.inference_mode
    with torch.no_grad():
        if variant == "JIT-frozen":
            model = torch.jit.trace(model, convert(example))
            model = torch.jit.optimize_for_inference(torch.jit.freeze(model))
        elif variant == "compiled":
            # Constant weights: convolutions take their own layout and their activation.
            from torch._inductor import config
            config.freezing = True
            model = torch.compile(model, dynamic=False)   # One graph a batch size: the last batch is smaller.

    def run(x):
        with without_gradients():
            return model(convert(x))
    error = float((run(example).float() - expected).abs().max() / expected.abs().max())
    if not error < (1e-4 if precision == "fp32" else 0.1):
        raise RuntimeError(f"{variant}, {precision}: logits differ from eager fp32 by {error:.2g} of the largest")
    return run


def classifier(name, precision, threads, variant, batch, size):
    """The network as a package calls it: logits of images [N, H, W, 3], 0..255."""
    prepare(threads)
    run = forward(name, precision, variant, batch, size)

    def classify(images):
        x = torch.from_numpy(np.asarray(images, dtype=np.float32)).permute(0, 3, 1, 2).to(kind_of(precision))
        return run((x - 127.5) / 73.9).float()
    return classify


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--what", choices=["train", "forward"], required=True)
    p.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--batches", type=int, default=20)
    p.add_argument("--model", default="seed_cnn")
    p.add_argument("--size", type=int, default=32)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--variant", choices=VARIANTS, default="channels-last")
    a = p.parse_args()
    prepare(a.threads)
    n = 4 * a.batch
    images = torch.randn(n, 3, a.size, a.size).to(memory_format=layout_of(a.variant))
    labels = torch.arange(n) % 2
    if a.what == "train":
        if a.variant == "JIT-frozen":
            p.error("a frozen network cannot be trained")
        model = network(a.model).to(memory_format=layout_of(a.variant))
        decay = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
        known = {id(w) for w in decay}
        rest = [w for w in model.parameters() if id(w) not in known]
        optimizer = torch.optim.RMSprop([{"params": decay, "weight_decay": 1e-4}, {"params": rest}], lr=1e-3, alpha=.9)
        loss = nn.CrossEntropyLoss()
        model.train()
        run = torch.compile(model) if a.variant == "compiled" else model

        def step(k):
            i = k * a.batch % n
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=a.precision == "bf16"):
                out = run(images[i:i + a.batch])
            loss(out.float(), labels[i:i + a.batch]).backward()
            optimizer.step()
        count = a.steps
    else:
        run = forward(a.model, a.precision, a.variant, a.batch, a.size)
        images = images.to(kind_of(a.precision))

        def step(k):
            i = k * a.batch % n
            run(images[i:i + a.batch])
        count = a.batches
    for k in range(3):
        step(k)
    start = time.perf_counter()
    for k in range(count):
        step(k)
    print(json.dumps({"value": count * a.batch / (time.perf_counter() - start), "unit": "images/s"}))


if __name__ == "__main__":
    main()
