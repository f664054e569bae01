"""The figures of the report with the words that go with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from pipeline.evaluation.curves import Curves
from pipeline.evaluation.dvc_plots import read_plot
from pipeline.evaluation.temperatures import METRICS, STUDENT
from pipeline.report.panels import (
    areas_of_classes,
    class_roc_panel,
    confusion_panel,
    few_classes,
    measures_in,
    reliability_panel,
    roc_panel,
    temperature_panel,
    training_panel,
)
from pipeline.report.style import svg


@dataclass(frozen=True)
class Shown:
    """A figure in the page.

    Attributes:
        title: above it.
        alt: what it shows, for those who cannot see it.
        drawing: an SVG element.
    """

    title: str
    alt: str
    drawing: Markup


class Drawings:
    """Draws the figures of the page.

    Args:
        models: as `metrics.json` has them.
        curves: of all trainings.
        groups: for each role (teacher, student, baseline) the key of its group.
        names: for each role the names of its models.
        plots: the folder of tables behind the plots.
    """

    def __init__(
        self,
        models: Mapping[str, Any],
        curves: Sequence[Curves],
        groups: Mapping[str, str],
        names: Mapping[str, Sequence[str]],
        plots: Path,
    ) -> None:
        self.models, self.curves, self.groups, self.names, self.plots = models, curves, groups, names, plots

    def temperatures(self) -> list[Shown]:
        """Accuracy and AUC of the students against T."""
        return [
            _shown(
                name,
                f"{name} of the students on the test images against the temperature, beside teacher and baseline. "
                + "; ".join(self._of_temperatures(metric)),
                temperature_panel(self.models, metric),
            )
            for metric, name in METRICS.items()
        ]

    def _of_temperatures(self, metric: str) -> list[str]:
        return [
            f"T = {group.removeprefix(STUDENT)}: {report['quality'][metric]['mean']:.3f}"
            for group, report in self.models.items()
            if group.startswith(STUDENT)
        ]

    def training(self) -> list[Shown]:
        """Each measure of the trainings, epoch by epoch."""
        return [
            _shown(
                name,
                f"{name} in each epoch, on training and validation images. {self._last(measure)}",
                training_panel(self.curves, self.groups, measure),
            )
            for measure, name in measures_in(self.curves, self.groups).items()
        ]

    def _last(self, measure: str) -> str:
        """The last validation value of those that have any, the mean over seeds."""
        column, found = f"val_{measure}", []
        for role, group in self.groups.items():
            last = [one.table[column].iloc[-1] for one in self.curves if one.group == group and column in one.table]
            found += [f"{role} at the end, on validation images: {sum(last) / len(last):.3f}"] if last else []
        return "; ".join(found)

    def roc(self, class_names: Sequence[str]) -> list[Shown]:
        """The ROC of teacher, student and baseline; of more than two classes, that of the student class by class.

        Args:
            class_names: C names.
        """
        tables = self._tables("roc")
        areas = "; ".join(f"{role}: area {self._mean(group, 'auc'):.3f}" for role, group in self.groups.items())
        if len(class_names) == 2:
            of_one = f"{class_names[1]} against {class_names[0]}"
            alt = f"True against false positive rate of {of_one}, the mean over seeds. {areas}"
            return [_shown(f"ROC of {of_one}", alt, roc_panel(tables))]
        alt = f"True against false positive rate, the mean over classes and seeds. {areas}"
        of_student = areas_of_classes(tables["student"], class_names)
        shown = few_classes(of_student)
        title = "ROC of the student, " + ("class by class" if len(shown) == len(of_student) else "of its worst classes")
        by_class = "; ".join(f"{name}: area {of_student[name]:.3f}" for name in shown)
        return [
            _shown("ROC, mean over classes", alt, roc_panel(tables)),
            _shown(
                title,
                f"True against false positive rate of each class against the others, the mean over seeds. {by_class}",
                class_roc_panel(tables["student"], shown),
            ),
        ]

    def reliability(self) -> Shown:
        """Their reliability."""
        errors = [f"{role}: calibration error {self._mean(group, 'ece'):.3f}" for role, group in self.groups.items()]
        alt = f"Share of right answers against confidence, the diagonal is ideal. {'; '.join(errors)}"
        return _shown("Reliability", alt, reliability_panel(self._tables("reliability")))

    def confusion(self, role: str, said: Sequence[pd.DataFrame], class_names: Sequence[str]) -> Shown:
        """The confusion of one of them.

        Args:
            role: "teacher", "student" or "baseline".
            said: of each seed its `predictions.prediction_table`.
            class_names: C names.
        """
        alt = (
            f"Of the images of each class, the per cent for which the {role} chose each class. "
            f"On the diagonal it is right: {100 * self._mean(self.groups[role], 'accuracy'):.1f} % of all images"
        )
        return _shown(f"Confusion of the {role}", alt, confusion_panel(said, class_names))

    def _mean(self, group: str, metric: str) -> float:
        value = self.models[group]["quality"][metric]
        return float(value["mean"] if isinstance(value, dict) else value)

    def _tables(self, kind: str) -> dict[str, list[pd.DataFrame]]:
        return {role: [read_plot(self.plots, kind, name) for name in names] for role, names in self.names.items()}


def _shown(title: str, alt: str, figure: Figure) -> Shown:
    return Shown(title, alt, Markup(svg(figure, alt)))  # noqa: S704 - matplotlib escapes what it draws
