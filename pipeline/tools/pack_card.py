"""The card of a pack of soft labels: README.md, with the metadata of a data set on the Hugging Face Hub at its head."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.images.index import NO_LABEL, SPLITS
from pipeline.report.licences import UNKNOWN, licence_metadata
from pipeline.runtime.errors import one_line
from pipeline.soft_labels.answers import answers_in
from pipeline.soft_labels.reading import SoftLabelFile
from pipeline.tools.inspect_file import provenance_in_words

IS_OF_SOFT_LABELS = ". It is that of the soft labels; the images have their own."
TASK = "image-classification"
TAGS = ("knowledge-distillation", "soft-labels")
SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}
MOST_CLASSES = 100
"""With more classes, the card does not list them."""

TEXT = """
These are the answers of a trained model, the teacher, to {count} images: its raw logits, and its probabilities
softened at {temperatures} (*soft labels*), beside the labels of the images. A small model, the student, can learn from
them without the teacher ([Hinton et al.](https://arxiv.org/abs/1503.02531)). **The images are not in here.**

## What is in it
| file | what |
| --- | --- |
| `teacher_logits.h5` | the teacher's logits of every view of every image |
| `soft_targets_T<T>.h5` | soft labels at the temperature T, beside the labels |
| `index.csv` | id, split, label and class of each image, and the SHA-256 of its file |
| `checksums.sha256` | the SHA-256 of these files |

The facts in the two tables below are computed from the files; `softlabel verify` compares them.

{facts}

## Classes
{classes}

## How to use it
Rows belong to images by their id, never by position. Your image files are the right ones if their SHA-256 is that in
`index.csv`.

```python
import h5py

with h5py.File("{example}") as file:
    ids = [name.decode() for name in file["train/id"][:]]
    classes = [name.decode() for name in file["class_names"][:]]
    print(ids[0], classes, dict(file["train"]))
```

In softlabel, `docs/guide.md` trains a student from a pack in plain Keras and in plain PyTorch, and `docs/format.md`
says what every number means. The soft labels are those of *views* of the images: if `views` in the table above is not
"untouched", a student should see the views that the teacher saw.

## How to check it
`softlabel verify FOLDER` checks every byte and value. Without it: `sha256sum -c checksums.sha256`.

## Licence
{license}

## Limits
A soft label is what one teacher says, with the teacher's mistakes and the bias of its training data. Whoever can match
the ids to images learns their labels. Labels of the test images are in here, too: do not train on them.

## To fill in
- Where the images come from, how to get them, and under which licence.
- How the teacher was trained, and on which data.
- What the soft labels may be used for, and what not; whom to ask.
"""


@dataclass(frozen=True)
class Stated:
    """What a person says of a pack.

    Attributes:
        license: an SPDX identifier or a sentence; "" if it is not known yet.
        title: the title of the card; "" for one that names the teacher.
    """

    license: str
    title: str


def card(logits: SoftLabelFile, targets: Sequence[SoftLabelFile], stated: Stated) -> str:
    """The whole card.

    Args:
        logits: the file of logits.
        targets: the files of soft labels.
        stated: licence and title.
    """
    title, license_ = stated.title, stated.license
    named = one_line(title, len(title)) if title.strip() else f"Soft labels of {logits.provenance.teacher}"
    temperatures = " and ".join([f"T = {file.temperature:g}" for file in targets])
    head = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in metadata(logits, license_, named)]
    text = TEXT.format(
        count=f"{_count(logits):,}",
        temperatures=temperatures,
        facts="\n".join(facts(logits, targets)),
        classes="\n".join(classes(logits)),
        example=targets[0].path.name,
        license=_license_in_words(license_),
    )
    return "\n".join(["---", *head, "---", f"# {_escaped(named)}", text.strip("\n"), ""])


def metadata(logits: SoftLabelFile, license_: str, title: str) -> Iterator[tuple[str, Any]]:
    """The metadata at the head of the card, name by name."""
    text = one_line(license_, len(license_)) if license_.strip() else UNKNOWN
    yield from licence_metadata(text).items()
    yield "pretty_name", title
    yield "task_categories", [TASK]
    yield "size_categories", [size_category(_count(logits))]
    yield "tags", list(TAGS)
    yield "configs", [{"config_name": "default", "data_files": "index.csv"}]  # the Hub's viewer cannot show the others


def size_category(images: int) -> str:
    """The Hub's name for a number of images."""
    return next((name for limit, name in SIZES.items() if images < limit), "n>10M")


def facts(logits: SoftLabelFile, targets: Sequence[SoftLabelFile]) -> list[str]:
    """The lines of the table that tells what a pack was made from."""
    origin = logits.provenance
    right = ", ".join(f"{answers_in(logits, split).accuracy:.4f} of {split}" for split in SPLITS[1:])
    rows = [
        *provenance_in_words(logits),
        ("file of the teacher", origin.teacher_sha256),
        ("fingerprint of the data set", origin.dataset),
        ("the teacher is right on", right),
        ("soft labels", ", ".join(f"T = {file.temperature:g}" for file in targets)),
        ("images", ", ".join(f"{logits.count(split):,} {split}" for split in SPLITS)),
        ("without a label", f"{int((logits.labels('train') == NO_LABEL).sum()):,} train"),
    ]
    return ["| made from | |", "| --- | --- |", *(f"| {name} | {_escaped(value)} |" for name, value in rows)]


def classes(logits: SoftLabelFile) -> list[str]:
    """The lines of the table of classes: the number of each, its name, and its images by split."""
    names = logits.provenance.class_names
    if len(names) > MOST_CLASSES:
        return [f"{len(names):,} classes, in the order of `label` in `index.csv`."]
    counts = [np.bincount(labels[labels != NO_LABEL], minlength=len(names)) for labels in map(logits.labels, SPLITS)]
    return [
        f"| label | class | {' | '.join(SPLITS)} |",
        f"| {' | '.join(['---'] * (2 + len(SPLITS)))} |",
        *(
            f"| {number} | {_escaped(name)} | {' | '.join(f'{count[number]:,}' for count in counts)} |"
            for number, name in enumerate(names)
        ),
    ]


def _count(logits: SoftLabelFile) -> int:
    return sum(map(logits.count, SPLITS))


def _license_in_words(license_: str) -> str:
    if not license_.strip():
        return (
            "**To fill in.** No licence is stated, and without one others may not use the pack. Write it here, and\n"
            "its identifier into `license:` at the head of this file."
        )
    return _escaped(license_) + IS_OF_SOFT_LABELS


def _escaped(text: str) -> str:
    """A text as one line of Markdown, in which it means itself."""
    return re.sub(
        r"[^\w\s.,:;()/=%+'-]|(?<!\w)_|_(?!\w)", lambda found: f"&#{ord(found[0])};", one_line(text, len(text))
    )
