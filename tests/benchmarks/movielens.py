"""The suites' data set MovieLens-100K."""

from argparse import Namespace

from streaming.dataset import DataSetMissing
from streaming.movielens import load_movielens_100k


def missing(options: Namespace) -> str:
    """Return why a suite on it cannot run here, or nothing."""
    try:
        load_movielens_100k()
    except DataSetMissing as error:
        return str(error)
    return ""
