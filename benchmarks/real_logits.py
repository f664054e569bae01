"""Makes the test fixture `real_logits_1000.npz`: a thousand-class image classifier's logits of 100 real images.

The storage of soft labels as the top k must be tested on logits of many classes, and the head of an ImageNet model may
not be available. So each of 1,000 images is a class of its own, and random views of it are the examples (Exemplar-CNN:
Dosovitskiy et al., NeurIPS 2014). A linear softmax layer on MobileNetV2's ImageNet features learns which image a view
was taken from. The fixture has the logits of views that were not used in training.

    python benchmarks/real_logits.py FOLDER [FOLDER ...] --output real_logits_1000.npz

takes the same number of images from each folder (for the fixture, a third each from CIFAR-10, MHIST and Cassava). Keras
downloads the backbone's weights unless KERAS_HOME has them. About three minutes on two cores. Expect an accuracy of
75 % on the views that were not used in training, with a mean largest probability of 0.64.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

from pipeline.images.augmentation import Augmentation
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.rendering import render
from pipeline.images.sampling import sample_views

CLASSES = 1000
INPUT_SHAPE = (112, 112, 3)
"""Keras' weights do not depend on the size; it warns that it takes those of 224 x 224."""

TRAINING_VIEWS = 24
AUGMENTATION = Augmentation(
    horizontal_flip=True,
    rotation=0.1,
    crop_area=(0.08, 1.0),
    crop_aspect_ratio=(0.75, 1.333),
    brightness=0.15,
    contrast=0.3,
    channel_gain=0.15,
)
EPOCHS = 10
BATCH_SIZE = 200
FIXTURE_ROWS = slice(0, CLASSES, 10)


def choose_images(folders: list[Path]) -> list[Path]:
    """The first images of each folder, by name: 1,000 in all, shared out as evenly as possible."""
    chosen = []
    for position, folder in enumerate(folders):
        share = CLASSES * (position + 1) // len(folders) - CLASSES * position // len(folders)
        images = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
        if len(images) < share:
            raise SystemExit(f"{folder} has {len(images)} images, and {share} are needed.")
        chosen += images[:share]
    return chosen


def features_of_view(backbone: keras.Model, images: DecodedImages, names: list[str], number: int) -> np.ndarray:
    """The backbone's pooled features of one view of every image: (1000, 1280) float32."""
    transforms = sample_views(AUGMENTATION, 0, names, number)
    batches = [np.arange(start, min(start + 100, len(names))) for start in range(0, len(names), 100)]
    views = (render(images.rows(rows), transforms[rows], AUGMENTATION) for rows in batches)
    return np.concatenate([backbone.predict_on_batch(view / 127.5 - 1.0) for view in views])


def train_head(features: np.ndarray) -> keras.Model:
    """A linear softmax layer, trained on features (V, 1000, 1280) to say which image a view shows."""
    standardise = keras.layers.Normalization(name="standardise")
    standardise.adapt(features.reshape(-1, features.shape[-1]))
    logits = keras.layers.Dense(CLASSES, kernel_regularizer=keras.regularizers.L2(1e-5), name="logits")
    head = keras.Sequential([keras.Input(features.shape[-1:]), standardise, logits])
    labels = np.tile(np.arange(CLASSES), len(features))
    learning_rate = keras.optimizers.schedules.CosineDecay(1e-3, EPOCHS * len(labels) // BATCH_SIZE)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    head.compile(keras.optimizers.Adam(learning_rate), loss)
    head.fit(features.reshape(-1, features.shape[-1]), labels, batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=2)
    return head


def main() -> None:
    """Trains the classifier and writes the logits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    paths = choose_images(arguments.folders)
    names = [path.name for path in paths]
    images = DecodedImages(paths, INPUT_SHAPE, keep=True)
    backbone = keras.applications.MobileNetV2(INPUT_SHAPE, include_top=False, weights="imagenet", pooling="avg")
    features = np.stack([features_of_view(backbone, images, names, number) for number in range(TRAINING_VIEWS + 1)])
    head = train_head(features[:-1])
    logits = head.predict(features[-1], verbose=0)
    accuracy = np.mean(logits.argmax(axis=1) == np.arange(CLASSES))
    confidence = np.mean(keras.ops.max(keras.ops.softmax(logits), axis=1))
    print(f"views not trained on: accuracy {accuracy:.3f}, mean largest probability {confidence:.3f}")
    np.savez_compressed(arguments.output, logits=logits[FIXTURE_ROWS].astype(np.float16))


if __name__ == "__main__":
    main()
