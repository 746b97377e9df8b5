"""The truth against what the standard library's `math` says of the same numbers, one by one. Mistakes caught: a mean
over the wrong axis, an epsilon outside the root, a gradient without its last term. SPDX-License-Identifier: Apache-2.0
"""

import math
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import HAS_NUMPY

# isort: split
import sides

import ops


def slope(function, x, place):
    """d function / d x[place], by differences."""
    step = 1e-5
    up, down = list(x), list(x)
    up[place] += step
    down[place] -= step
    return (function(up) - function(down)) / (2 * step)


def softmax(x):
    powers = [math.exp(value) for value in x]
    return [power / sum(powers) for power in powers]


def norm(x, weight, centred):
    mean = sum(x) / len(x) if centred else 0
    root = math.sqrt(sum((value - mean) ** 2 for value in x) / len(x) + 1e-5)
    return [(value - mean) / root * w for value, w in zip(x, weight)]


@unittest.skipUnless(HAS_NUMPY, "there is no NumPy")
class Truth(unittest.TestCase):
    def of(self, name, shape=(3, 5)):
        side = sides.open_side("numpy")
        case = ops.make_case(name, "f32", list(shape))
        t = sides.wide_part(side, case, sides.fresh_inputs(side, case, 0), 0, shape[0])
        return t, {key: value for key, (value, _) in case.op.truth(side, t).items()}

    def same(self, got, wanted):
        self.assertEqual(len(got), len(wanted))
        for a, b in zip(got, wanted):
            self.assertAlmostEqual(float(a), b, delta=1e-7 * (1 + abs(b)))

    def test_rows(self):
        t, found = self.of("softmax")
        _, logs = self.of("log_softmax")
        for x, y, log in zip(t["x"], found["y"], logs["y"]):
            self.same(y, softmax(x))
            self.same(log, [math.log(value) for value in softmax(x)])
        for name, centred in (("layer_norm", True), ("rms_norm", False)):
            t, found = self.of(name)
            for x, y in zip(t["x"], found["y"]):
                self.same(y, norm(x, t["weight"], centred))
        t, found = self.of("cross_entropy_grad")
        for x, target, loss, grad in zip(t["logits"], t["target"], found["loss"], found["dlogits"]):
            self.same([loss], [-math.log(softmax(x)[target])])
            self.same(grad, [p - (place == target) for place, p in enumerate(softmax(x))])

    def test_backwards(self):
        for name, centred in (("layer_norm_backward", True), ("rms_norm_backward", False)):
            t, found = self.of(name)
            for x, g, grad in zip(t["x"], t["grad_y"], found["grad_x"]):

                def loss(values, g=g, weight=t["weight"], centred=centred):
                    return sum(a * b for a, b in zip(g, norm(values, weight, centred)))

                self.same(grad, [slope(loss, x, place) for place in range(5)])
            ones = [1] * 5
            self.same(
                found["grad_weight"],
                [sum(g[c] * norm(x, ones, centred)[c] for x, g in zip(t["x"], t["grad_y"])) for c in range(5)],
            )
        t, found = self.of("swiglu_backward")
        for place in ((0, 0), (2, 4)):

            def silu(values, up=t["up"][place], g=t["grad_y"][place]):
                return g * up * values[0] / (1 + math.exp(-values[0]))

            self.same([found["grad_gate"][place]], [slope(silu, [t["gate"][place]], 0)])

    def test_elements(self):
        t, found = self.of("geglu")
        for gate, up, y in zip(t["gate"].ravel(), t["up"].ravel(), found["y"].ravel()):
            self.same([y], [0.5 * gate * (1 + math.erf(gate / math.sqrt(2))) * up])
        t, found = self.of("rope", (4, 2, 6))
        for token in range(4):
            at = t["positions"][token]
            for head in range(2):
                x = t["x"][token, head]
                turned = [complex(x[i], x[i + 3]) * complex(t["cos"][at, i], t["sin"][at, i]) for i in range(3)]
                self.same(found["y"][token, head], [z.real for z in turned] + [z.imag for z in turned])


if __name__ == "__main__":
    unittest.main()
