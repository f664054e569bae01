"""A model as params.yaml describes it: one class for each kind of architecture, which builds its Keras model.

Keras is imported only where a model is built: reading params.yaml must stay fast.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from pipeline.models.applications import applications
from pipeline.models.hub import HUB, files_of, model_name
from pipeline.models.other_formats import is_of_a_file, no_network
from pipeline.models.parts import (
    Affine,
    Downsampling,
    OwnOrOther,
    Padding,
    Pooling,
    PoolingOfTokens,
    Preprocessing,
    Standardization,
)
from pipeline.runtime.errors import ParameterError
from pipeline.runtime.ranges import Flag, Fraction, Positive, Rate

Channels = Literal[1, 3]
if TYPE_CHECKING:
    ApplicationName = str
else:
    ApplicationName = Literal[tuple(sorted(applications()))]


@dataclass(frozen=True, kw_only=True)
class Description(ABC):
    """The parts that every architecture has: an input, a backbone and a head.

    Attributes:
        input_shape: height and width in pixels, and 1 (grey) or 3 (RGB) channels: (height, width, channels).
        weights: the weights of the backbone: None (random), "imagenet", or a file.
        preprocessing: what is done to pixels, 0 to 255, before the backbone.
        pooling: how the backbone's features are pooled.
        batch_normalization: whether the pooled features are normalised.
        hidden_units: sizes of hidden dense layers with ReLU between pooling and dropout.
        dropout: fraction of the features dropped before the logits in training, 0 to 1.
        architecture: the name of the architecture; `softlabel models` lists those of keras.applications.
    """

    input_shape: tuple[Positive, Positive, Channels]
    weights: str | None = None
    preprocessing: OwnOrOther = "own"
    pooling: PoolingOfTokens = "avg"
    batch_normalization: Flag = False
    hidden_units: list[Positive] = field(default_factory=list)
    dropout: Fraction = 0.0
    architecture: str

    def __post_init__(self) -> None:
        """Refuses values that do not fit together."""
        if self.input_shape[2] != 3 and (self._needs_color or self.preprocessing == "caffe"):
            what = "pretrained weights need" if self._needs_color else "the preprocessing caffe needs"
            raise ValueError(f"{what} images of 3 channels: set input_shape: [height, width, 3]")
        if isinstance(self.preprocessing, Standardization) and len(self.preprocessing.mean) != self.input_shape[2]:
            raise ValueError(
                f"preprocessing has a mean of {len(self.preprocessing.mean)} channel(s), "
                f"and input_shape has {self.input_shape[2]}"
            )

    def build(self, *, classes: int, seed: int) -> Any:
        """Builds an untrained model, or one with a pretrained backbone.

        Args:
            classes: C, the number of logits.
            seed: the seed of the initial weights. Keras' global state is cleared, so the same arguments give the
                same names and weights in any process.

        Returns:
            A Keras model from (B, height, width, channels) pixels, 0 to 255, to (B, C) logits.

        Raises:
            MissingError: the weights are missing.
            MismatchError: the weights are those of another model.
            ParameterError: the input shape does not fit.
        """
        import keras

        from pipeline.models import architectures

        # Before the session is cleared: finding out Keras' own makes layers, which would take names from the model's.
        preprocessing = self._own_preprocessing() if self.preprocessing == "own" else self.preprocessing
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(seed)
        return architectures.chain(
            self._backbone(),
            preprocessing=preprocessing,
            pooling=self.pooling,
            batch_normalization=self.batch_normalization,
            hidden_units=self.hidden_units,
            dropout=self.dropout,
            classes=classes,
            name=self._name,
        )

    @property
    def _name(self) -> str:
        """The name of the Keras model."""
        return self.architecture

    @property
    def _needs_color(self) -> bool:
        """Whether the weights are of images with 3 channels."""
        return self.weights is not None

    @property
    def files(self) -> list[Path]:
        """The files whose content decides the model."""
        return [Path(self.weights)] if self.weights and Path(self.weights).is_file() else []

    def untrained(self, classes: int) -> Any:
        """As `build`, with random weights: enough to count its cost, or to load other weights into."""
        return replace(self, weights=None).build(classes=classes, seed=0)

    @abstractmethod
    def _backbone(self) -> Any:
        """The feature extractor, a Keras model."""

    def _own_preprocessing(self) -> Preprocessing | Affine:
        """The preprocessing that the backbone's pretrained weights expect; unit if there are none for it."""
        return "unit"


@dataclass(frozen=True, kw_only=True)
class Cnn(Description):
    """A small convolutional network.

    Attributes:
        weights: None: there are no trained weights for it.
        filters: the number of filters of each convolution.
        kernel_size: side of the convolutions in pixels.
        padding: the padding of convolutions and pooling.
        downsampling: how each convolution shrinks the image.
        factor: by how much: one number for all convolutions, or one each.
    """

    architecture: Literal["cnn"] = "cnn"
    weights: None = None
    pooling: Pooling = "avg"
    filters: Annotated[list[Positive], Field(min_length=1)]
    kernel_size: Positive = 3
    padding: Padding = "same"
    downsampling: Downsampling = "max_pooling"
    factor: Positive | list[Positive] = 2

    def __post_init__(self) -> None:
        """Refuses values that do not fit together."""
        super().__post_init__()
        if isinstance(self.factor, list) and len(self.factor) != len(self.filters):
            raise ValueError(
                f"factor has {len(self.factor)} numbers for {len(self.filters)} filters: give one number, or one each"
            )

    def _backbone(self) -> Any:
        from pipeline.models import backbones

        return backbones.cnn(
            self.input_shape,
            filters=self.filters,
            downsampling=self.downsampling,
            kernel_size=self.kernel_size,
            padding=self.padding,
            factor=self.factor,
        )


@dataclass(frozen=True, kw_only=True)
class Mlp(Description):
    """Dense layers on the pixels: a head without a backbone.

    Attributes:
        weights: None: there are no trained weights for it.
        pooling: what makes a row of numbers of the pixels.
    """

    architecture: Literal["mlp"] = "mlp"
    weights: None = None
    pooling: Literal["flatten"] = "flatten"

    def _backbone(self) -> Any:
        from pipeline.models import backbones

        return backbones.mlp(self.input_shape)


@dataclass(frozen=True, kw_only=True)
class Application(Description):
    """A backbone of keras.applications.

    Attributes:
        alpha: the width of a MobileNet; None is that of the paper, 1.0.
    """

    architecture: ApplicationName
    pooling: Pooling = "avg"
    alpha: Rate | None = None

    def __post_init__(self) -> None:
        """Refuses values that do not fit together."""
        super().__post_init__()
        if self.alpha is not None and not applications()[self.architecture].has_width:
            with_width = [name for name, application in applications().items() if application.has_width]
            raise ValueError(f"{self.architecture} has one width: leave alpha out; {', '.join(with_width)} have it")

    def _backbone(self) -> Any:
        from pipeline.models import backbones

        return backbones.pretrained(self.architecture, self.input_shape, self.weights, self.alpha)

    def _own_preprocessing(self) -> Preprocessing:
        own = applications()[self.architecture].preprocessing()
        if self.input_shape[2] != 3 and (own == "caffe" or isinstance(own, Standardization)):
            raise ParameterError(
                f"the preprocessing of {self.architecture} needs images of 3 channels: set input_shape: "
                "[height, width, 3], or another preprocessing of the model, such as unit."
            )
        return own


@dataclass(frozen=True, kw_only=True)
class HubBackbone(Description):
    """A backbone of keras_hub.

    Attributes:
        architecture: the name, the address or the folder of a preset, behind keras_hub:, without a blank; `softlabel
            models keras_hub` lists the names.
        weights: the weights of the backbone: "own", those of the preset; None, random ones.
        pooling: how the backbone's features are pooled; token takes the first token of a transformer, its class token.
    """

    architecture: Annotated[str, Field(description="keras_hub:PRESET")]
    weights: Literal["own"] | None = None

    def __post_init__(self) -> None:
        """Refuses values that do not fit together."""
        super().__post_init__()
        if not self.preset:
            raise ValueError(f"name a preset or its folder behind {HUB}; `softlabel models keras_hub` lists presets")

    @property
    def preset(self) -> str:
        """The preset as keras_hub takes it."""
        return self.architecture.removeprefix(HUB)

    @property
    def files(self) -> list[Path]:
        """The files whose content decides the model."""
        return files_of(self.preset)

    @property
    def _name(self) -> str:
        return model_name(self.preset)

    @property
    def _needs_color(self) -> bool:
        return False  # a preset may be of grey images

    def _backbone(self) -> Any:
        from pipeline.models import hub_models

        return hub_models.backbone(self.preset, self.input_shape, with_weights=self.weights == "own")

    def _own_preprocessing(self) -> Preprocessing | Affine:
        from pipeline.models import hub_models

        own = hub_models.preprocessing(self.preset)
        channels = max(_channels(own.scale), _channels(own.offset)) if isinstance(own, Affine) else 1
        if channels not in (1, self.input_shape[2]):
            raise ParameterError(
                f"the preprocessing of {self.architecture} is for images of {channels} channels: set input_shape: "
                f"[height, width, {channels}], or another preprocessing of the model, such as unit."
            )
        return own


def _channels(numbers: float | list[float]) -> int:
    return len(numbers) if isinstance(numbers, list) else 1


def _keras_file(name: str) -> str:
    if not name.endswith(".keras"):
        raise ValueError(f"expected an architecture or a .keras file; {name} {no_network(name)}")
    return name


@dataclass(frozen=True, kw_only=True)
class OwnNetwork:
    """A network of the user's own, which a `.keras` file holds.

    Attributes:
        architecture: the path of the file.
        weights: the weights of the network: "own", those of the file; None, random ones.
        preprocessing: what is done to pixels, 0 to 255, before they enter the network.
    """

    architecture: Annotated[str, AfterValidator(_keras_file), Field(description="a .keras file")]
    weights: Literal["own"] | None = None
    preprocessing: Preprocessing = "none"

    @property
    def files(self) -> list[Path]:
        """The files whose content decides the model."""
        return [Path(self.architecture)]

    @cached_property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels), as the file says."""
        from pipeline.models.own_network import input_shape_of

        return input_shape_of(Path(self.architecture))

    def build(self, *, classes: int, seed: int) -> Any:
        """Builds the model; arguments, result and errors as those of `Description.build` and `own_network`."""
        import keras

        from pipeline.models.own_network import own_network

        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(seed)
        return own_network(
            Path(self.architecture),
            classes=classes,
            preprocessing=self.preprocessing,
            with_weights=self.weights == "own",
        )

    def untrained(self, classes: int) -> Any:
        """As `build`, with random weights."""
        return replace(self, weights=None).build(classes=classes, seed=0)


DESCRIBED, NETWORK, PRESET = "$architecture", "$network", "$preset"
"""Tags for the forms of a model. No key of params.yaml begins with $, so none is taken for a tag."""


def _kind_of_model(value: Any) -> str:
    architecture = value.get("architecture") if isinstance(value, dict) else getattr(value, "architecture", None)
    if not isinstance(architecture, str):
        return DESCRIBED
    if architecture.startswith(HUB):
        return PRESET
    return NETWORK if is_of_a_file(architecture) else DESCRIBED


Described = Annotated[Cnn | Mlp | Application, Field(discriminator="architecture")]
Model = Annotated[
    Annotated[Described, Tag(DESCRIBED)] | Annotated[HubBackbone, Tag(PRESET)] | Annotated[OwnNetwork, Tag(NETWORK)],
    Discriminator(_kind_of_model),
]
