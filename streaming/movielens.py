"""MovieLens-100K as shipped inside the `recbole` package, whose files are read and whose code is not imported.

Source: F. M. Harper and J. A. Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015.
"""

import csv
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from streaming.dataset import DataSet, DataSetMissing, InteractionRecord, ItemRecord, UserRecord
from streaming.events import Kind
from streaming.ids import ItemId, UserId


def load_movielens_100k() -> DataSet:
    """Return the 100,000 ratings of 943 users for 1,682 films, ordered by time (ties: file order).

    Raises DataSetMissing when the package with the files is not installed.
    """
    folder = _folder()
    ratings = [
        InteractionRecord(
            number=number,
            user_id=UserId(row["user_id"]),
            item_id=ItemId(row["item_id"]),
            kind=Kind.RATING,
            value=float(row["rating"]),
            time=int(float(row["timestamp"])) * 1000,
        )
        for number, row in enumerate(_rows(folder / "ml-100k.inter"))
    ]
    ratings.sort(key=lambda rating: (rating.time, rating.number))
    return DataSet(
        name="ml100k",
        users=[_user(row) for row in _rows(folder / "ml-100k.user")],
        items=[_item(row) for row in _rows(folder / "ml-100k.item")],
        interactions=ratings,
    )


def _folder() -> Path:
    spec = importlib.util.find_spec("recbole")
    folder = spec and spec.origin and Path(spec.origin).parent / "dataset_example" / "ml-100k"
    if not folder or not folder.is_dir():
        raise DataSetMissing("MovieLens-100K is not installed: run `uv sync --group demo`, or use `--data synthetic`")
    return folder


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        names = [column.partition(":")[0] for column in next(reader)]
        for row in reader:
            yield dict(zip(names, row, strict=True))


def _user(row: dict[str, str]) -> UserRecord:
    return UserRecord(
        UserId(row["user_id"]),
        {
            "age": float(row["age"]),
            "gender": row["gender"],
            "occupation": row["occupation"],
            "zip_code": row["zip_code"],
        },
    )


def _item(row: dict[str, str]) -> ItemRecord:
    year = row["release_year"]
    return ItemRecord(
        ItemId(row["item_id"]),
        row["movie_title"],
        row["class"].split(),
        {"release_year": float(year)} if year.isdigit() else {},  # one film has none
    )
