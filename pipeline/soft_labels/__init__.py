"""The file format of logits and soft labels, without TensorFlow."""
