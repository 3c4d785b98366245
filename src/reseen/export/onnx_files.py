"""A model as ONNX files: written, read back, and compared with PyTorch before anybody gets them."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reseen import __version__
from reseen.errors import ReseenError
from reseen.export.graphs import Graph, graphs_of
from reseen.files import new_folder, to_json
from reseen.inference import Embedder, PersonSearcher
from reseen.onnx import FORMAT
from reseen.onnx import Graph as Written

OPSET = 20  # the first with every operator that is needed; DeformConv is of 19
MAX_DIFFERENCE = 1e-4  # of features, scores, and boxes as a share of the scene's longer side
REMEDY = "free space or choose another --out"


def write_onnx(model: Embedder | PersonSearcher, out: Path, *, licence: str) -> list[str]:
    """Write a folder of graphs and compare each with PyTorch, for 1 and 7 images; returns a line for each.

    Raises:
        ReseenError: onnx is not installed, ``out`` exists, the network does not export, or an output differs by more
            than :data:`MAX_DIFFERENCE`; nothing is left of the folder then.
    """
    try:
        import onnx  # noqa: F401 (only whether they are there)
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise ReseenError(
            "--format onnx needs packages that are not installed: pip install 'reseen[export]'"
        ) from None
    graphs = graphs_of(model)
    lines = []
    with new_folder(out, REMEDY) as folder:
        for graph in graphs:
            path = folder / f"{graph.name}.onnx"
            _write(graph, path, licence)
            lines.append(_checked(graph, path))
    return lines


def _write(graph: Graph, path: Path, licence: str) -> None:
    backbone = graph.metadata["backbone"]
    try:
        with _quiet(), torch.no_grad():
            program: Any = torch.onnx.export(
                graph.module.eval().cpu().float(),
                graph.example(2, graph.traced),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                # names and not torch.export.Dim, which may end in a fixed batch without a word
                dynamic_shapes=graph.inputs,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter's, for whatever an architecture does
        reason = str(error).strip().partition("\n")[0]
        raise ReseenError(f"{graph.name}: {backbone} does not export to ONNX ({reason})") from error
    for part in (program.model.graph, *program.model.graph.all_nodes(), *program.model.functions.values()):
        part.metadata_props.clear()  # where each line of code lies on this machine
    metadata = graph.metadata | {"format": FORMAT, "reseen": __version__, "licence": licence}
    program.model.metadata_props.update(
        {key: value if isinstance(value, str) else to_json(value) for key, value in metadata.items()}
    )
    try:
        program.save(path, external_data=False)
    except ValueError as error:  # protobuf's limit
        raise ReseenError(f"{graph.name}: {backbone} is too large for one ONNX file (2 GB)") from error


def _checked(graph: Graph, path: Path) -> str:
    """What the file's outputs differ by; raises ReseenError where that is too much or an axis is fixed."""
    written = Written.load(path, torch.get_num_threads())
    for one in written.session.get_inputs():
        fixed = [name for axis, name in graph.inputs[one.name].items() if isinstance(one.shape[axis], int)]
        if fixed:
            raise ReseenError(f"{graph.name}: ONNX has a fixed {fixed[0]} of input {one.name}: not written")
    reference = (graph.reference or graph.module).eval()
    differences, cosines = [0.0], [1.0]
    for count, size in ((1, graph.own), (7, graph.small)):
        inputs = graph.example(count, size)
        with torch.no_grad():
            expected = reference(*inputs)
        outputs = written(*(one.numpy() for one in inputs))
        expected = expected if isinstance(expected, tuple) else (expected,)
        for name, here, there in zip(graph.outputs, expected, outputs, strict=True):
            differences.append(_difference(here.numpy(), there) / (max(size) if name == "boxes" else 1))
            if name == "features":
                cosines.append(float((here.numpy() * there).sum(axis=1).min()))
    largest = float(np.max(differences))  # NaN stays
    if not largest <= MAX_DIFFERENCE:
        raise ReseenError(
            f"{graph.name}: ONNX differs from PyTorch by {largest:.1e}, more than {MAX_DIFFERENCE:.0e}: not written"
        )
    cosine = f", smallest cosine {min(cosines):.7f}" if "features" in graph.outputs else ""
    return f"{path.name}: largest difference from PyTorch {largest:.1e}{cosine} (1 and 7 images)"


def _difference(here: NDArray[Any], there: NDArray[Any]) -> float:
    if here.shape != there.shape:
        return float("inf")
    return float(np.abs(here - there).max()) if here.size else 0.0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks about its own insides, on three channels."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
