"""API keys: how they are stored, checked and revoked."""

import json
import stat

import pytest
from click.testing import CliRunner

from forecastlib.cli import main
from forecastlib.errors import ConfigError
from forecastlib.serving.settings import KeyFile, hash_token


@pytest.fixture
def keys(tmp_path):
    return KeyFile(tmp_path / "folder" / "keys.json")


def test_a_key_identifies_its_holder(keys):
    ann, bob = keys.add("ann"), keys.add("bob", may_train=False)
    assert keys.identify(ann).name == "ann"
    assert (keys.identify(bob).name, keys.identify(bob).may_train) == ("bob", False)


@pytest.mark.parametrize("token", ["", "fl_", "x" * 10_000, "fl_\N{SNOWMAN}"])
def test_any_other_token_identifies_nobody(keys, token):
    keys.add("ann")
    assert keys.identify(token) is None
    assert keys.identify(keys.all()[0].sha256) is None  # reading the file does not give access


def test_only_the_hash_is_stored_and_only_the_owner_can_read_the_file(keys):
    token = keys.add("ann")
    text = keys.path.read_text()
    assert token not in text
    assert hash_token(token) in text
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert [path.name for path in keys.path.parent.iterdir()] == ["keys.json"]


def test_tokens_are_long_and_unique(keys):
    tokens = [keys.add(f"caller{n}") for n in range(20)]
    assert len(set(tokens)) == 20
    assert min(len(token) for token in tokens) >= 43  # 256 bits


def test_a_revoked_key_is_refused_at_once_by_a_running_service(keys):
    running = KeyFile(keys.path)
    ann, bob = keys.add("ann"), keys.add("bob")
    assert running.identify(ann) is not None
    keys.revoke("ann")
    assert running.identify(ann) is None
    assert running.identify(bob).name == "bob"


def test_a_revoked_name_cannot_be_reused(keys):
    keys.add("ann")
    keys.revoke("ann")
    with pytest.raises(ConfigError, match="a key named 'ann' exists already"):
        keys.add("ann")


@pytest.mark.parametrize("name", ["", "local", "../ann", "a b", "-x", "x" * 65])
def test_invalid_names_are_refused(keys, name):
    with pytest.raises(ConfigError, match="expected a name"):
        keys.add(name)
    assert not keys.path.exists()


def test_revoking_an_unknown_key_lists_the_valid_ones(keys):
    keys.add("ann")
    with pytest.raises(ConfigError, match="got 'bob'; valid keys: ann"):
        keys.revoke("bob")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"keys": [{}]}', '{"keys": [{"name": 1, "other": 2}]}'])
def test_a_damaged_file_is_an_error_and_not_a_file_without_keys(keys, text):
    keys.add("ann")
    keys.path.write_text(text)
    with pytest.raises(ConfigError, match="it is damaged"):
        keys.all()


def test_a_deleted_file_is_an_error_and_not_a_file_without_keys(keys):
    token = keys.add("ann")
    assert keys.identify(token)
    keys.path.unlink()
    with pytest.raises(ConfigError, match="it has vanished"):
        keys.identify(token)


def test_all_keys_are_compared_in_constant_time(keys, monkeypatch):
    from forecastlib.serving import settings as module

    compared = []
    monkeypatch.setattr(module.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    token = keys.add("ann")
    keys.add("bob")
    assert keys.identify(token).name == "ann"
    assert len(compared) == 2


def test_the_command_line_adds_lists_and_revokes(tmp_path):
    file = str(tmp_path / "keys.json")

    def run(*words):
        result = CliRunner().invoke(main, ["keys", *words, "--keys", file])
        return result.exit_code, result.output

    code, token = run("add", "ann")
    assert code == 0
    assert KeyFile(tmp_path / "keys.json").identify(token.strip()).name == "ann"
    assert run("add", "dashboard", "--no-training")[0] == 0
    lines = run("list")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["ann", "dashboard"]
    assert "no training" in lines[1]
    assert run("revoke", "ann") == (0, "ann is revoked\n")
    assert "revoked" in run("list")[1].splitlines()[0]
    code, output = run("revoke", "ann")
    assert code == 1
    assert output.startswith("Error: expected the name of a valid key")
    assert json.loads((tmp_path / "keys.json").read_text())["keys"][0]["revoked_at"]
