"""Stage `soften`: turns the teacher's logits into soft labels of one temperature. Needs no TensorFlow."""

from pathlib import Path

from pipeline.runtime.workspace import forget_finished
from pipeline.soft_labels.writing import soften_file


def run(*, logits: Path, soft_targets: Path, temperature: float) -> None:
    """Writes `soft_targets_T<T>.h5`.

    Args:
        logits: the `teacher_logits.h5` to read.
        soft_targets: the file to write.
        temperature: T > 0; above 1 softens, below 1 sharpens.

    Raises:
        MissingError: there is no logits file.
        DamagedError: it is damaged.
    """
    soften_file(logits, soft_targets, temperature)
    forget_finished(logits)
    print(f"wrote {soft_targets}")
