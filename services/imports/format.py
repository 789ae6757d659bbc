"""The formats of files that can be imported."""

from enum import StrEnum


class Format(StrEnum):
    """What a file is."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    GORSE = "gorse"
    METARANK = "metarank"
    MOVIELENS = "movielens"
