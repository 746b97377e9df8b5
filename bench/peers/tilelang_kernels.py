"""Kernels in TileLang, written for this comparison: shapes are constants of a kernel, so each is made for one case.
Row kernels hold `tall` rows of a block in registers, padded to `width` columns; wider rows are walked in tiles with a
running maximum. Arithmetic in f32. SPDX-License-Identifier: Apache-2.0"""

import math

import tilelang.language as T

F32 = "float32"
LOWEST = -3.4e38  # finite: no -inf minus -inf where a lane has seen nothing but padding


def tensor(shape, dtype):
    return T.Tensor(shape, dtype)


def exp(x):
    """By the hardware's power of two, as Triton's is; T.exp is CUDA's exact one."""
    return T.exp2(x * math.log2(math.e))


# ---- held rows ----------------------------------------------------------------------------------------------

def softmax_held(rows, cols, dtype, plan, log):
    tall, width, threads = plan

    @T.prim_func
    def softmax(x: tensor((rows, cols), dtype), y: tensor((rows, cols), dtype)):
        with T.Kernel(T.ceildiv(rows, tall), threads=threads) as block:
            held = T.alloc_fragment((tall, width), F32)
            power = T.alloc_fragment((tall, width), F32)
            top = T.alloc_fragment((tall,), F32)
            total = T.alloc_fragment((tall,), F32)
            for i, j in T.Parallel(tall, width):
                held[i, j] = T.if_then_else(block * tall + i < rows and j < cols,
                                            T.cast(x[block * tall + i, j], F32), LOWEST)
            T.reduce_max(held, top, dim=1)
            for i, j in T.Parallel(tall, width):
                held[i, j] = held[i, j] - top[i]
            for i, j in T.Parallel(tall, width):
                power[i, j] = exp(held[i, j])
            T.reduce_sum(power, total, dim=1)
            for i in T.Parallel(tall):
                total[i] = T.log(total[i]) if log else 1 / total[i]
            for i, j in T.Parallel(tall, width):
                if block * tall + i < rows and j < cols:
                    y[block * tall + i, j] = T.cast(held[i, j] - total[i] if log else power[i, j] * total[i], dtype)
    return softmax


def softmax_backward(rows, cols, dtype, plan):
    tall, width, threads = plan

    @T.prim_func
    def backward(grad_y: tensor((rows, cols), dtype), y: tensor((rows, cols), dtype),
                 grad_x: tensor((rows, cols), dtype)):
        with T.Kernel(T.ceildiv(rows, tall), threads=threads) as block:
            grad = T.alloc_fragment((tall, width), F32)
            held = T.alloc_fragment((tall, width), F32)
            product = T.alloc_fragment((tall, width), F32)
            total = T.alloc_fragment((tall,), F32)
            for i, j in T.Parallel(tall, width):
                grad[i, j] = T.if_then_else(block * tall + i < rows and j < cols,
                                            T.cast(grad_y[block * tall + i, j], F32), 0.0)
            for i, j in T.Parallel(tall, width):
                held[i, j] = T.if_then_else(block * tall + i < rows and j < cols,
                                            T.cast(y[block * tall + i, j], F32), 0.0)
            for i, j in T.Parallel(tall, width):
                product[i, j] = grad[i, j] * held[i, j]
            T.reduce_sum(product, total, dim=1)
            for i, j in T.Parallel(tall, width):
                if block * tall + i < rows and j < cols:
                    grad_x[block * tall + i, j] = T.cast(held[i, j] * (grad[i, j] - total[i]), dtype)
    return backward


@T.macro
def normalize(held, weight, y, first, rows, cols, dtype, plan, eps, centred):
    """Rows first.. of y from what is held of them."""
    tall, width, _ = plan
    square = T.alloc_fragment((tall, width), F32)
    total = T.alloc_fragment((tall,), F32)
    if centred:
        T.reduce_sum(held, total, dim=1)
        for i, j in T.Parallel(tall, width):
            held[i, j] = T.if_then_else(j < cols, held[i, j] - total[i] * (1.0 / cols), 0.0)
    for i, j in T.Parallel(tall, width):
        square[i, j] = held[i, j] * held[i, j]
    T.reduce_sum(square, total, dim=1)
    for i in T.Parallel(tall):
        total[i] = T.rsqrt(total[i] * (1.0 / cols) + eps)
    for i, j in T.Parallel(tall, width):
        if first + i < rows and j < cols:
            y[first + i, j] = T.cast(held[i, j] * total[i] * T.cast(weight[j], F32), dtype)


def norm(rows, cols, dtype, plan, eps, centred):
    tall, width, threads = plan

    @T.prim_func
    def alone(x: tensor((rows, cols), dtype), weight: tensor((cols,), dtype), y: tensor((rows, cols), dtype)):
        with T.Kernel(T.ceildiv(rows, tall), threads=threads) as block:
            held = T.alloc_fragment((tall, width), F32)
            for i, j in T.Parallel(tall, width):
                held[i, j] = T.if_then_else(block * tall + i < rows and j < cols,
                                            T.cast(x[block * tall + i, j], F32), 0.0)
            normalize(held, weight, y, block * tall, rows, cols, dtype, plan, eps, centred)
    return alone


def add_norm(rows, cols, dtype, plan, eps, centred):
    """The norm is of the sum as it was stored."""
    tall, width, threads = plan

    @T.prim_func
    def added(x: tensor((rows, cols), dtype), residual: tensor((rows, cols), dtype), weight: tensor((cols,), dtype),
              y: tensor((rows, cols), dtype), residual_out: tensor((rows, cols), dtype)):
        with T.Kernel(T.ceildiv(rows, tall), threads=threads) as block:
            held = T.alloc_fragment((tall, width), F32)
            stored = T.alloc_fragment((tall, width), dtype)
            for i, j in T.Parallel(tall, width):
                stored[i, j] = T.if_then_else(
                    block * tall + i < rows and j < cols,
                    T.cast(T.cast(x[block * tall + i, j], F32) + T.cast(residual[block * tall + i, j], F32), dtype),
                    T.cast(0.0, dtype))
            for i, j in T.Parallel(tall, width):
                if block * tall + i < rows and j < cols:
                    residual_out[block * tall + i, j] = stored[i, j]
            for i, j in T.Parallel(tall, width):
                held[i, j] = T.cast(stored[i, j], F32)
            normalize(held, weight, y, block * tall, rows, cols, dtype, plan, eps, centred)
    return added


# ---- walked rows --------------------------------------------------------------------------------------------

@T.macro
def running_sum(x, row, cols, width, best, total):
    """Maximum of a row and the sum of exp(x - maximum), in one walk; every lane keeps its own."""
    value = T.alloc_fragment((1, width), F32)
    higher = T.alloc_fragment((1, width), F32)
    top = T.alloc_fragment((1, width), F32)
    lane = T.alloc_fragment((1, width), F32)
    T.fill(top, LOWEST)
    T.fill(lane, 0.0)
    for step in T.serial(T.ceildiv(cols, width)):
        for i, j in T.Parallel(1, width):
            value[i, j] = T.if_then_else(step * width + j < cols, T.cast(x[row, step * width + j], F32),
                                         -T.infinity(F32))
        for i, j in T.Parallel(1, width):
            higher[i, j] = T.max(top[i, j], value[i, j])
        for i, j in T.Parallel(1, width):
            lane[i, j] = lane[i, j] * exp(top[i, j] - higher[i, j]) + exp(value[i, j] - higher[i, j])
        for i, j in T.Parallel(1, width):
            top[i, j] = higher[i, j]
    T.reduce_max(top, best, dim=1)
    for i, j in T.Parallel(1, width):
        lane[i, j] = lane[i, j] * exp(top[i, j] - best[i])
    T.reduce_sum(lane, total, dim=1)


def softmax_walked(rows, cols, dtype, plan, log):
    _, width, threads = plan

    @T.prim_func
    def softmax(x: tensor((rows, cols), dtype), y: tensor((rows, cols), dtype)):
        with T.Kernel(rows, threads=threads) as row:
            best = T.alloc_fragment((1,), F32)
            total = T.alloc_fragment((1,), F32)
            running_sum(x, row, cols, width, best, total)
            for i in T.Parallel(1):
                total[i] = T.log(total[i]) if log else 1 / total[i]
            for step in T.serial(T.ceildiv(cols, width)):
                for i, j in T.Parallel(1, width):
                    if step * width + j < cols:
                        y[row, step * width + j] = T.cast(
                            T.cast(x[row, step * width + j], F32) - best[i] - total[i] if log else
                            exp(T.cast(x[row, step * width + j], F32) - best[i]) * total[i], dtype)
    return softmax


def cross_entropy(rows, cols, dtype, plan):
    _, width, threads = plan

    @T.prim_func
    def entropy(logits: tensor((rows, cols), dtype), target: tensor((rows,), "int64"), loss: tensor((rows,), F32)):
        with T.Kernel(rows, threads=threads) as row:
            best = T.alloc_fragment((1,), F32)
            total = T.alloc_fragment((1,), F32)
            running_sum(logits, row, cols, width, best, total)
            for i in T.Parallel(1):
                loss[row + i] = best[i] + T.log(total[i]) - T.cast(logits[row, target[row]], F32)
    return entropy


def cross_entropy_grad(rows, cols, dtype, plan):
    _, width, threads = plan

    @T.prim_func
    def entropy(logits: tensor((rows, cols), dtype), target: tensor((rows,), "int64"), loss: tensor((rows,), F32),
                dlogits: tensor((rows, cols), dtype)):
        with T.Kernel(rows, threads=threads) as row:
            best = T.alloc_fragment((1,), F32)
            total = T.alloc_fragment((1,), F32)
            running_sum(logits, row, cols, width, best, total)
            for i in T.Parallel(1):
                total[i] = best[i] + T.log(total[i])
            for i in T.Parallel(1):
                loss[row + i] = total[i] - T.cast(logits[row, target[row]], F32)
            value = T.alloc_fragment((1, width), F32)
            for step in T.serial(T.ceildiv(cols, width)):
                for i, j in T.Parallel(1, width):
                    value[i, j] = T.if_then_else(step * width + j < cols,
                                                 T.cast(logits[row, step * width + j], F32), 0.0)
                for i, j in T.Parallel(1, width):
                    value[i, j] = exp(value[i, j] - total[i]) - T.if_then_else(
                        step * width + j == T.cast(target[row], "int32"), 1.0, 0.0)
                for i, j in T.Parallel(1, width):
                    if step * width + j < cols:
                        dlogits[row, step * width + j] = T.cast(value[i, j], dtype)
    return entropy


# ---- element by element -------------------------------------------------------------------------------------

def gelu(x):
    return 0.5 * x * (1 + T.erf(x * math.sqrt(0.5)))


def silu(x):
    return x * T.fast_rcp(1 + exp(-x))


FORMULAS = {  # of how many tensors, and what
    "elementwise": (3, lambda x, y, z: exp(x * y + z)),
    "elementwise_chain": (1, lambda x: (x * (1 + 1 / 64) + 2 / 8) * (1 + 3 / 64)),
    "swiglu": (2, lambda gate, up: silu(gate) * up),
    "geglu": (2, lambda gate, up: gelu(gate) * up),
}


def guarded(x, place, count):
    return T.if_then_else(place < count, T.cast(x[place], F32), 0.0)


def flat(name, count, dtype, plan):
    _, width, threads = plan
    inputs, formula = FORMULAS[name]

    @T.macro
    def body(block, y, *places):
        # loads in loops of their own: erf makes a loop one element at a time; by index: a name would name the tensor
        held = [T.alloc_fragment((width,), F32) for _ in places]
        result = T.alloc_fragment((width,), F32)
        for j in T.Parallel(width):
            held[0][j] = guarded(places[0], block * width + j, count)
        if inputs > 1:
            for j in T.Parallel(width):
                held[1][j] = guarded(places[1], block * width + j, count)
        if inputs > 2:
            for j in T.Parallel(width):
                held[2][j] = guarded(places[2], block * width + j, count)
        for j in T.Parallel(width):
            result[j] = formula(*[value[j] for value in held])
        for j in T.Parallel(width):
            if block * width + j < count:
                y[block * width + j] = T.cast(result[j], dtype)

    if inputs == 1:
        @T.prim_func
        def one(a: tensor((count,), dtype), y: tensor((count,), dtype)):
            with T.Kernel(T.ceildiv(count, width), threads=threads) as block:
                body(block, y, a)
        return one
    if inputs == 2:
        @T.prim_func
        def two(a: tensor((count,), dtype), b: tensor((count,), dtype), y: tensor((count,), dtype)):
            with T.Kernel(T.ceildiv(count, width), threads=threads) as block:
                body(block, y, a, b)
        return two

    @T.prim_func
    def three(a: tensor((count,), dtype), b: tensor((count,), dtype), c: tensor((count,), dtype),
              y: tensor((count,), dtype)):
        with T.Kernel(T.ceildiv(count, width), threads=threads) as block:
            body(block, y, a, b, c)
    return three


def bias_gelu(rows, cols, dtype, plan):
    _, width, threads = plan

    @T.prim_func
    def biased(x: tensor((rows, cols), dtype), bias: tensor((cols,), dtype), y: tensor((rows, cols), dtype)):
        with T.Kernel(rows, T.ceildiv(cols, width), threads=threads) as (row, strip):
            value = T.alloc_fragment((width,), F32)
            for j in T.Parallel(width):
                value[j] = T.if_then_else(
                    strip * width + j < cols,
                    T.cast(x[row, strip * width + j], F32) + T.cast(bias[strip * width + j], F32), 0.0)
            for j in T.Parallel(width):
                value[j] = gelu(value[j])
            for j in T.Parallel(width):
                if strip * width + j < cols:
                    y[row, strip * width + j] = T.cast(value[j], dtype)
    return biased
