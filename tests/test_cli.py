"""The command line: quick help, one line and exit code 2 for every mistake in the words that were typed."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from reseen import __version__, cli
from reseen.cli import main
from worlds import TINY, people


def call(*words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


def refused(*words: object) -> str:
    """The one line that a command ends with when its user can mend the matter."""
    code, _, err = call(*words)
    assert code == 2
    assert err.startswith("reseen: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err.removeprefix("reseen: ").strip()


def tiny(*settings: str) -> list[str]:
    return [word for setting in [*TINY, *settings] for word in ("--set", setting)]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("crops")
    people(root)
    return root


def child(*words: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    """CPU seconds (user and system) of a Python process, and what it said."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done


@pytest.mark.parametrize("words", [("-c", "import reseen"), ("-m", "reseen", "--help")], ids=str)
def test_import_and_help_are_quick(words):
    runs = [child(*words) for _ in range(3)]
    assert all(done.returncode == 0 for _, done in runs)
    assert min(seconds for seconds, _ in runs) < 0.5


@pytest.mark.parametrize("words", [("--help",), ("train", "--help"), ("evaluate", "--help"), ()], ids=str)
def test_help_imports_neither_torch_nor_the_rest(words):
    _, done = child("-X", "importtime", "-m", "reseen", *words)
    assert done.returncode == 0
    assert "usage: reseen" in done.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"torch", "numpy", "jsonargparse", "matplotlib", "rich", "numba", "timm"}


def test_help_names_every_command_and_version_is_ours(capsys):
    for words in (["--help"], []):
        with contextlib.suppress(SystemExit):
            main(words)
        text = capsys.readouterr().out
        for command in ("demo", "train", "evaluate", "cluster", "report", "compose", "doctor"):
            assert f"\n    {command} " in text
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"reseen {__version__}\n"


def test_every_command_has_a_function_of_its_own():
    (commands,) = cli._parser()._subparsers._group_actions
    functions = {cli._function_of(command) for command in commands.choices}
    assert len(functions) == len(commands.choices) > 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "cacl", "--data", "x", "--weigths", "none"), "did you mean --weights?"),
        (("train", "cacl", "--data", "x", "--weight=none"), "did you mean --weights?"),
        (("evaluate", "run", "--data", "x", "--epochs", "last"), "did you mean --epoch?"),
        (("cluster", "run", "--data", "x", "--ouput", "y"), "did you mean --out?"),
        (("train", "cacl", "--dta", "x"), "did you mean --data?"),
        (("doctor", "--camera-patern", "x"), "did you mean --camera-pattern?"),
        (("trian", "cacl", "--data", "x"), "did you mean train?"),
        (("--verison",), "did you mean --version?"),
        (("--data", "x", "train"), "unknown option --data"),
        (("train", "cacl", "--data", "x", "--xyzzy"), "see reseen train --help"),
        (("train", "cacl", "--data", "x", "-r"), "-r"),
        (("doctor", "a", "b"), "b"),
        (("train", "cacl"), "--data"),
        (("train", "--data", "x"), "METHOD"),
        (("evaluate", "run", "--data", "x", "--epoch", "best-on-tset"), "did you mean best-on-test?"),
        (("evaluate", "run", "--data", "x", "--branch", "third"), "unknown --branch third: see"),
        (("cluster", "run", "--data", "x", "--eps", "wide"), "--eps"),
        (("demo", "--seed", "one"), "--seed"),
        (("train", "cacl", "--data"), "--data"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistyped_word_is_answered_in_one_line(words, said):
    assert said in refused(*words)


@pytest.mark.parametrize(
    ("method", "words", "said"),
    [
        ("calc", (), "did you mean cacl?"),
        ("cluster_contrast", (), "did you mean cluster-contrast?"),
        ("moco", (), "cacl, cscl, spcl, cluster-contrast"),
        ("cacl", ("--recipe", "cacl-strng"), "did you mean cacl-strong?"),
        ("cacl", ("--recipe", "spcl"), "name its method"),
        ("cacl", ("--recipe", "missing.yaml"), "missing.yaml"),
        ("cacl", ("--set", "cluster.ep=0.5"), "did you mean cluster.eps?"),
        ("cacl", ("--set", "lr=0.5"), "did you mean train.lr?"),
        ("cacl", ("--set", "train.epochs"), "key=value"),
        ("cacl", ("--set", "train.epochs=many"), "train.epochs"),
        ("cacl", ("--set", "train.epochs=0"), "train.epochs"),
        ("cacl", ("--set", "train.epochs="), "train.epochs"),
        ("cacl", ("--set", "cluster.eps=2"), "cluster.eps"),
        ("cacl", ("--set", "data.second_view=blue"), "grey"),
        ("cacl", ("--set", "train.batch_size=7"), "train.instances"),
        ("cacl", ("--set", "train.device=abacus"), "auto"),
        ("cacl", ("--set", "train.device=cuda:99"), "train.device=auto"),
        ("cacl", ("--set", "model.backbone=resnet51"), "resnet51"),
        ("cacl", ("--set", "recipe=cscl"), "--recipe"),
        ("cacl", ("--config", "missing.yaml"), "missing.yaml"),
        ("cacl", ("--camera-pattern", "c("), "regular expression"),
        ("cacl", ("--camera-pattern", "c1"), "parentheses"),
        ("cacl", ("--camera-pattern", "kamera(\\d)"), "matches no image"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_answered_before_anything_is_written(method, words, said, images, tmp_path):
    run = tmp_path / "run"
    # the words come last, so that they win over the tiny settings
    assert said in refused(
        "train", method, "--data", images, "--run", run, "--weights", "none", *tiny(), *words
    )
    assert not run.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"train: {epochs: [", "YAML"),
        (b"train:\n  epoch: 3\n", "did you mean train.epochs?"),
        (b"train: 3\n", "train.KEY"),
        (b"- a\n- b\n", "key: value"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"recipe: cscl\n", "--recipe"),
        (b"train:\n  epochs: -1\n", "train.epochs"),
    ],
    ids=["torn", "unknown key", "no section", "a list", "binary", "another recipe", "out of range"],
)
def test_a_broken_settings_file_is_named(content, said, images, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    words = ("--run", tmp_path / "run", "--weights", "none", "--recipe", "cacl", "--config", file)
    assert said in refused("train", "cacl", "--data", images, *words)
    assert not (tmp_path / "run").exists()


def test_interruption_and_the_system_s_own_errors(monkeypatch):
    import reseen.commands.doctor as doctor

    def fail(error: BaseException):
        def command(**given: object) -> None:
            raise error

        monkeypatch.setattr(doctor, "doctor", command)
        return call("doctor")

    code, _, err = fail(KeyboardInterrupt())
    assert (code, err.count("\n")) == (130, 1)
    assert "--resume" in err
    code, _, err = fail(OSError(28, "No space left on device", "runs/a/metrics.jsonl"))
    assert (code, err) == (2, "reseen: runs/a/metrics.jsonl: No space left on device\n")
    with pytest.raises(ZeroDivisionError):  # our own mistakes are not dressed up as the user's
        fail(ZeroDivisionError())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.pth", None, "no such file"),
        ("empty.safetensors", b"", "no file of weights"),
        ("text.safetensors", b"weights", "no file of weights"),
        ("text.pth", b"weights", "nothing in it was run"),
        ("pickle.pth", b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.", "nothing in it was run"),
    ],
)
def test_a_file_that_holds_no_weights_is_named(name, content, said, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    line = refused("train", "cacl", "--data", images, "--run", "run", "--weights", file, *tiny())
    assert said in line
    assert str(file) in line
    assert sorted(os.listdir(tmp_path)) == ([] if content is None else [name])


def test_without_a_network_the_imagenet_weights_are_asked_for_as_a_file(images, tmp_path, monkeypatch):
    import socket
    import time

    import huggingface_hub.constants as hub

    def nowhere(*given: object, **more: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    words = ("--data", images, "--run", tmp_path / "run", *tiny("model.backbone=resnet18"))
    started = time.process_time()
    assert "--weights FILE" in refused("train", "cacl", *words)  # imagenet is the default
    assert time.process_time() - started < 20
    assert not (tmp_path / "run").exists()
