"""The documents match the project: their examples run, and everything they name exists."""

import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from showcase import BEGIN, END
from test_repository import ORDER, PROJECT

import forecastlib
from forecastlib import features
from forecastlib.cli import main
from forecastlib.config import RunConfig
from forecastlib.evaluation.score_table import METRICS
from forecastlib.features import registry
from forecastlib.models import available, base
from forecastlib.runner import find_notebooks, read_parameters
from forecastlib.serving.routes import router

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "forecastlib"
PATHS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PATHS}
README, ARCHITECTURE = DOCUMENTS["README.md"], DOCUMENTS["docs/architecture.md"]
EVERYTHING = "\n".join(DOCUMENTS.values())
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))

NEEDS_A_SERVER = {"docs/service.md"}
"""Documents whose program calls a running service: test_serving_live.py executes it."""
SMALLER = {
    "epochs=5, lstm_units=[16, 16]": "epochs=1, lstm_units=[4]",
    'models=["har", "ridge"], folds=3': 'models=["har"], folds=2, workers=1, progress=False',
}
"""Settings that the tests replace by faster ones."""


def python_blocks(text):
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def code_lines(text):
    """Return the lines of fenced blocks."""
    return "\n".join(re.findall(r"^```.*?\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)).splitlines()


def anchors(text):
    """Return the anchors of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def first_column(text):
    """Return the names in backquotes, in the first cells of all table rows."""
    cells = re.findall(r"^\| (`[^|]+) \|", text, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


BLOCKS = [
    pytest.param(name, block, id=f"{name}-{number}")
    for name, text in DOCUMENTS.items()
    if name not in NEEDS_A_SERVER
    for number, block in enumerate(python_blocks(text), 1)
]


# Examples


@pytest.mark.parametrize(("name", "block"), BLOCKS)
def test_every_python_example_runs(name, block, tmp_path, monkeypatch):
    for shown, smaller in SMALLER.items():
        block = block.replace(shown, smaller)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORECASTLIB_HOME", str(tmp_path))
    monkeypatch.setattr(base, "_registered", dict(base._registered))
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    exec(compile(block, f"<example in {name}>", "exec"), {"__name__": "example"})


def test_every_way_to_extend_the_library_has_an_example():
    sections = re.split(r"^## ", ARCHITECTURE, flags=re.MULTILINE)
    with_example = {section.partition("\n")[0] for section in sections if python_blocks(section)}
    assert with_example == {f"Adding a {kind}" for kind in ("model", "feature", "source", "metric", "check")}


def test_a_custom_model_takes_at_most_ten_lines():
    example = next(block for block in python_blocks(ARCHITECTURE) if "class OwnModel" in block)
    body = example[example.index("class OwnModel") : example.index("register_model(")]
    assert len([line for line in body.splitlines() if line.strip()]) <= 10


# Commands


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_target_in_a_document_exists(name):
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", DOCUMENTS[name], flags=re.MULTILINE)) <= TARGETS


def test_every_make_target_is_documented():
    operations = DOCUMENTS["docs/operations.md"]
    shown = operations[operations.index("`make help` lists") :].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z-]+)`", shown)) | {"help"} == TARGETS


def test_make_help_lists_every_target():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"make ([a-z-]+)", shown)) == TARGETS


@pytest.mark.parametrize(
    "line", sorted({line for line in code_lines(EVERYTHING) if re.match(r"make [a-z]+ [A-Z_]+=", line)})
)
def test_every_make_example_sets_parameters_that_its_notebook_has(line):
    _, target, *arguments = line.split("#")[0].split()
    given = dict(argument.split("=", 1) for argument in arguments)
    assert read_parameters(given, find_notebooks([target], ROOT)).keys() == {name.lower() for name in given}


EXAMPLES = sorted({line.strip() for line in code_lines(EVERYTHING) if re.match(r"(\.venv/bin/)?forecastlib ", line)})


@pytest.mark.parametrize("line", EXAMPLES)
def test_every_command_example_has_options_and_settings_that_exist(line):
    _, name, *arguments = line.split("#")[0].split()
    command = main.commands[name]
    if name == "keys":
        command = command.commands[arguments.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= options
    settings = {
        argument.split("=")[0].lower(): argument.split("=")[1]
        for argument in arguments
        if re.match(r"[A-Z_]+=", argument)
    }
    RunConfig.from_parameters(**settings)


def test_every_command_in_code_exists():
    code = [*code_lines(EVERYTHING), *re.findall(r"`([^`\n]+)`", EVERYTHING)]
    named = {name for line in code for name in re.findall(r"^(?:\.venv/bin/)?forecastlib ([a-z]+)", line)}
    assert {"doctor", "import", "train"} <= named
    assert named <= set(main.commands)


@pytest.mark.parametrize("name", main.commands)
def test_every_command_is_documented_and_its_help_has_examples(name):
    shown = CliRunner().invoke(main, [name, "--help"])
    assert shown.exit_code == 0
    assert f"forecastlib {name}" in shown.output
    assert re.search(rf"(forecastlib|make) {name}\b|`{name}`", EVERYTHING)


# Names


def test_every_public_name_is_in_the_table_of_public_names():
    table = ARCHITECTURE[ARCHITECTURE.index("## Public names") :]
    assert first_column(table) == set(forecastlib.__all__)


def test_every_name_that_an_example_imports_from_the_package_is_public():
    imported = re.findall(r"from forecastlib import (.+)", EVERYTHING)
    assert {name.strip() for line in imported for name in line.split(",")} <= set(forecastlib.__all__)


def test_every_dotted_name_of_the_library_exists():
    for name in set(re.findall(r"`(forecastlib(?:\.\w+)+)", EVERYTHING)):
        target = forecastlib
        for step, part in enumerate(name.split(".")[1:], 1):
            if not hasattr(target, part):
                __import__(".".join(name.split(".")[: step + 1]))
            target = getattr(target, part)


def test_the_architecture_tree_matches_the_source_in_import_order():
    tree = ARCHITECTURE[ARCHITECTURE.index("src/forecastlib/\n") :].partition("```")[0]
    shown = re.findall(r"^  ([a-z_]+)(?:\.py|/)  ", tree, flags=re.MULTILINE)
    modules = {path.stem for path in SOURCE.glob("*.py") if path.name != "__init__.py"}
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert set(shown) == modules | packages
    assert shown == ORDER


def test_every_built_in_model_is_documented():
    shown = DOCUMENTS["docs/models.md"].partition("## Built-in models")[2].partition("\n## ")[0]
    assert first_column(shown) == set(available())


def test_every_metric_is_documented():
    shown = DOCUMENTS["docs/evaluation.md"].partition("## Metrics")[2].partition("\n## ")[0]
    assert first_column(shown) == set(METRICS)


def test_the_number_of_features_is_right():
    for name, text in DOCUMENTS.items():
        for number in re.findall(r"(\d+) features", text):
            assert int(number) == len(features.CATALOGUE), name


def test_every_route_of_the_service_is_documented():
    routes = {f"{method} {route.path}" for route in router.routes for method in route.methods}
    shown = {name.replace("{id}", "{job_id}") for name in first_column(DOCUMENTS["docs/service.md"])}
    assert shown == routes


def test_every_environment_variable_of_the_library_is_documented():
    used = {name for path in SOURCE.rglob("*.py") for name in re.findall(r'"(FORECASTLIB_[A-Z]+)"', path.read_text())}
    assert used == {name for name in first_column(DOCUMENTS["docs/operations.md"]) if name.startswith("FORECASTLIB_")}


def test_every_public_error_is_documented_with_its_base():
    from forecastlib import errors

    named = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert named <= set(re.findall(r"`(\w+Error)`", ARCHITECTURE))


# Links and tables


def test_the_readme_has_fewer_than_900_words():
    assert len(README.split()) < 900


def test_the_readme_has_the_place_for_the_table_of_scores():
    assert README.count(BEGIN) == README.count(END) == 1
    assert README.index(BEGIN) < README.index(END)


def test_every_notebook_is_in_the_readme():
    shown = re.findall(r"^\| \[`(\d\d_[a-z]+)`\]\(notebooks/\1\.ipynb\) \|", README, flags=re.MULTILINE)
    assert shown == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


def test_every_document_is_in_the_readme():
    linked = set(re.findall(r"\]\(([^)#]+\.md)\)", README))
    assert linked >= {name for name in DOCUMENTS if name != "README.md"} | {"CHANGELOG.md", "EXPERIMENTS.md"}


def test_every_link_points_to_an_existing_file_and_heading():
    for name, text in DOCUMENTS.items():
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text):
            path = (ROOT / name).parent / target if target else ROOT / name
            assert path.exists(), f"{name} links to {target}"
            if anchor:
                assert anchor in anchors(path.read_text(encoding="utf-8")), f"{name} links to {target}#{anchor}"


def test_files_named_in_documents_exist():
    for name, text in DOCUMENTS.items():
        for file in re.findall(r"`((?:src|tests|notebooks|docs|reports/showcase)/[\w/.]+)`", text):
            assert (ROOT / file).exists(), f"{name} names {file}"


def test_the_table_of_dependencies_matches_the_project():
    table, _, extras = DOCUMENTS["docs/dependencies.md"].partition("Optional extras")
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \|$", table, flags=re.MULTILINE)[1:]
    shown = [name.strip().lower() for names, _ in rows for name in names.split(",")]
    assert all(licence.strip() for _, licence in rows)
    assert sorted(shown) == sorted(Requirement(text).name.lower() for text in PROJECT["dependencies"])
    for extra, requirements in PROJECT["optional-dependencies"].items():
        row = next(line for line in extras.splitlines() if line.startswith(f"| `{extra}` |"))
        if extra != "dev":
            assert all(Requirement(text).name in row for text in requirements)
