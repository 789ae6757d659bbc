"""Erasing a user from every store, the receipt for it, and the search that proves it."""
