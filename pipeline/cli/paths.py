"""The paths of all files, relative to the repository's root."""

from pathlib import Path

from pipeline.evaluation import names

INDEX = Path("data/index.csv")
SPLIT_FOLDER = Path("data/split")
LINKS = Path("data/links")
TEACHER = Path("models/teacher.keras")
TEACHER_DESCRIPTION = Path("models/teacher.json")
LOGITS = Path("data/soft_labels/teacher_logits.h5")
METRICS = Path("results/metrics.json")
HISTORY = Path("results/history")
TEACHER_HISTORY = HISTORY / f"{names.TEACHER.key}.csv"
PLOTS = Path("results/plots")
PREDICTIONS = Path("results/predictions")
REPORT = Path("results/report.html")
PICTURES = Path("results/pictures")
SPEED = Path("results/speed.json")
EXPORTS = Path("models/exports")
EXPORT_REPORTS = Path("results/exports")
EXPORT_SPEED = Path("results/export_speed.json")
MODEL_CARD = Path("results/MODEL_CARD.md")
STUDENTS = Path("models/students")
BASELINES = Path("models/baselines")

AFTER_SPLIT = (
    *(TEACHER, TEACHER_DESCRIPTION, STUDENTS, BASELINES, EXPORTS, LOGITS.parent),
    *(METRICS, HISTORY, PLOTS, PREDICTIONS, REPORT, PICTURES, SPEED, EXPORT_REPORTS, EXPORT_SPEED, MODEL_CARD),
)
"""What the stages after `split` write: files, and folders whose content is theirs."""


def soft_targets_file(temperature: str) -> Path:
    """The soft labels of one temperature, written as in params.yaml."""
    return LOGITS.with_name(f"soft_targets_T{temperature}.h5")


def student_file(group: names.Group, seed: int) -> Path:
    """The file of one student of a group."""
    return STUDENTS / f"{group.variant}_seed{seed}.keras"


def student_history(group: names.Group, seed: int) -> Path:
    """The training curves of one student of a group."""
    return HISTORY / f"{group.model(seed)}.csv"


def baseline_file(seed: int) -> Path:
    """The file of one baseline: the student, trained without soft labels."""
    return BASELINES / f"seed{seed}.keras"


def baseline_history(seed: int) -> Path:
    """The training curves of one baseline."""
    return HISTORY / f"{names.BASELINE.model(seed)}.csv"


def model_file(group: names.Group, seed: int) -> Path:
    """The file of one student of a group, or of one baseline."""
    return baseline_file(seed) if group == names.BASELINE else student_file(group, seed)
