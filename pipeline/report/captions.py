"""Draws the figures of the report, and gives each its title and a text for readers who cannot see it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from pipeline.evaluation.curves import Curves, Measure
from pipeline.evaluation.dvc_plots import PlotKind, read_plot
from pipeline.evaluation.metrics import METRICS, MetricName
from pipeline.evaluation.names import Group, Role
from pipeline.evaluation.temperatures import DRAWN, students_of
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
from pipeline.runtime.errors import MismatchError


@dataclass(frozen=True)
class CaptionedFigure:
    """A figure on the page.

    Attributes:
        title: the title above it.
        alt: what it shows, for readers who cannot see it.
        drawing: an SVG element.
    """

    title: str
    alt: str
    drawing: Markup


class CaptionedFigures:
    """Draws the figures of the page, one method for each section; `panels` draws what is in the axes.

    Args:
        models: as `metrics.json` has them.
        curves: those of all trainings.
        groups: the group that is shown for each role (teacher, student, baseline).
        names: the names of the models of each of these groups.
        plots: the folder of tables behind the plots.
    """

    def __init__(
        self,
        models: Mapping[str, Any],
        curves: Sequence[Curves],
        groups: Mapping[Role, Group],
        names: Mapping[Role, Sequence[str]],
        plots: Path,
    ) -> None:
        self.models, self.curves, self.groups, self.names, self.plots = models, curves, groups, names, plots

    def temperatures(self) -> list[CaptionedFigure]:
        """Accuracy and AUC of the students against the temperature T."""
        return [
            _captioned(
                title := METRICS[metric].title,
                f"{title} of the students on the test images against the temperature, beside teacher and baseline. "
                + "; ".join(
                    f"{group.loss} T = {group.temperature}: {report['quality'][metric]['mean']:.3f}"
                    for group, report in students_of(self.models).items()
                ),
                temperature_panel(self.models, metric),
            )
            for metric in DRAWN
        ]

    def training(self) -> list[CaptionedFigure]:
        """A figure for each measure of the trainings, epoch by epoch."""
        return [
            _captioned(
                name,
                f"{name} in each epoch, on training and validation images. {self._last(measure)}",
                training_panel(self.curves, self.groups, measure),
            )
            for measure, name in measures_in(self.curves, self.groups).items()
        ]

    def _last(self, measure: Measure) -> str:
        """The last validation value of each role that has one: the mean over seeds."""
        column, texts = f"val_{measure}", []
        for role, group in self.groups.items():
            last = [one.table[column].iloc[-1] for one in self.curves if one.group == group and column in one.table]
            if last:
                texts.append(f"{role} at the end, on validation images: {sum(last) / len(last):.3f}")
        return "; ".join(texts)

    def roc(self, class_names: Sequence[str]) -> list[CaptionedFigure]:
        """The ROC of teacher, student and baseline; with more than two classes, also that of each class of the student.

        Args:
            class_names: C names.
        """
        tables = self._tables("roc")
        areas = "; ".join(f"{role}: area {self._mean(group, 'auc'):.3f}" for role, group in self.groups.items())
        if len(class_names) == 2:
            classes = f"{class_names[1]} against {class_names[0]}"
            alt = f"True against false positive rate of {classes}, the mean over seeds. {areas}"
            return [_captioned(f"ROC of {classes}", alt, roc_panel(tables))]
        alt = f"True against false positive rate, the mean over classes and seeds. {areas}"
        if any(not {*class_names} <= {*table["class"]} for table in tables["student"]):
            raise MismatchError(
                f"{self.plots} has no ROC curve of each class. Bring it up to date with `dvc repro evaluate`."
            )
        of_student = areas_of_classes(tables["student"], class_names)
        shown = few_classes(of_student)
        title = "ROC of the student, " + ("class by class" if len(shown) == len(of_student) else "of its worst classes")
        by_class = "; ".join(f"{name}: area {of_student[name]:.3f}" for name in shown)
        return [
            _captioned("ROC, mean over classes", alt, roc_panel(tables)),
            _captioned(
                title,
                f"True against false positive rate of each class against the others, the mean over seeds. {by_class}",
                class_roc_panel(tables["student"], shown),
            ),
        ]

    def reliability(self) -> CaptionedFigure:
        """The share of right answers of teacher, student and baseline against their confidence."""
        errors = [f"{role}: calibration error {self._mean(group, 'ece'):.3f}" for role, group in self.groups.items()]
        alt = f"Share of right answers against confidence, the diagonal is ideal. {'; '.join(errors)}"
        return _captioned("Reliability", alt, reliability_panel(self._tables("reliability")))

    def confusion(self, role: Role, predictions: Sequence[pd.DataFrame], class_names: Sequence[str]) -> CaptionedFigure:
        """The confusion matrix of one role.

        Args:
            role: whose matrix.
            predictions: the `predictions.prediction_table` of each seed.
            class_names: C names.
        """
        alt = (
            f"Of the images of each class, the per cent for which the {role} chose each class. "
            f"On the diagonal it is right: {100 * self._mean(self.groups[role], 'accuracy'):.1f} % of all images"
        )
        return _captioned(f"Confusion of the {role}", alt, confusion_panel(predictions, class_names))

    def _mean(self, group: Group, metric: MetricName) -> float:
        return float(self.models[group.key]["quality"][metric]["mean"])

    def _tables(self, kind: PlotKind) -> dict[Role, list[pd.DataFrame]]:
        return {role: [read_plot(self.plots, kind, name) for name in names] for role, names in self.names.items()}


def _captioned(title: str, alt: str, figure: Figure) -> CaptionedFigure:
    return CaptionedFigure(title, alt, Markup(svg(figure, alt)))  # noqa: S704 - matplotlib escapes what it draws
