"""The Llama that both PyTorch baselines train, their timed steps and their line protocol.

`ops` are the operations that are fastest on a device:
  rms_norm(x, weight, eps)
  attention(q [B, H, T, D], k, v [B, Hkv, T, D], masks) -> [B, T, H*D]
  swiglu(gate_up [.., 2f]) -> [.., f]
"""
import json
import sys
import time

import torch
import torch.nn.functional as F


def rotate(x, cos, sin):
    """x [B, H, T, D], halves layout; cos, sin [T, D/2], or [B, 1, T, D/2] where positions differ between sequences."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def rotary_table(shape, length):
    """cos, sin [length, D/2] in double precision."""
    half = shape["headDim"] // 2
    frequency = shape["ropeTheta"] ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return angle.cos(), angle.sin()


class Layer(torch.nn.Module):
    """One Llama block over x [B, T, d], with fused QKV and gate/up projections. `masks` goes to `ops.attention`."""

    def __init__(self, shape, ops):
        super().__init__()
        self.ops = ops
        self.heads, self.kv_heads, self.head_dim = shape["heads"], shape["kvHeads"], shape["headDim"]
        hidden, intermediate = shape["hidden"], shape["intermediate"]
        self.eps = shape["rmsNormEps"]
        self.input_norm = torch.nn.Parameter(torch.ones(hidden))
        self.qkv = torch.nn.Parameter(torch.randn((self.heads + 2 * self.kv_heads) * self.head_dim, hidden) * 0.02)
        self.o = torch.nn.Parameter(torch.randn(hidden, self.heads * self.head_dim) * 0.02)
        self.post_norm = torch.nn.Parameter(torch.ones(hidden))
        self.gate_up = torch.nn.Parameter(torch.randn(2 * intermediate, hidden) * 0.02)
        self.down = torch.nn.Parameter(torch.randn(hidden, intermediate) * 0.02)

    def forward(self, x, cos, sin, masks=None):
        batch, length, _ = x.shape
        qkv = F.linear(self.ops.rms_norm(x, self.input_norm, self.eps), self.qkv)
        qkv = qkv.view(batch, length, self.heads + 2 * self.kv_heads, self.head_dim).transpose(1, 2)
        rotated = rotate(qkv[:, : self.heads + self.kv_heads], cos, sin)
        values = qkv[:, self.heads + self.kv_heads :]
        x = x + F.linear(self.ops.attention(rotated[:, : self.heads], rotated[:, self.heads :], values, masks), self.o)
        gate_up = F.linear(self.ops.rms_norm(x, self.post_norm, self.eps), self.gate_up)
        return x + F.linear(self.ops.swiglu(gate_up), self.down)


class Llama(torch.nn.Module):
    """Embedding, `layers` layers, final norm; the embedding is the output projection too."""

    def __init__(self, shape, ops, layers):
        super().__init__()
        self.shape, self.ops = shape, ops
        self.embedding = torch.nn.Parameter(torch.randn(shape["vocabulary"], shape["hidden"]) * 0.02)
        self.layers = torch.nn.ModuleList(Layer(shape, ops) for _ in range(layers))
        self.norm = torch.nn.Parameter(torch.ones(shape["hidden"]))

    def logits(self, x):
        """x [B, T, d] after the last layer -> [B*T, vocabulary]."""
        x = self.ops.rms_norm(x, self.norm, self.shape["rmsNormEps"])
        return F.linear(x.reshape(-1, x.shape[-1]), self.embedding)


def time_steps(step, vocabulary, request, count, device="cpu"):
    """Seconds of each of `count` steps over random rows, and the last loss. `step` takes rows [B, T + 1] of ids.

    After two steps none begins later than request["limit"] seconds after the start, where the request has a limit.
    """
    generator = torch.Generator().manual_seed(request["seed"])
    size = (request["batch"], request["length"] + 1)
    limit = request.get("limit", float("inf"))
    seconds = []
    while len(seconds) < count and (len(seconds) < 2 or sum(seconds) < limit):
        rows = torch.randint(vocabulary, size, generator=generator).to(device)
        before = time.perf_counter()
        loss = step(rows)
        seconds.append(time.perf_counter() - before)
    return seconds, loss


def serve(commands):
    """Answers one JSON request a line with one line; a command that fails is answered with its error and ends the process."""
    print(json.dumps({"ready": "PyTorch " + torch.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = commands[request["command"]](request)
        except Exception as error:
            print(json.dumps({"error": repr(error)}), flush=True)
            sys.exit(1)
        print(json.dumps(answer), flush=True)
