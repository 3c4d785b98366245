"""Configuration: layers, types, ranges, errors that say what to do, and the recipes."""

import dataclasses
import subprocess
import sys

import pytest

from reseen.config import (
    ClusterConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    TrainConfig,
    differences,
    fingerprint,
    from_yaml,
    recipe_names,
    resolve,
    to_yaml,
)
from reseen.config.resolve import RECIPES
from reseen.config.sections import LITE
from reseen.errors import ReseenError

# What each recipe changes, by the row of the paper that it stands for. Nothing more, nothing less.
CHANGES = {
    "cacl": set(),
    "cacl-literal": {
        "cluster.features",
        "loss.centroid_update",
        "model.predictor",
        "model.predictor_input",
        "train.precision",
    },
    "cacl-official": {
        "loss.focal_gamma",
        "loss.second_memory_init",
        "cluster.refine",
        "cluster.removed_to",
        "train.precision",
    },
    "cscl": {"loss.symmetric"},  # Table 6
    "cscl-no-stopgrad": {"loss.symmetric", "loss.stop_gradient"},  # Table 7
    "cacl-no-stopgrad": {"loss.stop_gradient"},
    "cacl-no-refine": {"cluster.refine"},  # Tables 3 and 7
    "cacl-no-instance": {"loss.instance"},
    "cacl-no-cluster-loss": {"loss.inter", "loss.intra"},
    "cacl-no-intra": {"loss.intra"},
    "cacl-no-inter": {"loss.inter"},
    "cacl-no-clustering": {"cluster.enabled", "loss.inter", "loss.intra"},
    "cacl-single": {"loss.branches", "loss.instance", "loss.inter", "loss.intra", "data.second_view"},
    "cacl-single-grey": {"loss.branches", "loss.instance", "loss.inter", "loss.intra"},
    "cacl-colour-view": {"data.second_view"},  # Table 4
    "cacl-jitter-view": {"data.second_view"},
}


R_SIAMNET = {  # Tables 6 and 8 of R-SiamNet
    "r-siamnet-faster-rcnn": {"search.detector"},
    "r-siamnet-retinanet": {"search.detector"},
    "r-siamnet-no-filter": {"search.image_filter"},
}


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_resolves_is_named_and_survives_yaml(name):
    config = resolve(name)
    assert config.recipe == name
    assert from_yaml(to_yaml(config)) == config
    assert fingerprint(from_yaml(to_yaml(config))) == fingerprint(config)
    if name != "cacl":
        assert differences(resolve("cacl"), config), f"{name} is the same as cacl"


@pytest.mark.parametrize(("name", "changes"), CHANGES.items())
def test_ablation_changes_what_its_row_says(name, changes):
    assert set(differences(Config(), resolve(name))) == changes


@pytest.mark.parametrize(("name", "changes"), R_SIAMNET.items())
def test_ablation_of_r_siamnet_changes_what_its_row_says(name, changes):
    assert set(differences(resolve("r-siamnet"), resolve(name))) == changes


def test_no_two_recipes_are_the_same():
    prints = {fingerprint(resolve(name)) for name in recipe_names()}
    assert len(prints) == len(recipe_names())


def test_rows_without_a_cluster_loss_keep_equation_13():
    """Section 4.4: without L_C, and without its intra part, the second branch still learns from Eq. (13)."""
    for name in ("cacl-no-cluster-loss", "cacl-no-intra", "cacl-single", "cacl-single-grey"):
        assert resolve(name).loss.intra == "second", name


def test_the_default_is_what_the_paper_prints():
    config = resolve()
    assert config == Config() == resolve("cacl")
    assert (config.train.lr, config.train.weight_decay, config.train.epochs) == (3.5e-4, 5e-4, 80)
    assert (config.train.batch_size, config.loss.temperature, config.loss.momentum) == (64, 0.05, 0.2)
    assert [share * config.train.epochs for share in config.train.lr_steps] == [20, 40, 60]
    assert config.cluster.eps - config.cluster.tight_gap == pytest.approx(0.58)
    assert config.data.pad * config.data.height == 10


def test_baselines_have_their_own_schedules():
    for name in ("spcl", "cluster-contrast"):
        train = resolve(name).train
        assert [share * train.epochs for share in train.lr_steps] == [20, 40]
    contrast = resolve("cluster-contrast")
    assert (contrast.train.batch_size, contrast.train.instances, contrast.loss.momentum) == (256, 16, 0.1)


def test_layers_recipe_then_file_then_settings(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("cluster:\n  eps: 0.5\n  k1: 20\ntrain.epochs: 7\n")
    config = resolve("cacl-official", file, ["cluster.k1=25", "train.lr=1e-4"])
    assert config.loss.focal_gamma == 4.0  # recipe
    assert (config.cluster.eps, config.train.epochs) == (0.5, 7)  # file
    assert (config.cluster.k1, config.train.lr) == (25, 1e-4)  # settings win


def test_the_file_may_name_the_recipe(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("recipe: spcl\nseed: 4\n")
    config = resolve(file=file)
    assert (config.method, config.recipe, config.seed) == ("spcl", "spcl", 4)
    with pytest.raises(ReseenError, match="says recipe: spcl"):
        resolve("cacl", file)


def test_a_written_configuration_is_a_valid_file(tmp_path):
    config = resolve("cluster-contrast", settings=["seed=9"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert resolve(file=tmp_path / "config.yaml") == config


def test_a_recipe_can_be_a_file(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("loss: {focal_gamma: 1}\n")
    assert resolve(recipe).loss.focal_gamma == 1.0
    recipe.write_text("recipe: spcl\n")
    with pytest.raises(ReseenError, match="--config"):
        resolve(recipe)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("data.camera_aware=off", "off"),  # a word here, though YAML 1.1 calls it false
        ("train.channels_last=off", False),
        ("train.channels_last=true", True),
        ("train.lr=1e-4", 1e-4),
        ("loss.focal_gamma=2", 2.0),
        ("train.lr_steps=[0.5, 0.9]", (0.5, 0.9)),
        ("train.lr_steps=[]", ()),
        ("seed=3", 3),
        ("model.backbone=densenet121", "densenet121"),
        ("cluster={eps: 0.4}", None),
    ],
)
def test_values_get_the_type_of_their_field(setting, expected):
    config = resolve(settings=[setting])
    if expected is None:
        assert config.cluster.eps == 0.4
        return
    section, _, name = setting.partition("=")[0].rpartition(".")
    value = getattr(getattr(config, section) if section else config, name)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["cluster.epz=0.5"], "did you mean cluster.eps?"),
        (["lr=1"], "did you mean train.lr?"),
        (["temprature=1"], "did you mean loss.temperature?"),
        (["wibble=1"], "known: cluster, data"),
        (["cluster=3"], "is a section"),
        (["cluster.eps"], "key=value"),
        (["recipe=spcl"], "--recipe"),
        (["cluster.eps=abc"], "cluster.eps is 'abc': expected float"),
        (["cluster.eps="], "cluster.eps is empty: expected float"),
        (["cluster.eps=true"], "expected float"),
        (["cluster.k1=2.5"], "expected int"),
        (["cluster.enabled=maybe"], "expected bool"),
        (["train.lr=nan"], "train.lr"),
        (["train.lr_steps=0.5"], "train.lr_steps"),
        (["train.lr_steps=[a]"], "train.lr_steps"),
        (["data.second_view=gray"], "expected one of grey, none, jitter"),
        (["cluster.eps=["], "not valid YAML"),
        (["cluster.enabled=false"], "loss.inter=false"),
        (["loss.branches=second"], "loss.instance"),
        (["loss.camera_weight=-1"], "be 0 (off) or more"),
        (
            ["cluster.enabled=false", "loss.inter=false", "loss.intra=none", "loss.camera_weight=1"],
            "loss.camera_weight=0 too",
        ),
        (["method=spcl", "loss.camera_weight=1"], "spcl does not read it"),
    ],
)
def test_bad_settings_say_what_to_do_in_one_line(settings, says):
    with pytest.raises(ReseenError) as caught:
        resolve(settings=settings)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DataConfig(height=0),
        lambda: DataConfig(width=4),
        lambda: DataConfig(pad=0.5),
        lambda: DataConfig(flip=1.5),
        lambda: DataConfig(erase=float("nan")),
        lambda: DataConfig(zoom=1.0),
        lambda: DataConfig(jitter=-0.1),
        lambda: DataConfig(max_bad_share=2),
        lambda: DataConfig(workers=-2),
        lambda: ModelConfig(last_stride=3),
        lambda: ModelConfig(bn_group_size=1),
        lambda: ClusterConfig(k1=-1),
        lambda: ClusterConfig(k2=0),
        lambda: ClusterConfig(k1=5, k2=6),
        lambda: ClusterConfig(eps=0.0),
        lambda: ClusterConfig(eps=1.0),
        lambda: ClusterConfig(eps=float("nan")),
        lambda: ClusterConfig(tight_gap=-0.01),
        lambda: ClusterConfig(tight_gap=0.6),
        lambda: ClusterConfig(min_samples=0),
        lambda: LossConfig(temperature=0.0),
        lambda: LossConfig(focal_gamma=-1.0),
        lambda: LossConfig(momentum=1.0),
        lambda: TrainConfig(epochs=0),
        lambda: TrainConfig(iterations=-1),
        lambda: DataConfig(mean=(0.5, 0.5), std=(0.5, 0.5)),
        lambda: DataConfig(mean=(0.5, 0.5, 0.5)),
        lambda: DataConfig(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.0)),
        lambda: TrainConfig(instances=0),
        lambda: TrainConfig(batch_size=62),
        lambda: TrainConfig(batch_size=0),
        lambda: TrainConfig(lr=0.0),
        lambda: TrainConfig(lr=float("inf")),
        lambda: TrainConfig(weight_decay=-1.0),
        lambda: TrainConfig(lr_steps=(0.5, 0.5)),
        lambda: TrainConfig(lr_steps=(0.5, 1.0)),
        lambda: TrainConfig(evaluate_every=-1),
        lambda: Config(seed=-1),
    ],
)
def test_out_of_range_is_refused(make):
    with pytest.raises(ReseenError, match=r"\w+ is .*: it must "):
        make()


def test_weights_of_another_backbone_are_refused():
    with pytest.raises(
        ReseenError, match=r"is for model\.backbone=.*, not resnet50: leave model\.backbone out"
    ):
        Config(weights="lite")


def test_unknown_recipe_and_unreadable_files(tmp_path):
    with pytest.raises(ReseenError, match="did you mean cacl-literal"):
        resolve("cacl-ltieral")
    with pytest.raises(ReseenError, match="known: cacl, "):
        resolve("zzz")
    with pytest.raises(ReseenError, match="No such file"):
        resolve(file=tmp_path / "missing.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReseenError, match="UTF-8"):
        resolve(file=tmp_path / "bytes.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ReseenError, match="key: value"):
        resolve(file=tmp_path / "list.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert resolve(file=tmp_path / "empty.yaml") == Config()


def test_yaml_cannot_build_objects(tmp_path):
    (tmp_path / "evil.yaml").write_text("seed: !!python/object/apply:os.getpid []\n")
    with pytest.raises(ReseenError):
        resolve(file=tmp_path / "evil.yaml")


def test_differences_and_fingerprint_see_every_field():
    base = Config()
    other = {"method": "spcl", "seed": 2, "weights": "none"}
    for name, value in other.items():
        changed = dataclasses.replace(base, **{name: value})
        assert differences(base, changed) == [name]
        assert fingerprint(base) != fingerprint(changed)
    for section in ("data", "model", "cluster", "loss", "train"):
        part = getattr(base, section)
        for field in dataclasses.fields(part):
            changed = dataclasses.replace(base)
            flipped = dataclasses.replace(part)
            object.__setattr__(flipped, field.name, "something else")
            object.__setattr__(changed, section, flipped)
            assert differences(base, changed) == [f"{section}.{field.name}"]
    assert differences(base, dataclasses.replace(base, recipe="mine")) == []
    assert fingerprint(base) == fingerprint(dataclasses.replace(base, recipe="mine"))


def test_what_was_made_before_a_key_was_added_is_found_again():
    """Computed by the version before `weights` and `data.mean`; a new key belongs into `resolve.ADDED`."""
    before = "bc7a92f580e9320c667e41ba319a3e4645e127e7f9cf5a3bf6b9185baa1d3f54"
    assert fingerprint(Config()) == before
    assert fingerprint(resolve(weights="none")) != before
    old = "\n".join(line for line in to_yaml(Config()).splitlines() if not line.startswith("weights:"))
    assert from_yaml(old) == Config()


def test_lite_brings_its_backbone_unless_one_is_given(tmp_path):
    assert resolve(weights="lite").model.backbone == LITE
    assert resolve(settings=["weights=lite"]).model.backbone == LITE
    for method in ("cscl", "spcl", "cluster-contrast", "r-siamnet"):
        assert resolve(method, weights="lite").model.backbone == LITE
    assert resolve(settings=[f"model.backbone={LITE}.in1k"], weights="lite").weights == "lite"
    (tmp_path / "mine.yaml").write_text("weights: lite\n")
    assert resolve(tmp_path / "mine.yaml").model.backbone == LITE
    assert resolve(tmp_path / "mine.yaml", weights="none").weights == "none"
    assert resolve(weights="a: odd # name.pth").weights == "a: odd # name.pth"
    (tmp_path / "other.yaml").write_text("model: {backbone: resnet18}\n")
    for given in (
        {"settings": ["model.backbone=resnet18"]},
        {"file": tmp_path / "other.yaml"},
        {"recipe": "street"},
    ):
        with pytest.raises(
            ReseenError, match=r"--weights lite is for model.backbone=tf_efficientnet_lite0"
        ) as error:
            resolve(weights="lite", **given)
        assert "\n" not in str(error.value)


def test_settings_are_remembered_exactly():
    config = resolve(settings=["data.pad=0.1", "train.lr=0.1234567890123456", "train.weight_decay=1e-17"])
    assert from_yaml(to_yaml(config)) == config


def test_import_is_quick():
    """No torch, no jsonargparse: `reseen --help` must answer at once."""
    code = "import sys, reseen.config; print([m for m in ('torch', 'jsonargparse') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_recipes_lie_in_the_package():
    assert RECIPES.is_dir()
    assert "cacl" in recipe_names()
