"""The training rival on a GPU: the step of a vanilla Llama in PyTorch 2 with FlashAttention, eager or compiled.

It reads requests from standard input, one JSON object a line, and answers each with one line:
  {"command": "train", "shape": {…}, "compiled": false, "batch": 1, "length": 2048, "warmUp": 3, "steps": 5, "seed": 1}
      -> {"seconds": [s, …], "loss": x, "memoryBytes": n}
A step is forward, backward, clipping to norm 1 and AdamW; weights and activations are bfloat16, master weights and moments float32.
It returns when the new weights are there. "memoryBytes" is the most that was allocated at once.

What is done for speed: fused QKV and gate/up projections, attention that neither stores scores nor repeats keys, one fused launch for
the optimiser, copies between precisions in one launch for all tensors, TF32 nowhere needed. Where there is no GPU the same code runs
on the CPU, so that it can be tried there.
"""
import contextlib

import torch
import torch.nn.functional as F
from pytorch_llama import Llama, rotary_table, serve, time_steps
from torch.nn.attention import SDPBackend, sdpa_kernel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Ops:
    """The operations of a layer that are fastest on a GPU."""

    @staticmethod
    def rms_norm(x, weight, eps):
        return F.rms_norm(x, weight.shape, weight, eps)

    @staticmethod
    def attention(q, k, v, _):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2).flatten(2)

    @staticmethod
    def swiglu(gate_up):
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate) * up


class Vanilla(Llama):
    """tokens, targets [B, T] -> mean cross-entropy."""

    def __init__(self, shape, length):
        super().__init__(shape, Ops, shape["layers"])
        cos, sin = rotary_table(shape, length)
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def forward(self, tokens, targets):
        x = F.embedding(tokens, self.embedding)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return F.cross_entropy(self.logits(x).float(), targets.flatten())


class Job:
    """A model in bfloat16, its float32 master weights and their optimiser."""

    def __init__(self, shape, length, compiled):
        torch.manual_seed(1)
        model = Vanilla(shape, length).to(DEVICE)
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
        # With FlashAttention alone, heads that it does not support are an error instead of a slower figure.
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
    count = request["warmUp"] + request["steps"]
    seconds, loss = time_steps(job.step, request["shape"]["vocabulary"], request, count, DEVICE)
    peak = torch.cuda.max_memory_allocated() if DEVICE == "cuda" else 0
    return {"seconds": seconds[request["warmUp"] :], "loss": loss, "memoryBytes": peak}


serve({"train": train})
