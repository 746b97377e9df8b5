"""What is compared: each operation's tensors (by the names that kfuse's own tables use), the shapes of the anchors,
and the double precision truth. SPDX-License-Identifier: Apache-2.0"""

from dataclasses import dataclass, field
from typing import Callable

import truth


@dataclass(frozen=True)
class Tensor:
    """`fill` of an input: normal, scale (1 + normal / 8), index:DIM (whole numbers below it), angle, derived."""
    name: str
    dims: str
    dtype: str = ""  # "" = the case's
    fill: str = "normal"


@dataclass(frozen=True)
class Op:
    """`truth(xp, t)` gives {output: (value, size of the terms it is made of)} for a slice of rows;
    `derive(xp, t)` the inputs that follow from others."""
    name: str
    inputs: tuple
    outputs: tuple
    truth: Callable
    dims: str = "rows cols"
    kfuse: str = ""              # its name there, where it differs
    options: str = ""            # optional tensors that are present, as in --with=
    attributes: dict = field(default_factory=dict)
    sums: tuple = ()             # outputs that are sums over the rows
    derive: Callable = None
    accept: Callable = None      # judges instead of `truth` where randomness is the op's business
    anchors: str = ""            # "dtypes shapes; dtypes shapes"
    complete: Callable = None    # dims that follow from others

    @property
    def tensors(self):
        return self.inputs + self.outputs

    @property
    def kfuse_name(self):
        return self.kfuse or self.name


def matrix(*names, **more):
    return tuple(Tensor(name, "rows cols", **more) for name in names)


def per_row(*names, fill="derived"):
    return tuple(Tensor(name, "rows", "f32", fill) for name in names)


X, Y = matrix("x"), matrix("y")
WEIGHT = (Tensor("weight", "cols", fill="scale"),)
TARGET = (Tensor("target", "rows", "i64", "index:cols"),)
LOSS = (Tensor("loss", "rows", "f32"),)
NORM_SHAPES = "f32,bf16 8192x512,4096x4096,16384x4096,8192x8192,4096x16384,131072x128,1823x781"
ENTROPY_SHAPES = "bf16 8192x128256,4096x32000,8192x50257"
WIDE = "bf16 16384x4096"
FLAT = tuple(Tensor(name, "n") for name in "xyz")


def rope_dims(dims):
    dims.setdefault("places", dims["tokens"])
    dims.setdefault("half", dims["dim"] // 2)


ALL = (
    Op("elementwise", FLAT, (Tensor("o", "n"),), truth.elementwise, dims="n", anchors="f32 67108864"),
    Op("elementwise_chain", FLAT[:1], (Tensor("y", "n"),), truth.chain, dims="n", attributes={"length": 3},
       anchors="f32 67108864"),
    Op("softmax", X, Y, truth.softmax,
       anchors="f32,bf16 4096x4096,8192x512,8192x8192,1823x781,16384x4096,4096x32768,1024x131072,1x128256,"
               "4x1048576"),
    Op("log_softmax", X, Y, truth.log_softmax, anchors="f32,bf16 4096x4096,8192x50257"),
    Op("layer_norm", X + WEIGHT, Y, truth.layer_norm, options="weight", anchors=NORM_SHAPES),
    Op("rms_norm", X + WEIGHT, Y, truth.rms_norm, options="weight", anchors=NORM_SHAPES),
    Op("add_layer_norm", matrix("x", "residual") + WEIGHT, matrix("y", "residual_out"), truth.add_layer_norm,
       options="weight", anchors=WIDE),
    Op("add_rms_norm", matrix("x", "residual") + WEIGHT, matrix("y", "residual_out"), truth.add_rms_norm,
       options="weight", anchors=WIDE),
    Op("swiglu", matrix("gate", "up"), Y, truth.swiglu, anchors="bf16 8192x14336"),
    Op("geglu", matrix("gate", "up"), Y, truth.geglu, anchors="bf16 8192x14336"),
    Op("bias_gelu", X + (Tensor("bias", "cols"),), Y, truth.bias_gelu, anchors="bf16 8192x16384"),
    Op("cross_entropy", matrix("logits") + TARGET, LOSS, truth.cross_entropy, anchors=ENTROPY_SHAPES),
    Op("cross_entropy_grad", matrix("logits") + TARGET, LOSS + matrix("dlogits"), truth.cross_entropy_grad,
       kfuse="cross_entropy", options="dlogits", anchors=ENTROPY_SHAPES),
    Op("softmax_backward", matrix("grad_y") + matrix("y", fill="derived"), matrix("grad_x"), truth.softmax_backward,
       derive=truth.derive_probabilities, anchors=WIDE),
    Op("rms_norm_backward", matrix("grad_y", "x") + WEIGHT + per_row("rstd"),
       matrix("grad_x") + (Tensor("grad_weight", "cols"),), truth.rms_norm_backward, options="weight,grad_weight",
       sums=("grad_weight",), derive=truth.derive_rms, anchors=WIDE),
    Op("layer_norm_backward", matrix("grad_y", "x") + WEIGHT + per_row("mean", "rstd"),
       matrix("grad_x") + (Tensor("grad_weight", "cols"), Tensor("grad_bias", "cols")), truth.layer_norm_backward,
       options="weight,grad_weight,grad_bias", sums=("grad_weight", "grad_bias"), derive=truth.derive_moments,
       anchors=WIDE),
    Op("swiglu_backward", matrix("grad_y", "gate", "up"), matrix("grad_gate", "grad_up"), truth.swiglu_backward,
       anchors="bf16 8192x14336"),
    Op("rope", (Tensor("x", "tokens heads dim"), Tensor("positions", "tokens", "i64", "index:places"),
                Tensor("cos", "places half", "f32", "angle"), Tensor("sin", "places half", "f32", "angle")),
       (Tensor("y", "tokens heads dim"),), truth.rope, dims="tokens heads dim places half", complete=rope_dims,
       anchors="bf16 16384x32x128"),
    Op("dropout_add", matrix("x", "residual"), Y, truth.dropout_add, attributes={"p": 0.1},
       accept=truth.accept_dropout, anchors=WIDE),
)
BY_NAME = {op.name: op for op in ALL}
DTYPES = ("f32", "f16", "bf16")
BYTES = {"f32": 4, "f16": 2, "bf16": 2, "i64": 8}


@dataclass(frozen=True)
class Case:
    """One operation at one shape and dtype."""
    op: Op
    dtype: str
    dims: tuple  # pairs, in the order of the op's dims

    @property
    def sizes(self):
        return dict(self.dims)

    @property
    def shape(self):
        return [size for _, size in self.dims]

    def shape_of(self, tensor):
        return [self.sizes[dim] for dim in tensor.dims.split()]

    def dtype_of(self, tensor):
        return tensor.dtype or self.dtype

    def bytes_of(self, tensors):
        total = 0
        for tensor in tensors:
            size = BYTES[self.dtype_of(tensor)]
            for length in self.shape_of(tensor):
                size *= length
            total += size
        return total

    @property
    def text(self):
        return f"{self.op.name} {self.dtype} {'x'.join(map(str, self.shape))}"

    def as_json(self):
        return {"op": self.op.name, "dtype": self.dtype, "shape": self.shape}


class BadShape(Exception):
    """A shape that an op cannot have: one sentence."""


def make_case(name, dtype, shape):
    """From 4096x512 in the order of the op's dims; an op of one dim takes the product, leading axes fold into the
    first dim, and dims that follow from others may be left out."""
    op = BY_NAME[name]
    dims = op.dims.split()
    given = dims
    if op.complete and len(shape) < len(dims):
        given = dims[:3]
    if len(shape) < len(given):
        raise BadShape(f"{name} has the dims {' '.join(given)}: {'x'.join(map(str, shape))} is too short")
    lead = 1
    for size in shape[:len(shape) - len(given) + 1]:
        lead *= size
    sizes = dict(zip(given, [lead] + list(shape[len(shape) - len(given) + 1:])))
    if op.complete:
        op.complete(sizes)
    return Case(op, dtype, tuple((dim, sizes[dim]) for dim in dims))


def anchor_cases(name, dtypes):
    """The shapes of the anchors for one op, of the dtypes asked for (None = those of the anchors)."""
    cases = []
    for part in BY_NAME[name].anchors.split(";"):
        own, shapes = part.split()
        for shape in shapes.split(","):
            for dtype in dtypes or own.split(","):
                cases.append(make_case(name, dtype, [int(size) for size in shape.split("x")]))
    return cases
