"""Models and recipes of the user's: right ones are read, wrong ones get one line that says where."""

from __future__ import annotations

from pathlib import Path

import pytest
from every_layer import EVERY_LAYER

from backends.model import KINDS, LAYERS, Residual
from bench.errors import UsageError
from bench.workloads import toml_files


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def told(read: object, path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read(path)  # type: ignore[operator]
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message.removeprefix(f"{path}: ")


def test_every_layer_can_be_named(tmp_path: Path) -> None:
    spec = toml_files.model(written(tmp_path, EVERY_LAYER))
    assert {KINDS[type(placed.layer)] for placed in spec.walk()} == set(LAYERS) - {"global_average_pool"}
    assert spec.name.startswith("mine@")
    blocks = [placed for placed in spec.placed() if isinstance(placed.layer, Residual)]
    assert [bool(block.shortcut) for block in blocks] == [False, True, True]


def test_another_content_is_another_name(tmp_path: Path) -> None:
    first = toml_files.model(written(tmp_path, EVERY_LAYER)).name
    assert first != toml_files.model(written(tmp_path, EVERY_LAYER.replace("units = 12", "units = 13"))).name


HEAD = 'input_shape = [8, 8, 3]\n\n[[layers]]\nkind = "flatten"\n\n[[layers]]\n'


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ('kind = "conv2d"\nkernel = 3', "line 6: conv2d needs 'filters'"),
        ('kind = "conv3d"\nkernel = 3', "line 6: unknown layer 'conv3d'; did you mean 'conv2d'?"),
        ('kind = "dense"\nunits = 3\ncolour = 1', "line 6: dense has no 'colour'"),
        ('kind = "dense"\nunits = "3"', "line 6: dense 'units': input should be a valid integer"),
        ('kind = "dense"\nunits = 0', "line 6: dense 'units' must be 1 or more, not 0"),
        ('kind = "dropout"\nrate = 1.0', "line 6: dropout 'rate' must be 0 or more and below 1"),
        ('kind = "conv2d"\nfilters = 3\nkernel = 3', "line 6: it needs height, width and channels, got (192,)"),
        ('kind = "dense"\nunits = 1000000000000', "line 6: it would make an output of 1000000000000"),
        ("units = 3", "line 6: a layer needs 'kind'"),
        ('kind = "residual"\nbody = [{kind = "dense", units = 3}]', "line 6: residual cannot add (3,)"),
        ('kind = "residual"\nbody = [{kind = "dense"}]', "line 6: dense needs 'units'"),
        ('kind = "relu"', "the last layer must be dense"),
        ("kind = ", "not TOML"),
    ],
)
def test_a_wrong_layer_is_told_with_its_line(tmp_path: Path, layer: str, message: str) -> None:
    assert told(toml_files.model, written(tmp_path, HEAD + layer)).startswith(message)


def test_toml_bombs(tmp_path: Path) -> None:
    assert "larger than 256 kB" in told(toml_files.model, written(tmp_path, "#" * 300_000))
    assert "nested too deeply" in told(toml_files.model, written(tmp_path, "layers = " + "[" * 50_000))
    deep = 'kind = "relu"'
    for _ in range(60):
        deep = f'kind = "residual", body = [{{{deep}}}]'
    assert "the last layer must be dense" in told(toml_files.model, written(tmp_path, f"layers = [{{{deep}}}]"))
    wide = HEAD + 'kind = "dense"\nunits = 90000000\n[[layers]]\nkind = "dense"\nunits = 10\n'
    assert "weights, more than" in told(toml_files.model, written(tmp_path, wide))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in told(toml_files.model, tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "not text in UTF-8" in told(toml_files.recipe, tmp_path / "binary.toml")


RECIPE = 'optimizer = "adamw"\nlearning_rate = 0.01\nbatch_size = 64\nepochs = 3\n'


def test_a_recipe(tmp_path: Path) -> None:
    more = '[schedule]\nkind = "step"\nmilestones = [0.5]\n[augmentation]\nflip = true\n'
    recipe = toml_files.recipe(written(tmp_path, RECIPE + more))
    assert recipe.name.startswith("mine@")
    assert (recipe.optimizer, recipe.schedule.milestones, recipe.augmentation.flip) == ("adamw", (0.5,), True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RECIPE.replace("epochs = 3\n", ""), "needs 'epochs'"),
        (RECIPE + "learning_rat = 1\n", "line 5: has no 'learning_rat'"),
        (RECIPE.replace('"adamw"', '"adagrad"'), "line 1: 'optimizer': input should be 'sgd', 'adam' or 'adamw'"),
        (RECIPE.replace("epochs = 3", "epochs = 2.5"), "line 4: 'epochs': input should be a valid integer"),
        (RECIPE + '[schedule]\nkind = "step"\n', "'schedule': a 'step' schedule needs 'milestones'"),
        (RECIPE + "[augmentation]\nzoom = 2\n", "line 6: has no 'augmentation.zoom'"),
        (RECIPE + "validation = nan\n", "'validation' must lie between"),
    ],
)
def test_a_wrong_recipe(tmp_path: Path, text: str, message: str) -> None:
    assert message in told(toml_files.recipe, written(tmp_path, text))


def test_weights_of_another_shape_are_told(tmp_path: Path) -> None:
    from bench.store.weights import starting_weights

    spec = toml_files.model(written(tmp_path, EVERY_LAYER))
    wider = toml_files.model(written(tmp_path, EVERY_LAYER.replace("units = 12", "units = 13")))
    with pytest.raises(UsageError, match=r"dense_1\.kernel is 64x12, model mine@\w+ needs 64x13"):
        starting_weights(wider, spec.initial_weights(0), "run:row", new_head=False)
    with pytest.raises(UsageError, match="dense_1"):
        starting_weights(wider, spec.initial_weights(0), "run:row", new_head=True)
    assert "dense_2.kernel" not in starting_weights(spec, spec.initial_weights(0), "run:row", new_head=True)
