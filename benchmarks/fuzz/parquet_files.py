"""Parquet files: images with their labels, and tables of logits."""

import io
from pathlib import Path
from typing import Any

from benchmarks.fuzz.shards import as_data_set
from benchmarks.fuzz.target import Target

WORDS = (b"PAR1", b"bytes", b"image", b"label", b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", b"\xfe\xff\xff\xff\x0f")


def images() -> list[bytes]:
    """Small files as Hugging Face Datasets, and others, write them."""
    import pyarrow as pa

    content = [bytes([number]) * 40 for number in range(6)]
    structs = [{"bytes": one, "path": None} for one in content]
    labels = ["a", "b", "a", "b", "a", "b"]
    return [
        _written(pa.table({"image": structs, "label": labels}), compression=compression, row_group_size=size)
        for compression, size in (("none", 2), ("snappy", 6), ("zstd", 3), ("gzip", 6))
    ] + [_written(pa.table({"image": content, "label": [0, 1] * 3}), data_page_version="2.0")]


def read_images(path: Path) -> None:
    """Reads the data set and each image, as `split` and the stages do."""
    from pipeline.datasets.parquet_images import read_parquet
    from pipeline.images.parquet_rows import read_row

    found = read_parquet(**as_data_set(path), label_column="label")
    for row in range(len(found.rows)):
        read_row(path, "image", row)


def logits() -> list[bytes]:
    """Small tables of logits."""
    import pyarrow as pa

    columns = {"id": ["a", "b", "c"], "view": [0, 0, 0], "logit:x": [0.5, 1.5, 2.5], "logit:y": [1.0, 0.0, -1.0]}
    return [_written(pa.table(columns), compression=compression) for compression in ("none", "snappy", "zstd")]


def read_logits(path: Path) -> None:
    """Reads the table."""
    from pipeline.models.logit_tables import read_logit_table

    read_logit_table(path)


def _written(table: Any, **options: Any) -> bytes:
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(table, file, write_page_checksum=False, **options)
    return file.getvalue()


TARGETS = {
    "parquet_images": Target(seeds=images, run=read_images, file="images.parquet", words=WORDS),
    "parquet_logits": Target(seeds=logits, run=read_logits, file="logits.parquet", words=WORDS),
}
