#!/usr/bin/env python3
"""Golden losses and gradients of the networks, from PyTorch in double precision.

    python3 tests/data/golden/networks.py       (needs torch and safetensors)

writes unet.safetensors, unet-small.safetensors, dit.safetensors and
mlp.safetensors beside this file.  PyTorch is a yardstick here and nothing else:
neither the build nor the tests run this file.

Weights and inputs come from an integer hash of (name, index), which
tests/training/golden.c repeats.  Weights have the names and layouts of the
engine (linear [in, out], convolution [kh, kw, in, out]) and are mapped onto the
modules below.  Each file holds

    loss             [1]
    output, input    what the network predicts; gradient of the loss in x
    gradient         [weights, 3], weights in the order of their names: the norm
                     of its gradient and two projections onto hashed vectors
    gradient.NAME    the whole gradient (small networks)
"""
import math
import os

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.numpy import save_file

torch.set_default_dtype(torch.float64)
HERE = os.path.dirname(os.path.abspath(__file__))


def hashed(name, n):
    """n numbers in [-1, 1): FNV-1a of the name, then a mixed counter."""
    h = 2166136261
    for byte in name.encode():
        h = ((h ^ byte) * 16777619) & 0xFFFFFFFF
    k = (np.arange(n, dtype=np.uint64) * 2654435761 + h) & 0xFFFFFFFF
    k ^= k >> np.uint64(16)
    k = (k * 2246822519) & 0xFFFFFFFF
    k ^= k >> np.uint64(13)
    k = (k * 3266489917) & 0xFFFFFFFF
    k ^= k >> np.uint64(16)
    return k.astype(np.float64) / 2147483648.0 - 1.0


def value(name, shape):
    """Weights of about the size that training starts with, rounded to f32."""
    h = hashed(name, int(np.prod(shape)))
    if len(shape) >= 2:
        h *= 1.5 / math.sqrt(np.prod(shape[:-1]))
    else:
        h = 0.1 * h + (1.0 if name.endswith("norm.weight") or ".norm" in name and name.endswith(".weight") else 0.0)
    return h.reshape(shape).astype(np.float32).astype(np.float64)


class Weights:
    """Leaves by the engine's names; used() tells which."""

    def __init__(self):
        self.leaf = {}

    def get(self, name, *shape):
        if name not in self.leaf:
            self.leaf[name] = torch.tensor(value(name, shape), requires_grad=True)
        assert tuple(self.leaf[name].shape) == shape, name
        return self.leaf[name]

    def linear(self, name, x, out):
        return x @ self.get(name + ".weight", x.shape[-1], out) + self.get(name + ".bias", out)

    def conv(self, name, x, out, kernel, stride=1, padding=None):
        w = self.get(name + ".weight", kernel, kernel, x.shape[1], out).permute(3, 2, 0, 1).contiguous()
        padding = kernel // 2 if padding is None else padding
        return F.conv2d(x, w, self.get(name + ".bias", out), stride=stride, padding=padding)

    def group_norm(self, name, x, groups=8):
        c = x.shape[1]
        return F.group_norm(x, groups, self.get(name + ".weight", c), self.get(name + ".bias", c))

    def embedding(self, name, index, rows, width):
        return F.embedding(index % rows, self.get(name + ".weight", rows, width))


def sines(t, width):
    half = width // 2
    f = torch.exp(-math.log(1e4) * torch.arange(half) / half)
    a = t[:, None] * f
    return torch.cat([a.sin(), a.cos()], 1)


class Res(nn.Module):
    def __init__(s, w, name):
        super().__init__()
        s.w, s.name = w, name

    def forward(s, x, e, out):
        w, k = s.w, s.name
        h = w.conv(k + ".conv1", F.silu(w.group_norm(k + ".norm1", x)), out, 3)
        h = h + w.linear(k + ".embed", e, out)[:, :, None, None]
        h = w.conv(k + ".conv2", F.silu(w.group_norm(k + ".norm2", h)), out, 3)
        return (x if x.shape[1] == out else w.conv(k + ".skip", x, out, 1)) + h


def attention(w, k, x, heads):
    b, c, height, width = x.shape
    h = w.group_norm(k + ".norm", x).flatten(2).transpose(1, 2)
    q, key, v = (w.linear(k + "." + p, h, c).reshape(b, -1, heads, c // heads).transpose(1, 2) for p in "q k v".split())
    a = torch.softmax(q @ key.transpose(-1, -2) / math.sqrt(c // heads), -1) @ v
    h = w.linear(k + ".out", a.transpose(1, 2).reshape(b, -1, c), c)
    return x + h.transpose(1, 2).reshape(b, c, height, width)


def unet(w, x, t, labels, channels, multipliers, blocks, levels, heads=4, classes=0):
    """The benchmark's network; `levels` have attention behind their blocks."""
    x = x.permute(0, 3, 1, 2)
    e = F.silu(w.linear("time.0", sines(1000 * t, channels), 4 * channels))
    e = w.linear("time.1", e, 4 * channels)
    if classes:
        e = e + w.embedding("label", labels, classes + 1, 4 * channels)
    e = F.silu(e)
    h = w.conv("in", x, channels, 3)
    skips, sizes = [h], []
    for level, m in enumerate(multipliers):
        for b in range(blocks):
            h = Res(w, f"down.{level}.{b}")(h, e, channels * m)
            if level in levels:
                h = attention(w, f"down.{level}.{b}.attention", h, heads)
            skips.append(h)
        sizes.append(h.shape[2:])
        if level + 1 < len(multipliers):
            h = w.conv(f"down.{level}.down", h, h.shape[1], 3, stride=2)
            skips.append(h)
    h = Res(w, "mid.0")(h, e, h.shape[1])
    h = attention(w, "mid.0.attention", h, heads)
    h = Res(w, "mid.1")(h, e, h.shape[1])
    for level in reversed(range(len(multipliers))):
        for b in range(blocks + 1):
            h = Res(w, f"up.{level}.{b}")(torch.cat([h, skips.pop()], 1), e, channels * multipliers[level])
            if level in levels:
                h = attention(w, f"up.{level}.{b}.attention", h, heads)
        if level > 0:
            h = w.conv(f"up.{level}.up", F.interpolate(h, size=sizes[level - 1], mode="nearest"), h.shape[1], 3)
    h = w.conv("out.conv", F.silu(w.group_norm("out.norm", h)), x.shape[1], 3)
    return h.permute(0, 2, 3, 1)


def mlp(w, x, t, labels, width, depth, features, classes):
    e = F.silu(w.linear("time.0", sines(1000 * t, features), width))
    e = F.silu(w.linear("time.1", e, width) + w.embedding("label", labels, classes + 1, width))
    h = w.linear("in", x, width)
    for k in range(depth):
        y = F.silu(w.linear(f"block.{k}.fc1", h, width) + w.linear(f"block.{k}.embed", e, width))
        h = h + w.linear(f"block.{k}.fc2", y, width)
    return w.linear("out", F.silu(h), x.shape[-1])


def positions(rows, columns, d):
    column = sines(torch.arange(columns, dtype=torch.float64), d // 2)[None].expand(rows, -1, -1)
    row = sines(torch.arange(rows, dtype=torch.float64), d // 2)[:, None].expand(-1, columns, -1)
    return torch.cat([column, row], 2).reshape(1, rows * columns, d)


def dit(w, x, t, labels, patch, d, depth, heads, classes):
    n, height, width, channels = x.shape
    rows, columns = height // patch, width // patch
    e = F.silu(w.linear("time.0", sines(1000 * t, 256), d))
    e = F.silu(w.linear("time.1", e, d) + w.embedding("label", labels, classes + 1, d))
    h = w.conv("patch", x.permute(0, 3, 1, 2), d, patch, stride=patch, padding=0)
    h = h.flatten(2).transpose(1, 2) + positions(rows, columns, d)

    def modulate(y, shift, scale):
        return F.layer_norm(y, (d,), eps=1e-6) * (1 + scale[:, None]) + shift[:, None]

    for k in range(depth):
        name = f"block.{k}"
        a = w.linear(name + ".modulation", e, 6 * d).chunk(6, 1)
        y = modulate(h, a[0], a[1])
        q, key, v = (w.linear(f"{name}.{p}", y, d).reshape(n, -1, heads, d // heads).transpose(1, 2) for p in "qkv")
        y = torch.softmax(q @ key.transpose(-1, -2) / math.sqrt(d // heads), -1) @ v
        h = h + a[2][:, None] * w.linear(name + ".out", y.transpose(1, 2).reshape(n, -1, d), d)
        y = F.gelu(w.linear(name + ".fc1", modulate(h, a[3], a[4]), 4 * d), approximate="tanh")
        h = h + a[5][:, None] * w.linear(name + ".fc2", y, d)
    a = w.linear("out.modulation", e, 2 * d).chunk(2, 1)
    h = w.linear("out.linear", modulate(h, a[0], a[1]), patch * patch * channels)
    h = h.reshape(n, rows, columns, patch, patch, channels).permute(0, 1, 3, 2, 4, 5)
    return h.reshape(n, height, width, channels)


def write(name, net, shape, whole, **options):
    w = Weights()
    n = shape[0]
    x = torch.tensor(hashed("x", int(np.prod(shape))).reshape(shape) * 1.75, requires_grad=True)
    want = torch.tensor(hashed("want", int(np.prod(shape))).reshape(shape) * 1.75)
    t = torch.tensor([(k + 1) / 8 for k in range(n)])
    labels = torch.tensor([3, -1, 0, 7][:n])
    out = net(w, x, t, labels, **options)
    loss = F.mse_loss(out, want)
    loss.backward()
    names = sorted(w.leaf)
    rows = []
    for k in names:
        g = w.leaf[k].grad.numpy().ravel()
        rows.append([np.linalg.norm(g), g @ hashed("1 " + k, g.size), g @ hashed("2 " + k, g.size)])
    data = {"loss": np.array([loss.item()]), "gradient": np.array(rows), "output": out.detach().numpy(),
            "input": x.grad.numpy()}
    if whole:
        data.update({"gradient." + k: w.leaf[k].grad.numpy() for k in names})
    data = {k: np.ascontiguousarray(v, dtype=np.float32) for k, v in data.items()}
    save_file(data, os.path.join(HERE, name + ".safetensors"), {"names": "\n".join(names)})
    print(name, "loss", loss.item(), "parameters", sum(v.numel() for v in w.leaf.values()))


write("unet", unet, (2, 28, 28, 1), False, channels=32, multipliers=[1, 2, 2], blocks=2, levels=[])
write("unet-small", unet, (4, 9, 7, 2), True, channels=8, multipliers=[1, 2], blocks=1, levels=[1], heads=2, classes=10)
write("dit", dit, (4, 8, 6, 2), True, patch=2, d=16, depth=2, heads=2, classes=10)
write("mlp", mlp, (4, 3), True, width=24, depth=3, features=16, classes=10)
