"""The built-in models, for 32x32 images of ten classes."""

from __future__ import annotations

from backends.model import (
    BatchNorm,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool,
    Layer,
    MaxPool2D,
    ModelSpec,
    ReLU,
    Residual,
    ZeroPadShortcut,
)

_IMAGE = (32, 32, 3)


def _article_keras() -> ModelSpec:
    """TensorFlow's CNN tutorial: 122,570 parameters."""
    layers = (
        *(Conv2D(32, 3), ReLU(), MaxPool2D()),
        *(Conv2D(64, 3), ReLU(), MaxPool2D()),
        *(Conv2D(64, 3), ReLU()),
        *(Flatten(), Dense(64), ReLU(), Dense(10)),
    )
    return ModelSpec("article-keras", _IMAGE, layers)


def _article_pytorch() -> ModelSpec:
    """PyTorch's CIFAR-10 tutorial: 62,006 parameters."""
    layers = (
        *(Conv2D(6, 5), ReLU(), MaxPool2D()),
        *(Conv2D(16, 5), ReLU(), MaxPool2D()),
        *(Flatten(), Dense(120), ReLU(), Dense(84), ReLU(), Dense(10)),
    )
    return ModelSpec("article-pytorch", _IMAGE, layers)


def _vgg_cifar() -> ModelSpec:
    """The CNN of ilkarman/DeepLearningFrameworks: two VGG blocks, dropout after each and in the head."""
    layers = (
        *(_same(50), ReLU(), _same(50), ReLU(), MaxPool2D(), Dropout(0.25)),
        *(_same(100), ReLU(), _same(100), ReLU(), MaxPool2D(), Dropout(0.25)),
        *(Flatten(), Dense(512), ReLU(), Dropout(0.5), Dense(10)),
    )
    return ModelSpec("vgg-cifar", _IMAGE, layers)


def _same(filters: int) -> Layer:
    return Conv2D(filters, 3, padding="same")


def _resnet20() -> ModelSpec:
    """He et al. 2016, section 4.2 with n = 3: shortcuts without parameters (option A), 0.27 million parameters."""
    layers: list[Layer] = [*_normalized(Conv2D(16, 3, padding="same", bias=False)), ReLU()]
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        for block in range(3):
            layers += [_basic(filters, stride if block == 0 else 1), ReLU()]
    return ModelSpec("resnet20", _IMAGE, (*layers, GlobalAveragePool(), Dense(10)))


def _basic(filters: int, stride: int) -> Residual:
    first = _normalized(Conv2D(filters, 3, stride, "same", bias=False))
    second = _normalized(Conv2D(filters, 3, padding="same", bias=False))
    return Residual((*first, ReLU(), *second), () if stride == 1 else (ZeroPadShortcut(filters, stride),))


def _normalized(layer: Layer) -> tuple[Layer, Layer]:
    return layer, BatchNorm()


def _mobilenet_cifar() -> ModelSpec:
    """MobileNet (Howard et al. 2017, table 1) for small images, as in kuangliu/pytorch-cifar: the first stride is 1,
    the pooling is global."""
    layers: list[Layer] = [*_normalized(Conv2D(32, 3, padding="same", bias=False)), ReLU()]
    blocks = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
    for filters, stride in blocks:
        layers += [*_normalized(DepthwiseConv2D(3, stride, "same", bias=False)), ReLU()]
        layers += [*_normalized(Conv2D(filters, 1, bias=False)), ReLU()]
    return ModelSpec("mobilenet-cifar", _IMAGE, (*layers, GlobalAveragePool(), Dense(10)))


MODELS = {
    spec.name: spec for spec in (_article_keras(), _article_pytorch(), _vgg_cifar(), _resnet20(), _mobilenet_cifar())
}
