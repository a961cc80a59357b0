"""shap's KernelExplainer (l1_reg = 0) against Dermis' estimator `leverage`, on the same function: bench_shapley.cc runs the
network for both sides, and gives the reference.

errors: per image, the mean squared error over the seeds of each. Prints one JSON line: ratios (ours / shap's) by budget and
image, and how exact the reference is.

times: per image, the fewest masks of a ladder with which ours has no larger mean squared error over the seeds than shap with
its own default; then what an explanation takes of each, in turn. Both judge by the reference in fp32. shap's model is then in
PyTorch: eager fp32 that is given all masks at once, as shap does, or batches of 64 in the same precision as ours. It sees an
image of noise at the model's size with stripes for superpixels, composed in one numpy expression: what its users do, and the
cheaper way. Ratios are 0 where ours never got there.
"""
import argparse
import functools
import json
import multiprocessing
import statistics
import subprocess
import sys
import time

import numpy as np
import shap

LADDER = [2 * round(32 * 2 ** (k / 2)) for k in range(15)]   # 64 .. 8192 masks, by steps of sqrt 2.
SIZE, BATCH = 32, 64


class Game:
    """The other end of bench_shapley.cc's commands."""

    def __init__(self, command, players):
        self.players = players
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, command, data=b"", kind=np.float64, count=1):
        self.process.stdin.write(command.encode() + b"\n" + data)
        self.process.stdin.flush()
        answer = self.process.stdout.read(np.dtype(kind).itemsize * count)
        if len(answer) != np.dtype(kind).itemsize * count:
            raise RuntimeError("bench_shapley ended")   # Not an exit, for which a pool would wait.
        return np.frombuffer(answer, kind)

    def next(self):
        return int(self.ask("next", kind=np.int32)[0])

    def run(self, masks):
        masks = np.ascontiguousarray(masks, np.uint8)
        return self.ask(f"run {len(masks)}", masks.tobytes(), count=len(masks))

    def ours(self, budget, seed, precision="fp32"):
        return self.ask(f"ours {precision} {budget} {seed}", count=self.players)

    def seconds(self, budget, seed, precision):
        return float(self.ask(f"time {precision} {budget} {seed}")[0])

    def reference(self):
        return np.split(self.ask("reference", count=2 * self.players), 2)


def kernel_shap(function, players, nsamples="auto"):
    explainer = shap.KernelExplainer(function, np.zeros((1, players)))
    return explainer.shap_values(np.ones((1, players)), nsamples=nsamples, l1_reg=0, silent=True)[0]


def squared(expected, seeds, values_of):
    """Mean over the seeds of the squared error."""
    errors = []
    for seed in range(1, seeds + 1):
        np.random.seed(seed)
        errors.append(np.sum((values_of(seed) - expected) ** 2))
    return float(np.mean(errors))


def errors(a, process):
    """Of the images of one of the processes: {budget: [ours, shap's] squared}, and the reference's error over ours."""
    game = Game(a.command + ["--first", str(process), "--stride", str(a.processes)], a.players)
    found = []
    for _ in range(len(range(process, a.count, a.processes))):
        image = game.next()
        if image < 0:
            break
        expected, inexact = game.reference()
        pairs = {}
        for budget in a.budgets:
            # Its two ends are not in nsamples; ours are in the budget.
            pairs[budget] = [squared(expected, a.seeds, lambda seed: game.ours(budget, seed)),
                             squared(expected, a.seeds, lambda _: kernel_shap(game.run, a.players, budget - 2))]
        found.append((pairs, float(np.sqrt(np.sum(inexact ** 2) / pairs[a.budgets[-1]][0]))))
        size = np.sum(expected ** 2)
        print(f"image {image}: " + ", ".join(
            f"{budget}: {o / t:.3f} (errors {np.sqrt(o / size):.3f}, {np.sqrt(t / size):.3f})"
            for budget, (o, t) in pairs.items()) + f"; reference {found[-1][1]:.2f} of ours", file=sys.stderr, flush=True)
    return found


def compare_errors(a):
    a.budgets = [512, 2 * a.players + 2048, 8192]
    with multiprocessing.Pool(a.processes) as pool:
        found = sum(pool.map(functools.partial(errors, a), range(a.processes), chunksize=1), [])
    ratios = {budget: [pairs[budget][0] / pairs[budget][1] for pairs, _ in found] for budget in a.budgets}
    mean = lambda values: float(np.exp(np.mean(np.log(values))))
    return {"value": mean([r for of_budget in ratios.values() for r in of_budget]),
            "budgets": {budget: mean(values) for budget, values in ratios.items()},
            "images": len(found), "ratios": ratios, "reference": [inexact for _, inexact in found]}


def torch_explanations(a):
    """Seconds of an explanation by shap, by how its model is run."""
    from peer_model import VARIANTS, classifier
    noise = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    stripes = (np.arange(SIZE * SIZE) * a.players // (SIZE * SIZE)).reshape(SIZE, SIZE)

    def seconds(classify, batch):
        def margins(z):
            found = []
            for first in range(0, len(z), batch or len(z)):
                shown = z[first:first + (batch or len(z))].astype(bool)
                rows = len(shown)
                if batch and 1 < rows < batch:   # One shape, so one compilation.
                    shown = np.resize(shown, (batch, a.players))
                logits = classify(np.where(shown[:, stripes, None], noise, np.uint8(128)))
                found.append((logits[:, 1] - logits[:, 0]).numpy()[:rows])
            return np.concatenate(found)
        start = time.perf_counter()
        kernel_shap(margins, a.players)
        return time.perf_counter() - start
    how = {"package": functools.partial(seconds, classifier("seed_cnn", "fp32", a.threads, "channels-last", BATCH, SIZE), 0)}
    for precision in ("fp32", "bf16"):
        for name in VARIANTS:
            how[f"{precision}, {name}"] = functools.partial(
                seconds, classifier("seed_cnn", precision, a.threads, name, BATCH, SIZE), BATCH)
    return how


def compare_times(a):
    theirs = torch_explanations(a)
    for explain in theirs.values():
        explain()   # Compiles, warms up.
    game = Game(a.command + ["--threads", str(a.threads)], a.players)
    found = []
    for _ in range(a.count):
        image = game.next()
        if image < 0:
            break
        expected, _ = game.reference()
        goal = squared(expected, a.seeds, lambda _: kernel_shap(game.run, a.players))
        budgets = {precision: next((budget for budget in LADDER if squared(
            expected, a.seeds, lambda seed: game.ours(budget, seed, precision)) <= goal), None) for precision in ("fp32", "bf16")}
        times = {name: [] for name in [*budgets, *theirs]}
        for turn in range(a.turns):
            for precision, budget in budgets.items():
                times[precision].append(game.seconds(budget, turn + 1, precision) if budget else float("inf"))
            for name, explain in theirs.items():
                times[name].append(explain())
        found.append({"image": image, "budgets": budgets, "times": times})
        print(f"image {image}: masks {budgets}, " + ", ".join(
            f"{name} {statistics.median(of):.3f} s" for name, of in times.items()), file=sys.stderr, flush=True)
    median = lambda of: statistics.median(of(one) for one in found)
    names = [*theirs]
    return {"value": {name: median(lambda one: statistics.median(one["times"][name])) for name in ["fp32", "bf16", *names]},
            "ratios": {precision: {name: median(lambda one: statistics.median(
                t / o for t, o in zip(one["times"][name], one["times"][precision]))) for name in names}
                for precision in ("fp32", "bf16")}, "images": found}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--what", choices=["errors", "times"], default="errors")
    p.add_argument("--count", type=int, default=2)    # Images.
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--players", type=int, required=True)
    p.add_argument("--processes", type=int, default=1)   # Of errors, side by side: each takes its share of the images.
    p.add_argument("--threads", type=int, default=1)   # Of times, of both sides.
    p.add_argument("--turns", type=int, default=5)     # Of times, an image.
    p.add_argument("command", nargs=argparse.REMAINDER)
    a = p.parse_args()
    a.command = a.command[1:] + ["--players", str(a.players)]
    print(json.dumps(compare_errors(a) if a.what == "errors" else compare_times(a)))


if __name__ == "__main__":
    main()
