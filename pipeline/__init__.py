"""Offline soft-label precomputation for knowledge distillation: the way of an image, package by package.

datasets/      reads what a user brings (tables, folders, arrays, shards) into rows: an image, its class, its split.
images/        writes the rows to `data/index.csv`, decodes and resizes the images, samples views of them by a key of
               (seed, image id, number), and renders those.
models/        builds or loads Keras models from pixels to logits; a model's file says what it was trained on.
measures/      says what a model's answers are worth, and so which epoch is best; in training and for the results.
training/      trains by plain `fit`, on hard labels, and continues after a kill. The teacher is trained so.
inference/     runs a trained model forward; an image's logits do not depend on its place in the batch.
teacher_pass/  checks the teacher, runs it once over every view, and keeps what is finished.
cluster/       lets the workers of a Ray cluster run the teacher, by blocks of views that are leased to them.
soft_labels/   keeps the logits in an HDF5 file that names its teacher, data, classes, pixels and views, and softens
               them at each temperature into a second file.
distillation/  trains a student on the same views, with hard and soft labels and without its teacher.
exports/       turns a student into files for phones, boards and servers, and measures what these answer.
deployed/      reads and runs these files, without TensorFlow.
evaluation/    compares teacher, students and baselines on the test images: numbers, intervals, tables.
timing/        times these files and the teacher, each in a process of its own.
report/        draws and explains the results on one page, and writes the model card.

runtime/       holds what every run needs: files that appear whole, work that survives a kill, progress, errors.
params/        says what `params.yaml` may contain.
stages/        has a file for each stage of `dvc.yaml`, which puts the packages above together.
tools/         has the commands that run no stage: init, plan, sweep, params, models, verify, inspect, pack,
               parity, predict, render-views, init-remote.
cli/           is the command line; it alone knows `params.yaml` and the paths of files.
"""
