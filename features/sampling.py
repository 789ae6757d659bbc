"""How an example came about, as the examples table says it, and for how long a slate waits for its clicks."""

POSITIVE, POPULAR, UNIFORM, IMPRESSION = "positive", "popular", "uniform", "impression"
"""Chosen by the user; drawn by use, or uniformly, beside it; shown by a slate."""

CLICK_WINDOW_MS = 30 * 60_000
"""The time after which a shown item that was not clicked is one that the user passed over."""
