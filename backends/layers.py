"""The layers in NumPy, forward and backward, for ``backends.reference``.

Every function returns the output and a backward function. That function takes the gradient of the output and returns
the gradient of the input and the gradients of the trained weights, in order. Images are ``(N, H, W, C)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from backends.model import Layer, MaxPool2D, Padding, ReLU, margins

Array: TypeAlias = npt.NDArray[Any]
Backward: TypeAlias = Callable[[Array], tuple[Array, list[Array]]]


def conv2d(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    stride: int = 1,
    padding: Padding = "valid",
    is_input: bool = False,
) -> tuple[Array, Backward]:
    """``(N, H, W, C)`` and ``(kh, kw, C, F)`` to ``(N, H', W', F)`` by im2col. ``is_input``: ``x`` is the
    input of the network; its gradient is not needed and stays zero."""
    kh, kw, channels, filters = kernel.shape
    padded, unpad = _pad(x, kh, stride, padding)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kh, kw), axis=(1, 2))[:, ::stride, ::stride]
    n, height, width = windows.shape[:3]
    columns = windows.transpose(0, 1, 2, 4, 5, 3).reshape(n * height * width, kh * kw * channels)
    flat = kernel.reshape(-1, filters)

    def backward(dy: Array) -> tuple[Array, list[Array]]:
        dy_flat = dy.reshape(-1, filters)
        dx = np.zeros_like(padded)
        for i in range(0 if is_input else kh):
            for j in range(kw):  # for each kernel position: adds arrays in the layout of the image, faster
                part = (dy_flat @ kernel[i, j].T).reshape(n, height, width, channels)
                _strided(dx, i, j, height, width, stride)[...] += part
        return unpad(dx), [(columns.T @ dy_flat).reshape(kernel.shape), *_bias_gradient(dy_flat, bias)]

    y = (columns @ flat).reshape(n, height, width, filters)
    return y if bias is None else y + bias, backward


def depthwise_conv2d(
    x: Array, kernel: Array, bias: Array | None = None, stride: int = 1, padding: Padding = "valid"
) -> tuple[Array, Backward]:
    """``(N, H, W, C)`` and ``(kh, kw, C, 1)`` to ``(N, H', W', C)``: a sum over the positions of the kernel."""
    kh, kw, channels, _ = kernel.shape
    padded, unpad = _pad(x, kh, stride, padding)
    height, width = ((size - k) // stride + 1 for size, k in zip(padded.shape[1:3], (kh, kw), strict=True))
    positions = [(i, j) for i in range(kh) for j in range(kw)]

    def backward(dy: Array) -> tuple[Array, list[Array]]:
        dx, d_kernel = np.zeros_like(padded), np.zeros_like(kernel)
        for i, j in positions:
            _strided(dx, i, j, height, width, stride)[...] += dy * kernel[i, j, :, 0]
            d_kernel[i, j, :, 0] = (dy * _strided(padded, i, j, height, width, stride)).sum(axis=(0, 1, 2))
        return unpad(dx), [d_kernel, *_bias_gradient(dy.reshape(-1, channels), bias)]

    y = np.zeros((len(x), height, width, channels), x.dtype)
    for i, j in positions:
        y += _strided(padded, i, j, height, width, stride) * kernel[i, j, :, 0]
    return y if bias is None else y + bias, backward


def dense(x: Array, kernel: Array, bias: Array | None = None) -> tuple[Array, Backward]:
    """``(N, in)`` and ``(in, out)`` to ``(N, out)``."""
    y = x @ kernel
    return y if bias is None else y + bias, lambda dy: (dy @ kernel.T, [x.T @ dy, *_bias_gradient(dy, bias)])


def batch_norm(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float, from_batch: bool
) -> tuple[Array, Backward]:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta (Ioffe & Szegedy 2015, algorithm 1 and its gradient);
    ``from_batch``: mean and variance were computed from ``x``, so gradients flow through them."""
    axes = tuple(range(x.ndim - 1))
    scale = 1 / np.sqrt(variance + epsilon)
    normalized = (x - mean) * scale

    def backward(dy: Array) -> tuple[Array, list[Array]]:
        d_gamma, d_beta = (dy * normalized).sum(axis=axes), dy.sum(axis=axes)
        through = (d_beta + normalized * d_gamma) / (x.size / len(gamma)) if from_batch else 0.0
        return gamma * scale * (dy - through), [d_gamma, d_beta]

    return gamma * normalized + beta, backward


def relu(x: Array) -> tuple[Array, Backward]:
    """max(0, x); the derivative at 0 is 0, as in every framework here."""
    return np.maximum(x, 0), lambda dy: (dy * (x > 0), [])


def dropout(x: Array, mask: Array) -> tuple[Array, Backward]:
    """x times a mask of 0 and 1 / (1 - rate)."""
    return x * mask, lambda dy: (dy * mask, [])


def max_pool2d(x: Array, size: int, stride: int) -> tuple[Array, Backward]:
    """Maximum over windows. Among equal values the first in row-major order gets the gradient."""
    windows = _windows(x, size, stride)
    first = windows.argmax(axis=-1)[..., None]

    def backward(dy: Array) -> tuple[Array, list[Array]]:
        d_windows = np.zeros_like(windows)
        np.put_along_axis(d_windows, first, dy[..., None], axis=-1)
        return _from_windows(d_windows, x, size, stride), []

    return np.take_along_axis(windows, first, axis=-1)[..., 0], backward


def average_pool2d(x: Array, size: int, stride: int) -> tuple[Array, Backward]:
    """Mean over windows."""
    windows = _windows(x, size, stride)

    def backward(dy: Array) -> tuple[Array, list[Array]]:
        d_windows = np.broadcast_to(dy[..., None] / size**2, windows.shape)
        return _from_windows(d_windows, x, size, stride), []

    return windows.mean(axis=-1), backward


def global_average_pool(x: Array) -> tuple[Array, Backward]:
    """``(N, H, W, C)`` to ``(N, C)``."""
    count = x.shape[1] * x.shape[2]
    return x.mean(axis=(1, 2)), lambda dy: (np.broadcast_to(dy[:, None, None] / count, x.shape), [])


def flatten(x: Array) -> tuple[Array, Backward]:
    """``(N, H, W, C)`` to ``(N, H*W*C)``."""
    return x.reshape(len(x), -1), lambda dy: (dy.reshape(x.shape), [])


def zero_pad_shortcut(x: Array, filters: int, stride: int) -> tuple[Array, Backward]:
    """Every ``stride``-th row and column, with channels of zeros appended up to ``filters``."""
    channels = x.shape[3]

    def backward(dy: Array) -> tuple[Array, list[Array]]:
        dx = np.zeros_like(x)
        dx[:, ::stride, ::stride] = dy[..., :channels]
        return dx, []

    return np.pad(x[:, ::stride, ::stride], [(0, 0)] * 3 + [(0, filters - channels)]), backward


def decision_distance(layer: Layer, x: Array) -> Array | None:
    """How far each input of ReLU, or each maximum of a pool, is from the point where the result switches; None for
    other layers."""
    match layer:
        case ReLU():
            return np.abs(x)
        case MaxPool2D(size):
            ordered = np.sort(_windows(x, size, layer.step), axis=-1)
            return np.asarray(ordered[..., -1] - ordered[..., -2])
    return None


def _pad(x: Array, window: int, stride: int, padding: Padding) -> tuple[Array, Callable[[Array], Array]]:
    """The padded array, and the function that removes the padding."""
    rows, cols = (margins(size, window, stride, padding) for size in x.shape[1:3])
    if not any((*rows, *cols)):
        return x, lambda padded: padded
    height, width = x.shape[1:3]
    inside = slice(rows[0], rows[0] + height), slice(cols[0], cols[0] + width)
    return np.pad(x, [(0, 0), rows, cols, (0, 0)]), lambda padded: padded[:, inside[0], inside[1]]


def _strided(x: Array, row: int, col: int, height: int, width: int, stride: int) -> Array:
    """A view of ``height`` rows and ``width`` columns, ``stride`` apart, starting at ``row`` and ``col``."""
    return x[:, row : row + stride * (height - 1) + 1 : stride, col : col + stride * (width - 1) + 1 : stride]


def _bias_gradient(dy: Array, bias: Array | None) -> list[Array]:
    return [] if bias is None else [dy.sum(axis=0)]


def _windows(x: Array, size: int, stride: int) -> Array:
    """``(N, H, W, C)`` to ``(N, H', W', C, size * size)``."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return windows.reshape(*windows.shape[:4], size * size)


def _from_windows(d_windows: Array, x: Array, size: int, stride: int) -> Array:
    """The sum of the gradients of all windows at their positions in the image."""
    dx, (height, width) = np.zeros_like(x), d_windows.shape[1:3]
    for position in range(size * size):
        _strided(dx, *divmod(position, size), height, width, stride)[...] += d_windows[..., position]
    return dx
