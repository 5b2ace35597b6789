"""A learner, or the network that it made of a support set, in a folder that others can read."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerloop.config import InputError
from innerloop.files import check_new_folder, write_whole
from innerloop.runs.folder import read_results
from innerloop.tasks.readers import as_json
from innerloop.use.card import card_of_learner, card_of_network
from innerloop.use.learner import Learner

TOLERANCE = 1e-5  # of logits, relative to the largest


def export_learner(run: Path, directory: Path, trust: bool = False) -> None:
    """Writes learner.json, model.safetensors and README.md, a model card, into a new folder, which innerloop.load reads and a model hub
    takes as it is. Raises InputError for what cannot be loaded or written."""
    learner, folder = Learner(run, trust=trust), directory.expanduser()
    path = run / "results.json"
    results = read_results(path) if path.is_file() else None
    learner.save(folder)
    write_whole(folder / "README.md", card_of_learner(learner.about, results).encode())


def export_network(run: Path, directory: Path, support: str, steps: int | None, onnx: bool, trust: bool = False) -> None:
    """Fits the run to `support` and writes what that gives, for any number of inputs at once: network.pt2 (torch.export), network.onnx
    if asked for, network.json (the classes, and how a raw input becomes what it takes) and README.md.

    What was written is read again and answers as the network does, or InputError is raised.
    """
    folder = directory.expanduser()
    check_new_folder(folder)
    learner = Learner(run, steps, trust)
    if learner.about.get("backbone"):
        raise InputError(f"{run} answers to features of a backbone, which no exported network holds; innerloop predict can use it")
    learner.fit(support)
    network, x = learner.network, learner.support.x
    assert network is not None
    classes = [label.item() if hasattr(label, "item") else label for label in learner.classes_] if learner.is_classifier else None
    about = {
        "classes": classes,
        "temperature": learner.about["temperature"],
        "input_shape": list(x.shape[1:]),
        "input_type": "int64" if x.dtype == torch.int64 else "float32",
        "reader": as_json(learner.reader),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}; name another folder") from error
    size = torch.export.Dim("n", min=1)
    example = torch.cat([x, x])[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of its own parts
        program = torch.export.export(network, (example,), dynamic_shapes=({0: size},))
        torch.export.save(program, folder / "network.pt2")
        check_same(torch.export.load(folder / "network.pt2").module(), network, x, "network.pt2")
    if onnx:
        write_onnx(network, example, folder / "network.onnx")
        check_same(of_onnx(folder / "network.onnx"), network, x, "network.onnx")
    write_whole(folder / "network.json", (json.dumps(about, indent=2) + "\n").encode())
    write_whole(folder / "README.md", card_of_network(learner.about, about, len(x), onnx).encode())


def write_onnx(network: torch.nn.Module, example: Tensor, path: Path) -> None:
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError("--onnx needs onnx, onnxscript and onnxruntime; pip install 'innerloop[onnx]'") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (example,), path, input_names=["x"], output_names=["y"], dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
            dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip


def of_onnx(path: Path) -> Any:
    """The network in a file, as onnxruntime runs it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("--onnx needs onnxruntime to try what it wrote; pip install 'innerloop[onnx]'") from error
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


@torch.no_grad()
def check_same(written: Any, network: torch.nn.Module, x: Tensor, name: str) -> None:
    """Raises InputError where what was written answers otherwise, for one input or for several."""
    for some in (x[:1], x):
        expected, found = network(some), written(some)
        if not (found - expected).abs().max() <= TOLERANCE * max(1.0, expected.abs().max().item()):
            raise InputError(f"{name} answers otherwise than the network that it was made of; report this, with the run")
