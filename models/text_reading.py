"""Titles and texts for a training, where the settings ask for them."""

from collections.abc import Callable
from dataclasses import replace

from models.config import TextSettings, texts_file
from models.dataset import TrainingData
from models.text_cache import with_text_vectors
from models.text_encoder import MiniLm
from streaming.namespace import Namespace

ReadText = Callable[[TrainingData], TrainingData]
"""Returns the data with its items' text vectors, or as it is where no text is to be read."""


def text_reader(settings: TextSettings, namespace: Namespace) -> ReadText:
    """Return what encodes the items of training data, those of new texts only.

    Raises TextExtraMissing when text is to be read and the extra is not installed.
    """
    if not settings.enabled:
        return lambda data: data
    encoder, file = MiniLm.installed(), texts_file(settings, namespace)
    return lambda data: replace(data, items=with_text_vectors(data.items, encoder, file))
