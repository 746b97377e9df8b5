"""Double precision truth of every operation, for NumPy and torch alike, and the size of the terms that a result is
made of: an error is a multiple of the unit of rounding and of that size. `xp` is a side of sides.py.
SPDX-License-Identifier: Apache-2.0"""

import math

EPS = 1e-5


def row_sum(xp, x):
    return xp.sum(x, axis=-1, keepdims=True)


def row_mean(xp, x):
    return row_sum(xp, x) / x.shape[-1]


def row_max(xp, x):
    return xp.amax(x, axis=-1, keepdims=True)


def sigmoid(xp, x):
    return 1 / (1 + xp.exp(-x))


# ---- element by element -------------------------------------------------------------------------------------

def elementwise(xp, t):
    product = t["x"] * t["y"]
    o = xp.exp(product + t["z"])
    return {"o": (o, o * (1 + abs(product) + abs(t["z"]) + abs(product + t["z"])))}


def chain(xp, t):
    y = (t["x"] * (1 + 1 / 64) + 2 / 8) * (1 + 3 / 64)
    return {"y": (y, 1 + abs(t["x"]) + abs(y))}


def swiglu(xp, t):
    y = t["gate"] * sigmoid(xp, t["gate"]) * t["up"]
    return {"y": (y, abs(y) * (1 + abs(t["gate"])))}


def gelu(xp, x):
    """Value, and the size of its terms: 1 + erf cancels where x is negative."""
    half = xp.erf(x / math.sqrt(2))
    return 0.5 * x * (1 + half), 0.5 * abs(x) * (1 + abs(half)) * (1 + abs(x))


def geglu(xp, t):
    value, size = gelu(xp, t["gate"])
    return {"y": (value * t["up"], size * abs(t["up"]))}


def bias_gelu(xp, t):
    value, size = gelu(xp, t["x"] + t["bias"])
    return {"y": (value, size + abs(t["x"]) + abs(t["bias"]))}


def swiglu_backward(xp, t):
    s = sigmoid(xp, t["gate"])
    silu = t["gate"] * s
    slope = s * (1 + t["gate"] * (1 - s))
    size = abs(t["grad_y"]) * (1 + abs(t["gate"]))
    return {"grad_gate": (t["grad_y"] * t["up"] * slope, size * abs(t["up"])),
            "grad_up": (t["grad_y"] * silu, size * (1 + abs(silu)))}


def rope(xp, t):
    half = t["cos"].shape[-1]
    cos, sin = t["cos"][t["positions"]][:, None, :], t["sin"][t["positions"]][:, None, :]
    low, high = t["x"][..., :half], t["x"][..., half:2 * half]
    y, size = t["x"] + 0, abs(t["x"])
    y[..., :half] = low * cos - high * sin
    y[..., half:2 * half] = high * cos + low * sin
    size[..., :half] = size[..., half:2 * half] = abs(low) + abs(high)
    return {"y": (y, size)}


def dropout_add(xp, t):
    kept = t["residual"] + t["x"] / 0.9
    return {"y": (kept, abs(t["residual"]) + abs(t["x"]))}


def accept_dropout(xp, t, got):
    """Every element is the kept or the dropped one; ({output: (value, size)}, share of dropped among those where
    one can tell, how many these are)."""
    kept, size = dropout_add(xp, t)["y"]
    dropped = t["residual"]
    nearer = abs(got["y"] - dropped) < abs(got["y"] - kept)
    tells = abs(kept - dropped) > 0.25 * size
    many = int(tells.sum())
    return {"y": (xp.where(nearer, dropped, kept), size)}, int((nearer & tells).sum()), many


# ---- rows ---------------------------------------------------------------------------------------------------

def softmax(xp, t):
    shifted = t["x"] - row_max(xp, t["x"])
    power = xp.exp(shifted)
    y = power / row_sum(xp, power)
    return {"y": (y, y * (1 - shifted))}


def log_softmax(xp, t):
    top = row_max(xp, t["x"])
    y = t["x"] - top - xp.log(row_sum(xp, xp.exp(t["x"] - top)))
    return {"y": (y, 1 + abs(y) + abs(top))}


def normed(xp, x, weight, centred):
    mean = row_mean(xp, x) if centred else 0
    unit = (x - mean) / xp.sqrt(row_mean(xp, (x - mean) ** 2) + EPS)
    return unit * weight, (1 + abs(unit)) * abs(weight)


def layer_norm(xp, t):
    return {"y": normed(xp, t["x"], t["weight"], True)}


def rms_norm(xp, t):
    return {"y": normed(xp, t["x"], t["weight"], False)}


def add_norm(xp, t, centred):
    """The norm is of the rounded sum: half a unit of it is among the terms."""
    total = t["x"] + t["residual"]
    value, size = normed(xp, t["rounded"](total), t["weight"], centred)
    return {"y": (value, size), "residual_out": (total, abs(t["x"]) + abs(t["residual"]))}


def add_layer_norm(xp, t):
    return add_norm(xp, t, True)


def add_rms_norm(xp, t):
    return add_norm(xp, t, False)


def entropy(xp, t):
    x = t["logits"]
    top = row_max(xp, x)
    lse = top + xp.log(row_sum(xp, xp.exp(x - top)))
    right = xp.taken(x, t["target"])
    return x, lse, right


def cross_entropy(xp, t):
    _, lse, right = entropy(xp, t)
    return {"loss": ((lse - right)[:, 0], (1 + abs(lse) + abs(right))[:, 0])}


def cross_entropy_grad(xp, t):
    x, lse, right = entropy(xp, t)
    y = xp.exp(x - lse)
    size = y * (1 + abs(x - lse) + abs(lse))
    rows = xp.whole(x.shape[0])
    y[rows, t["target"]] -= 1
    size[rows, t["target"]] += 1
    return {"loss": ((lse - right)[:, 0], (1 + abs(lse) + abs(right))[:, 0]), "dlogits": (y, size)}


# ---- backwards ----------------------------------------------------------------------------------------------

def derive_probabilities(xp, t):
    return {"y": softmax(xp, {"x": xp.flip(t["grad_y"], (0,))})["y"][0]}


def derive_rms(xp, t):
    return {"rstd": 1 / xp.sqrt(row_mean(xp, t["x"] ** 2) + EPS)[:, 0]}


def derive_moments(xp, t):
    mean = row_mean(xp, t["x"])
    return {"mean": mean[:, 0], "rstd": 1 / xp.sqrt(row_mean(xp, (t["x"] - mean) ** 2) + EPS)[:, 0]}


def softmax_backward(xp, t):
    product = t["grad_y"] * t["y"]
    size = t["y"] * (abs(t["grad_y"]) + row_sum(xp, abs(product)))
    return {"grad_x": (t["y"] * (t["grad_y"] - row_sum(xp, product)), size)}


def norm_backward(xp, t, centred):
    rstd = t["rstd"][:, None]
    unit = (t["x"] - (t["mean"][:, None] if centred else 0)) * rstd
    scaled = t["grad_y"] * t["weight"]
    pull = row_mean(xp, scaled * unit)
    shift = row_mean(xp, scaled) if centred else 0
    size = rstd * (abs(scaled) + (1 + abs(unit)) * (row_mean(xp, abs(scaled * unit)) + row_mean(xp, abs(scaled))))
    terms = t["grad_y"] * unit
    found = {"grad_x": (rstd * (scaled - shift - unit * pull), size),
             "grad_weight": (xp.sum(terms, axis=0), xp.sum(abs(terms), axis=0))}
    if centred:
        found["grad_bias"] = (xp.sum(t["grad_y"], axis=0), xp.sum(abs(t["grad_y"]), axis=0))
    return found


def rms_norm_backward(xp, t):
    return norm_backward(xp, t, False)


def layer_norm_backward(xp, t):
    return norm_backward(xp, t, True)
