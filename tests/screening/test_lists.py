"""Lists: imported from every format, kept by digest, and what is wrong with a file said with its place."""

from __future__ import annotations

import csv
import gzip
import io
import json
import stat
from pathlib import Path

import needs_screening  # noqa: F401 - skips where it is not installed
import pytest
from screening_data import EXTRACT

from auditspan.screening import index_columns
from auditspan.screening.errors import ListError, ScreeningError
from auditspan.screening.lists import current_list, import_list, kept_lists, load_entries
from auditspan.screening.screener import Party, open_screener, write_index

RECORDS = json.loads(EXTRACT.read_text())["results"]
COLUMNS = ("_id", "source", "entity_number", "type", "programs", "name", "title", "addresses",
           "federal_register_notice", "license_requirement", "license_policy", "call_sign", "vessel_flag", "remarks",
           "source_list_url", "alt_names", "citizenships", "ids")  # fmt: skip


def as_table(records: list[dict], delimiter: str = ",") -> str:
    """The records as the list's tables write them: several values of a cell between semicolons."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(COLUMNS)
    for record in records:
        cells = {"_id": record["id"], **record}
        addresses = [
            ", ".join(filter(None, (a.get("address"), a.get("city"), a.get("country")))) for a in record["addresses"]
        ] if record.get("addresses") else []  # fmt: skip
        cells |= {"addresses": "; ".join(addresses)}
        cells |= {name: "; ".join(record.get(name, [])) for name in ("programs", "alt_names")}
        writer.writerow([cells.get(name, "") for name in COLUMNS])
    return text.getvalue()


def broken(path: Path, folder: Path, **options) -> ListError:
    with pytest.raises(ListError) as raised:
        import_list(path, folder, **options)
    assert raised.value.remedy
    assert path.name in str(raised.value)
    return raised.value


def test_json_and_tables_gzip_or_not_give_the_same_entries(tmp_path: Path) -> None:
    files = {
        "list.json": EXTRACT.read_bytes(),
        "list.json.gz": gzip.compress(EXTRACT.read_bytes()),
        "list.csv": as_table(RECORDS).encode("utf-8-sig"),
        "list.tsv.gz": gzip.compress(as_table(RECORDS, "\t").encode()),
    }
    found = {}
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        kept = import_list(path, tmp_path / "kept")
        assert kept.entries == len(RECORDS)
        table = load_entries(tmp_path / "kept", kept.digest)
        found[name] = table.select(["list", "entry_id", "kind", "names", "countries", "programs"]).to_pylist()
    first = found.pop("list.json")
    assert first[0]["list"] == "CAP"
    for name, entries in found.items():
        assert entries == first, name


def test_a_list_is_kept_by_its_digest_with_its_date_and_private(tmp_path: Path) -> None:
    kept = import_list(EXTRACT, tmp_path)
    assert kept == current_list(tmp_path)
    assert (kept.dated[:10], kept.version) == ("2026-07-31", f"2026-07-31/{kept.digest[:12]}")
    assert kept.lists["SDN"] > kept.lists["CAP"] == 1
    assert (tmp_path / kept.digest / "source").read_bytes() == EXTRACT.read_bytes()
    for path in tmp_path.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_the_same_list_again_is_one_list_and_an_older_one_stays(tmp_path: Path, list_file) -> None:
    first = import_list(EXTRACT, tmp_path / "kept")
    again = import_list(EXTRACT, tmp_path / "kept")
    assert (again.digest, len(kept_lists(tmp_path / "kept"))) == (first.digest, 1)
    other = import_list(list_file({"name": "Acme Rockets"}), tmp_path / "kept", smaller=True, dated="2026-11-20")
    assert {kept.digest for kept in kept_lists(tmp_path / "kept")} == {first.digest, other.digest}
    assert other.version.startswith("2026-11-20/")
    assert current_list(tmp_path / "kept") == other


@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_a_truncated_file_is_refused_and_the_last_good_list_stays(tmp_path: Path, share: float) -> None:
    good = import_list(EXTRACT, tmp_path / "kept")
    for name, content in (
        ("cut.json", EXTRACT.read_bytes()),
        ("cut.json.gz", gzip.compress(EXTRACT.read_bytes())),
        ("cut.csv", as_table(RECORDS).encode().rstrip()),
    ):
        path = tmp_path / name
        path.write_bytes(content[: int(len(content) * share)])
        error = broken(path, tmp_path / "kept")
        assert error.line or error.record or "entries" in error.message, error
        assert current_list(tmp_path / "kept") == good
    assert not list((tmp_path / "kept").glob(".import-*"))


def test_two_entries_with_one_id(tmp_path: Path, list_file) -> None:
    path = list_file({"name": "Acme Rockets"}, {"name": "Acme Motors"}, {"name": "Acme Rockets", "id": "0000"})
    error = broken(path, tmp_path / "kept")
    assert error.record == 3
    assert "record 1" in error.message


def test_a_list_that_says_another_number_of_entries_than_it_has(tmp_path: Path, list_file) -> None:
    assert "says that it has 3 entries, and has 1" in str(
        broken(list_file({"name": "Acme Rockets"}, total=3), tmp_path / "kept")
    )


def test_a_list_that_shrank_is_refused_unless_it_is_said_to_be_whole(tmp_path: Path, list_file) -> None:
    import_list(EXTRACT, tmp_path / "kept")
    path = list_file({"name": "Acme Rockets"})
    assert "--smaller" in broken(path, tmp_path / "kept").remedy
    assert import_list(path, tmp_path / "kept", smaller=True).entries == 1


def test_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes(b"_id,source,name\n1,Entity List,Acme\n2,Entity List,Soci\xe9t\xe9\n")
    error = broken(path, tmp_path / "kept")
    assert (error.line, "0xe9" in error.message, "UTF-8" in error.remedy) == (3, True, True)


def test_a_file_that_grows_beyond_the_bound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.json.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"results": [')
        for _ in range(210):
            file.write(b" " * 1_000_000)
    assert path.stat().st_size < 2_000_000
    assert "200,000,000 bytes" in broken(path, tmp_path / "kept").message


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"name": ""}, "no name"),
        ({"name": "Acme", "id": None}, "no id"),
        ({"name": "Acme", "source": " "}, "no source"),
        ({"name": "Acme", "alt_names": [1]}, "alt_names"),
        ({"name": "Acme", "addresses": ["here"]}, "addresses"),
        ({"name": ["Acme"]}, "name is no text"),
        ({"name": "A" * 5000}, "5000 characters"),
        ({"name": "..."}, "is no name"),
    ],
)
def test_a_broken_record_is_named_with_its_number(tmp_path: Path, list_file, record: dict, said: str) -> None:
    error = broken(list_file({"name": "Good"}, record), tmp_path / "kept")
    assert (error.record, said in error.message) == (2, True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "neither"),
        ("hello", "neither"),
        ("{}", "no entry"),
        ('{"results": []}', "no entry"),
        ('{"results": [{"id": 1}] } more', "no source"),
        ('{"results": [3]}', "no object"),
        ('{"results": ' + "[" * 100_000, "nested"),
        ("_id,source,name\n1,EL\n", "2 cells under 3"),
        ('_id,source,name\n1,EL,"Acme\n', "no CSV"),
    ],
)
def test_files_that_are_no_list(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(content)
    assert said in broken(path, tmp_path / "kept").message


def test_columns_of_another_version_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_columns, "VERSION", b"0")
    kept = import_list(EXTRACT, tmp_path, prepare=write_index)
    monkeypatch.undo()
    assert index_columns.read(tmp_path / kept.digest / "index") is None
    assert open_screener(tmp_path).screen(Party("Vladimir Putin"))


def test_what_cannot_be_read_says_to_import_again(tmp_path: Path) -> None:
    with pytest.raises(ScreeningError, match="no list"):
        open_screener(tmp_path)
    kept = import_list(EXTRACT, tmp_path, prepare=write_index)
    entries = tmp_path / kept.digest / "entries.arrow"
    entries.write_bytes(entries.read_bytes()[:1000])
    with pytest.raises(ScreeningError, match="Import the list again"):
        open_screener(tmp_path)
