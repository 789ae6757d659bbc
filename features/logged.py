"""Reading the features that an impression logged at serving."""

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - the customary name
from pyspark.sql.types import DataType, StringType


def logged_feature(column: str, name: str, kind: DataType) -> Column:
    """Return the feature `name` of a JSON object in `column` as `kind`, null when it is not there or no such value."""
    logged = F.get_json_object(column, f"$.{name}")
    if isinstance(kind, StringType):
        return logged
    return logged.try_cast("double").try_cast(kind)  # counts are logged as numbers with a point
