"""All-reduce of PyTorch's Gloo between two processes of this host: milliseconds, as bench_reduce.cc."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time


def rank_main(rank, ranks, store, floats, rounds):
    import torch
    import torch.distributed as dist
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    x = torch.ones(floats)
    times = []
    for r in range(-3, rounds):
        x.fill_(1.0)
        dist.barrier()
        start = time.perf_counter()
        dist.all_reduce(x)
        took = torch.tensor([time.perf_counter() - start], dtype=torch.float64)
        dist.all_reduce(took, op=dist.ReduceOp.MAX)
        if r >= 0:
            times.append(took.item() * 1e3)
    assert x[-1].item() == ranks
    if rank == 0:
        print(json.dumps({"value": statistics.median(times), "unit": "ms"}), flush=True)
    os._exit(0)  # Gloo's teardown may hang.


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--floats", type=int, default=11_700_000)
    p.add_argument("--rounds", type=int, default=10)
    p.add_argument("--ranks", type=int, default=2)
    p.add_argument("--rank", type=int, default=-1)
    p.add_argument("--store", default="")
    a = p.parse_args()
    if a.rank >= 0:
        rank_main(a.rank, a.ranks, a.store, a.floats, a.rounds)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory() as d:
        children = [subprocess.Popen([sys.executable, __file__, "--rank", str(r), "--ranks", str(a.ranks), "--store",
                                      d + "/store", "--floats", str(a.floats), "--rounds", str(a.rounds)])
                    for r in range(a.ranks)]
        sys.exit(max(abs(c.wait()) for c in children))


if __name__ == "__main__":
    main()
