"""What must not be in the repository (machine paths, index hosts, photographs, large files) and what must."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LARGEST = 1_000_000  # bytes
PICTURES = {".png", ".svg"}  # drawn ones; photographs come as the others
PHOTOGRAPHS = {".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".heic", ".avif"}
WEIGHTS = {".pth", ".pt", ".safetensors", ".onnx", ".ckpt", ".npy", ".npz", ".pkl", ".tar", ".gz", ".zip"}
MACHINE_PATH = re.compile(r"(?<![\w.>}\"'])/(?:(?:root|work|workspace)\b|(?:home|Users|mnt)/\w)")
INDEX_HOST = re.compile(
    "|".join(
        (
            r"python" r"hosted\.org",
            r"pypi\.",
            r"(?<!no-emit-)index" r"-url",
            r"https?://[^\s/]*(?:mirror|artifactory|nexus)",
        )
    )
)


def tracked() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    out = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [path for name in out.split("\0") if name and (path := ROOT / name).is_file()]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def direct_requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    more = [
        *project["project"].get("optional-dependencies", {}).values(),
        *project["dependency-groups"].values(),
    ]
    words = [*project["project"]["dependencies"], *(word for group in more for word in group)]
    return [Requirement(word) for word in words if isinstance(word, str)]  # a table includes another group


def locked() -> dict[str, list[str]]:
    """Name -> versions in the lock: more than one where a marker chooses."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(
        r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", (ROOT / "requirements.lock").read_text(), re.M
    ):
        found.setdefault(canonicalize_name(name), []).append(version)
    return found


def test_no_machine_paths_and_no_hosts_of_an_index():
    wrong = []
    for path in tracked():
        for number, line in enumerate(text_of(path).splitlines(), 1):
            if MACHINE_PATH.search(line) or INDEX_HOST.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not wrong, "\n".join(wrong)


def test_the_patterns_can_fail():
    assert MACHINE_PATH.search("data in /" + "root/data")
    assert MACHINE_PATH.search("/" + "home/someone/data")
    assert not MACHINE_PATH.search("runs/demo/report and https://example.org/home/page")
    assert INDEX_HOST.search("--extra-index" + "-url x")
    assert INDEX_HOST.search("https://files.python" + "hosted.org/")
    assert not INDEX_HOST.search("--no-emit-index" + "-url")


def test_no_photographs_no_weights_no_large_files():
    wrong = []
    for path in tracked():
        name, suffix, size = path.relative_to(ROOT), path.suffix.lower(), path.stat().st_size
        if suffix in PHOTOGRAPHS or suffix in WEIGHTS:
            wrong.append(f"{name}: photographs and weights stay out of the repository")
        if suffix in PICTURES and name.parts[0] not in ("docs", "src"):
            wrong.append(f"{name}: pictures belong in docs/")
        if size > LARGEST:
            wrong.append(f"{name}: {size} bytes, more than {LARGEST}")
    assert not wrong, "\n".join(wrong)


def test_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert len(text.splitlines()) == 202
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_lock_is_hashed_and_names_no_host():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert not re.search(r"^\s*-", re.sub(r"^\s+--hash=\S+", "", lock, flags=re.M), re.M), (
        "an option in the lock"
    )
    entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.M)[1:]
    assert entries
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]


def test_the_lock_is_in_step_with_the_project():
    """Run `make lock` when this fails."""
    versions = locked()
    for requirement in direct_requirements():
        pinned = versions.get(canonicalize_name(requirement.name), [])
        assert pinned, f"{requirement.name} is not in requirements.lock: run make lock"
        assert any(requirement.specifier.contains(v, prereleases=True) for v in pinned), requirement


def test_direct_dependencies_have_a_lower_bound():
    """Without one, a resolver asked for the lowest versions goes back to the first release ever."""
    for requirement in direct_requirements():
        assert any(s.operator in (">=", "==", "~=") for s in requirement.specifier), requirement


TARGETS = ("env", "demo", "test", "quick", "fuzz", "coverage", "docs", "check", "digests", "bench", "lock")


@pytest.mark.parametrize("target", TARGETS)
def test_make_has_the_target(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


def test_scripts_are_executable():
    for script in (ROOT / ".ci" / "run", ROOT / ".ci" / "environment"):
        assert script.stat().st_mode & 0o111, f"{script} is not executable"


def test_the_version_has_one_source_and_the_others_follow_it():
    import reseen

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert "version" not in project["project"]
    assert (ROOT / project["tool"]["hatch"]["version"]["path"]).samefile(reseen.__file__)
    headings = re.findall(r"^## \[([^]]+)\](?: - (\S+))?", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == ("Unreleased", "")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert headings[1] == (reseen.__version__, citation["date-released"])
    assert citation["version"] == reseen.__version__
    papers = {name["value"] for paper in citation["references"] for name in paper["identifiers"]}
    assert papers == {"arXiv:2106.07846", "arXiv:2109.06109"}


def test_the_placeholder_of_the_address_stands_in_one_place():
    placeholder = "example.org" + "/reseen"
    assert [p.name for p in tracked() if placeholder in text_of(p)] == ["pyproject.toml"]
    assert "[project.urls]" in (ROOT / "CONTRIBUTING.md").read_text()
    assert "[project.urls]" in (ROOT / "SECURITY.md").read_text()


@pytest.mark.parametrize("form", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda form: form.name)
def test_what_github_reads_is_yaml_and_the_workflow_only_calls_our_script(form):
    content = yaml.safe_load(form.read_text())
    if form.parent.name == "workflows":
        assert [step["run"] for step in content["jobs"]["run"]["steps"] if "run" in step] == ["bash .ci/run"]
    elif form.name != "config.yml":
        assert {"name", "description", "body"} <= set(content)
        assert all(part["type"] == "markdown" or part["attributes"]["label"] for part in content["body"])
