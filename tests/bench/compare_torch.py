"""The networks of `pipe bench` in PyTorch: do results agree, and how do times compare?

Written as PyTorch is best used: projections of attention in one product, fused
attention, AdamW in its fused form where there is one.  See compare-torch.
"""
import argparse
import ctypes
import gc
import json
import math
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time


def arguments():
    parser = argparse.ArgumentParser(prog="compare-torch", description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="unet, dit, mlp (default: all)")
    parser.add_argument("--pipe", help="the program")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (default: 3)")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions within a turn (default: 3)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out: compiling takes minutes")
    parser.add_argument("--check-only", action="store_true", help="compare results, time nothing")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--channels-last", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser


PARSER = arguments()
OPTIONS = PARSER.parse_args()  # before PyTorch is loaded: --help must not need it

import numpy
import torch
import torch.nn as nn
import torch.nn.functional as F

TOLERANCE = 1e-4  # relative, of output, loss and gradients
# A gradient that is nearly zero beside all others (a bias of attention's keys: exactly
# zero in theory) is rounding; it is compared with this share of the whole's norm.
FLOOR = 1e-3


def read_safetensors(path):
    with open(path, "rb") as f:
        data = f.read()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = torch.frombuffer(bytearray(data[8 + size + begin : 8 + size + end]), dtype=torch.float32)
        tensors[name] = values.reshape(entry["shape"]).clone()
    return tensors


# ---- networks: each parameter knows under which names its weights lie in pipe's file ----


class Network(nn.Module):
    convolutions = False  # mainly: the memory format matters

    def __init__(self):
        super().__init__()
        self.source = {}  # id of a parameter -> names there; several are laid side by side

    def named(self, module, *names):
        self.source[id(module.weight)] = [name + ".weight" for name in names]
        if module.bias is not None:
            self.source[id(module.bias)] = [name + ".bias" for name in names]
        return module

    def linear(self, inputs, outputs, *names):
        return self.named(nn.Linear(inputs, outputs), *names)

    def conv(self, inputs, outputs, kernel, name, stride=1, padding=None):
        padding = kernel // 2 if padding is None else padding
        return self.named(nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding), name)

    def norm(self, channels, name):
        return self.named(nn.GroupNorm(8, channels, eps=1e-5), name)

    def from_pipe(self, tensors, prefix=""):
        """The values of all parameters, in their order, in PyTorch's layouts."""
        result = []
        for p in self.parameters():
            parts = [tensors[prefix + name] for name in self.source[id(p)]]
            if p.dim() == 4:  # [kh, kw, in, out]
                parts = [t.permute(3, 2, 0, 1) for t in parts]
            elif p.dim() == 2:  # [in, out]
                parts = [t.t() for t in parts]
            result.append(torch.cat(parts).contiguous())
        return result


def time_features(t, width):
    half = width // 2
    angle = (t * 1000.0)[:, None] * torch.exp(torch.arange(half) * (-math.log(1e4) / half))
    return torch.cat([angle.sin(), angle.cos()], 1)


class Residual(nn.Module):
    def __init__(self, net, i, o, e, name):
        super().__init__()
        self.norm1, self.conv1 = net.norm(i, name + ".norm1"), net.conv(i, o, 3, name + ".conv1")
        self.embed = net.linear(e, o, name + ".embed")
        self.norm2, self.conv2 = net.norm(o, name + ".norm2"), net.conv(o, o, 3, name + ".conv2")
        self.skip = net.conv(i, o, 1, name + ".skip") if i != o else nn.Identity()

    def forward(self, x, e):
        h = self.conv1(F.silu(self.norm1(x))) + self.embed(e)[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    def __init__(self, net, c, name, heads=4):
        super().__init__()
        self.heads, self.norm = heads, net.norm(c, name + ".norm")
        self.qkv = net.linear(c, 3 * c, name + ".q", name + ".k", name + ".v")
        self.out = net.linear(c, c, name + ".out")

    def forward(self, x):
        n, c, h, w = x.shape
        y = self.norm(x).permute(0, 2, 3, 1).reshape(n, h * w, c)
        q, k, v = self.qkv(y).reshape(n, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        return x + self.out(y).transpose(1, 2).reshape(n, c, h, w)


class UNet(Network):
    images, convolutions = True, True

    def __init__(self, c=32, multipliers=(1, 2, 2), blocks=2):
        super().__init__()
        e, self.width = 4 * c, c
        self.time0, self.time1 = self.linear(c, e, "time.0"), self.linear(e, e, "time.1")
        self.inp = self.conv(1, c, 3, "in")
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        now, skips = c, [c]
        for level, m in enumerate(multipliers):
            for b in range(blocks):
                self.down.append(Residual(self, now, c * m, e, f"down.{level}.{b}"))
                now = c * m
                skips.append(now)
            if level + 1 < len(multipliers):
                self.down.append(self.conv(now, now, 3, f"down.{level}.down", stride=2))
                skips.append(now)
        self.mid0 = Residual(self, now, now, e, "mid.0")
        self.mid_attention = Attention(self, now, "mid.0.attention")
        self.mid1 = Residual(self, now, now, e, "mid.1")
        for level in reversed(range(len(multipliers))):
            for b in range(blocks + 1):
                self.up.append(Residual(self, now + skips.pop(), c * multipliers[level], e, f"up.{level}.{b}"))
                now = c * multipliers[level]
            if level > 0:
                self.up.append(self.conv(now, now, 3, f"up.{level}.up"))
        self.out_norm, self.out_conv = self.norm(now, "out.norm"), self.conv(now, 1, 3, "out.conv")

    def forward(self, x, t):
        e = F.silu(self.time1(F.silu(self.time0(time_features(t, self.width)))))
        h = self.inp(x)
        skips = [h]
        for m in self.down:
            h = m(h, e) if isinstance(m, Residual) else m(h)
            skips.append(h)
        h = self.mid1(self.mid_attention(self.mid0(h, e)), e)
        for m in self.up:
            if isinstance(m, Residual):
                h = m(torch.cat([h, skips.pop()], 1), e)
            else:
                h = m(F.interpolate(h, scale_factor=2, mode="nearest"))
        return self.out_conv(F.silu(self.out_norm(h)))


class DiTBlock(nn.Module):
    def __init__(self, net, d, heads, name):
        super().__init__()
        self.heads, self.modulation = heads, net.linear(d, 6 * d, name + ".modulation")
        self.qkv = net.linear(d, 3 * d, name + ".q", name + ".k", name + ".v")
        self.out = net.linear(d, d, name + ".out")
        self.fc1, self.fc2 = net.linear(d, 4 * d, name + ".fc1"), net.linear(4 * d, d, name + ".fc2")

    def forward(self, x, c):
        n, s, d = x.shape
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c)[:, None].chunk(6, -1)
        h = F.layer_norm(x, (d,), eps=1e-6) * (1 + scale1) + shift1
        q, k, v = self.qkv(h).reshape(n, s, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, s, d)
        x = x + gate1 * self.out(h)
        h = F.layer_norm(x, (d,), eps=1e-6) * (1 + scale2) + shift2
        return x + gate2 * self.fc2(F.gelu(self.fc1(h), approximate="tanh"))


class DiT(Network):
    images = True

    def __init__(self, d=256, depth=6, heads=4, patch=2):
        super().__init__()
        self.d, self.patch = d, patch
        self.time0, self.time1 = self.linear(256, d, "time.0"), self.linear(d, d, "time.1")
        self.embed = self.conv(1, d, patch, "patch", stride=patch, padding=0)
        self.blocks = nn.ModuleList(DiTBlock(self, d, heads, f"block.{k}") for k in range(depth))
        self.modulation = self.linear(d, 2 * d, "out.modulation")
        self.out = self.linear(d, patch * patch, "out.linear")

    def positions(self, side):
        half = self.d // 4
        angle = torch.arange(side)[:, None] * torch.exp(torch.arange(half) * (-math.log(1e4) / half))
        one = torch.cat([angle.sin(), angle.cos()], 1)  # [side, d / 2]
        grid = torch.cat([one[None].expand(side, -1, -1), one[:, None].expand(-1, side, -1)], 2)
        return grid.reshape(1, side * side, self.d)

    def forward(self, x, t):
        n, _, h, w = x.shape
        p, rows, columns = self.patch, h // self.patch, w // self.patch
        c = F.silu(self.time1(F.silu(self.time0(time_features(t, 256)))))
        y = self.embed(x).flatten(2).transpose(1, 2) + self.positions(rows)
        for block in self.blocks:
            y = block(y, c)
        shift, scale = self.modulation(c)[:, None].chunk(2, -1)
        y = self.out(F.layer_norm(y, (self.d,), eps=1e-6) * (1 + scale) + shift)
        return y.reshape(n, rows, columns, p, p).permute(0, 1, 3, 2, 4).reshape(n, 1, h, w)


class MLP(Network):
    images = False

    def __init__(self, width=256, depth=3, features=64, values=2):
        super().__init__()
        self.features = features
        self.time0, self.time1 = self.linear(features, width, "time.0"), self.linear(width, width, "time.1")
        self.inp = self.linear(values, width, "in")
        self.fc1, self.embed, self.fc2 = (
            nn.ModuleList(self.linear(width, width, f"block.{k}.{name}") for k in range(depth))
            for name in ("fc1", "embed", "fc2")
        )
        self.out = self.linear(width, values, "out")

    def forward(self, x, t):
        e = F.silu(self.time1(F.silu(self.time0(time_features(t, self.features)))))
        h = self.inp(x)
        for fc1, embed, fc2 in zip(self.fc1, self.embed, self.fc2):
            h = h + fc2(F.silu(fc1(h) + embed(e)))
        return self.out(F.silu(h))


NETWORKS = {"unet": UNet, "dit": DiT, "mlp": MLP}


# ---- one network with data, as it is timed ----


class Case:
    def __init__(self, name, weights, results, channels_last=False, compiled=False):
        self.net = NETWORKS[name]()
        with torch.no_grad():
            for p, value in zip(self.net.parameters(), self.net.from_pipe(weights)):
                p.copy_(value)
        shaped = (lambda t: t.permute(0, 3, 1, 2).contiguous()) if self.net.images else (lambda t: t)
        self.x, self.target, self.t = shaped(results["x"]), shaped(results["target"]), results["t"]
        if channels_last:
            self.net = self.net.to(memory_format=torch.channels_last)
            self.x = self.x.to(memory_format=torch.channels_last)
            self.target = self.target.to(memory_format=torch.channels_last)
        # One program for each shape, as our plans are; compiled by the first call.
        self.call = torch.compile(self.net, dynamic=False) if compiled else self.net
        self.optimizer = torch.optim.AdamW(self.net.parameters(), 1e-4, fused=True)

    def step(self):
        self.optimizer.zero_grad(set_to_none=True)
        loss = F.mse_loss(self.call(self.x, self.t), self.target)
        loss.backward()
        self.optimizer.step()

    def forward(self, count):
        with torch.inference_mode():
            self.call(self.x[:count], torch.full((count,), 0.5))


def relative(a, b, floor=0.0):
    return float((a - b).norm() / max(float(b.norm()), floor, 1e-30))


def check(name, weights, results):
    case = Case(name, weights, results)
    output = case.net(case.x, case.t)
    loss = F.mse_loss(output, case.target)
    loss.backward()
    want = results["output"].permute(0, 3, 1, 2) if case.net.images else results["output"]
    ours = case.net.from_pipe(results, "gradient.")
    theirs = [p.grad for p in case.net.parameters()]
    whole = float(torch.cat([g.flatten() for g in theirs]).norm())
    errors = {
        "output": relative(output.detach(), want),
        "loss": abs(loss.item() - results["loss"].item()) / results["loss"].item(),
        "all gradients": relative(torch.cat([g.flatten() for g in ours]), torch.cat([g.flatten() for g in theirs])),
        "worst gradient": max(relative(a, b, FLOOR * whole) for a, b in zip(ours, theirs)),
    }
    print(f"{name}: relative differences:", ", ".join(f"{k} {v:.1e}" for k, v in errors.items()))
    bad = [k for k, v in errors.items() if not v <= TOLERANCE]
    if bad:
        sys.exit(f"compare-torch: {name}: {', '.join(bad)} above {TOLERANCE:g}: nothing is timed")


# ---- timing: (wall, CPU) seconds of one run each ----


def say(text):
    """Compiling takes minutes in silence; standard output is for the tables."""
    print(text, file=sys.stderr, flush=True)


def timed(run, repeats, shortest=0.01):
    run()
    start = time.perf_counter()
    run()
    runs = max(1, int(shortest / max(time.perf_counter() - start, 1e-6)))
    result = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(runs):
            run()
        result.append(((time.perf_counter() - wall) / runs, (time.process_time() - cpu) / runs))
    return result


def best_threads(case):
    times = {}
    for n in range(1, (os.cpu_count() or 1) + 1):
        torch.set_num_threads(n)
        case.step()
        times[n] = min(w for w, _ in timed(case.step, 2))
    best = min(times, key=times.get)
    torch.set_num_threads(best)
    return best


def run_child(command):
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if child.returncode:
        sys.exit(f"compare-torch: {' '.join(command)}: status {child.returncode}")
    return child.stdout


def bench(pipe, filters, repeats, export=None):
    command = [pipe, "-q", "bench", "--json", f"--repeats={repeats}"]
    command += [f"--filter={f}" for f in filters] + ([f"--export={export}"] if export else [])
    return json.loads(run_child(command))["rows"]


class Row:
    """Times of one thing, of all who do it: {variant: what to run}."""

    def __init__(self, what, fits, others):
        self.what, self.fits, self.others = what, fits, others
        self.ours, self.theirs = [], {name: [] for name in others}

    def take(self, rows):
        self.ours += [(r["ms"] / 1e3, r["least_ms"] / 1e3, r["cpu_ms"] / 1e3) for r in rows if self.fits(r)]

    def turn(self, repeats):
        for name, run in self.others.items():
            self.theirs[name] += timed(run, repeats)

    def lines(self):
        """Of the table; the first is ours."""
        ours = statistics.median(r[0] for r in self.ours)
        least, cpu = min(r[1] for r in self.ours), min(r[2] for r in self.ours)
        yield f"| {self.what} | pipe | {1e3 * ours:.2f} | {1e3 * least:.2f} | {1e3 * cpu:.2f} | | | |"
        for name, times in self.theirs.items():
            m = statistics.median(w for w, _ in times)
            low, c = min(w for w, _ in times), min(c for _, c in times)
            yield (
                f"| | {name} | {1e3 * m:.2f} | {1e3 * low:.2f} | {1e3 * c:.2f} "
                f"| {m / ours:.2f} | {low / least:.2f} | {c / cpu:.2f} |"
            )


def turns(rows, options, filters):
    for turn in range(options.rounds):
        say(f"{rows[0].what} and the like: turn {turn + 1} of {options.rounds}")
        measured = bench(options.pipe, filters, options.repeats)
        for row in rows:
            row.take(measured)
            row.turn(options.repeats)


def compare(name, options, folder):
    """Checks one network; its rows, timed, and its line of the table of memory."""
    bench(options.pipe, [f"{name} forward batch 1,"], 1, export=folder)
    weights = read_safetensors(f"{folder}/{name}.weights.safetensors")
    results = read_safetensors(f"{folder}/{name}.results.safetensors")
    check(name, weights, results)
    if options.check_only:
        return [], None
    formats = ["", "channels_last"] if NETWORKS[name].convolutions else [""]
    cases = {f"eager {f}".strip(): Case(name, weights, results, channels_last=bool(f)) for f in formats}
    if not options.no_compile:
        cases["torch.compile"] = Case(name, weights, results, NETWORKS[name].convolutions, compiled=True)
    best_threads(cases["eager"])
    batch = len(results["t"])
    steps = {k: c.step for k, c in cases.items()}
    rows = [Row(f"{name} training step, batch {batch}", lambda r: "training" in r["name"], steps)]
    filters = [f"{name} training"]
    if name == "unet":  # a program of torch.compile for each shape takes long: where a target asks for it
        for count in (batch, 1):
            rows.append(
                Row(
                    f"{name} forward, batch {count}",
                    lambda r, c=count: "forward" in r["name"] and f"batch {c}," in r["shape"],
                    {k: lambda c=c, n=count: c.forward(n) for k, c in cases.items()},
                )
            )
        filters.append(f"{name} forward")
    turns(rows, options, filters)
    return rows, memory_line(name, options, folder, formats)


def products(options):
    """Matrix products beside PyTorch's library and the OpenBLAS that numpy brings along."""
    rows = []
    for n in (512, 1024, 2048):
        a = numpy.random.default_rng(0).random((n, n), dtype=numpy.float32)
        ta = torch.from_numpy(a)
        others = {"eager": lambda t=ta: torch.mm(t, t)}
        if "openblas" in numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]:
            others["OpenBLAS (numpy)"] = lambda a=a: a @ a
        rows.append(Row(f"GEMM {n}³", lambda r, n=n: f" {n} x {n} x {n}," in r["shape"], others))
    turns(rows, options, [f"gemm 1 of {n} x {n} x {n}, nn" for n in (512, 1024, 2048)])
    return rows


# ---- memory: what a process grows by, from before there is a network to the peak of its steps ----


def resident(key):
    """VmRSS (now) or VmHWM (peak) in MiB."""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(key)) / 1024


def memory_of(name, folder, channels_last):
    """In a process of its own.  The libraries start on a network of another kind, and
    what reading the files left is given back."""
    weights = read_safetensors(f"{folder}/{name}.weights.safetensors")
    results = read_safetensors(f"{folder}/{name}.results.safetensors")
    conv, x = nn.Conv2d(8, 8, 3), torch.randn(2, 8, 8, 8)
    conv(x).square().mean().backward()
    torch.optim.AdamW(conv.parameters(), fused=True).step()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS")
    case = Case(name, weights, results, channels_last)
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")  # the peak begins anew
    for _ in range(3):
        case.step()
    print(resident("VmHWM") - before)


def memory_line(name, options, folder, formats):
    (ours,) = [r for r in bench(options.pipe, [f"{name} training"], 1) if "training" in r["name"]]
    command = [sys.executable, __file__, "--memory-of", name, "--folder", folder]
    theirs = [float(run_child(command + (["--channels-last"] if f else []))) for f in formats]
    return (
        f"| {name} training step | {ours['peak_memory'] / 2**20:.0f} | {ours['resident_growth'] / 2**20:.0f} "
        f"| {min(theirs):.0f} | {min(theirs) / (ours['resident_growth'] / 2**20):.2f} |"
    )


def report(rows, memory):
    print(f"\nPyTorch {torch.__version__}, {torch.get_num_threads()} threads. Milliseconds; medians, the least, CPU time of")
    print("all threads; the ratios say how many times as fast pipe is.\n")
    print("| what | who | median | least | CPU | ratio | by the least | by CPU time |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(*row.lines(), sep="\n")
    print("\n| MiB | pipe's buffers | growth of pipe | growth of PyTorch, eager | ratio |")
    print("| --- | --- | --- | --- | --- |")
    print(*memory, sep="\n")


def main():
    options = OPTIONS
    torch.manual_seed(0)
    if options.memory_of:
        return memory_of(options.memory_of, options.folder, options.channels_last)
    if not (options.check_only or options.no_compile or shutil.which("g++")):
        PARSER.error("torch.compile needs g++: install it (Debian package g++), or --no-compile leaves it out")
    for name in options.networks:
        if name not in NETWORKS:
            PARSER.error(f"{name} is none of {', '.join(NETWORKS)}")
    rows, memory = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks or NETWORKS:
            timed_rows, line = compare(name, options, folder)
            rows += timed_rows
            memory.append(line)
    if not options.check_only:
        rows += products(options)
        report(rows, memory)


if __name__ == "__main__":
    main()
