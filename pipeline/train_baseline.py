"""Stage `train_baseline`: trains the student's model on the hard labels, with no teacher."""

from pipeline.hard_label_training import train_on_hard_labels as run

__all__ = ["run"]
