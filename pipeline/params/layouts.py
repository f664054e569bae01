"""The section `split` of `params.yaml`, whose key `layout` decides which other keys there are."""

from typing import Annotated

from pydantic import Field

from pipeline.params.shards import Parquet, Webdataset
from pipeline.params.split import Arrays, Cifar10, Csv, Folders, Mhist

Split = Annotated[Mhist | Csv | Folders | Arrays | Cifar10 | Webdataset | Parquet, Field(discriminator="layout")]
