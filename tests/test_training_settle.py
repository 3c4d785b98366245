"""What a run leaves open is decided once: pixels, neighbours, iterations, the precision of a CPU with bf16 units."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from reseen.config import from_yaml, resolve, to_yaml
from reseen.config.sections import LITE
from reseen.errors import ReseenError
from reseen.inference import load_encoder
from reseen.methods import get_method
from reseen.methods.common import rehearse_crops
from reseen.methods.r_siamnet import METHOD
from reseen.models.weights import pixel_statistics
from reseen.training import LAST, fit, read_checkpoint
from reseen.training.settle import GAIN, measured_precision, settled
from worlds import people, tiny

CPU = torch.device("cpu")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return people(tmp_path_factory.mktemp("people"))[0]


@pytest.fixture
def units(monkeypatch):
    """A CPU with bf16 units, whatever this one has."""
    monkeypatch.setattr("reseen.device._computes_in_bf16", lambda device: True)


def quiet(folder, crops, *settings, say=lambda line: None, **more):
    config = tiny("cacl", *settings)
    root = crops[0].path.parent
    return fit(
        config, crops, get_method("cacl"), folder=folder, root=root, say=say, **{"weights": "none"} | more
    )


def test_pixels_are_those_of_the_weights():
    assert pixel_statistics(LITE) == ((0.5,) * 3, (0.5,) * 3)
    assert pixel_statistics("resnet50") == pixel_statistics("street") == IMAGENET
    lite = settled(resolve(weights="lite"), 100).data
    assert (lite.mean, lite.std) == ((0.5,) * 3, (0.5,) * 3)
    assert settled(resolve(weights="none", settings=[f"model.backbone={LITE}"]), 100).data.mean == IMAGENET[0]
    given = resolve(weights="lite", settings=["data.mean=[0.1,0.2,0.3]", "data.std=[1,1,1]"])
    assert settled(given, 100).data.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(("persons", "k1", "k2"), [(50, 10, 2), (1700, 17, 3), (12936, 30, 6)])
def test_neighbours_and_iterations_by_the_number_of_images(persons, k1, k2):
    config = settled(
        resolve(settings=["cluster.k1=auto", "train.iterations=auto"]),
        persons,
        draws=get_method("cacl").draws,
    )
    assert (config.cluster.k1, config.cluster.k2) == (k1, k2)
    assert config.train.iterations == -(-2 * persons // 64)
    assert (
        settled(resolve("r-siamnet"), persons, draws=METHOD.draws).train.iterations == 0
    )  # every scene once


def test_what_was_decided_holds_when_the_run_goes_on():
    open_values = resolve(settings=["cluster.k1=auto", "train.iterations=auto"], weights="lite")
    before = settled(open_values, 1700)
    assert settled(open_values, 5000, before) == before
    old = from_yaml(to_yaml(resolve(settings=["cluster.k1=12"])))  # from before these keys
    assert settled(resolve(settings=["cluster.k1=12"]), 5000, old).data.mean == ()


class Slow(torch.nn.Module):
    """Counts what it is asked for; a step in one precision takes longer than in the other."""

    def __init__(self, slow: torch.dtype) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.slow = slow


def asked(slow, say=lambda line: None, precision="auto"):
    calls = []

    def forward(networks, count):
        product = torch.ones(4, 4) @ torch.ones(4, 4)  # in the precision of autocast
        calls.append(product.dtype)
        if product.dtype == networks.slow:
            torch.ones(900, 900).double().matmul(torch.ones(900, 900).double())
        return networks.weight * count

    return measured_precision(Slow(slow), forward, CPU, precision, say), calls


def test_the_faster_precision_is_taken_and_told(units):
    said = []
    chosen, calls = asked(torch.bfloat16, said.append)
    assert chosen == "none"
    assert calls.count(torch.bfloat16) == calls.count(torch.float32) == 2
    assert said[0].startswith("precision none: a step in bf16 takes ")
    assert asked(torch.float32)[0] == "bf16"
    assert GAIN < 1


def test_nothing_is_measured_where_nothing_is_open(monkeypatch, units):
    for precision in ("bf16", "none"):
        assert asked(torch.bfloat16, precision=precision) == (precision, [])
    monkeypatch.setattr("reseen.device._computes_in_bf16", lambda device: False)
    assert asked(torch.float32) == ("none", [])


def test_measuring_leaves_networks_and_random_numbers_alone(units):
    config = tiny()
    encoder = get_method("cacl").encoder(config)
    networks = get_method("cacl").build(config, encoder)
    before = {name: tensor.clone() for name, tensor in networks.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    measured_precision(
        networks, lambda n, count: rehearse_crops(n, config, count), CPU, "auto", lambda line: None
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in networks.state_dict().items())
    assert all(p.grad is None for p in networks.parameters())


def test_the_choice_is_written_and_kept(monkeypatch, units, crops, tmp_path):
    fit_module = __import__("reseen.training.fit", fromlist=["fit"])
    monkeypatch.setattr(fit_module, "measured_precision", lambda *_: "bf16")
    run = quiet(tmp_path / "run", crops, "train.precision=auto", "train.epochs=1")
    assert run.precision == run.config.train.precision == "bf16"
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["train"]["precision"] == "bf16"
    monkeypatch.setattr(fit_module, "measured_precision", lambda *_: pytest.fail("measured again"))
    again = quiet(tmp_path / "run", crops, "train.precision=auto", "train.epochs=2", resume=True)
    assert again.precision == again.config.train.precision == "bf16"
    assert again.epoch == 2


# --- what a run begins with, in its files ---


def test_pixels_travel_with_the_model(crops, tmp_path):
    words = ("train.epochs=1", "data.mean=[0.5,0.5,0.5]", "data.std=[0.5,0.5,0.5]")
    quiet(tmp_path / "run", crops, *words)
    stored = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]
    assert (stored["mean"], stored["std"]) == ([0.5] * 3, [0.5] * 3)
    for name in (LAST, "start.safetensors"):
        _, checkpoint = load_encoder(tmp_path / "run" / "checkpoint" / name)
        assert checkpoint.config.data.mean == (0.5,) * 3
    quiet(tmp_path / "usual", crops, "train.epochs=1")
    assert load_encoder(tmp_path / "usual")[1].config.data.mean == IMAGENET[0]


def test_a_file_of_weights_is_named_in_checkpoints_without_its_folders(crops, tmp_path):
    quiet(tmp_path / "first", crops, "train.epochs=1")
    file = tmp_path / "first" / "checkpoint" / "start.safetensors"
    weights = tmp_path / "secret" / "mine.safetensors"
    weights.parent.mkdir()
    prefix = "networks.first."
    tensors = {n.removeprefix(prefix): t for n, t in load_file(file).items() if n.startswith(prefix)}
    save_file(tensors, weights)
    quiet(tmp_path / "run", crops, "train.epochs=1", weights=weights)
    for name in (LAST, "start.safetensors"):
        text = read_checkpoint(tmp_path / "run" / "checkpoint" / name).state["config"]
        assert "secret" not in text
        assert from_yaml(text).weights == "mine.safetensors"
    assert from_yaml((tmp_path / "run" / "config.yaml").read_text()).weights == str(weights)
    made_with = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert (made_with["weights"], made_with["pretrained"]) == ("mine.safetensors", "mine.safetensors")
    again = quiet(tmp_path / "run", crops, "train.epochs=2", weights="none", resume=True)  # none is read
    assert again.epoch == 2


# --- a schedule may be prolonged ---


@pytest.mark.parametrize(
    ("longer", "allowed"),
    [
        (
            ("train.epochs=8", "train.lr_steps=[0.5]"),
            True,
        ),  # the cut after 4, not after 2: later than what is done
        (("train.epochs=4", "train.lr_steps=[]"), True),
        (("train.epochs=4", "train.lr_steps=[0.75]"), True),
        (("train.epochs=8", "train.lr_steps=[0.125]"), False),  # would have been cut after the first
        (("train.epochs=4", "train.lr_steps=[0.5]", "train.lr=0.002"), False),
    ],
)
def test_a_run_goes_on_under_a_schedule_with_the_same_past(longer, allowed, crops, tmp_path):
    class StopError(Exception):
        pass

    def stop(run, method):
        if run.epoch == 3:
            raise StopError
        return {}

    with pytest.raises(StopError):
        quiet(tmp_path / "run", crops, "train.epochs=4", "train.lr_steps=[0.5]", watch=stop)
    if allowed:
        run = quiet(tmp_path / "run", crops, *longer, resume=True, watch=lambda run, method: {})
        assert run.epoch == int(longer[0].partition("=")[2])
        assert [record["lr"] for record in run.history[:2]] == [0.001, 0.001]
    else:
        with pytest.raises(ReseenError, match="made with other settings"):
            quiet(tmp_path / "run", crops, *longer, resume=True)


def test_a_finished_run_is_prolonged_as_if_it_had_been_that_long(crops, tmp_path):
    short = ("train.epochs=2", "train.lr_steps=[]")
    quiet(tmp_path / "run", crops, *short)
    longer = quiet(tmp_path / "run", crops, "train.epochs=3", "train.lr_steps=[]", resume=True)
    whole = quiet(tmp_path / "whole", crops, "train.epochs=3", "train.lr_steps=[]")
    assert (
        Path(tmp_path / "run" / "config.yaml").read_text() == (tmp_path / "whole" / "config.yaml").read_text()
    )
    state = whole.networks.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in longer.networks.state_dict().items())
