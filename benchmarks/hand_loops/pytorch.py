"""The article's Keras CNN in PyTorch, as its tutorial writes it, timed by torch.utils.benchmark.Timer.

python pytorch.py train|infer IMAGES.npy LABELS.npy THREADS
"""

from __future__ import annotations

import sys

from serve import pin, serve

pin()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.benchmark import Timer  # noqa: E402

task, images, labels, threads = (
    sys.argv[1],
    np.load(sys.argv[2], mmap_mode="r"),
    np.load(sys.argv[3], mmap_mode="r"),
    int(sys.argv[4]),
)
torch.set_num_threads(threads)
model = nn.Sequential(
    *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(64, 64, 3), nn.ReLU()),
    *(nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10)),
)
criterion = nn.CrossEntropyLoss()
x = torch.from_numpy(np.array(images[:128])).permute(0, 3, 1, 2).contiguous()
y = torch.from_numpy(np.array(labels[:128]))


def train() -> None:
    optimizer.zero_grad()
    criterion(model(x), y).backward()
    optimizer.step()


def infer() -> None:
    with torch.inference_mode():
        model(x)


if task == "train":
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    model.train()
else:
    model.eval()
timer = Timer(f"{task}()", globals={task: globals()[task]}, num_threads=threads)
serve(lambda steps: timer.timeit(steps).mean)
