"""Tests of the repository itself: its layers, its public names, its files."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import forecastlib

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "forecastlib"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# fmt: off
ORDER = [
    "errors", "config", "database", "paths", "processes", "checks", "data", "features",
    "samples", "models", "formatting", "drawing", "forecasts", "recipe", "bundle", "forecaster", "doctor", "engine",
    "evaluation", "auditing", "tracking", "ledger", "workflows", "runner", "plots", "serving", "cli",
]
# fmt: on
"""The top-level modules and packages from the bottom up: each imports only those before it."""
LAYER_OF = {part: layer for layer, part in enumerate(ORDER)}

PUBLIC = [
    "AuditReport",
    "BacktestResult",
    "CalibrationConfig",
    "ConfigError",
    "DataConfig",
    "DataQualityError",
    "Distribution",
    "FastLSTM",
    "FeatureConfig",
    "Forecast",
    "ForecastError",
    "Forecaster",
    "IncompatibleModelError",
    "LeakageError",
    "Ledger",
    "LedgerError",
    "Model",
    "ModelConfig",
    "ModelNotFoundError",
    "NotEnoughDataError",
    "NotFittedError",
    "QualityReport",
    "Recipe",
    "RunConfig",
    "SourceError",
    "SplitConfig",
    "TrackingError",
    "TrainConfig",
    "WindowConfig",
    "__version__",
    "audit",
    "backtest",
    "check_quality",
    "compute_features",
    "create_app",
    "evaluate",
    "forecast",
    "holdout",
    "make_windows",
    "open_source",
    "register_feature",
    "register_model",
    "repair",
    "replay",
    "train",
    "walk_forward",
]


# Layers


def modules() -> dict[str, Path]:
    """Return every module of the package by its full name."""
    named = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ("forecastlib", *path.relative_to(SOURCE).with_suffix("").parts)
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


MODULES = modules()
LAZY = {name: f"forecastlib.{home}" for name, home in forecastlib._MODULE_OF.items()}


def imports_of(text: str) -> Iterator[str]:
    """Yield the modules of the package that a module imports anywhere, including imports only for types."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            origin = str(node.module)
            # A name is a module, or is exported lazily by the package from a module.
            submodules = [f"{origin}.{alias.name}" for alias in node.names]
            names = [
                name if name in MODULES else LAZY.get(name.removeprefix("forecastlib."), origin) for name in submodules
            ]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "forecastlib":
            name = f"forecastlib.{node.attr}"
            names = [name if name in MODULES else LAZY.get(node.attr, "forecastlib")]
        else:
            continue
        yield from (name for name in names if name in MODULES)


GRAPH = {name: set(imports_of(path.read_text(encoding="utf-8"))) - {name} for name, path in MODULES.items()}


def part_of(module: str) -> str:
    """Return the top-level module or package that a module belongs to; the package itself has no name."""
    return module.removeprefix("forecastlib").lstrip(".").split(".")[0]


def test_every_module_has_a_place_in_the_order():
    parts = {part_of(module) for module in MODULES} - {""}
    assert parts == set(ORDER), f"say in ORDER where {sorted(parts ^ set(ORDER))} belong"
    assert len(ORDER) == len(LAYER_OF), "a module has one place"


def test_imports_point_strictly_downwards():
    for module, imported in GRAPH.items():
        for other in imported - {"forecastlib"}:
            assert LAYER_OF[part_of(other)] <= LAYER_OF[part_of(module)], f"{module} imports {other} from above it"


def test_there_are_no_import_cycles_between_modules_or_packages():
    parts: dict[str, set[str]] = {}
    for module, imported in GRAPH.items():
        parts.setdefault(part_of(module), set()).update(map(part_of, imported))
    for graph in (GRAPH, {part: imported - {part} for part, imported in parts.items()}):
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as circle:
            pytest.fail(f"imports go in a circle: {' -> '.join(circle.args[1])}")


def test_the_package_imports_its_modules_lazily():
    assert GRAPH["forecastlib"] == set()


def test_imports_are_found_however_they_are_written():
    assert {"forecastlib.config", "forecastlib.errors"} <= GRAPH["forecastlib.samples.windows"]
    text = """
import forecastlib.data.prices
from forecastlib import evaluate, __version__
from forecastlib.evaluation import metrics
from forecastlib.data import quality_checks, repair
def later():
    from forecastlib.plots import anything
if TYPE_CHECKING:
    from forecastlib.samples.windows import Windows
forecastlib.Forecaster
"""
    assert set(imports_of(text)) == {
        "forecastlib",
        "forecastlib.data.prices",
        "forecastlib.evaluation.metrics",
        "forecastlib.evaluation.evaluate",
        "forecastlib.data.quality_checks",
        "forecastlib.data.repair",
        "forecastlib.plots",
        "forecastlib.samples.windows",
        "forecastlib.forecaster",
    }


# Public names


def test_the_package_has_exactly_these_public_names():
    assert forecastlib.__all__ == PUBLIC
    assert dir(forecastlib) == forecastlib.__all__


def test_the_version_is_that_of_the_project():
    assert forecastlib.__version__ == PROJECT["version"]


@pytest.mark.slow
def test_every_public_name_comes_from_its_stated_module():
    for name in PUBLIC:
        value = getattr(forecastlib, name)
        assert not isinstance(value, ModuleType), f"the module {name} hides the public name"
        if name != "__version__":
            assert value.__module__.startswith(LAZY[name]), f"{name} is from {value.__module__}"


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'forecastlib' has no attribute 'Forcaster'"):
        forecastlib.Forcaster  # noqa: B018


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a statement loads in a fresh process."""
    program = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    answer = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


HEAVY = {"arch", "fastapi", "keras", "matplotlib", "mlflow", "numpy", "pandas", "pydantic", "scipy", "sklearn"} | {
    "sqlalchemy",
    "talib",
    "tensorflow",
}


def test_importing_the_package_loads_nothing_but_itself():
    loaded = loaded_by("import forecastlib")
    assert "forecastlib" in loaded
    assert not loaded & HEAVY
    assert {name for name in loaded if name.startswith("forecastlib")} == {"forecastlib"}
    assert len(loaded) < 60  # the modules of the standard library that make an import slow


def test_configuring_a_run_loads_no_numerical_or_network_library():
    assert not loaded_by("from forecastlib import RunConfig, ForecastError; RunConfig()") & (HEAVY - {"pydantic"})


# Files


def tracked_files() -> list[Path]:
    answer = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in answer.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_notebooks_are_stored_without_outputs():
    notebooks = [path for path in tracked_files() if path.suffix == ".ipynb"]
    assert notebooks
    for path in notebooks:
        for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            assert not cell.get("outputs"), f"{path.name}: cell {number} has outputs; run nbstripout"
            assert cell.get("execution_count") is None, f"{path.name}: cell {number} has run; run nbstripout"


HOME = re.compile(rb"(?:/home|/Users|/root)/[\w.]|[A-Z]:\\+Users")


def test_no_file_contains_a_home_folder():
    assert HOME.search(b"/home" + b"/someone") and HOME.search(b"C:" + b"\\Users\\someone")
    for path in tracked_files():
        found = HOME.search(path.read_bytes())
        assert found is None, f"{path.relative_to(ROOT)} holds {found.group().decode()}..." if found else ""


def test_the_conda_environment_agrees_with_the_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge"]
    conda = {entry.split()[0]: entry for entry in environment["dependencies"] if isinstance(entry, str)}
    pip = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    # Python packages come from the project only, so that there is a single list.
    assert set(conda) == {"python", "pip", "make"}
    assert SpecifierSet(conda["python"].removeprefix("python")) == SpecifierSet(PROJECT["requires-python"])
    assert pip == [['-e ".[dev]"']]


# The lock


def locked() -> list[tuple[Requirement, list[str]]]:
    """Return the requirements of the lock with their hashes."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    entries = []
    for line in lines:
        if line.strip() and not line.lstrip().startswith("#"):
            requirement, *hashes = line.split("--hash=")
            entries.append((Requirement(requirement), [value.strip() for value in hashes]))
    return entries


LOCKED = locked()


def test_everything_locked_is_pinned_to_one_version_and_hashed():
    assert len(LOCKED) > 100
    for requirement, hashes in LOCKED:
        pins = list(requirement.specifier)
        assert len(pins) == 1 and pins[0].operator == "==" and "*" not in pins[0].version, str(requirement)
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), str(requirement)


def test_the_lock_names_no_host():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=)", text, flags=re.MULTILINE)
    assert not any(requirement.url for requirement, _ in LOCKED)


def wanted(requirements: list[str], extra: str = "") -> Iterator[Requirement]:
    """Yield requirements, with those of the project's own extras that they name and of other packages' extras."""
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.name != PROJECT["name"]:
            yield requirement
        for name in requirement.extras:
            if requirement.name == PROJECT["name"]:
                yield from wanted(PROJECT["optional-dependencies"][name])
            else:
                there = importlib.metadata.requires(requirement.name) or []
                yield from wanted([text for text in there if "extra" in text], name)


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_satisfies_the_project_with_every_extra_except_bench(python):
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.1")
    environment = {"python_version": python, "python_full_version": f"{python}.1"}
    versions: dict[str, str] = {}
    for requirement, _ in LOCKED:
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            assert name not in versions, f"{name} is locked twice for Python {python}"
            versions[name] = next(iter(requirement.specifier)).version
    extras = {name: texts for name, texts in PROJECT["optional-dependencies"].items() if name != "bench"}
    every = [*PROJECT["dependencies"], *(text for extra in extras.values() for text in extra)]
    found = list(wanted(every))
    assert {"psycopg-binary", "yfinance", "tensorflow"} <= {canonicalize_name(one.name) for one in found}
    for requirement in found:
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not locked; run make lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: {version} is locked"


# Dependencies


MODULES_OF = {
    "arch": "arch",
    "keras": "keras",
    "pandas-market-calendars": "pandas_market_calendars",
    "psycopg": "psycopg",
    "scikit-learn": "sklearn",
    "ta-lib": "talib",
    "jupyterlab": None,  # the user's interface: a command, not an import
}
"""Distributions whose module has another name, or that are used without being imported."""


def imported_distributions() -> set[str]:
    """Return the top-level modules outside the standard library that the package imports."""
    found = set()
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"forecastlib"}


def test_declared_dependencies_are_exactly_those_that_are_imported():
    extras = [text for name in ("yahoo", "postgres") for text in PROJECT["optional-dependencies"][name]]
    declared = {Requirement(text).name.lower() for text in PROJECT["dependencies"]}
    optional = {Requirement(text).name.lower() for text in extras}
    modules = {name: MODULES_OF.get(name, name.replace("-", "_")) for name in declared | optional}
    imported = imported_distributions()
    assert {module for name, module in modules.items() if name in declared and module} <= imported
    assert imported <= {module for module in modules.values() if module} | {"curl_cffi"}  # which comes with yfinance
