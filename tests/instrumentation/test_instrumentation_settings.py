from pathlib import Path

import pytest
from auditspan.instrumentation.settings import InstrumentationSettings, Mode, OnFailure, SettingsError


def read(**variables):
    return InstrumentationSettings.from_environment({f"AUDITSPAN_{name}": text for name, text in variables.items()})


def test_defaults_are_local_and_on_loopback():
    settings = InstrumentationSettings.from_environment({"HOME": "/home/u"})
    assert settings.endpoint == "http://127.0.0.1:4318"
    assert settings.mode is Mode.LOCAL
    assert settings.spool_directory == Path("/home/u/.local/state/auditspan/spool")
    assert not settings.disabled
    assert settings.trusted_proxies == ()
    assert settings.on_import_failure is OnFailure.CONTINUE


def test_every_variable_is_read(tmp_path):
    settings = read(
        ENDPOINT="https://collector.example:4318/v1/traces",
        TOKEN="t",
        SPOOL_DIRECTORY=str(tmp_path),
        MODE="local_sync",
        MODES="model.transfer=receipt, model.access=local",
        FAIL_CLOSED="model.transfer,accelerator.provision",
        TRUSTED_PROXIES="10.0.0.0/8,2001:db8::1",
        DISABLED="true",
        ON_IMPORT_FAILURE="refuse",
        ON_SELF_TEST_FAILURE="refuse",
        SPOOL_LIMIT_BYTES="1000000",
        HEARTBEAT_SECONDS="5",
    )
    assert settings.endpoint == "https://collector.example:4318"
    assert settings.mode_for("other") is Mode.LOCAL_SYNC
    assert settings.mode_for("model.transfer") is Mode.RECEIPT
    assert settings.mode_for("model.access") is Mode.LOCAL
    assert settings.mode_for("accelerator.provision", "local") is Mode.LOCAL_SYNC
    assert settings.is_trusted_proxy("10.1.2.3")
    assert settings.is_trusted_proxy("2001:db8::1")
    assert not settings.is_trusted_proxy("192.0.2.1")
    assert not settings.is_trusted_proxy("unix")
    assert settings.disabled
    assert settings.on_import_failure is settings.on_self_test_failure is OnFailure.REFUSE
    assert (settings.spool_limit, settings.heartbeat_interval) == (1_000_000, 5.0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ENDPOINT", "collector:4318"),
        ("ENDPOINT", "http://user:secret@collector"),
        ("ENDPOINT", "ftp://collector"),
        ("ENDPOINT", "http://collector:notaport"),
        ("MODE", "fast"),
        ("MODES", "model.access"),
        ("MODES", "model.access=fast"),
        ("DISABLED", "perhaps"),
        ("ON_IMPORT_FAILURE", "panic"),
        ("TRUSTED_PROXIES", "everybody"),
        ("SPOOL_LIMIT_BYTES", "-1"),
        ("SPOOL_LIMIT_BYTES", "many"),
        ("HEARTBEAT_SECONDS", "nan"),
        ("TOKEN", "two words"),
        ("TOKEN_FILE", "/nonexistent/token"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_variable_and_a_remedy(name, text):
    with pytest.raises(SettingsError) as caught:
        read(**{name: text})
    assert f"AUDITSPAN_{name.removesuffix('_FILE')}" in caught.value.message
    assert caught.value.remedy
    assert "secret" not in str(caught.value)


def test_a_token_does_not_cross_a_network_in_clear():
    with pytest.raises(SettingsError, match="in clear"):
        read(ENDPOINT="http://collector.example:4318", TOKEN="tok")
    assert read(ENDPOINT="http://collector.example:4318", TOKEN="tok", ALLOW_CLEARTEXT="true").token == "tok"
    assert read(ENDPOINT="http://[::1]:4318", TOKEN="tok").token == "tok"


def test_the_token_may_be_in_a_file_and_is_never_shown(tmp_path):
    path = tmp_path / "token"
    path.write_text("secret-token\n")
    settings = read(TOKEN_FILE=str(path))
    assert settings.token == "secret-token"
    assert "secret-token" not in f"{settings!r} {settings}"
