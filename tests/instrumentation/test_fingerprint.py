import hashlib
import hmac

from auditspan.instrumentation.fingerprint import credential_fingerprint


def test_without_key_it_is_the_first_half_of_sha_256(monkeypatch):
    monkeypatch.delenv("AUDITSPAN_FINGERPRINT_KEY", raising=False)
    # FIPS 180-4 test vector "abc".
    assert credential_fingerprint("abc") == "sha256:ba7816bf8f01cfea414140de5dae2223"
    assert credential_fingerprint(b"abc") == credential_fingerprint("abc")


def test_with_key_it_is_hmac_sha_256(monkeypatch):
    monkeypatch.setenv("AUDITSPAN_FINGERPRINT_KEY", "k")
    expected = hmac.new(b"k", b"abc", hashlib.sha256).hexdigest()[:32]
    assert credential_fingerprint("abc") == f"sha256:{expected}"
    assert credential_fingerprint("abc", key=b"other") != f"sha256:{expected}"


def test_bytes_that_are_no_text_have_a_fingerprint():
    assert credential_fingerprint("a\udcff").startswith("sha256:")
