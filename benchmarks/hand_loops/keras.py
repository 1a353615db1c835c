"""The article's Keras CNN as Keras' guide "Writing a training loop from scratch" has it, timed around its steps.

python keras.py train|infer IMAGES.npy LABELS.npy THREADS
"""

from __future__ import annotations

import os
import sys
import time

from serve import pin, serve

pin()
sys.path.pop(0)  # this folder has files named like the frameworks
os.environ["KERAS_BACKEND"] = "tensorflow"

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

task, images, labels, threads = (
    sys.argv[1],
    np.load(sys.argv[2], mmap_mode="r"),
    np.load(sys.argv[3], mmap_mode="r"),
    int(sys.argv[4]),
)
tf.config.threading.set_intra_op_parallelism_threads(threads)
tf.config.threading.set_inter_op_parallelism_threads(1)

import keras  # noqa: E402
from keras import layers  # noqa: E402

model = keras.Sequential(
    [
        keras.Input((32, 32, 3)),
        *(layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D()),
        *(layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D()),
        layers.Conv2D(64, 3, activation="relu"),
        *(layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(10)),
    ]
)
loss_function = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
optimizer = keras.optimizers.Adam(0.001)
x, y = tf.constant(np.array(images[:128])), tf.constant(np.array(labels[:128]))


@tf.function
def train(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape() as tape:
        loss = loss_function(y, model(x, training=True))
    optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)
    return loss


@tf.function
def infer(x: tf.Tensor) -> tf.Tensor:
    return model(x, training=False)


def seconds_per_step(steps: int) -> float:
    step = (lambda: train(x, y)) if task == "train" else (lambda: infer(x))
    step().numpy()
    begin = time.perf_counter()
    for _ in range(steps):
        result = step()
    result.numpy()
    return (time.perf_counter() - begin) / steps


serve(seconds_per_step)
