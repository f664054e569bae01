"""Stage `train_teacher`: trains the large model on the hard labels."""

from pipeline.hard_label_training import train_on_hard_labels as run

__all__ = ["run"]
