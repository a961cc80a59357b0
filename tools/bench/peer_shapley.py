"""shap's KernelExplainer (l1_reg = 0) against Dermis' estimator `leverage`: per image, the mean squared error over the seeds
of each, against the same reference, on the same function: bench_shapley.cc runs the network for both sides.

Prints one JSON line: ratios (ours / shap's) by budget and image, and how exact the reference is.
"""
import argparse
import json
import subprocess
import sys

import numpy as np
import shap


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
            raise SystemExit("bench_shapley ended")
        return np.frombuffer(answer, kind)

    def next(self):
        return int(self.ask("next", kind=np.int32)[0])

    def run(self, masks):
        masks = np.ascontiguousarray(masks, np.uint8)
        return self.ask(f"run {len(masks)}", masks.tobytes(), count=len(masks))

    def ours(self, budget, seed):
        return self.ask(f"ours {budget} {seed}", count=self.players)

    def reference(self):
        return np.split(self.ask("reference", count=2 * self.players), 2)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--count", type=int, default=2)    # Images.
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--players", type=int, required=True)
    p.add_argument("command", nargs=argparse.REMAINDER)
    a = p.parse_args()
    game = Game(a.command[1:] + ["--players", str(a.players)], a.players)
    budgets = [512, 2 * a.players + 2048, 8192]
    ratios = {budget: [] for budget in budgets}
    relative = {budget: [] for budget in budgets}
    sharpness = []
    for _ in range(a.count):
        image = game.next()
        if image < 0:
            break
        expected, errors = game.reference()
        for budget in budgets:
            ours = [game.ours(budget, seed) for seed in range(1, a.seeds + 1)]
            theirs = []
            for seed in range(1, a.seeds + 1):
                np.random.seed(seed)
                explainer = shap.KernelExplainer(game.run, np.zeros((1, a.players)))
                # Its two ends are not in nsamples; ours are in the budget.
                theirs.append(explainer.shap_values(np.ones((1, a.players)), nsamples=budget - 2, l1_reg=0,
                                                    silent=True)[0])
            squared = [np.mean([np.sum((values - expected) ** 2) for values in side]) for side in (ours, theirs)]
            ratios[budget].append(squared[0] / squared[1])
            relative[budget].append(np.sqrt(squared / np.sum(expected ** 2)).tolist())
            if budget == budgets[-1]:
                sharpness.append(float(np.sqrt(np.sum(errors ** 2) / squared[0])))
        print(f"image {image}: " + ", ".join(
            f"{budget}: {ratios[budget][-1]:.3f} (errors {relative[budget][-1][0]:.3f}, {relative[budget][-1][1]:.3f})"
            for budget in budgets) + f"; reference {sharpness[-1]:.2f} of ours", file=sys.stderr, flush=True)
    mean = lambda values: float(np.exp(np.mean(np.log(values))))
    print(json.dumps({"value": mean([r for of_budget in ratios.values() for r in of_budget]),
                      "budgets": {budget: mean(values) for budget, values in ratios.items()},
                      "images": len(sharpness), "ratios": ratios, "reference": sharpness}))


if __name__ == "__main__":
    main()
