"""Stage `evaluate`: teacher, students and baselines on the test images."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import flops, model_files
from pipeline.artifacts import forget_finished, publish, sha256_file
from pipeline.identity import refuse_other, rows_of
from pipeline.images import Images
from pipeline.index import Index, read_index, refuse_changed
from pipeline.inference import all_logits
from pipeline.metrics import Floats, Ints, confusion, reliability, roc_points, summarise
from pipeline.soft_labels import open_logits

Report = dict[str, Any]


def run(
    *,
    index: Path,
    teacher: Path,
    logits: Path,
    students: Mapping[str, Mapping[int, Path]],
    baselines: Mapping[int, Path],
    batch_size: int,
    output: Path,
    plots: Path,
) -> None:
    """Writes `metrics.json` and the tables behind the plots.

    The teacher's logits come from the soft-label file; its model is loaded only to be measured.

    Args:
        index: `data/index.csv`.
        teacher: the teacher's `.keras` file.
        logits: `teacher_logits.h5`.
        students: for each temperature, as written in params.yaml, the `.keras` file of each seed.
        baselines: the `.keras` file of each seed.
        batch_size: images in one forward pass.
        output: the JSON file to write.
        plots: the folder to write: roc, confusion and reliability, each with a CSV file for every model.

    Raises:
        PipelineError: a file is missing or does not belong to this data set.
    """
    data = read_index(index)
    test = data.split("test")
    refuse_changed(test)
    labels = np.array(data.labels(test))
    teacher_model = model_files.load_classifier(teacher, data.class_names)
    of_teacher = _teacher_logits(data, teacher, logits)
    groups = {"baseline": baselines} | {f"student_T{t}": files for t, files in students.items()}
    scores = {"teacher": of_teacher}
    reports = {"teacher": {"quality": summarise(of_teacher, labels, of_teacher)} | _cost(teacher_model, teacher)}
    with_pixels = _PixelCache([image.path for image in test], batch_size)
    for group, files in groups.items():
        by_seed = {}
        for seed, file in files.items():
            name = f"{group}_seed{seed}"
            model = model_files.load_classifier(file, data.class_names)
            scores[name] = with_pixels.logits(model, name)
            by_seed[str(seed)] = summarise(scores[name], labels, of_teacher)
        reports[group] = {"quality": _spread(by_seed), "seeds": by_seed} | _cost(model, file)
    for temperature in students:
        _add_gain(reports[f"student_T{temperature}"], reports["baseline"])
    _write_json({"test_images": len(test), "models": reports}, output)
    _write_plots(scores, labels, data.class_names, plots)
    forget_finished(teacher, *(file for files in groups.values() for file in files.values()))
    print(f"wrote {output} and {plots}")


class _PixelCache:
    """Runs models over the test images, which are decoded once for each input size."""

    def __init__(self, paths: list[str], batch_size: int) -> None:
        self.paths, self.batch_size = paths, batch_size
        self.images: dict[tuple[int, ...], Images] = {}

    def logits(self, model: Any, title: str) -> Floats:
        shape = model.input_shape[1:]
        if shape not in self.images:
            self.images[shape] = Images(self.paths, shape, keep=True)
        return all_logits(model, self.images[shape], self.batch_size, title)


def _teacher_logits(data: Index, teacher: Path, path: Path) -> Floats:
    """The teacher's logits of the untouched test images, joined by id: (N, C)."""
    test = data.split("test")
    with open_logits(path) as file:
        refuse_other(file, data, teacher_sha256=sha256_file(teacher))
        rows = rows_of(file, "test", [image.id for image in test])
        return np.asarray(file.storage.logits(file.columns("test", 0), file.classes)[rows])


def _cost(model: Any, file: Path) -> Report:
    """What a model costs to store and to run."""
    return {
        "parameters": flops.parameters(model),
        "flops": flops.forward_flops(model),
        "file_bytes": file.stat().st_size,
    }


def _spread(by_seed: Mapping[str, Mapping[str, float]]) -> Report:
    """Mean and sample standard deviation over seeds; one seed has no deviation."""
    table = pd.DataFrame(by_seed).T
    rows = table.agg(["mean", "std"] if len(table) > 1 else ["mean"])
    return {str(name): {str(key): float(value) for key, value in column.items()} for name, column in rows.items()}


def _add_gain(student: Report, baseline: Report) -> None:
    """Student less baseline, seed by seed."""
    pairs = {
        seed: {name: value - baseline["seeds"][seed][name] for name, value in quality.items()}
        for seed, quality in student["seeds"].items()
    }
    student["gain"] = _spread(pairs)


def _write_json(document: Report, output: Path) -> None:
    with publish(output) as partial, partial.open("x", encoding="utf-8") as file:
        json.dump(document, file, indent=2, allow_nan=False)
        file.write("\n")


def _write_plots(scores: Mapping[str, Floats], labels: Ints, class_names: list[str], plots: Path) -> None:
    with publish(plots) as folder:
        for name, logits in scores.items():
            tables = {
                "roc": roc_points(logits, labels, class_names),
                "confusion": confusion(logits, labels, class_names),
                "reliability": reliability(logits, labels),
            }
            for kind, table in tables.items():
                file = folder / kind / f"{name}.csv"
                file.parent.mkdir(parents=True, exist_ok=True)
                table.to_csv(file, index=False, lineterminator="\n", float_format="%.6g")
