"""A client of the services for Python applications: `Client`, and `AsyncClient` for event loops.

It is typed by the bodies of the services themselves and imports neither Kafka nor anything of the models but settings.
"""

from services.client.asynchronous import AsyncClient
from services.client.errors import BufferFull, ClientError, Refused, Unavailable, Undelivered
from services.client.options import Buffering, Services
from services.client.retry import Retry
from services.client.synchronous import Client
from services.collect.bodies import EventBody, IdentityBody, ItemBody, Result, UserBody
from services.recommend.bodies import (
    RankAnswer,
    RankRequest,
    RecommendAnswer,
    RecommendRequest,
    SessionEvent,
    SimilarAnswer,
    SimilarRequest,
)

__all__ = [
    "AsyncClient",
    "BufferFull",
    "Buffering",
    "Client",
    "ClientError",
    "EventBody",
    "IdentityBody",
    "ItemBody",
    "RankAnswer",
    "RankRequest",
    "RecommendAnswer",
    "RecommendRequest",
    "Refused",
    "Result",
    "Retry",
    "Services",
    "SessionEvent",
    "SimilarAnswer",
    "SimilarRequest",
    "Unavailable",
    "Undelivered",
    "UserBody",
]
