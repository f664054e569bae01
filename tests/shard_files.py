"""Shards as other programs write them: tar files of samples, and Parquet files as Hugging Face Datasets writes them."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def write_tar(path: str | Path, members: Mapping[str, bytes], kind: int = tarfile.PAX_FORMAT) -> None:
    """Writes a tar file of these members, in this order."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))


def write_parquet(
    path: str | Path, columns: Mapping[str, Any], names: Mapping[str, Sequence[str]] | None = None, **settings: Any
) -> None:
    """Writes a Parquet file; `names` are those of the labels of columns, as Hugging Face Datasets states them."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if names is not None:
        features = {column: {"names": list(of), "_type": "ClassLabel"} for column, of in names.items()}
        told = {"info": {"features": {**features, "image": {"_type": "Image"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(told)})
    pq.write_table(table, path, **settings)


def as_structs(contents: Sequence[bytes | None], paths: Sequence[str | None] | None = None) -> pa.Array:
    """The images of a column, as Hugging Face Datasets stores them."""
    named = paths or [None] * len(contents)
    rows = [{"bytes": content, "path": path} for content, path in zip(contents, named, strict=True)]
    return pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
