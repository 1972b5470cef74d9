"""Many small ReLU networks at once: drawn, trained and evaluated side by side, each with its own points.

The networks are independent, so one sweep over stacked tensors gives every network its own gradient; Adam and SGD work
elementwise, so one optimizer serves all. The R networks lie next to the last axis but for the batch:

    layers    [(W (out, in, R), b (out, R)), ...]     the last one is the linear output
    x         (R, n)                                  a row of points for each network
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch

from utils.files import warn

HALF_INTERVAL = np.sqrt(7)  # the inputs are uniform in [-sqrt 7, sqrt 7]
CHUNK = 1000  # networks held in memory at a time
GRID = 1001  # points of the interval on which a network is evaluated; odd, so that zero is one of them
RAI_SCALE = 0.6007  # Lu et al. (2020): keeps the second moment of the layers' outputs
TARGETS = {  # the one-dimensional targets of Lu et al. (2020)
    "abs": torch.abs,
    "x_sin_5x": lambda x: x * torch.sin(5 * x),
    "step_sin_5x": lambda x: (x > 0).to(x.dtype) + 0.2 * torch.sin(5 * x),
}
INITIALIZATIONS = ("he", "glorot", "pytorch", "rai")


def draw_layers(width: int, hidden: int, initialization: str, seed: int, networks: range) -> list[tuple]:
    """Return the layers, float64, of the networks with these numbers; each depends on the seed and its number alone.

    he: N(0, 2 / in), zero bias. glorot: N(0, 2 / (in + out)), zero bias. pytorch: nn.Linear's default, weights and
    biases uniform in +-1 / sqrt(in). rai: randomized asymmetric initialization, in which each unit's weights and bias
    are N(0, (0.6007 / sqrt(in))^2) but one of them, chosen at random, is a draw from Beta(2, 1), which is positive.
    """
    if initialization not in INITIALIZATIONS:
        raise ValueError(f"initialization {initialization!r} is unknown; choose from {', '.join(INITIALIZATIONS)}")
    sizes = [1, *[width] * hidden, 1]
    drawn = [_draw_network(sizes, initialization, np.random.default_rng([seed, 0, k])) for k in networks]
    layers = []
    for number in range(len(sizes) - 1):
        weights = np.stack([network[number][0] for network in drawn], axis=-1)
        biases = np.stack([network[number][1] for network in drawn], axis=-1)
        layers.append((torch.from_numpy(weights), torch.from_numpy(biases)))
    return layers


def _draw_network(sizes, initialization, rng):
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        bias = np.zeros(fan_out)
        if initialization == "he":
            weight = rng.normal(0, np.sqrt(2 / fan_in), (fan_out, fan_in))
        elif initialization == "glorot":
            weight = rng.normal(0, np.sqrt(2 / (fan_in + fan_out)), (fan_out, fan_in))
        elif initialization == "pytorch":
            bound = 1 / np.sqrt(fan_in)
            weight, bias = rng.uniform(-bound, bound, (fan_out, fan_in)), rng.uniform(-bound, bound, fan_out)
        else:
            both = rng.normal(0, RAI_SCALE / np.sqrt(fan_in), (fan_out, fan_in + 1))
            both[np.arange(fan_out), rng.integers(fan_in + 1, size=fan_out)] = rng.beta(2, 1, fan_out)
            weight, bias = both[:, :-1], both[:, -1]
        layers.append((weight, bias))
    return layers


def draw_points(n: int, seed: int, networks: range) -> torch.Tensor:
    """Return the training points (R, n), float64, of the networks with these numbers."""
    rows = [np.random.default_rng([seed, 1, k]).uniform(-HALF_INTERVAL, HALF_INTERVAL, n) for k in networks]
    return torch.from_numpy(np.stack(rows))


def draw_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order (n,) of the points in an epoch: one for all networks, since their points are independent."""
    return np.random.default_rng([seed, 2, epoch]).permutation(n)


def forward(layers: list[tuple], x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Return the outputs (R, n) for x (R, n); negative pre-activations are multiplied by the slope (0: ReLU)."""
    return _signals(layers, x, slope)[0][0]


def _signals(layers, x, slope):
    """Return the output (1, R, n), and of each layer its inputs (in, R, n) and where it was positive (out, R, n)."""
    h, inputs, positive = x[None], [], []
    for weight, bias in layers:
        inputs.append(h)
        z = (weight[..., None] * h).sum(dim=1) + bias[..., None]
        positive.append(z > 0)
        h = torch.where(positive[-1], z, slope * z)
    return z, inputs, positive


def gradients(
    layers: list[tuple], x: torch.Tensor, y: torch.Tensor, share: torch.Tensor, slope: torch.Tensor, power: int
) -> list[tuple]:
    """Return the gradients of every network's own loss, shaped like the layers: the chain rule, written out.

    The loss is the mean over the batch of |output - y|^power, power 2 or 1, for x, y (R, batch); share (batch,) is
    1 / size of the batch, and 0 where a last, smaller batch is padded. Written out because a compiler then fuses all
    of it into one pass over the networks, which autograd's separate forward and backward passes prevent.
    """
    output, inputs, positive = _signals(layers, x, slope)
    error = output - y
    delta = share * (2 * error if power == 2 else error.sign())
    by_layer = []
    for layer in reversed(range(len(layers))):
        by_layer.append(((delta[:, None] * inputs[layer]).sum(dim=-1), delta.sum(dim=-1)))
        if layer:
            delta = (layers[layer][0][..., None] * delta[:, None]).sum(dim=0)
            delta = torch.where(positive[layer - 1], delta, slope * delta)
    return by_layer[::-1]


def train(
    layers: list[tuple],
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    slope: float,
    loss: str,
    optimizer: str,
    learning_rate: float,
    batch_size: int,
    epochs: int,
    seed: int,
    epsilon: float = 1e-8,
    compiled: bool = False,
    after_epoch: Callable[[int, list[tuple]], None] = lambda epoch, layers: None,
) -> bool:
    """Train the layers in place on x, y (R, n): minibatches in a new order each epoch, the last one smaller.

    `loss` is "mse" or "mae", `optimizer` "adam" (with its epsilon) or "sgd" (plain). Calls after_epoch(epoch, layers)
    after each epoch.
    Returns whether the computation was compiled: not where no compiler was found.
    """
    parameters = [tensor for layer in layers for tensor in layer]
    stepper: torch.optim.Optimizer = torch.optim.SGD(parameters, lr=learning_rate, fused=True)
    if optimizer == "adam":
        stepper = torch.optim.Adam(parameters, lr=learning_rate, eps=epsilon, fused=True)
    differentiate, was_compiled = compile_or_explain(gradients) if compiled else (gradients, lambda: False)
    slope_tensor, power = torch.tensor(slope, dtype=x.dtype, device=x.device), {"mse": 2, "mae": 1}[loss]
    n = x.shape[1]
    updates = -(-n // batch_size)
    # One shape for all batches, so that one compilation serves them all: the last is padded with points of no weight.
    share = torch.full((updates, batch_size), 1 / batch_size, dtype=x.dtype, device=x.device)
    last = n - (updates - 1) * batch_size
    share[-1, :last], share[-1, last:] = 1 / last, 0
    x_rows, y_rows = x.T.contiguous(), y.T.contiguous()  # whole rows are faster to shuffle than single numbers

    def in_batches(rows, order):  # (updates, networks, batch_size)
        return rows[order].unflatten(0, (updates, batch_size)).mT.contiguous()

    for epoch in range(1, epochs + 1):
        order = torch.from_numpy(np.resize(draw_order(n, seed, epoch), updates * batch_size)).to(x.device)
        batches = in_batches(x_rows, order), in_batches(y_rows, order)
        for x_batch, y_batch, weights in zip(*batches, share, strict=True):
            by_layer = differentiate(layers, x_batch, y_batch, weights, slope_tensor, power)
            for (weight, bias), (weight_gradient, bias_gradient) in zip(layers, by_layer, strict=True):
                weight.grad, bias.grad = weight_gradient, bias_gradient
            stepper.step()
        after_epoch(epoch, layers)
    return was_compiled()


def compile_or_explain(function: Callable) -> tuple[Callable, Callable[[], bool]]:
    """Return the function compiled by torch.compile, and another that tells whether that has worked so far.

    Where that fails, for want of a compiler perhaps, the first call says so, and it and all others are
    computed without.
    """
    compiled: list[Callable] = []
    broken: list[bool] = []

    def call(*arguments):
        if not broken:
            try:
                if not compiled:
                    compiled.append(torch.compile(function, dynamic=False))
                return compiled[0](*arguments)
            except Exception as error:  # the function's own errors are raised below
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                warn(f"torch.compile does not work here ({reason}); going on without, slower.")
                broken.append(True)
        return function(*arguments)

    return call, lambda: not broken


def evaluate(layers: list[tuple], slope: float, target: str) -> dict[str, np.ndarray]:
    """Compare each network with the target on a grid of the interval, in float64; return arrays (R,).

    range: largest minus smallest output, relative to the target's; left_range, right_range: the same for x < 0 and
    x > 0; r2: 1 - mean squared error / variance of the target; value: the mean output; curve (R, 1001).
    """
    x = torch.linspace(-HALF_INTERVAL, HALF_INTERVAL, GRID, dtype=torch.float64)
    y = TARGETS[target](x)
    with torch.no_grad():
        exact = [(weight.cpu().double(), bias.cpu().double()) for weight, bias in layers]
        curve = forward(exact, x.expand(exact[0][1].shape[-1], -1), torch.tensor(slope, dtype=torch.float64))
    spread = y.max() - y.min()
    middle = GRID // 2

    def relative_range(part):
        return ((part.max(dim=1).values - part.min(dim=1).values) / spread).numpy()

    return {
        "range": relative_range(curve),
        "left_range": relative_range(curve[:, :middle]),
        "right_range": relative_range(curve[:, middle + 1 :]),
        "r2": (1 - (curve - y).square().mean(dim=1) / y.var(correction=0)).numpy(),
        "value": curve.mean(dim=1).numpy(),
        "curve": curve.numpy(),
    }


def dead_layers(layers: list[tuple], slope: float) -> np.ndarray:
    """Return in how many hidden layers no unit is positive (2, R), for x = -1 and for x = 1, in float64.

    With zero biases the network is positively homogeneous, so that x = -1 and x = 1 stand for all x on their side of
    zero. With the slope 0 a signal that has died stays dead: a side is alive if and only if the number is 0.
    """
    sides = torch.tensor([-1.0, 1.0], dtype=torch.float64).expand(layers[0][1].shape[-1], 2)
    _, _, positive = _signals(layers, sides, torch.tensor(slope, dtype=torch.float64))
    return sum((~layer.any(dim=0)).T.numpy().astype(int) for layer in positive[:-1])


def count_born_dead(width: int, hidden: int, networks: int, seed: int) -> np.ndarray:
    """Return how many of `networks` networks are constant after 1, 2, ..., hidden layers (hidden,); He, zero bias.

    Without biases the network is positively homogeneous, f(x) = |x| f(sign x): it is constant exactly if the signals
    that start from x = 1 and x = -1 have both died. They are followed through freshly drawn layers; a network whose
    signals have died is dead at every greater depth.
    """
    rng = np.random.default_rng([seed, 3, width])
    dead = np.zeros(hidden, dtype=np.int64)
    for start in range(0, networks, CHUNK * 20):
        n = min(CHUNK * 20, networks - start)
        first = rng.standard_normal((n, width, 1), dtype=np.float32) * np.sqrt(2)
        signals = np.maximum(np.concatenate([first, -first], axis=2), 0)  # (n, width, 2)
        for layer in range(hidden):
            if layer:
                weights = rng.standard_normal((len(signals), width, width), dtype=np.float32) * np.sqrt(2 / width)
                signals = np.maximum(weights @ signals, 0)
            signals = signals[(signals > 0).any(axis=(1, 2))]
            dead[layer] += n - len(signals)
    return dead


def born_dead_bounds(width: int, hidden: int) -> tuple[float, float]:
    """Return the lower and upper bound of the probability to be born dead (Lu et al. 2020).

    One input, zero bias, constant width N, L = hidden + 1 layers.
    """
    n, layers = width, hidden + 1
    a1, a2 = 1 - 2.0**-n, 1 - 2.0 ** (1 - n) - (n - 1) * 2.0 ** (-2 * n)
    ratio = (1 - 2.0 ** (1 - n)) * (1 - 2.0**-n) / (1 + (n - 1) * 2.0**-n)
    return 1 - a1 ** (layers - 2) + ratio * (a2 ** (layers - 2) - a1 ** (layers - 2)), 1 - a1 ** (layers - 1)
