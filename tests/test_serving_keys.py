"""Keys of callers: how they are stored, checked and taken back."""

import json
import stat

import pytest
from click.testing import CliRunner

from forecastlib.cli import main
from forecastlib.errors import ConfigError
from forecastlib.serving.keys import KeyFile, hash_token


@pytest.fixture
def keys(tmp_path):
    return KeyFile(tmp_path / "folder" / "keys.json")


def test_a_key_identifies_its_holder(keys):
    ann, bob = keys.add("ann"), keys.add("bob", may_train=False)
    assert keys.identify(ann).name == "ann"
    assert (keys.identify(bob).name, keys.identify(bob).may_train) == ("bob", False)


@pytest.mark.parametrize("token", ["", "fl_", "x" * 10_000, "fl_\N{SNOWMAN}"])
def test_anything_else_identifies_nobody(keys, token):
    keys.add("ann")
    assert keys.identify(token) is None
    assert keys.identify(keys.all()[0].sha256) is None  # who has read the file has no key


def test_only_the_hash_is_kept_and_only_the_owner_can_read_it(keys):
    token = keys.add("ann")
    text = keys.path.read_text()
    assert token not in text
    assert hash_token(token) in text
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert [path.name for path in keys.path.parent.iterdir()] == ["keys.json"]


def test_tokens_are_long_and_never_the_same(keys):
    tokens = [keys.add(f"caller{n}") for n in range(20)]
    assert len(set(tokens)) == 20
    assert min(len(token) for token in tokens) >= 43  # 256 bits


def test_a_revoked_key_is_refused_at_once_also_by_whoever_has_read_the_file_before(keys):
    running = KeyFile(keys.path)
    ann, bob = keys.add("ann"), keys.add("bob")
    assert running.identify(ann) is not None
    keys.revoke("ann")
    assert running.identify(ann) is None
    assert running.identify(bob).name == "bob"


def test_a_revoked_name_is_not_given_again(keys):
    keys.add("ann")
    keys.revoke("ann")
    with pytest.raises(ConfigError, match="a key of 'ann' already"):
        keys.add("ann")


@pytest.mark.parametrize("name", ["", "local", "../ann", "a b", "-x", "x" * 65])
def test_names_that_could_be_taken_for_something_else_are_refused(keys, name):
    with pytest.raises(ConfigError, match="expected a name"):
        keys.add(name)
    assert not keys.path.exists()


def test_revoking_what_is_not_there_says_what_is(keys):
    keys.add("ann")
    with pytest.raises(ConfigError, match="got 'bob'; there are: ann"):
        keys.revoke("bob")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"keys": [{}]}', '{"keys": [{"name": 1, "other": 2}]}'])
def test_a_damaged_file_is_never_taken_for_one_without_keys(keys, text):
    keys.add("ann")
    keys.path.write_text(text)
    with pytest.raises(ConfigError, match="it is damaged"):
        keys.all()


def test_a_file_that_vanishes_is_never_taken_for_one_without_keys(keys):
    token = keys.add("ann")
    assert keys.identify(token)
    keys.path.unlink()
    with pytest.raises(ConfigError, match="it is gone"):
        keys.identify(token)


def test_all_keys_are_compared_in_constant_time(keys, monkeypatch):
    from forecastlib.serving import keys as module

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
