"""DeepSHAP of the seed network with the packages that users have, one image a call: explained images a second, as
bench_deep_shap.cc. The margin of made-up images in the network's eager form."""
import argparse
import json
import time
import warnings

import torch
from torch import nn

from peer_model import network


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--package", choices=["shap", "captum"], required=True)
    p.add_argument("--layout", choices=["contiguous", "channels-last"], default="contiguous")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--images", type=int, default=5)
    p.add_argument("--background", type=int, default=100)
    p.add_argument("--size", type=int, default=32)
    a = p.parse_args()
    layout = torch.channels_last if a.layout == "channels-last" else torch.contiguous_format
    warnings.filterwarnings("ignore")
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    torch.set_flush_denormal(True)
    margin = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        margin.weight.copy_(torch.tensor([[-1.0, 1.0]]))
    model = nn.Sequential(network("seed_cnn"), margin).to(memory_format=layout).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    images = torch.randn(a.images + 1, 3, a.size, a.size).to(memory_format=layout)
    background = torch.randn(a.background, 3, a.size, a.size).to(memory_format=layout)
    if a.package == "shap":
        import shap
        explainer = shap.DeepExplainer(model, background)
        explain = lambda x: explainer.shap_values(x)
    else:
        from captum.attr import DeepLiftShap
        explainer = DeepLiftShap(model)
        explain = lambda x: explainer.attribute(x, background, target=0)
    explain(images[:1])
    start = time.perf_counter()
    for i in range(1, a.images + 1):
        explain(images[i:i + 1])
    print(json.dumps({"value": a.images / (time.perf_counter() - start), "unit": "images/s"}))


if __name__ == "__main__":
    main()
