"""The scratch folder of a run: whose files a worker may change."""

from __future__ import annotations

from bench.runner.plan import Request
from bench.runner.planner import make_plan
from bench.runner.worker_environment import TEMPORARY
from bench.runner.workspace import DatasetInputs, Workspace
from bench.workloads.datasets import digits
from bench.workloads.models import MODELS
from bench.workloads.workload import RECIPES, Workload


def test_a_change_of_the_data_is_found_and_mended_and_temporary_files_are_of_no_row(process: None) -> None:
    workload = Workload(MODELS["article-pytorch"], "digits", RECIPES["article-keras"])
    plan = make_plan(Request(("reference",), workload, devices="cpu"))
    workspace = Workspace(plan, DatasetInputs(digits.load()))
    (row,) = plan.rows
    with workspace.opened():
        left = workspace.scratch / TEMPORARY / "compiler" / "model.onnx"
        left.parent.mkdir(parents=True)
        for content in (b"of one row", b"of another", None):
            left.unlink() if content is None else left.write_bytes(content)
            assert workspace.damage(row) == ""
        data = workspace.scratch / "train_x.npy"
        before = data.read_bytes()
        data.write_bytes(b"other pixels")
        assert "train_x.npy" in workspace.damage(row)
        assert data.read_bytes() == before
        (workspace.folder(row) / "logits.npy").write_bytes(b"its own")
        assert workspace.damage(row) == ""


def test_image_files_change_only_as_the_parent_says(process: None) -> None:
    workload = Workload(MODELS["article-pytorch"], "digits", RECIPES["article-keras"])
    plan = make_plan(Request(("pytorch",), workload, task="input", input_workers=(0,), devices="cpu"))
    workspace = Workspace(plan, DatasetInputs(digits.load()))
    (row,) = plan.rows
    with workspace.opened():
        images = workspace.work(row).images
        assert images is not None
        workspace.renew_files()
        assert workspace.damage(row) == "", "the parent's own changes"
        image = images / "00000.png"
        before = image.read_bytes()
        image.write_bytes(b"something that is faster to decode")
        assert "images/00000.png" in workspace.damage(row)
        assert image.read_bytes() == before, "as it was last, not as at first"
        assert workspace.damage(row) == ""


def test_a_runtime_knows_the_weights_of_its_file(process: None) -> None:
    """Trained ones too: by the initial weights alone no operator of a trained file would have a layer."""
    workload = Workload(MODELS["article-pytorch"], "digits", RECIPES["article-keras"])
    plan = make_plan(Request(("onnxruntime", "pytorch"), workload, task="infer", devices="cpu"))
    workspace = Workspace(plan, DatasetInputs(digits.load()))
    (runtime,) = [row for row in plan.rows if row.source is not None and row.source.job.backend == "pytorch"]
    with workspace.opened():
        assert runtime.source is not None
        expected = workspace.folder(runtime.source) / "weights.npz"
        assert workspace.prepare(runtime).weights == expected == workspace.prepare(runtime.source).weights
