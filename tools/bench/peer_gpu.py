"""Networks in PyTorch on a GPU: images a second, as dermis_bench_gpu. Each variant is tried and the
best is named: eager, and the whole step as a CUDA graph; with --compile torch.compile, too."""
import argparse
import json
import time

import torch
from torch import nn

from peer_model import network

torch.backends.cudnn.benchmark = True


def rate(step, count, batch):
    for k in range(10):
        step(k)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for k in range(count):
        step(k)
    torch.cuda.synchronize()
    return count * batch / (time.perf_counter() - start)


def graphed(step):
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for k in range(5):
            step(k)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(0)
    return lambda k: graph.replay()


def train_step(name, size, batch, bf16, compiled):
    model = network(name).cuda().to(memory_format=torch.channels_last)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=.9, weight_decay=1e-4, capturable=True)
    images = torch.randint(0, 256, (batch, 3, size, size), device="cuda", dtype=torch.uint8)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.arange(batch, device="cuda") % 2
    loss = nn.CrossEntropyLoss()
    run = torch.compile(model) if compiled else model

    def step(k):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            out = run((images.float() - 127.5) / 73.9)
        loss(out.float(), labels).backward()
        optimizer.step()
    return step


def forward_step(name, size, batch, bf16, compiled):
    model = network(name).cuda().to(memory_format=torch.channels_last).eval()
    host = torch.randn(batch, size, size, 3).pin_memory()
    if bf16:
        model = model.bfloat16()
    there = torch.empty(batch, size, size, 3, device="cuda")
    run = torch.compile(model) if compiled else model

    def step(k):
        with torch.no_grad():
            there.copy_(host, non_blocking=True)
            x = there.permute(0, 3, 1, 2)
            run(x.bfloat16() if bf16 else x)
    return step


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--what", choices=["train", "forward"], required=True)
    p.add_argument("--networks", required=True)
    p.add_argument("--steps", type=int, default=100)
    p.add_argument("--tf32", action="store_true")
    p.add_argument("--compile", action="store_true")
    a = p.parse_args()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = a.tf32
    make = train_step if a.what == "train" else forward_step
    for name in a.networks.split(","):
        model, size, batch, _, precision = name.split(":")
        rates = {}
        for compiled in [False, True] if a.compile else [False]:
            arguments = (model, int(size), int(batch), precision == "bf16", compiled)
            label = "compiled" if compiled else "eager"
            try:
                step = make(*arguments)
                rates[label] = rate(step, a.steps, int(batch))
                rates[label + " graph"] = rate(graphed(step), a.steps, int(batch))
            except Exception as error:
                rates[label + " error"] = str(error)[:200]
        print(json.dumps({"what": a.what, "network": name, "tf32": a.tf32, **rates}), flush=True)


if __name__ == "__main__":
    main()
