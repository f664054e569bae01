"""The section `export` of `params.yaml`: files for phones, boards and servers."""

from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.deployed.formats import FILES, Format
from pipeline.params.section import Section, distinct
from pipeline.runtime.ranges import Flag, Positive, Share

BEST = "best"
"""In place of a student's name: the one with the best validation result."""

Students = Annotated[list[Annotated[str, Field(strict=True)]], AfterValidator(distinct)]
Formats = Annotated[list[Format], Field(min_length=1), AfterValidator(distinct)]


class Export(Section):
    """The files that students are exported to.

    Attributes:
        students: best, the student with the best validation result; or names, such as student_kl_T4_seed1 or
            baseline_seed1; [] for no files.
        formats: the files that are written for each; onnx needs the extra `onnx`.
        softmax: whether the files give probabilities in place of logits.
        calibration_images: the number of training images that set the ranges of the int8 file, or as many as there are.
        max_accuracy_drop: the stage fails if the accuracy of a file on the test images is lower than the student's by
            more.
    """

    students: Students = Field(default_factory=lambda: [BEST])
    formats: Formats = Field(default_factory=lambda: [*FILES])
    softmax: Flag = False
    calibration_images: Positive = 200
    max_accuracy_drop: Share = 0.02
