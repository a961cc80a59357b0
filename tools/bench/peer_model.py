"""A network in PyTorch, channels-last, eager or compiled: images a second, as bench_model.cc."""
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


def classifier(name, precision, threads, compiled):
    """The network as a package calls it: logits of images [N, H, W, 3], 0..255."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    torch.set_flush_denormal(True)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    model = network(name).to(memory_format=torch.channels_last).eval().to(kind)
    if compiled:
        from torch._inductor import config
        config.freezing = True
        model = torch.compile(model, dynamic=False)   # One graph a batch size: the last batch is smaller.

    def classify(images):
        x = torch.from_numpy(np.asarray(images, dtype=np.float32)).permute(0, 3, 1, 2).to(kind)
        x = (x - 127.5) / 73.9
        with torch.no_grad():
            return model(x).float()
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
    p.add_argument("--compile", action="store_true")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    torch.set_flush_denormal(True)  # As ours: denormals cost a factor of twenty, and depend on the weights.
    model = network(a.model).to(memory_format=torch.channels_last)
    bf16 = a.precision == "bf16"
    n = 4 * a.batch
    images = torch.randn(n, 3, a.size, a.size).to(memory_format=torch.channels_last)
    labels = torch.arange(n) % 2
    if a.what == "train":
        decay = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
        known = {id(w) for w in decay}
        rest = [w for w in model.parameters() if id(w) not in known]
        optimizer = torch.optim.RMSprop([{"params": decay, "weight_decay": 1e-4}, {"params": rest}], lr=1e-3, alpha=.9)
        loss = nn.CrossEntropyLoss()
        model.train()
        run = torch.compile(model) if a.compile else model

        def step(k):
            i = k * a.batch % n
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                out = run(images[i:i + a.batch])
            loss(out.float(), labels[i:i + a.batch]).backward()
            optimizer.step()
        count = a.steps
    else:
        model.eval()
        if bf16:
            model = model.to(torch.bfloat16)
            images = images.to(torch.bfloat16)
        if a.compile:
            # Constant weights: convolutions take their own layout and their activation.
            from torch._inductor import config
            config.freezing = True
        run = torch.compile(model) if a.compile else model

        def step(k):
            i = k * a.batch % n
            with torch.no_grad() if a.compile else torch.inference_mode():
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
