"""Identifiers in the application's space. Rows of embedding tables are other types (`models.vocabulary`)."""

from typing import NewType

UserId = NewType("UserId", str)
ItemId = NewType("ItemId", str)
SessionId = NewType("SessionId", str)
RequestId = NewType("RequestId", str)
EventId = NewType("EventId", str)
