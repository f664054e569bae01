"""Every kind of file that is fuzzed, by its name; `tests/corpus/` has a folder of the same name."""

from benchmarks.fuzz import (
    annotations,
    csv_rows,
    image_files,
    models,
    npz_files,
    params,
    parquet_files,
    presets,
    results,
    soft_label_files,
    tar_files,
    weight_files,
)
from benchmarks.fuzz.target import Target

TARGETS: dict[str, Target] = {
    **csv_rows.TARGETS,
    **image_files.TARGETS,
    **models.TARGETS,
    **params.TARGETS,
    **annotations.TARGETS,
    **results.TARGETS,
    **npz_files.TARGETS,
    **parquet_files.TARGETS,
    **presets.TARGETS,
    **soft_label_files.TARGETS,
    **tar_files.TARGETS,
    **weight_files.TARGETS,
}
