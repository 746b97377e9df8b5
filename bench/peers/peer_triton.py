"""Triton: the launches of triton_kernels.py; the number of warps, and of a walked row the tile, is the fastest of a
few. SPDX-License-Identifier: Apache-2.0"""

import os

import timing
from provider import Call, Missing, Peer, Refused

EPS = 1e-5
TILES = (4096, 16384)
FLAT = 1024


def probe(world):
    if not hasattr(world.side, "device"):
        raise Missing("Triton works on torch's tensors, and torch is not installed")
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if not world.side.gpu and not interpreted:
        raise Missing("Triton has no CPU (TRITON_INTERPRET=1 interprets it, which proves results and no times)")
    try:
        import triton
    except Exception as error:  # pylint: disable=broad-except
        raise Missing(f"Triton does not import: {error}") from error
    return triton.__version__ + (", interpreted" if interpreted else "")


def warps_for(width):
    """What is worth trying for `width` elements."""
    usual = max(1, min(32, width // 256))
    return sorted({max(1, usual // 2), usual, min(32, usual * 2)})


def power_of_two(count):
    return 1 << max(0, count - 1).bit_length()


def row_forms(kernels, case):
    """(launch(data, width, warps), widths) of an op whose programs are rows."""
    name, sizes = case.op.name, case.sizes
    rows, cols = sizes["rows"], sizes["cols"]
    held = cols <= kernels.HELD
    widths = [power_of_two(cols)] if held else list(TILES)
    if name in ("softmax", "log_softmax"):
        kernel = kernels.softmax_held if held else kernels.softmax_tiled
        return lambda d, w, n: kernel[(rows,)](d["x"], d["y"], cols, w, name == "log_softmax", num_warps=n), widths
    if name.startswith("cross_entropy"):
        gradient = name.endswith("grad")
        return lambda d, w, n: kernels.cross_entropy[(rows,)](
            d["logits"], d["target"], d["loss"], d["dlogits"] if gradient else d["logits"], cols, w, gradient,
            num_warps=n), [min(power_of_two(cols), tile) for tile in TILES]
    if not held:
        raise Refused(f"our Triton kernel of {name} holds rows of up to {kernels.HELD} columns, not {cols}")
    if name == "softmax_backward":
        return lambda d, w, n: kernels.softmax_backward[(rows,)](d["grad_y"], d["y"], d["grad_x"], cols, w,
                                                                num_warps=n), widths
    add, centred = name.startswith("add_"), name.endswith("layer_norm")
    return lambda d, w, n: kernels.norm[(rows,)](
        d["x"], d["residual"] if add else d["x"], d["weight"], d["y"], d["residual_out"] if add else d["y"], cols, EPS,
        w, centred, add, num_warps=n), widths


def backward_form(kernels, case, torch, device, units):
    rows, cols = case.sizes["rows"], case.sizes["cols"]
    if cols > kernels.HELD // 2:
        raise Refused(f"our Triton kernel of {case.op.name} holds rows of up to {kernels.HELD // 2} columns")
    centred = case.op.name.startswith("layer")
    programs = min(rows, 2 * units)
    parts = torch.empty((2, programs, cols), device=device, dtype=torch.float32)
    strip = 64
    grid = (-(-cols // strip),)

    def launch(d, width, warps):
        kernels.norm_backward[(programs,)](d["grad_y"], d["x"], d["weight"], d["mean"] if centred else d["rstd"],
                                           d["rstd"], d["grad_x"], parts[0], parts[1], rows, cols, width, centred,
                                           num_warps=warps)
        kernels.column_sum[grid](parts[0], d["grad_weight"], programs, cols, 16, strip)
        if centred:
            kernels.column_sum[grid](parts[1], d["grad_bias"], programs, cols, 16, strip)
    return launch, [power_of_two(cols)]


def flat_form(kernels, case):
    name = case.op.name
    count = 1
    for size in case.shape:
        count *= size
    cols = case.shape[-1]
    what, places = {"elementwise": (0, "xyzo"), "elementwise_chain": (1, "xxxy"),
                    "swiglu": (2, ("gate", "up", "up", "y")), "geglu": (3, ("gate", "up", "up", "y")),
                    "bias_gelu": (4, ("x", "bias", "bias", "y"))}[name]

    def launch(d, width, warps):
        kernels.elementwise[(-(-count // width),)](*[d[place] for place in places], count, width, what, cols,
                                                   num_warps=warps)
    return launch, [FLAT, 4 * FLAT]


def dropout_form(kernels, case):
    count = case.sizes["rows"] * case.sizes["cols"]
    if count > 1 << 31:
        raise Refused("our Triton kernel draws from 2^31 places")
    return lambda d, w, n: kernels.dropout_add[(-(-count // w),)](d["x"], d["residual"], d["y"], count, 7, 0.1, w,
                                                                 num_warps=n), [FLAT, 2 * FLAT]


def rope_form(kernels, case):
    s, tall = case.sizes, 8
    if 2 * s["half"] != s["dim"]:
        raise Refused("our Triton kernel turns whole heads")
    grid = (s["tokens"], -(-s["heads"] // tall))
    return lambda d, w, n: kernels.rope[grid](d["x"], d["positions"], d["cos"], d["sin"], d["y"], s["heads"], s["dim"],
                                             s["half"], w, tall, num_warps=n), [power_of_two(s["half"])]


def form_of(world, kernels, case):
    name, torch, side = case.op.name, world.side.module, world.side
    if name in ("rms_norm_backward", "layer_norm_backward"):
        units = torch.cuda.get_device_properties(side.device).multi_processor_count if side.gpu else 2
        return backward_form(kernels, case, torch, side.device, units)
    if name in ("elementwise", "elementwise_chain", "swiglu", "geglu", "bias_gelu"):
        return flat_form(kernels, case)
    if name == "dropout_add":
        return dropout_form(kernels, case)
    if name == "rope":
        return rope_form(kernels, case)
    if name == "swiglu_backward":
        raise Refused("no swiglu_backward was written in Triton")
    return row_forms(kernels, case)


def build(world, case, sets):
    import triton_kernels as kernels
    launch, widths = form_of(world, kernels, case)
    choices = [(width, warps) for width in dict.fromkeys(widths) for warps in warps_for(width)]
    if not world.side.gpu:
        choices = choices[:1]

    def runner(width, warps):
        def run(data):
            launch(data, width, warps)
        return run
    place, run = timing.fastest(world.side, [runner(*choice) for choice in choices], sets)
    width, warps = choices[place]
    return Call(run, how=f"width {width}, {warps} warps, the fastest of {len(choices)}", stored=False)


PEERS = [Peer("triton", "Triton, kernels of our own", probe, build)]
