import datetime as dt
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastlib import errors
from forecastlib.config import (
    SECTIONS,
    DataConfig,
    FeatureConfig,
    ModelConfig,
    RunConfig,
    SplitConfig,
    TrainConfig,
    WindowConfig,
    load_config,
    unknown_name,
)
from forecastlib.errors import ConfigError, ForecastError

DEFAULTS = {
    "symbol": "^IXIC",
    "source": "bundled",
    "date_format": None,
    "decimal": None,
    "adjust": "auto",
    "start": None,
    "end": None,
    "calendar": "auto",
    "repair": False,
    "strict": False,
    "lenient": [],
    "force_refresh": False,
    "form": "relative",
    "groups": [],
    "names": [],
    "custom": [],
    "lookback": 60,
    "horizons": [7, 14, 30],
    "target": "log_return",
    "train_share": 0.7,
    "validation_share": 0.15,
    "embargo": 0,
    "model": "combination",
    "lstm_units": [50, 50],
    "dense_units": [25],
    "branch_units": 16,
    "dropout": 0.2,
    "recurrent_dropout": 0.2,
    "feature_scaler": "standard",
    "target_scaler": "standard",
    "confidence_method": "calibrated",
    "mc_samples": 100,
    "direction_threshold": 0.005,
    "epochs": 100,
    "batch_size": 32,
    "learning_rate": 0.001,
    "loss_weights": None,
    "patience": 6,
    "reduce_patience": 3,
    "reduce_factor": 0.5,
    "seed": 0,
    "network_weight": None,
    "growth": 0.05,
    "growth_sd": 0.04,
    "half_life": 500.0,
}

UNUSUAL = {
    "symbol": "^GSPC",
    "source": "yahoo,bundled",
    "date_format": "%d/%m/%Y",
    "decimal": ",",
    "adjust": "close",
    "start": "2001-02-03",
    "end": "2018-06-29",
    "calendar": "NYSE",
    "repair": True,
    "strict": True,
    "lenient": ["outside_range"],
    "force_refresh": True,
    "form": "level",
    "groups": ["bar", "trend"],
    "names": ["close"],
    "custom": ["mine", "package.module:function"],
    "lookback": 90,
    "horizons": [1, 5],
    "target": "vol_scaled",
    "train_share": 0.6,
    "validation_share": 0.1,
    "embargo": 3,
    "model": "har",
    "lstm_units": [8],
    "dense_units": [],
    "branch_units": 4,
    "dropout": 0.1,
    "recurrent_dropout": 0.0,
    "feature_scaler": "robust",
    "target_scaler": "minmax",
    "confidence_method": "mc_dropout",
    "mc_samples": 7,
    "direction_threshold": 0.01,
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.1 + 0.2,  # a float with a long shortest representation
    "loss_weights": [0.75, 0.25],
    "patience": 2,
    "reduce_patience": 1,
    "reduce_factor": 0.3,
    "seed": 2**31 - 1,
    "network_weight": 0.5,
    "growth": 0.02,
    "growth_sd": 0.01,
    "half_life": 250.0,
}


def test_every_default_is_the_documented_one_and_in_the_order_of_the_sections():
    assert RunConfig().flat() == DEFAULTS
    assert list(RunConfig().flat()) == list(DEFAULTS)


def test_no_two_sections_share_a_field_so_flat_names_are_unambiguous():
    for one, other in itertools.combinations(SECTIONS.values(), 2):
        assert not set(one.model_fields) & set(other.model_fields)
    assert list(SECTIONS) == list(RunConfig.model_fields)
    assert {name: field.annotation for name, field in RunConfig.model_fields.items()} == SECTIONS


def test_every_setting_is_described():
    for model in SECTIONS.values():
        assert all(field.description for field in model.model_fields.values()), model


def test_the_round_trips_are_exercised_with_no_value_at_its_default():
    assert set(UNUSUAL) == set(DEFAULTS)
    assert all(UNUSUAL[name] != DEFAULTS[name] for name in DEFAULTS)


@pytest.mark.parametrize("parameters", [DEFAULTS, UNUSUAL], ids=["defaults", "unusual"])
def test_flat_and_from_parameters_are_inverse_through_json(parameters):
    config = RunConfig.from_parameters(**parameters)
    assert config.flat() == parameters
    assert RunConfig.from_parameters(**json.loads(json.dumps(config.flat()))) == config


@pytest.mark.parametrize("parameters", [DEFAULTS, UNUSUAL], ids=["defaults", "unusual"])
def test_a_saved_configuration_is_restored_completely(parameters):
    config = RunConfig.from_parameters(**parameters)
    assert load_config(json.loads(json.dumps(config.model_dump(mode="json")))) == config


@given(
    lookback=st.integers(1, 2000),
    horizons=st.sets(st.integers(1, 1000), min_size=1, max_size=6).map(sorted),
    dropout=st.floats(0.0, 1.0, exclude_max=True),
    learning_rate=st.floats(0.0, 1.0, exclude_min=True),
    start=st.none() | st.dates(),
    names=st.lists(st.text("abc_1", min_size=1)),
)
def test_any_valid_configuration_survives_json_to_the_last_bit(**parameters):
    config = RunConfig.from_parameters(**parameters)
    assert RunConfig.from_parameters(**json.loads(json.dumps(config.flat()))) == config
    assert load_config(json.loads(json.dumps(config.model_dump(mode="json")))) == config


def test_replace_changes_only_the_named_settings():
    config = RunConfig.from_parameters(**UNUSUAL)
    changed = config.replace(lookback=30, start=None)
    assert changed.flat() == UNUSUAL | {"lookback": 30, "start": None}
    assert config.flat() == UNUSUAL


@pytest.mark.parametrize("text", ["20150201", 20150201, "2015-02-01", "2015/2/1", "1 Feb 2015"])
def test_dates_may_be_written_in_any_unambiguous_way(text):
    assert RunConfig.from_parameters(start=text).data.start == dt.date(2015, 2, 1)


def test_text_values_of_a_command_line_are_read():
    config = RunConfig.from_parameters(
        horizons="7,14,30",
        lstm_units="5",
        groups="bar, trend",
        names="",
        custom="mine, package.module:function",
        dense_units="",
        loss_weights="0.5, 0.25,0.25",
        lookback="90",
        dropout="0.3",
        start="2001-02-03",
        end="2018-12-31",
    )
    assert config.window.horizons == (7, 14, 30)
    assert config.model.lstm_units == (5,)
    assert config.model.dense_units == ()
    assert config.features.groups == ("bar", "trend")
    assert config.features.names == ()
    assert config.features.custom == ("mine", "package.module:function")
    assert config.train.loss_weights == (0.5, 0.25, 0.25)
    assert (config.window.lookback, config.model.dropout) == (90, 0.3)
    assert (config.data.start, config.data.end) == (dt.date(2001, 2, 3), dt.date(2018, 12, 31))


def test_a_single_number_means_a_list_of_one():
    assert RunConfig.from_parameters(horizons=5, lstm_units=8).window.horizons == (5,)
    assert RunConfig.from_parameters(horizons=[5], loss_weights=1.0).train.loss_weights == (1.0,)


def test_three_horizons_have_the_documented_weights_and_others_equal_ones():
    assert TrainConfig().weights_for((7, 14, 30)) == (0.5, 0.3, 0.2)
    assert TrainConfig().weights_for((5, 10)) == (0.5, 0.5)
    assert TrainConfig().weights_for((1,)) == (1.0,)
    assert TrainConfig(loss_weights=[2, 1, 0]).weights_for((7, 14, 30)) == (2.0, 1.0, 0.0)


def test_configurations_are_frozen_equal_by_value_and_hashable():
    config = RunConfig()
    with pytest.raises(ValueError, match="frozen"):
        config.data = DataConfig(symbol="^GSPC")  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        config.window.lookback = 5  # type: ignore[misc]
    assert RunConfig() == config
    assert hash(RunConfig()) == hash(config)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epoch": 5}, "^unknown parameter 'epoch'; did you mean 'epochs'? Known: .*batch_size, branch_units, "),
        ({"xyzzy": 5}, "^unknown parameter 'xyzzy'; Known: .*batch_size, branch_units, "),
        ({"lookback": 0}, "^WindowConfig: lookback: Input should be greater than or equal to 1; got 0$"),
        ({"lookback": 2001}, "lookback: Input should be less than or equal to 2000; got 2001"),
        ({"lookback": 60.5}, "lookback: Input should be a valid integer"),
        ({"lookback": "sixty"}, "lookback: Input should be a valid integer, .*; got 'sixty'"),
        ({"horizons": [7, 14, 14]}, r"^WindowConfig: horizons must increase; got horizons=\(7, 14, 14\)$"),
        ({"horizons": "30,14"}, r"horizons must increase; got horizons=\(30, 14\)"),
        ({"horizons": []}, "horizons: Tuple should have at least 1 item after validation, not 0"),
        ({"horizons": ""}, "horizons: Tuple should have at least 1 item"),
        ({"horizons": [0, 5]}, r"horizons\.0: Input should be greater than 0; got 0"),
        ({"horizons": "7,two"}, r"horizons\.1: Input should be a valid integer, .*; got 'two'"),
        ({"target": "close"}, "target: Input should be 'log_return', 'vol_scaled' or 'price'; got 'close'"),
        ({"form": "raw"}, "^FeatureConfig: form: Input should be 'relative' or 'level'; got 'raw'$"),
        ({"start": "2018-01-02", "end": "2018-01-02"}, "^DataConfig: start must be before end; got start=2018-01-02"),
        ({"start": "2018-13-01"}, "start: .*expected a date such as '2018-12-31'; got '2018-13-01'"),
        ({"start": "2018"}, "start: .*; got '2018'"),
        ({"symbol": ""}, "symbol: String should have at least 1 character; got ''"),
        ({"decimal": ";"}, "decimal: Input should be '.' or ','; got ';'"),
        ({"adjust": "back"}, "adjust: Input should be 'auto', 'none' or 'close'; got 'back'"),
        ({"symbol": 5}, "symbol: Input should be a valid string; got 5"),
        ({"train_share": 0.0}, "train_share: Input should be greater than 0"),
        ({"train_share": 1.0}, "train_share: Input should be less than 1"),
        (
            {"train_share": 0.9, "validation_share": 0.1},
            r"^SplitConfig: train_share \+ validation_share must leave something for the test set; got 0\.9 \+ 0\.1$",
        ),
        ({"embargo": -1}, "embargo: Input should be greater than or equal to 0; got -1"),
        ({"dropout": 1.0}, "dropout: Input should be less than 1; got 1.0"),
        ({"dropout": float("nan")}, "dropout: Input should be a finite number; got nan"),
        ({"lstm_units": []}, "lstm_units: Tuple should have at least 1 item"),
        ({"lstm_units": [50, 0]}, r"lstm_units\.1: Input should be greater than 0; got 0"),
        ({"feature_scaler": "max"}, "feature_scaler: Input should be 'minmax', 'standard' or 'robust'; got 'max'"),
        ({"confidence_method": "guess"}, "confidence_method: Input should be 'calibrated' or 'mc_dropout'"),
        ({"mc_samples": 1}, "mc_samples: Input should be greater than or equal to 2; got 1"),
        ({"direction_threshold": -0.1}, "direction_threshold: Input should be greater than or equal to 0"),
        ({"learning_rate": 0.0}, "learning_rate: Input should be greater than 0"),
        ({"epochs": 0}, "^TrainConfig: epochs: Input should be greater than or equal to 1; got 0$"),
        ({"seed": 2**31}, "seed: Input should be less than 2147483648"),
        ({"loss_weights": [-1, 1, 1]}, r"loss_weights\.0: Input should be greater than or equal to 0; got -1"),
        (
            {"loss_weights": [0.5, 0.5]},
            r"^RunConfig: loss_weights must have one weight for each of the horizons \(7, 14, 30\); got ",
        ),
        ({"epochs": 0, "patience": 0}, "epochs: .*; got 0; patience: .*; got 0"),
    ],
)
def test_an_invalid_parameter_is_named_with_what_was_expected_and_received(parameters, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        RunConfig.from_parameters(**parameters)


def test_an_unknown_setting_of_a_section_is_an_error_that_names_the_nearest_one():
    with pytest.raises(
        ConfigError, match=r"^WindowConfig: unknown setting 'lookbak'; did you mean 'lookback'\? Known:"
    ):
        WindowConfig(lookbak=3)
    with pytest.raises(ConfigError, match=r"^RunConfig: unknown setting 'trian'; did you mean 'train'\? Known:"):
        RunConfig(trian=TrainConfig())


@pytest.mark.parametrize("model", [*SECTIONS.values(), RunConfig])
def test_every_section_refuses_unknown_names(model):
    with pytest.raises(ConfigError, match="unknown setting 'nonsense'"):
        model(nonsense=1)


def test_errors_of_sections_given_as_mappings_are_joined_in_one_message():
    with pytest.raises(ConfigError) as caught:
        RunConfig(train={"epochs": 0}, window={"horizons": (7, 3)})
    assert str(caught.value) == (
        "RunConfig: WindowConfig: horizons must increase; got horizons=(7, 3); "
        "TrainConfig: epochs: Input should be greater than or equal to 1; got 0"
    )


def test_replacing_horizons_without_their_fixed_weights_is_refused():
    config = RunConfig.from_parameters(loss_weights=[1, 1, 1])
    with pytest.raises(ConfigError, match="one weight for each"):
        config.replace(horizons=[5, 10])
    assert config.replace(horizons=[5, 10], loss_weights=None).train.loss_weights is None


def saved_config() -> dict:
    return RunConfig().model_dump(mode="json")


def test_a_saved_configuration_without_a_section_is_refused():
    saved = saved_config()
    del saved["window"]
    with pytest.raises(
        ConfigError, match=r"expected a section 'window' .* got \['calibration', 'data', 'features', 'model', "
    ):
        load_config(saved)


ADDED = ("repair", "strict", "lenient", "force_refresh")


def test_settings_that_were_added_later_are_as_before_in_earlier_configurations():
    saved = saved_config()
    saved["data"] = {name: value for name, value in saved["data"].items() if name not in ADDED}
    assert load_config(saved) == RunConfig()


@pytest.mark.parametrize(
    ("section", "field"), [(s, f) for s, model in SECTIONS.items() for f in model.model_fields if f not in ADDED]
)
def test_a_saved_configuration_takes_nothing_from_todays_defaults(section, field):
    saved = saved_config()
    del saved[section][field]
    with pytest.raises(ConfigError, match=f"lacks {field} in its section '{section}'"):
        load_config(saved)


def test_a_saved_configuration_of_a_later_version_is_refused():
    with pytest.raises(ConfigError, match=r"unknown section 'modle'; did you mean 'model'\?"):
        load_config(saved_config() | {"modle": {}})
    saved = saved_config()
    saved["train"]["optimizer"] = "sgd"
    with pytest.raises(ConfigError, match="TrainConfig: unknown setting 'optimizer'"):
        load_config(saved)


def test_a_section_that_is_not_a_mapping_is_refused():
    with pytest.raises(ConfigError, match="expected a section 'data'"):
        load_config(saved_config() | {"data": [1]})


def test_an_unknown_name_without_a_similar_one_gets_the_list_only():
    assert unknown_name("colour", "zzz", ["red", "blue"]) == "unknown colour 'zzz'; Known: blue, red"


def test_every_error_derives_from_the_base_class_and_is_documented():
    named = {value for value in vars(errors).values() if isinstance(value, type)}
    assert len(named) == 11
    for error in named:
        assert issubclass(error, ForecastError)
        assert error.__name__ in (errors.__doc__ or "")
    assert issubclass(ConfigError, ValueError)
    assert issubclass(errors.ModelNotFoundError, LookupError)


def test_sections_can_be_used_separately():
    assert FeatureConfig(groups="bar").groups == ("bar",)
    assert SplitConfig(train_share=0.5).validation_share == 0.15
    assert ModelConfig(dense_units=(5, 6)).dense_units == (5, 6)
