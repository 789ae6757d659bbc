"""Weights by name, for networks that are a part of what was trained. Torch without torchrec."""

from collections.abc import Mapping

from torch import Tensor, nn


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], prefix: str) -> None:
    """Load into a module the weights that are kept under `prefix`; raises RuntimeError when they are not its own."""
    module.load_state_dict(
        {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    )
