"""What the documents say exists: commands, targets, parameters, files and public names."""

import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

import forecastlib
from forecastlib.cli import main
from forecastlib.runner import find_notebooks, read_parameters

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_target_that_is_named_exists(name):
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", DOCUMENTS[name], flags=re.MULTILINE))
    assert named
    assert named <= TARGETS


def test_the_readme_names_every_make_target():
    shown = README[README.index("## Make targets") : README.index("## Architecture")]
    assert set(re.findall(r"`([a-z-]+)`", shown)) | {"help"} == TARGETS


def test_make_help_lists_every_target():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"make ([a-z-]+)", shown)) == TARGETS


@pytest.mark.parametrize(
    "line", sorted(set(re.findall(r"^make (?:train|forecast|data|evaluate|backtest) .*$", README, flags=re.MULTILINE)))
)
def test_every_example_of_make_has_parameters_its_notebook_knows(line):
    _, target, *words = line.split()
    given = dict(word.split("=", 1) for word in words)
    assert read_parameters(given, find_notebooks([target], ROOT)).keys() == {name.lower() for name in given}


def test_every_command_that_is_named_exists_and_explains_itself_with_examples():
    named = set(re.findall(r"forecastlib ([a-z]+) ", README.replace("`", " ")))
    assert {"doctor", "import"} <= named
    assert named <= set(main.commands)
    for name in main.commands:
        shown = CliRunner().invoke(main, [name, "--help"])
        assert shown.exit_code == 0
        assert f"forecastlib {name}" in shown.output


def test_every_notebook_is_in_the_readme():
    assert set(re.findall(r"\[`(\d\d_[a-z]+)`\]\(notebooks/\1\.ipynb\) \|", README)) == {
        path.stem for path in (ROOT / "notebooks").glob("*.ipynb")
    }


def test_the_architecture_has_a_line_for_every_module():
    tree = README[README.index("src/forecastlib/\n") : README.index("notebooks/             the story")]
    shown = set(re.findall(r"^  ([a-z_]+(?:\.py|/))  ", tree, flags=re.MULTILINE))
    source = ROOT / "src" / "forecastlib"
    there = {path.name for path in source.glob("*.py") if path.name != "__init__.py"}
    there |= {f"{path.parent.name}/" for path in source.glob("*/__init__.py")}
    assert shown == there


def test_every_public_name_the_readme_imports_exists():
    imported = re.findall(r"from forecastlib import (.+)", README)
    names = {name.strip() for line in imported for name in line.split(",")}
    assert names
    assert names <= set(forecastlib.__all__)


def test_every_link_to_a_file_leads_somewhere():
    for name, text in DOCUMENTS.items():
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (ROOT / target).exists(), f"{name} links to {target}"


def test_every_runtime_dependency_has_a_reason_in_the_readme():
    from packaging.requirements import Requirement

    pyproject = (ROOT / "pyproject.toml").read_text()
    block = pyproject[pyproject.index("dependencies = [") : pyproject.index("]\n\n[project.optional")]
    declared = {Requirement(text).name.lower() for text in re.findall(r'^    "([^"]+)",$', block, flags=re.MULTILINE)}
    table = README[README.index("## Dependencies") :].lower()
    shown = {
        name.strip() for row in re.findall(r"^\| ([^|]+) \|", table, flags=re.MULTILINE) for name in row.split(",")
    }
    assert declared <= shown


@pytest.mark.slow
def test_the_python_example_of_the_readme_runs(tmp_path, monkeypatch):
    example = next(
        block for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if "Forecaster" in block
    )
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(example.replace("epochs=5", "epochs=1"), "README.md", "exec"), names)
    assert len(names["past"]) == 30 * 3
    assert (tmp_path / "model" / "model.keras").is_file()
