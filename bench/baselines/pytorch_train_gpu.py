"""The training rival on a GPU: the step of a vanilla Llama in PyTorch 2 with FlashAttention, eager or compiled.

Must not know: the project's own code. It reads requests from standard input, one JSON object a line, and answers each with one line:
  {"command": "train", "shape": {…}, "compiled": false, "batch": 1, "length": 2048, "warmUp": 3, "steps": 5, "seed": 1}
      -> {"seconds": [s, …], "loss": x, "memoryBytes": n}
A step is forward, backward, clipping to norm 1 and AdamW; weights and activations are bfloat16, master weights and moments float32.
It returns when the new weights are there. "memoryBytes" is the most that was allocated at once.

What is done for speed: fused QKV and gate/up projections, attention that neither stores scores nor repeats keys, one fused launch for
the optimiser, copies between precisions in one launch for all tensors, TF32 nowhere needed. Where there is no GPU the same code runs
on the CPU, so that it can be tried there.
"""
import contextlib
import json
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def rotate(x, cos, sin):
    """x [B, H, T, D], halves layout; cos, sin [T, D/2]."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Layer(torch.nn.Module):
    """One Llama block over x [B, T, d]."""

    def __init__(self, shape):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = shape["heads"], shape["kvHeads"], shape["headDim"]
        hidden, intermediate = shape["hidden"], shape["intermediate"]
        self.eps = shape["rmsNormEps"]
        self.input_norm = torch.nn.Parameter(torch.ones(hidden))
        self.qkv = torch.nn.Parameter(torch.randn((self.heads + 2 * self.kv_heads) * self.head_dim, hidden) * 0.02)
        self.o = torch.nn.Parameter(torch.randn(hidden, self.heads * self.head_dim) * 0.02)
        self.post_norm = torch.nn.Parameter(torch.ones(hidden))
        self.gate_up = torch.nn.Parameter(torch.randn(2 * intermediate, hidden) * 0.02)
        self.down = torch.nn.Parameter(torch.randn(hidden, intermediate) * 0.02)

    def forward(self, x, cos, sin):
        batch, length, hidden = x.shape
        qkv = F.linear(F.rms_norm(x, (hidden,), self.input_norm, self.eps), self.qkv)
        qkv = qkv.view(batch, length, self.heads + 2 * self.kv_heads, self.head_dim).transpose(1, 2)
        rotated = rotate(qkv[:, : self.heads + self.kv_heads], cos, sin)
        attended = F.scaled_dot_product_attention(
            rotated[:, : self.heads],
            rotated[:, self.heads :],
            qkv[:, self.heads + self.kv_heads :],
            is_causal=True,
            enable_gqa=True,
        )
        x = x + F.linear(attended.transpose(1, 2).reshape(batch, length, -1), self.o)
        gate, up = F.linear(F.rms_norm(x, (hidden,), self.post_norm, self.eps), self.gate_up).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, self.down)


class Llama(torch.nn.Module):
    """tokens, targets [B, T] -> mean cross-entropy, with the embedding as the head."""

    def __init__(self, shape, length):
        super().__init__()
        hidden, half = shape["hidden"], shape["headDim"] // 2
        self.hidden, self.eps = hidden, shape["rmsNormEps"]
        self.embedding = torch.nn.Parameter(torch.randn(shape["vocabulary"], hidden) * 0.02)
        self.layers = torch.nn.ModuleList(Layer(shape) for _ in range(shape["layers"]))
        self.norm = torch.nn.Parameter(torch.ones(hidden))
        frequency = shape["ropeTheta"] ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, tokens, targets):
        x = F.embedding(tokens, self.embedding)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        logits = F.linear(F.rms_norm(x, (self.hidden,), self.norm, self.eps), self.embedding)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


class Job:
    """A model in bfloat16, its float32 master weights and their optimiser."""

    def __init__(self, shape, length, compiled):
        torch.manual_seed(1)
        model = Llama(shape, length).to(DEVICE)
        self.weights = list(model.parameters())
        self.masters = [torch.nn.Parameter(weight.detach().clone()) for weight in self.weights]
        for master in self.masters:
            master.grad = torch.zeros_like(master)
        model.to(torch.bfloat16)  # parameters stay the same objects
        decayed = [master for master in self.masters if master.dim() > 1]
        others = [master for master in self.masters if master.dim() == 1]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), fused=True)
        self.loss_of = torch.compile(model) if compiled else model

    def step(self, rows):
        """rows [B, T + 1] ids -> loss of the step."""
        for weight in self.weights:
            weight.grad = None
        # Only FlashAttention: were it not to take these heads, an error says so instead of a slower figure.
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION) if DEVICE == "cuda" else contextlib.nullcontext():
            loss = self.loss_of(rows[:, :-1], rows[:, 1:])
            loss.backward()
        with torch.no_grad():
            torch._foreach_copy_([master.grad for master in self.masters], [weight.grad for weight in self.weights])
            torch.nn.utils.clip_grad_norm_(self.masters, 1.0)
            self.optimizer.step()
            torch._foreach_copy_(self.weights, self.masters)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return loss.item()


def train(request):
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    job = Job(request["shape"], request["length"], request["compiled"])
    generator = torch.Generator().manual_seed(request["seed"])
    size = (request["batch"], request["length"] + 1)
    seconds = []
    for _ in range(request["warmUp"] + request["steps"]):
        rows = torch.randint(request["shape"]["vocabulary"], size, generator=generator).to(DEVICE)
        before = time.perf_counter()
        loss = job.step(rows)
        seconds.append(time.perf_counter() - before)
    peak = torch.cuda.max_memory_allocated() if DEVICE == "cuda" else 0
    return {"seconds": seconds[request["warmUp"] :], "loss": loss, "memoryBytes": peak}


def main():
    print(json.dumps({"ready": "PyTorch " + torch.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"train": train}[request["command"]](request)
        except Exception as error:  # the harness shows it; the process ends with it
            print(json.dumps({"error": repr(error)}), flush=True)
            raise
        print(json.dumps(answer), flush=True)


main()
