"""Every kind of file that is fuzzed, by its name; `tests/corpus/` has a folder of the same name."""

<<<<<<< HEAD
from benchmarks.fuzz import annotations, csv_rows, params, results
=======
from benchmarks.fuzz import csv_rows, npz_files, parquet_files, soft_label_files, tar_files
>>>>>>> main
from benchmarks.fuzz.target import Target

TARGETS: dict[str, Target] = {
    **csv_rows.TARGETS,
<<<<<<< HEAD
    **params.TARGETS,
    **annotations.TARGETS,
    **results.TARGETS,
=======
    **npz_files.TARGETS,
    **parquet_files.TARGETS,
    **soft_label_files.TARGETS,
    **tar_files.TARGETS,
>>>>>>> main
}
