"""Batches that move to the device that trains on them."""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torchrec.streamable import Pipelineable


@dataclass(frozen=True)
class DeviceBatch(Pipelineable):
    """One process's part of a step: a dataclass of tensors and KeyedJaggedTensors, made on the CPU."""

    def to(self, device: torch.device, non_blocking: bool = False) -> Self:
        """Return it on a device."""
        return self._each(lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Return it in memory from which a GPU copies by itself."""
        return self._each(lambda value: value.pin_memory())

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep its memory until what the stream does with it is done."""
        for field in fields(self):
            getattr(self, field.name).record_stream(stream)

    def _each(self, change: Any) -> Self:
        return replace(self, **{field.name: change(getattr(self, field.name)) for field in fields(self)})
