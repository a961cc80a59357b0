#!/usr/bin/env python3
"""Goldens from real PyTorch for the parity tests here: run in an environment with torch, safetensors and numpy, from this folder.

    python make_goldens.py

Writes seed_cnn.safetensors: a small input, and what PyTorch makes of it with weights that both sides draw from
the same formula (no weights are stored):
  input, logits          forward in evaluation form, 8 x 8 inputs, 2 classes, float32
  training.logits        forward with batch statistics
  training.gradient.*    sums and norms of every parameter's gradient of the mean cross entropy
  rmsprop.*              twenty steps of torch.optim.RMSprop in Keras' form
and optimizers.safetensors: twenty steps of each optimiser, schedules, losses, clipping and the moving average.
The formula: element i of tensor number k (in the order of the network) is
  scale * sin(0.37 * i + k), plus 1 for scales of batch norm and for running variances.
"""

import numpy as np
import torch
from safetensors.numpy import save_file

SIZE, CLASSES, BATCH = 8, 2, 4


def formula(k, count, scale, offset):
    i = np.arange(count, dtype=np.float64)
    return (offset + scale * np.sin(0.37 * i + k)).astype(np.float32)


def tensor_list():
    """(name, shape, scale, offset), in the order of the network; k counts them from 0."""
    out, channels = [], 3
    for layer, width in enumerate([32, 32, 64, 64, 128, 128], 1):
        out += [(f"conv{layer}.weight", (width, channels, 3, 3), 1.5 / np.sqrt(9 * channels), 0.0),
                (f"conv{layer}.bias", (width,), 0.1, 0.0),
                (f"bn{layer}.weight", (width,), 0.2, 1.0),
                (f"bn{layer}.bias", (width,), 0.1, 0.0)]
        channels = width
    out += [("dense.weight", (CLASSES, channels * (SIZE // 8) ** 2), 0.1, 0.0), ("dense.bias", (CLASSES,), 0.1, 0.0)]
    for layer, width in enumerate([32, 32, 64, 64, 128, 128], 1):
        out += [(f"bn{layer}.running_mean", (width,), 0.3, 0.0), (f"bn{layer}.running_var", (width,), 0.4, 1.0)]
    return out


def network(values, training):
    def forward(x):
        for layer in range(1, 7):
            x = torch.nn.functional.conv2d(x, values[f"conv{layer}.weight"], values[f"conv{layer}.bias"], padding=1)
            x = torch.nn.functional.elu(x)
            x = torch.nn.functional.batch_norm(
                x, None if training else values[f"bn{layer}.running_mean"],
                None if training else values[f"bn{layer}.running_var"],
                values[f"bn{layer}.weight"], values[f"bn{layer}.bias"], training=training, eps=1e-3)
            if layer % 2 == 0:
                x = torch.nn.functional.max_pool2d(x, 2)
        return torch.nn.functional.linear(x.flatten(1), values["dense.weight"], values["dense.bias"])
    return forward


def rmsprop(tensors):
    """Keras' form: epsilon outside the root, rate / (1 + decay * step), L2 as weight_decay = 2 lambda."""
    n, steps = 32, 20
    weights = torch.tensor(formula(100, n, 0.5, 0.0), requires_grad=True)
    optimizer = torch.optim.RMSprop([weights], lr=1e-3, alpha=0.9, eps=1e-7, weight_decay=2e-4)
    tensors["rmsprop.initial"] = weights.detach().numpy().copy()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 / (1 + 1e-2 * step)
        weights.grad = torch.tensor(formula(200 + step, n, 0.01, 0.0))
        optimizer.step()
    tensors["rmsprop.final"] = weights.detach().numpy().copy()
    tensors["rmsprop.square"] = optimizer.state[weights]["square_avg"].numpy().copy()


def optimizers(tensors):
    """<case>.final: weights after twenty steps with the formula's gradients."""
    n, steps = 32, 20

    def run(name, make, clip=None, average=None):
        weights = torch.nn.Parameter(torch.tensor(formula(100, n, 0.5, 0.0)))
        module = torch.nn.Module()
        module.weights = weights
        optimizer = make(weights)
        if average is not None:
            average = torch.optim.swa_utils.AveragedModel(
                module, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(average))
        for step in range(steps):
            weights.grad = torch.tensor(formula(200 + step, n, 0.01 * (1 + step), 0.0))
            if clip is not None:
                torch.nn.utils.clip_grad_norm_([weights], clip)
            optimizer.step()
            if average is not None:
                average.update_parameters(module)
        tensors[name + ".final"] = weights.detach().numpy().copy()
        if average is not None:
            tensors[name + ".average"] = average.module.weights.detach().numpy().copy()

    optim = torch.optim
    run("sgd", lambda w: optim.SGD([w], lr=0.1))
    run("sgd_momentum", lambda w: optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=1e-2))
    run("sgd_nesterov", lambda w: optim.SGD([w], lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2))
    run("rmsprop", lambda w: optim.RMSprop([w], lr=1e-3, alpha=0.9, eps=1e-7, weight_decay=2e-2))
    run("adamw", lambda w: optim.AdamW([w], lr=1e-2, betas=(0.9, 0.99), weight_decay=0.05))
    run("sgd_clipped", lambda w: optim.SGD([w], lr=0.1, momentum=0.9), clip=0.2)
    run("sgd_average", lambda w: optim.SGD([w], lr=0.1, momentum=0.9), average=0.8)

    # Rates over 12 epochs of 5 steps.
    def rates(name, make):
        optimizer = optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        schedule, per_epoch = make(optimizer)
        out = []
        for step in range(60):
            out.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if not per_epoch or (step + 1) % 5 == 0:
                schedule.step()
        tensors["rates." + name] = np.array(out)

    lr = optim.lr_scheduler
    rates("step", lambda o: (lr.StepLR(o, 4, 0.3), True))
    rates("cosine", lambda o: (lr.CosineAnnealingLR(o, 60, eta_min=0.01), False))
    rates("warmup_cosine", lambda o: (lr.SequentialLR(o, [lr.LinearLR(o, 1 / 10, 1, 9), lr.CosineAnnealingLR(o, 50)],
                                                      [10]), False))

    # Losses of 6 images, 3 classes.
    labels = torch.tensor([0, 1, 2, 2, 1, 1])
    weight = torch.tensor([0.5, 1.0, 3.0])
    for name, options in [("plain", {}), ("smoothed", {"label_smoothing": 0.1}), ("weighted", {"weight": weight}),
                          ("both", {"weight": weight, "label_smoothing": 0.2})]:
        logits = torch.tensor(formula(400, 18, 2.0, 0.0).reshape(6, 3), requires_grad=True)
        loss = torch.nn.functional.cross_entropy(logits, labels, **options)
        loss.backward()
        tensors[f"loss.{name}"] = loss.detach().reshape(1).numpy()
        tensors[f"loss.{name}.gradient"] = logits.grad.numpy().copy()


def single(tensors):
    return {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    values = {name: torch.tensor(formula(k, int(np.prod(shape)), scale, offset).reshape(shape))
              for k, (name, shape, scale, offset) in enumerate(tensor_list())}
    x = torch.tensor(formula(300, BATCH * 3 * SIZE * SIZE, 1.5, 0.0).reshape(BATCH, SIZE, SIZE, 3))
    tensors = {"input": x.numpy()}  # NHWC, as Dermis takes it.
    nchw = x.permute(0, 3, 1, 2)
    with torch.no_grad():
        tensors["logits"] = network(values, training=False)(nchw).numpy()
    trainable = {k: v.requires_grad_(True) for k, v in values.items() if "running" not in k}
    logits = network(values, training=True)(nchw)
    tensors["training.logits"] = logits.detach().numpy()
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(BATCH) % CLASSES)
    tensors["training.loss"] = loss.detach().reshape(1).numpy()
    loss.backward()
    for name, value in trainable.items():
        g = value.grad.double()
        tensors["training.gradient." + name] = np.array(
            [g.norm().item(), (g.flatten() * torch.cos(torch.arange(g.numel(), dtype=torch.float64))).sum().item()])
    rmsprop(tensors)
    made_by = {"made_by": "tests/parity/training/make_goldens.py", "torch": torch.__version__, "numpy": np.__version__}
    save_file(single(tensors), "seed_cnn.safetensors", made_by)
    tensors = {}
    optimizers(tensors)
    save_file(single(tensors), "optimizers.safetensors", made_by)


if __name__ == "__main__":
    main()
