"""What the kinds of shards share."""

from pathlib import Path
from typing import Any


def as_data_set(shard: Path) -> dict[str, Any]:
    """A shard as a whole data set: arguments of `read_webdataset` and `read_parquet`."""
    fractions = {"val_fraction": 0.2, "test_fraction": 0.2}
    return {"data": shard.parent, "train": [shard.name], "val": None, "test": None, **fractions}
