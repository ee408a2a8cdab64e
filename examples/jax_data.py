"""Train a small recurrent network in JAX on fresh sequences, drawn as NumPy arrays.

    pip install '.[jax]'
    python examples/jax_data.py --steps 2000

The stream needs no file and has no end. Item i of it depends on the seed and i alone. The run is
therefore the same on every machine and with every batch size.
"""

import argparse

import jax
import jax.numpy as jnp

from adding_problem import constant_predictor_mse, sample_batch_numpy

HIDDEN, BATCH, LENGTH, RATE = 32, 64, 20, 0.05


def init(key):
    """An identity matrix to remember with (Le, Jaitly & Hinton 2015).

    The weights that read and answer are small and random.
    """
    read, answer = jax.random.split(key)
    return {
        "w": 0.1 * jax.random.normal(read, (2, HIDDEN)),
        "u": jnp.eye(HIDDEN),
        "b": jnp.zeros(HIDDEN),
        "v": 0.1 * jax.random.normal(answer, (HIDDEN, 1)),
        "d": jnp.zeros(1),
    }


def mse(weights, x, y):
    """Mean squared error of a ReLU network's answer after the last step; x (B, T, 2), y (B, 1)."""

    def step(h, x_t):
        return jax.nn.relu(x_t @ weights["w"] + h @ weights["u"] + weights["b"]), None

    h, _ = jax.lax.scan(step, jnp.zeros((len(x), HIDDEN)), x.swapaxes(0, 1))
    return ((h @ weights["v"] + weights["d"] - y) ** 2).mean()


@jax.jit
def train_step(weights, x, y):
    """Gradient descent with the norm of the gradient clipped to 1."""
    gradient = jax.grad(mse)(weights, x, y)
    norm = jnp.sqrt(sum((g**2).sum() for g in jax.tree.leaves(gradient)))
    scale = RATE * jnp.minimum(1.0, 1.0 / norm)
    return jax.tree.map(lambda w, g: w - scale * g, weights, gradient)


def main() -> None:
    """Train, and score on sequences of another seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    weights = init(jax.random.key(0))
    for step in range(steps):
        weights = train_step(
            weights, *sample_batch_numpy(BATCH, LENGTH, seed=0, start=step * BATCH)
        )
    score = mse(weights, *sample_batch_numpy(2000, LENGTH, seed=43))
    print(f"validation MSE {score:.4f} (mean baseline: {constant_predictor_mse():.4f})")


if __name__ == "__main__":
    main()
