"""Row kernels in Triton, written for this comparison: a program per row, the row held in registers up to HELD
columns, else walked in tiles with a running maximum. Arithmetic in f32. SPDX-License-Identifier: Apache-2.0"""

import triton
import triton.language as tl

HELD = 32768
LOWEST = tl.constexpr(-float("inf"))


@triton.jit
def load_row(pointer, cols, width: tl.constexpr, other):
    place = tl.arange(0, width)
    return tl.load(pointer + place, mask=place < cols, other=other).to(tl.float32)


@triton.jit
def store_row(pointer, values, cols, width: tl.constexpr):
    place = tl.arange(0, width)
    tl.store(pointer + place, values, mask=place < cols)


# ---- softmax ------------------------------------------------------------------------------------------------

@triton.jit
def softmax_held(x, y, cols, width: tl.constexpr, log: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * cols
    shifted = load_row(x + row, cols, width, LOWEST)
    shifted -= tl.max(shifted, 0)
    power = tl.exp(shifted)
    total = tl.sum(power, 0)
    store_row(y + row, shifted - tl.log(total) if log else power / total, cols, width)


@triton.jit
def running_sum(x, cols, width: tl.constexpr):
    """Maximum of a row and the sum of exp(x - maximum), in one walk; every lane keeps its own."""
    place = tl.arange(0, width)
    top = tl.full((width,), LOWEST, tl.float32)
    total = tl.zeros((width,), tl.float32)
    for first in range(0, cols, width):
        values = tl.load(x + first + place, mask=first + place < cols, other=LOWEST).to(tl.float32)
        higher = tl.maximum(top, values)
        base = tl.where(higher == LOWEST, 0.0, higher)  # nothing seen yet: no -inf minus -inf
        total = total * tl.exp(top - base) + tl.exp(values - base)
        top = higher
    highest = tl.max(top, 0)
    return highest, tl.sum(total * tl.exp(top - highest), 0)


@triton.jit
def softmax_tiled(x, y, cols, width: tl.constexpr, log: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * cols
    top, total = running_sum(x + row, cols, width)
    place = tl.arange(0, width)
    for first in range(0, cols, width):
        inside = first + place < cols
        values = tl.load(x + row + first + place, mask=inside, other=0.0).to(tl.float32) - top
        tl.store(y + row + first + place, values - tl.log(total) if log else tl.exp(values) / total, mask=inside)


@triton.jit
def cross_entropy(logits, target, loss, dlogits, cols, width: tl.constexpr, gradient: tl.constexpr):
    index = tl.program_id(0)
    row = index.to(tl.int64) * cols
    top, total = running_sum(logits + row, cols, width)
    right = tl.load(target + index)
    lse = top + tl.log(total)
    tl.store(loss + index, lse - tl.load(logits + row + right).to(tl.float32))
    if gradient:
        place = tl.arange(0, width)
        for first in range(0, cols, width):
            inside = first + place < cols
            values = tl.load(logits + row + first + place, mask=inside, other=0.0).to(tl.float32)
            values = tl.exp(values - lse) - tl.where(first + place == right, 1.0, 0.0)
            tl.store(dlogits + row + first + place, values, mask=inside)


@triton.jit
def softmax_backward(grad_y, y, grad_x, cols, width: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * cols
    grad = load_row(grad_y + row, cols, width, 0.0)
    value = load_row(y + row, cols, width, 0.0)
    store_row(grad_x + row, value * (grad - tl.sum(grad * value, 0)), cols, width)


# ---- norms --------------------------------------------------------------------------------------------------

@triton.jit
def norm(x, residual, weight, y, total, cols, eps, width: tl.constexpr, centred: tl.constexpr, add: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * cols
    inside = tl.arange(0, width) < cols
    value = load_row(x + row, cols, width, 0.0)
    if add:
        stored = (value + load_row(residual + row, cols, width, 0.0)).to(total.dtype.element_ty)
        store_row(total + row, stored, cols, width)
        value = stored.to(tl.float32)
    if centred:
        value = tl.where(inside, value - tl.sum(value, 0) / cols, 0.0)
    rstd = 1 / tl.sqrt(tl.sum(value * value, 0) / cols + eps)
    store_row(y + row, value * rstd * load_row(weight, cols, width, 0.0), cols, width)


@triton.jit
def norm_backward(grad_y, x, weight, mean, rstd, grad_x, part_weight, part_bias, rows, cols, width: tl.constexpr,
                  centred: tl.constexpr):
    """Each program takes every num_programs-th row and leaves one strip of partial column sums."""
    program = tl.program_id(0)
    scale = load_row(weight, cols, width, 0.0)
    inside = tl.arange(0, width) < cols
    sum_weight = tl.zeros((width,), tl.float32)
    sum_bias = tl.zeros((width,), tl.float32)
    row = program.to(tl.int64) * cols
    stride = tl.num_programs(0).to(tl.int64) * cols
    for index in range(program, rows, tl.num_programs(0)):
        grad = load_row(grad_y + row, cols, width, 0.0)
        unit = load_row(x + row, cols, width, 0.0)
        spread = tl.load(rstd + index)
        if centred:
            unit = tl.where(inside, unit - tl.load(mean + index), 0.0)
        unit *= spread
        scaled = grad * scale
        pull = tl.sum(scaled * unit, 0) / cols
        result = scaled - unit * pull
        if centred:
            result -= tl.sum(scaled, 0) / cols
            sum_bias += grad
        sum_weight += grad * unit
        store_row(grad_x + row, result * spread, cols, width)
        row += stride
    store_row(part_weight + program * cols, sum_weight, cols, width)
    if centred:
        store_row(part_bias + program * cols, sum_bias, cols, width)


@triton.jit
def column_sum(parts, out, count, cols, rows: tl.constexpr, width: tl.constexpr):
    place = tl.program_id(0) * width + tl.arange(0, width)
    total = tl.zeros((rows, width), tl.float32)
    for first in range(0, count, rows):
        index = first + tl.arange(0, rows)
        inside = (index < count)[:, None] & (place < cols)[None, :]
        total += tl.load(parts + index[:, None] * cols + place[None, :], mask=inside, other=0.0)
    tl.store(out + place, tl.sum(total, 0), mask=place < cols)


# ---- element by element -------------------------------------------------------------------------------------

@triton.jit
def gelu(x):
    return 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))


@triton.jit
def elementwise(x, y, z, o, count, width: tl.constexpr, what: tl.constexpr, cols):
    """what: 0 exp(x y + z), 1 the chain of x, 2 silu(x) y, 3 gelu(x) y, 4 gelu(x + y) with y per column."""
    place = tl.program_id(0).to(tl.int64) * width + tl.arange(0, width)
    inside = place < count
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    if what == 0:
        second = tl.load(y + place, mask=inside, other=0.0).to(tl.float32)
        value = tl.exp(value * second + tl.load(z + place, mask=inside, other=0.0).to(tl.float32))
    elif what == 1:
        value = (value * (1 + 1 / 64) + 2 / 8) * (1 + 3 / 64)
    elif what == 4:
        value = gelu(value + tl.load(y + place % cols, mask=inside, other=0.0).to(tl.float32))
    else:
        second = tl.load(y + place, mask=inside, other=0.0).to(tl.float32)
        value = value * tl.sigmoid(value) * second if what == 2 else gelu(value) * second
    tl.store(o + place, value, mask=inside)


@triton.jit
def dropout_add(x, residual, y, count, seed, p, width: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * width + tl.arange(0, width)
    inside = place < count
    kept = tl.rand(seed, place.to(tl.int32)) >= p
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) / (1 - p)
    value = tl.where(kept, value, 0.0) + tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + place, value, mask=inside)


@triton.jit
def rope(x, positions, cos, sin, y, heads, dim, half, width: tl.constexpr, tall: tl.constexpr):
    """A program per token and `tall` heads of it."""
    token = tl.program_id(0)
    head = tl.program_id(1) * tall + tl.arange(0, tall)
    place = tl.arange(0, width)
    angle = tl.load(positions + token) * half + place
    c = tl.load(cos + angle, mask=place < half, other=0.0)[None, :]
    s = tl.load(sin + angle, mask=place < half, other=0.0)[None, :]
    start = (token.to(tl.int64) * heads + head)[:, None] * dim + place[None, :]
    inside = (head < heads)[:, None] & (place < half)[None, :]
    low = tl.load(x + start, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(x + start + half, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + start, low * c - high * s, mask=inside)
    tl.store(y + start + half, high * c + low * s, mask=inside)
