"""The layouts of data sets, each with its reader."""

from collections.abc import Callable
from typing import Literal

from pipeline.datasets.arrays import read_arrays, read_cifar10
from pipeline.datasets.class_folders import read_folders
from pipeline.datasets.csv_tables import read_csv, read_mhist
from pipeline.datasets.labelled import DataSet
from pipeline.datasets.parquet_images import read_parquet
from pipeline.datasets.webdataset import read_webdataset

Layout = Literal["mhist", "csv", "folders", "arrays", "cifar10", "webdataset", "parquet"]
LAYOUTS: dict[Layout, Callable[..., DataSet]] = {
    "mhist": read_mhist,
    "csv": read_csv,
    "folders": read_folders,
    "arrays": read_arrays,
    "cifar10": read_cifar10,
    "webdataset": read_webdataset,
    "parquet": read_parquet,
}
