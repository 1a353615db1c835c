"""A small model, as a user's file, that has every layer but the global pool."""

from __future__ import annotations

EVERY_LAYER = """\
# One of each: strides on odd and even sizes, both kinds of shortcut, dropout on images and on a flattened input.
[[layers]]
kind = "conv2d"
filters = 8
kernel = 3
stride = 2
padding = "same"
bias = false
[[layers]]
kind = "batch_norm"
[[layers]]
kind = "relu"
[[layers]]
kind = "residual"
body = [
    {kind = "depthwise_conv2d", kernel = 3, padding = "same", bias = false},
    {kind = "batch_norm", momentum = 0.8, epsilon = 1e-3},
    {kind = "relu"},
    {kind = "conv2d", filters = 8, kernel = 1},
]
[[layers]]
kind = "residual"
body = [{kind = "conv2d", filters = 12, kernel = 3, stride = 2, padding = "same"}, {kind = "batch_norm"}]
shortcut = [{kind = "conv2d", filters = 12, kernel = 1, stride = 2, bias = false}, {kind = "batch_norm"}]
[[layers]]
kind = "relu"
[[layers]]
kind = "dropout"
rate = 0.25
[[layers]]
kind = "residual"
body = [
    {kind = "depthwise_conv2d", kernel = 5, stride = 2, padding = "same"},
    {kind = "conv2d", filters = 16, kernel = 1, bias = false},
    {kind = "batch_norm"},
]
shortcut = [{kind = "zero_pad_shortcut", filters = 16, stride = 2}]
[[layers]]
kind = "max_pool2d"
size = 2
stride = 1
[[layers]]
kind = "average_pool2d"
size = 2
stride = 1
[[layers]]
kind = "flatten"
[[layers]]
kind = "batch_norm"
[[layers]]
kind = "dropout"
rate = 0.5
[[layers]]
kind = "dense"
units = 12
[[layers]]
kind = "relu"
[[layers]]
kind = "dense"
units = 10
"""
