"""Offline soft-label precomputation for knowledge distillation: the way of an image, package by package.

datasets/      What a user brings, a table, folders or arrays, becomes rows: an image, its class, its split.
images/        The rows become `data/index.csv`. An image of it is decoded and resized to pixels; a view is drawn by a
               key from (seed, image id, number), and rendered from the pixels.
models/        A Keras model, built or given, maps pixels to logits; its file says what it was trained on.
training/      The teacher learns from hard labels in new views of each epoch, by plain `fit`, and goes on after a kill.
inference/     A trained model is run forward, each batch with the same bits wherever a row stands in it.
teacher_pass/  The teacher runs once over every view; its answers are checked before the hours begin.
soft_labels/   The logits lie in one HDF5 file, which names its teacher, data, classes, pixels and views; at each
               temperature they become soft labels in a file of the same kind.
distillation/  A student sees the same views, and learns from hard and soft labels side by side, without its teacher.
evaluation/    Teacher, students and baselines are compared on the test images: numbers, intervals, tables.
report/        What came out is drawn and said on one page.

runtime/       How any run behaves: files appear whole, work survives a kill, progress is shown, errors name a remedy.
params/        What may stand in params.yaml.
stages/        A file for each stage of dvc.yaml, which puts the packages above together.
tools/         The same for the commands that run no stage: plan, parity, verify, inspect.
cli/           The command line, which alone knows params.yaml and where files lie.
"""
