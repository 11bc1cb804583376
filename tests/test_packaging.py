"""What is published says the same everywhere, and workflows call scripts that exist."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import mlpot

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_one_version():
    versions = {
        "pyproject.toml": PROJECT["project"]["version"],
        "mlpot": mlpot.__version__,
        "CITATION.cff": re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1],
        "recipe.yaml": re.search(r'version: "(\S+)"', (ROOT / "packaging/conda/recipe.yaml").read_text())[1],
    }
    assert len(set(versions.values())) == 1, versions
    assert re.search(rf"^## {re.escape(mlpot.__version__)}", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_types_are_announced():
    assert (ROOT / "mlpot" / "py.typed").exists() and "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["mlpot"]


def test_the_recipe_has_the_dependencies_of_the_wheel():
    recipe = (ROOT / "packaging/conda/recipe.yaml").read_text().replace("matplotlib-base", "matplotlib")
    for requirement in PROJECT["project"]["dependencies"]:
        name, _, least = requirement.partition(">=")
        assert f"- {name} >={least}" in recipe.partition("run:")[2], requirement


def test_workflows_and_images_use_files_that_are_there():
    files = [*(ROOT / ".github/workflows").glob("*.yml"), *(ROOT / "packaging").glob("*")]
    texts = [path.read_text() for path in files if path.is_file()]
    texts += [(ROOT / "pyproject.toml").read_text(), (ROOT / ".ci/package").read_text()]
    named = {name for text in texts for name in re.findall(r"(?<![\w/.-])(\.ci/\w+|packaging/[\w./-]+\w)", text)}
    assert {".ci/run", ".ci/package", "packaging/try_it.py"} <= named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_yaml_and_settings_of_cibuildwheel():
    yaml = pytest.importorskip("yaml")
    workflows = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}
    assert set(workflows["wheels.yml"]["jobs"]) == {"wheels", "sdist", "publish"}
    assert workflows["wheels.yml"]["jobs"]["publish"]["environment"] == "release"
    assert all(text["permissions"] == {"contents": "read"} for text in workflows.values())
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["cff-version"] == "1.2.0"
    wheels = PROJECT["tool"]["cibuildwheel"]
    assert wheels["build"][0] == "cp311-*" and "3.11" in PROJECT["project"]["requires-python"]
    assert "packaging/try_it.py" in wheels["test-command"]


def test_what_a_page_includes_is_in_the_sdist():
    """Files that the site reads are named by MANIFEST.in."""
    manifest = (ROOT / "MANIFEST.in").read_text()
    for name in ("mkdocs.yml", "CITATION.cff", "CONTRIBUTING.md", "SECURITY.md", "CONVENTIONS.md"):
        assert name in manifest
    assert "recursive-include docs *.py *.md *.png" in manifest and "packaging" in manifest


def test_scripts_are_sound():
    for script in ("run", "package", "sanitize", "nightly"):
        subprocess.run(["bash", "-n", str(ROOT / ".ci" / script)], check=True)
