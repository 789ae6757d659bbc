"""The files of the MovieLens data sets (https://grouplens.org/datasets/movielens/), told by their names."""

from collections.abc import Mapping as Values
from typing import Any

from services.api.problems import FieldError
from services.imports.mapped import event_by
from services.imports.mapping import Mapping
from services.imports.stamp import Stamp
from streaming.events import Event

_GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_RATING_FIELDS = {"user_id": "userId", "item_id": "movieId", "value": "rating", "happened_at": "timestamp"}


def _ratings(**layout: Any) -> Mapping:
    return Mapping(
        entity="interactions",
        fields=_RATING_FIELDS,
        constants={"kind": "rating"},
        time_unit="seconds",
        **layout,
    )


def _films(**layout: Any) -> Mapping:
    fields = {"item_id": "movieId", "title": "title", "categories": "genres"}
    return Mapping(entity="items", fields=fields, **layout)


def _people(**layout: Any) -> Mapping:
    return Mapping(
        entity="users", fields={"user_id": "userId"}, attributes=["gender", "age", "occupation", "zip_code"], **layout
    )


_RATING_COLUMNS = ["userId", "movieId", "rating", "timestamp"]
_OLD = {"separator": "::", "encoding": "latin-1"}
MOVIELENS: Values[str, Mapping] = {
    "ratings.csv": _ratings(),
    "movies.csv": _films(),
    "ratings.dat": _ratings(columns=_RATING_COLUMNS, **_OLD),
    "movies.dat": _films(columns=["movieId", "title", "genres"], **_OLD),
    "users.dat": _people(columns=["userId", "gender", "age", "occupation", "zip_code"], **_OLD),
    "u.data": _ratings(columns=_RATING_COLUMNS, separator="\t"),
    "u.item": Mapping(
        entity="items",
        fields={"item_id": "movieId", "title": "title", "categories": "genres"},
        columns=["movieId", "title", "released", "video", "url", *_GENRES],
        attributes=["released"],
        separator="|",
        encoding="latin-1",
    ),
    "u.user": _people(columns=["userId", "age", "gender", "occupation", "zip_code"], separator="|"),
}
"""The files of the MovieLens data sets (https://grouplens.org/datasets/movielens/) by name."""


def movielens_event(mapping: Mapping, row: Values[str, Any], number: int, stamp: Stamp) -> Event | FieldError:
    """Return the event of a row, or what is wrong with it."""
    if mapping is MOVIELENS["u.item"]:  # a column for each genre
        row = {**row, "genres": [genre for genre in _GENRES if row[genre] == "1"]}
    return event_by(mapping, row, number, stamp)
