"""Every operation line by line in torch, as one writes it without a fused function: inputs in the order of ops.py,
outputs likewise. What torch.compile is given, too. SPDX-License-Identifier: Apache-2.0"""

import torch
import torch.nn.functional as F

EPS = 1e-5


def softmax(x):
    power = torch.exp(x - x.amax(-1, keepdim=True))
    return power / power.sum(-1, keepdim=True)


def log_softmax(x):
    shifted = x - x.amax(-1, keepdim=True)
    return shifted - torch.log(torch.exp(shifted).sum(-1, keepdim=True))


def layer_norm(x, weight):
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(-1, keepdim=True) + EPS) * weight


def rms_norm(x, weight):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPS) * weight


def add_layer_norm(x, residual, weight):
    total = x + residual
    return layer_norm(total, weight), total


def add_rms_norm(x, residual, weight):
    total = x + residual
    return rms_norm(total, weight), total


def swiglu(gate, up):
    return gate * torch.sigmoid(gate) * up


def geglu(gate, up):
    return F.gelu(gate) * up


def bias_gelu(x, bias):
    return F.gelu(x + bias)


def elementwise(x, y, z):
    return torch.exp(x * y + z)


def elementwise_chain(x):
    return (x * (1 + 1 / 64) + 2 / 8) * (1 + 3 / 64)


def logits_and_lse(logits, target):
    x = logits.float()
    top = x.amax(-1, keepdim=True)
    lse = top + torch.log(torch.exp(x - top).sum(-1, keepdim=True))
    return x, lse, (lse - x.gather(1, target[:, None]))[:, 0]


def cross_entropy(logits, target):
    return logits_and_lse(logits, target)[2]


def cross_entropy_grad(logits, target):
    x, lse, loss = logits_and_lse(logits, target)
    right = torch.arange(x.shape[1], device=x.device) == target[:, None]
    return loss, (torch.exp(x - lse) - right.float()).to(logits.dtype)


def softmax_backward(grad_y, y):
    return y * (grad_y - (grad_y * y).sum(-1, keepdim=True))


def rms_norm_backward(grad_y, x, weight, rstd):
    unit = x.float() * rstd[:, None]
    scaled = grad_y.float() * weight.float()
    grad_x = rstd[:, None] * (scaled - unit * (scaled * unit).mean(-1, keepdim=True))
    return grad_x.to(x.dtype), (grad_y.float() * unit).sum(0).to(weight.dtype)


def layer_norm_backward(grad_y, x, weight, mean, rstd):
    unit = (x.float() - mean[:, None]) * rstd[:, None]
    grad = grad_y.float()
    scaled = grad * weight.float()
    pull = unit * (scaled * unit).mean(-1, keepdim=True) + scaled.mean(-1, keepdim=True)
    return ((rstd[:, None] * (scaled - pull)).to(x.dtype), (grad * unit).sum(0).to(weight.dtype),
            grad.sum(0).to(weight.dtype))


def swiglu_backward(grad_y, gate, up):
    s = torch.sigmoid(gate)
    return grad_y * up * s * (1 + gate * (1 - s)), grad_y * gate * s


def rope(x, positions, cos, sin):
    half = cos.shape[-1]
    c, s = cos[positions][:, None, :], sin[positions][:, None, :]
    low, high = x[..., :half].float(), x[..., half:2 * half].float()
    return torch.cat((low * c - high * s, high * c + low * s, x[..., 2 * half:].float()), -1).to(x.dtype)


def dropout_add(x, residual):
    return F.dropout(x, 0.1, True) + residual


ALL = {name: value for name, value in list(globals().items())
       if callable(value) and getattr(value, "__module__", "") == __name__ and name != "logits_and_lse"}


# ---- what torch has as one function -------------------------------------------------------------------------

def fused_add_rms_norm(x, residual, weight):
    total = x + residual
    return F.rms_norm(total, total.shape[-1:], weight, EPS), total


def fused_add_layer_norm(x, residual, weight):
    total = x + residual
    return F.layer_norm(total, total.shape[-1:], weight, None, EPS), total


def fused_cross_entropy_grad(logits, target):
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        loss = F.cross_entropy(leaf, target, reduction="none")
        grad, = torch.autograd.grad(loss, leaf, torch.ones_like(loss))
    return loss.detach(), grad


def fused_layer_norm_backward(grad_y, x, weight, mean, rstd):
    return torch.ops.aten.native_layer_norm_backward(grad_y, x, [x.shape[-1]], mean[:, None], rstd[:, None], weight,
                                                     weight, [True, True, True])


def fused_rms_norm_backward(grad_y, x, weight, rstd):
    return torch.ops.aten._fused_rms_norm_backward(grad_y, x, [x.shape[-1]], rstd[:, None], weight, [True, True])


FUSED = {
    "softmax": lambda x: F.softmax(x, -1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "layer_norm": lambda x, weight: F.layer_norm(x, x.shape[-1:], weight, None, EPS),
    "rms_norm": lambda x, weight: F.rms_norm(x, x.shape[-1:], weight, EPS),
    "add_layer_norm": fused_add_layer_norm,
    "add_rms_norm": fused_add_rms_norm,
    "swiglu": lambda gate, up: F.silu(gate) * up,
    "cross_entropy": lambda logits, target: F.cross_entropy(logits, target, reduction="none"),
    "cross_entropy_grad": fused_cross_entropy_grad,
    "softmax_backward": lambda grad_y, y: torch.ops.aten._softmax_backward_data(grad_y, y, -1, y.dtype),
    "rms_norm_backward": fused_rms_norm_backward,
    "layer_norm_backward": fused_layer_norm_backward,
}
