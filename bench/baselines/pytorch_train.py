"""The training rival: the same vanilla Llama and Mixture-of-Recursions step in PyTorch on the CPU, as fast as PyTorch can be made.

It reads requests from standard input, one JSON object a line, and answers each with one line:
  {"command": "build", "name": "mor", "shape": {…}, "precision": "bfloat16"|"autocast"|"float32", "threads": 2}  -> {"parameters": n}
  {"command": "step", "name": "mor", "batch": 4, "length": 512, "steps": 2, "limit": 9, "seed": 1}  -> {"seconds": [s, …], "loss": x}
  {"command": "libraries"}                                                              -> {"files": ["/usr/lib/…", …], "capability": "AVX2"}
  {"command": "memory"}                                                                 -> {"peakBytes": n, "startBytes": n}
A step is forward, backward, clipping to norm 1 and AdamW with float32 master weights; it returns when the new weights are there.

What is done for speed: oneDNN matrix products in bfloat16; fused QKV and gate/up projections; grouped-query attention without
repeated keys; causal attention in query chunks that never see the masked half; one flat buffer for all weights of a kind, so that
the optimiser is a few long loops; gather before each recursion, so that tokens that a recursion does not run cost nothing. The precisions are
  float32   everything in float32
  autocast  float32 weights, torch.autocast to bfloat16
  bfloat16  bfloat16 weights, gradients and activations, float32 master weights and moments
"""
import torch
import torch.nn.functional as F
from pytorch_llama import Llama, rotary_table, serve, time_steps


def resident_bytes(field):
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no " + field + " in /proc/self/status")


def loaded_files():
    """The files that this process has mapped once it has multiplied float32: its BLAS is among them."""
    torch.ones(64, 64) @ torch.ones(64, 64)
    with open("/proc/self/maps") as maps:
        return sorted({line.split()[-1] for line in maps if ".so" in line})


def capability():
    """The instruction set that PyTorch's own loops use."""
    line = next((line for line in torch.__config__.show().splitlines() if "CPU capability usage" in line), ": unknown")
    return line.split(": ")[-1].strip()


class RmsNorm(torch.autograd.Function):
    """y [.., d] = x [.., d] * rsqrt(mean(x^2) + eps) * weight [d]; the backward needs one tensor like x and one number a row."""

    @staticmethod
    def forward(context, x, weight, eps):
        scale = torch.rsqrt(torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square_().div_(x.shape[-1]).add_(eps))
        scale = scale.to(x.dtype)
        normal = x * scale
        context.save_for_backward(normal, scale, weight)
        return normal * weight

    @staticmethod
    def backward(context, dy):
        normal, scale, weight = context.saved_tensors
        dweight = (dy * normal).flatten(0, -2).sum(0)
        dnormal = dy * weight
        inner = (dnormal * normal).mean(-1, keepdim=True)
        return (dnormal - normal * inner).mul_(scale), dweight.to(weight.dtype), None


class Attention(torch.autograd.Function):
    """q [B, H, T, D], k and v [B, Hkv, T, D] -> [B, T, H*D]; rows are in position order, so causal is the lower triangle.

    Written out because autograd would zero and add a whole gradient for every slice of a query chunk.
    """

    @staticmethod
    def forward(context, q, k, v, masks):
        batch, heads, length, dim = q.shape
        kv_heads = k.shape[1]
        group = heads // kv_heads
        q = (q * dim ** -0.5).reshape(batch * kv_heads, group, length, dim)
        k = k.reshape(batch * kv_heads, length, dim)
        v = v.reshape(batch * kv_heads, length, dim)
        out = q.new_empty(batch, length, kv_heads, group, dim)
        weights = []
        for start, end, mask in masks:
            rows = end - start
            scores = torch.bmm(q[:, :, start:end].reshape(-1, group * rows, dim), k[:, :end].transpose(1, 2))
            chunk = torch.softmax(scores.view(-1, group, rows, end).add_(mask), -1).view(-1, group * rows, end)
            weights.append(chunk)
            out[:, start:end] = torch.bmm(chunk, v[:, :end]).view(batch, kv_heads, group, rows, dim).permute(0, 3, 1, 2, 4)
        context.masks, context.shape = masks, (batch, heads, kv_heads, length, dim)
        context.save_for_backward(q, k, v, *weights)
        return out.view(batch, length, heads * dim)

    @staticmethod
    def backward(context, dout):
        q, k, v, *weights = context.saved_tensors
        batch, heads, kv_heads, length, dim = context.shape
        group = heads // kv_heads
        dout = dout.view(batch, length, kv_heads, group, dim).permute(0, 2, 3, 1, 4).reshape(batch * kv_heads, group, length, dim)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for (start, end, _), chunk in zip(context.masks, weights):
            rows = end - start
            dchunk = dout[:, :, start:end].reshape(-1, group * rows, dim)
            dweights = torch.bmm(dchunk, v[:, :end].transpose(1, 2))
            dv[:, :end] += torch.bmm(chunk.transpose(1, 2), dchunk)
            dscores = torch._softmax_backward_data(dweights, chunk, -1, chunk.dtype)
            dq[:, :, start:end] = torch.bmm(dscores, k[:, :end]).view(-1, group, rows, dim)
            dk[:, :end] += torch.bmm(dscores.transpose(1, 2), q[:, :, start:end].reshape(-1, group * rows, dim))
        dq = dq.mul_(dim ** -0.5).view(batch, heads, length, dim)
        return dq, dk.view(batch, kv_heads, length, dim), dv.view(batch, kv_heads, length, dim), None


class SwiGlu(torch.autograd.Function):
    """y [.., f] = silu(gate) * up of gate_up [.., 2f]; keeps the sigmoid, which costs more than the memory it takes."""

    @staticmethod
    def forward(context, gate_up):
        gate, up = gate_up.chunk(2, -1)
        sigmoid = torch.sigmoid(gate)
        context.save_for_backward(gate_up, sigmoid)
        return (gate * sigmoid).mul_(up)

    @staticmethod
    def backward(context, dy):
        gate_up, sigmoid = context.saved_tensors
        gate, up = gate_up.chunk(2, -1)
        out = torch.empty_like(gate_up)
        dgate, dup = out.chunk(2, -1)
        silu = gate * sigmoid
        torch.mul(dy, silu, out=dup)
        slope = torch.addcmul(sigmoid, silu, 1 - sigmoid)  # silu' = s + g s (1 - s)
        torch.mul(slope.mul_(up), dy, out=dgate)
        return out


class Ops:
    """The operations of a layer that are fastest on a CPU."""

    rms_norm = RmsNorm.apply
    attention = Attention.apply
    swiglu = SwiGlu.apply


class Mor(Llama):
    """Vanilla (recursions = 1) or Mixture-of-Recursions: middle-cycle sharing, expert-choice routing, recursion-wise keys."""

    def __init__(self, shape):
        self.recursions = shape["recursions"]
        super().__init__(shape, Ops, shape["layers"] if self.recursions == 1 else 2 + (shape["layers"] - 2) // self.recursions)
        if self.recursions > 1:
            self.routers = torch.nn.Parameter(torch.randn(self.recursions, shape["hidden"]) * 0.02)
        self.tables = {}

    def table(self, length, dtype):
        """cos, sin [length, D/2] and the chunk masks for every row count seen so far."""
        key = (length, dtype)
        if key not in self.tables:
            cos, sin = rotary_table(self.shape, length)
            self.tables[key] = cos.to(dtype), sin.to(dtype), self.masks(length, dtype)
        return self.tables[key]

    @staticmethod
    def masks(rows, dtype, chunk=128):
        parts = []
        for start in range(0, rows, chunk):
            end = min(start + chunk, rows)
            mask = torch.full((end - start, end), float("-inf")).triu_(start + 1).to(dtype)
            parts.append((start, end, mask))
        return parts

    def forward(self, tokens, targets, dtype):
        """tokens, targets [B, T] -> loss (mean cross-entropy + 0.001 * router loss)."""
        batch, length = tokens.shape
        cos, sin, masks = self.table(length, dtype)
        x = F.embedding(tokens, self.embedding).to(dtype)
        router_loss = 0.0
        if self.recursions == 1:
            for layer in self.layers:
                x = layer(x, cos, sin, masks)
        else:
            x = self.layers[0](x, cos, sin, masks)
            hidden = x.shape[-1]
            x = x.reshape(batch * length, hidden)
            active = torch.arange(length).expand(batch, length)  # positions [B, k] of the rows that entered
            base = torch.arange(batch)[:, None] * length
            for recursion in range(self.recursions):
                entering = x.index_select(0, (active + base).flatten()).view(batch, -1, hidden) if recursion else x.view(batch, length, hidden)
                logits = F.linear(entering, self.routers[recursion : recursion + 1]).squeeze(-1).float()
                keep = max(1, (self.recursions - recursion) * length // self.recursions)
                if keep < logits.shape[1]:
                    chosen = logits.topk(keep, 1).indices.sort(1).values
                    target = torch.zeros_like(logits).scatter_(1, chosen, 1.0)
                    active = active.gather(1, chosen)
                    selected_logits = logits.gather(1, chosen)
                    rows = entering.view(-1, hidden).index_select(0, (chosen + torch.arange(batch)[:, None] * logits.shape[1]).flatten())
                    rows = rows.view(batch, keep, hidden)
                else:
                    target, selected_logits, rows = torch.ones_like(logits), logits, entering
                router_loss = router_loss + F.binary_cross_entropy_with_logits(logits, target)
                row_cos, row_sin = cos[active][:, None], sin[active][:, None]
                row_masks = self.table(keep, dtype)[2]
                for layer in self.layers[1:-1]:
                    rows = layer(rows, row_cos, row_sin, row_masks)
                gate = (0.1 * torch.sigmoid(selected_logits)).to(rows.dtype)[..., None]
                x = x.index_add(0, (active + base).flatten(), (gate * rows).to(x.dtype).view(-1, hidden))
            x = self.layers[-1](x.view(batch, length, hidden), cos, sin, masks)
        return F.cross_entropy(self.logits(x), targets.flatten()) + 0.001 * router_loss


class Job:
    """A model, its flat weights and its optimiser."""

    def __init__(self, shape, precision):
        torch.manual_seed(1)
        self.precision = precision
        self.model = Mor(shape)
        self.dtype = torch.bfloat16 if precision != "float32" else torch.float32
        storage = torch.bfloat16 if precision == "bfloat16" else torch.float32
        groups = ([p for p in self.model.parameters() if p.dim() > 1], [p for p in self.model.parameters() if p.dim() == 1])
        self.groups = []
        for parameters, decay in zip(groups, (0.1, 0.0)):
            master = torch.cat([p.detach().flatten() for p in parameters])
            weights = master.to(storage) if storage != master.dtype else master
            gradient = torch.zeros_like(weights)
            offset = 0
            for p in parameters:
                count = p.numel()
                p.data = weights[offset : offset + count].view(p.shape)
                p.grad = gradient[offset : offset + count].view(p.shape)
                offset += count
            master = torch.nn.Parameter(master)
            self.groups.append((master, weights, gradient))
        self.optimizer = torch.optim.AdamW(
            [{"params": [group[0]], "weight_decay": decay} for group, decay in zip(self.groups, (0.1, 0.0))], lr=1e-3, betas=(0.9, 0.95)
        )
        self.parameters = sum(p.numel() for p in self.model.parameters())

    def step(self, rows):
        """rows [B, T + 1] ids -> loss of the step."""
        for _, _, gradient in self.groups:
            gradient.zero_()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "autocast"):
            loss = self.model(rows[:, :-1], rows[:, 1:], self.dtype)
        loss.backward()
        gradients = [gradient.float() for _, _, gradient in self.groups]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
        scale = min(1.0, 1.0 / (norm.item() + 1e-6))
        for (master, _, _), gradient in zip(self.groups, gradients):
            master.grad = gradient.mul_(scale)
        self.optimizer.step()
        for master, weights, _ in self.groups:
            if weights.data_ptr() != master.data_ptr():
                weights.copy_(master.detach())
        return loss.item()


def main():
    start_bytes = resident_bytes("VmRSS")
    torch.set_flush_denormal(True)
    jobs = {}

    def build(request):
        torch.set_num_threads(request["threads"])
        jobs[request["name"]] = Job(request["shape"], request["precision"])
        return {"parameters": jobs[request["name"]].parameters}

    def step(request):
        job = jobs[request["name"]]
        seconds, loss = time_steps(job.step, job.model.shape["vocabulary"], request, request["steps"])
        return {"seconds": seconds, "loss": loss}

    def memory(_):
        return {"peakBytes": resident_bytes("VmHWM"), "startBytes": start_bytes}

    def libraries(_):
        return {"files": loaded_files(), "capability": capability()}

    serve({"build": build, "step": step, "memory": memory, "libraries": libraries})


main()
