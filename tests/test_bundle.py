"""What is saved, and what is refused on loading."""

import dataclasses
import datetime as dt
import hashlib
import json
import logging
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest
import tiny

import forecastlib
from forecastlib import bundle
from forecastlib.data.prices import fingerprint
from forecastlib.errors import ConfigError, IncompatibleModelError, ModelNotFoundError
from forecastlib.forecaster import Forecaster
from forecastlib.models import BASELINES, LEVELS, Distribution

FILES = [
    "config.json",
    "metadata.json",
    "model/calibration.json",
    "model/lstm/intervals.json",
    "model/lstm/network.keras",
    "scalers.json",
]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return tiny.forecaster().save(tmp_path_factory.mktemp("bundles") / "original")


@pytest.fixture
def folder(original, tmp_path):
    """A bundle that tests may damage."""
    return pathlib.Path(shutil.copytree(original, tmp_path / "bundle"))


def parts_of(forecaster):
    return bundle.Parts(forecaster.model, forecaster.scaling, forecaster.config, forecaster.metadata)


def reseal(folder):
    """Update the checksums after an edit by hand."""
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata.pop("checksum", None)
    for name in metadata["checksums"]:
        metadata["checksums"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    metadata["checksum"] = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()
    (folder / "metadata.json").write_text(json.dumps(metadata))


def edit(folder, name, **changes):
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(content | changes))
    reseal(folder)


# What is saved


def test_a_bundle_is_a_folder_of_six_files(original):
    assert bundle._files(original) == FILES


def test_the_metadata_says_where_the_model_comes_from(original):
    metadata, prices = json.loads((original / "metadata.json").read_text()), tiny.prices()
    fitted = tiny.forecaster()
    assert metadata["format"] == bundle.FORMAT
    assert metadata["symbols"] == ["^IXIC"]
    assert metadata["model"] == {"name": "combination", "class": "forecastlib.models.combination:Combination"}
    assert metadata["feature_names"] == list(fitted.metadata.feature_names)
    assert metadata["sessions"]["^IXIC"] == {
        "first": "2013-01-16",
        "last": "2018-12-31",
        "count": 1500,
        "fingerprint": fingerprint(prices),
    }
    assert set(metadata["sets"]) == {"train", "validation", "test"}
    assert sum(entry["samples"] for entry in metadata["sets"].values()) < 1500
    assert {"python", "forecastlib", "keras", "tensorflow", "numpy", "pandas"} <= set(metadata["libraries"])
    assert metadata["libraries"]["forecastlib"] == forecastlib.__version__
    assert metadata["seed"] == fitted.config.train.seed
    assert metadata["epochs"] == 2
    trained_at = dt.datetime.strptime(metadata["version"], "v1.0.0_%Y%m%d_%H%M%S").replace(tzinfo=dt.UTC)
    assert dt.timedelta() <= dt.datetime.now(dt.UTC) - trained_at < dt.timedelta(hours=1)


def test_the_complete_configuration_is_saved(original):
    assert json.loads((original / "config.json").read_text()) == tiny.config().model_dump(mode="json")
    assert bundle.read(original).config == tiny.config()


def test_metrics_are_saved_with_the_model(tmp_path):
    parts = parts_of(tiny.forecaster())
    with_metrics = dataclasses.replace(parts, metadata=parts.metadata.with_metrics({"mae_7d": 1 / 3}))
    assert bundle.read(bundle.write(tmp_path / "b", with_metrics)).metadata.metrics == {"mae_7d": 1 / 3}


def test_a_loaded_forecaster_gives_the_forecasts_of_the_saved_one_to_the_last_bit(original):
    prices, loaded = tiny.prices(), Forecaster.load(original)
    origins = prices.index[-20:]
    pd.testing.assert_frame_equal(
        tiny.numbers(loaded.predict(prices, origins)),
        tiny.numbers(tiny.forecaster().predict(prices, origins)),
        check_exact=True,
    )
    assert np.array_equal(loaded.sample(prices), tiny.forecaster().sample(prices))
    assert loaded.metadata == tiny.forecaster().metadata


def test_a_saved_model_can_be_saved_again(original, tmp_path):
    again = Forecaster.load(original).save(tmp_path / "deeper" / "again")
    for name in ("model/calibration.json", "config.json", "scalers.json"):
        assert (again / name).read_bytes() == (original / name).read_bytes()


# Where it is saved


def test_saving_replaces_an_earlier_bundle_and_leaves_nothing_else(folder):
    (folder / "scalers.json").write_text("damaged")
    tiny.forecaster().save(folder)
    assert Forecaster.load(folder).metadata == tiny.forecaster().metadata
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_saving_into_an_empty_folder_is_fine(tmp_path):
    (tmp_path / "empty").mkdir()
    assert bundle.read(tiny.forecaster().save(str(tmp_path / "empty")))


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_saving_over_anything_but_a_bundle_is_refused(tmp_path, kind):
    target = tmp_path / "mine"
    precious = target / "thesis.txt" if kind == "folder" else target
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("years of work")
    with pytest.raises(ConfigError, match=r"expected a new folder or an existing bundle at .*mine"):
        tiny.forecaster().save(target)
    assert precious.read_text() == "years of work"
    assert len(list(tmp_path.rglob("*"))) == (2 if kind == "folder" else 1)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_save_that_is_interrupted_while_writing_leaves_the_earlier_bundle(folder, monkeypatch, error):
    written = []

    def fail_late(path, content, **options):
        if len(written) == 2:
            raise error
        written.append(path)

    monkeypatch.setattr(bundle, "_write_json", fail_late)
    with pytest.raises(type(error)):
        tiny.forecaster().save(folder)
    assert Forecaster.load(folder).metadata == tiny.forecaster().metadata
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_a_save_that_is_interrupted_while_moving_leaves_the_earlier_bundle(folder, monkeypatch):
    rename = pathlib.Path.rename

    def interrupted(self, target):
        if self.name == "new":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(pathlib.Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tiny.forecaster().save(folder)
    monkeypatch.undo()
    assert Forecaster.load(folder).metadata == tiny.forecaster().metadata
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


# What is refused


@pytest.mark.parametrize("path", ["nowhere", "empty", "a file"])
def test_without_a_bundle_the_message_says_what_was_expected(tmp_path, path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a file").write_text("")
    with pytest.raises(ModelNotFoundError, match=r"expected a bundle at .*there is no metadata.json; train"):
        Forecaster.load(tmp_path / path)


def damage(path, how):
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "not what its name says":
        path.write_text("{{{ \N{SNOWMAN}")
    elif how == "a list":
        path.write_text("[1, 2]")
    else:
        place, bit = {"first bit": (0, 0), "middle bit": (len(content) // 2, 3), "last bit": (len(content) - 2, 7)}[how]
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "how",
    ["missing", "truncated", "empty", "not what its name says", "a list", "first bit", "middle bit", "last bit"],
)
def test_any_damage_to_any_file_is_detected_and_the_file_named(folder, name, how):
    damage(folder / name, how)
    with pytest.raises((IncompatibleModelError, ModelNotFoundError), match=name.replace(".", r"\.")) as caught:
        Forecaster.load(folder)
    assert "train" in str(caught.value)


def test_a_change_of_any_digit_in_the_metadata_is_detected(folder):
    text = (folder / "metadata.json").read_text()
    (folder / "metadata.json").write_text(text.replace('"count": 1500', '"count": 1501'))
    with pytest.raises(IncompatibleModelError, match=r"metadata\.json of the bundle .* is damaged"):
        Forecaster.load(folder)


def test_a_bundle_of_another_format_is_refused_and_its_number_named(folder):
    edit(folder, "metadata.json", format=99)
    with pytest.raises(IncompatibleModelError, match=r"expected a bundle of format 4; .* has format 99.*make train"):
        Forecaster.load(folder)


def test_a_setting_unknown_to_this_version_is_named(folder):
    config = json.loads((folder / "config.json").read_text())
    edit(folder, "config.json", model=config["model"] | {"attention_heads": 4})
    with pytest.raises(IncompatibleModelError, match="attention_heads"):
        Forecaster.load(folder)


def test_a_missing_setting_is_not_taken_from_the_defaults(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["window"]["lookback"]
    edit(folder, "config.json", window=config["window"])
    with pytest.raises(IncompatibleModelError, match="lacks lookback"):
        Forecaster.load(folder)


def test_metadata_without_a_required_entry_is_refused_and_the_entry_named(folder):
    metadata = json.loads((folder / "metadata.json").read_text())
    del metadata["feature_names"]
    (folder / "metadata.json").write_text(json.dumps(metadata))
    reseal(folder)
    with pytest.raises(IncompatibleModelError, match="lacks 'feature_names'"):
        Forecaster.load(folder)


def test_a_network_that_keras_cannot_read_is_refused(folder):
    (folder / "model/lstm/network.keras").write_bytes(b"PK\x03\x04 not really")
    reseal(folder)
    with pytest.raises(IncompatibleModelError, match="this version of Keras cannot read"):
        Forecaster.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"config": p.config.replace(horizons=[7, 30])}, "outputs for"),
        (lambda p: {"config": p.config.replace(lookback=11)}, "price_sequence_input with a lookback of 11; got 10"),
        (lambda p: {"metadata": dataclasses.replace(p.metadata, feature_names=("close",))}, "scalers of 1 features"),
        (lambda p: {"config": p.config.replace(feature_scaler="minmax")}, "expected a minmax scaler"),
    ],
)
def test_contradictory_parts_are_refused(tmp_path, change, message):
    parts = parts_of(tiny.forecaster())
    path = bundle.write(tmp_path / "odd", dataclasses.replace(parts, **change(parts)))
    with pytest.raises(IncompatibleModelError, match=message):
        Forecaster.load(path)


def test_a_model_with_other_features_is_refused_and_they_are_named(tmp_path):
    parts = parts_of(tiny.forecaster())
    names = ("moon_phase", *parts.metadata.feature_names[1:])
    other = dataclasses.replace(parts, metadata=dataclasses.replace(parts.metadata, feature_names=names))
    loaded = Forecaster.load(bundle.write(tmp_path / "odd", other))
    with pytest.raises(IncompatibleModelError, match=r"missing: \['moon_phase'\].*train it again"):
        loaded.predict(tiny.prices())


def test_a_bundle_with_an_additional_file_is_refused(folder):
    (folder / "model" / "more.py").write_text("print('hello')")
    with pytest.raises(IncompatibleModelError, match=r"holds model/more\.py, which was not saved with it"):
        Forecaster.load(folder)


def test_a_bundle_of_the_first_edition_is_refused_with_advice(folder):
    edit(folder, "metadata.json", format=3)
    with pytest.raises(IncompatibleModelError, match="by another version of forecastlib; train the model again"):
        Forecaster.load(folder)


# Models that are saved with skops


@pytest.mark.parametrize("name", [*BASELINES, "lstm"])
def test_every_built_in_model_is_saved_and_forecasts_the_same_after_loading(tmp_path, name):
    prices = tiny.prices()
    fitted = Forecaster(tiny.config(model=name)).fit(prices, progress=False)
    loaded = Forecaster.load(fitted.save(tmp_path / "bundle"))
    origins = prices.index[-5:]
    pd.testing.assert_frame_equal(
        tiny.numbers(loaded.predict(prices, origins)), tiny.numbers(fitted.predict(prices, origins)), check_exact=True
    )


class Unstorable:
    """A model with an attribute that is code."""

    name = "unstorable"

    def fit(self, train, validation):
        self.rule = lambda samples: Distribution(LEVELS, np.zeros((len(samples), 2, len(LEVELS))))
        return self

    def predict(self, samples):
        return self.rule(samples)


def test_a_model_that_cannot_be_stored_says_how_to_make_it_storable(tmp_path):
    fitted = Forecaster(tiny.config(), model=Unstorable()).fit(tiny.prices(), progress=False)
    with pytest.raises(ConfigError, match=r"cannot store the model unstorable.*save\(folder\) method"):
        fitted.save(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_model_with_types_of_other_packages_is_not_stored(tmp_path):
    fitted = Forecaster(tiny.config(model="har")).fit(tiny.prices(), progress=False)
    fitted.model.extra = logging.Formatter("%(message)s")
    with pytest.raises(ConfigError, match="types of other packages than its own: logging"):
        fitted.save(tmp_path / "bundle")


class Stored:
    """A model with methods to store it, inside of which is a class of the same kind."""

    name = "stored"

    class Inner:
        name = "inner"
        error = None

        def fit(self, train, validation):
            return self

        def predict(self, samples):
            return Distribution(LEVELS, np.tile(LEVELS, (len(samples), len(samples.config.horizons), 1)))

        def save(self, folder):
            (folder / "state.txt").write_text("stored")

        @classmethod
        def load(cls, folder, config):
            if cls.error is not None:
                raise cls.error
            return cls()


def test_a_model_of_a_class_inside_a_class_is_restored_by_its_own_methods(tmp_path):
    forecaster = Forecaster(tiny.config(), model=Stored.Inner()).fit(tiny.prices(), progress=False)
    assert isinstance(Forecaster.load(forecaster.save(tmp_path / "bundle")).model, Stored.Inner)


@pytest.mark.parametrize("error", [KeyError("weights"), RuntimeError("no device"), IncompatibleModelError("too old")])
def test_whatever_a_load_method_raises_says_that_the_bundle_is_incompatible(tmp_path, monkeypatch, error):
    forecaster = Forecaster(tiny.config(), model=Stored.Inner()).fit(tiny.prices(), progress=False)
    path = forecaster.save(tmp_path / "bundle")
    monkeypatch.setattr(Stored.Inner, "error", error)
    with pytest.raises(IncompatibleModelError, match=str(error.args[0])):
        Forecaster.load(path)


def test_a_model_whose_class_no_other_process_could_import_is_not_stored(tmp_path):
    class Local(Stored.Inner):
        pass

    forecaster = Forecaster(tiny.config(), model=Local()).fit(tiny.prices(), progress=False)
    with pytest.raises(ConfigError, match=r"cannot store the model inner: .*define its class at the top level"):
        forecaster.save(tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
