"""Text that users hand over, as different machines write it."""

from pathlib import Path

import pytest

from unclouded.errors import UncloudedError
from unclouded.text_files import read_table, read_text

TEXT = "größe\nß 雲\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_text_is_read_as_windows_and_others_write_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "list.txt"
    mark = b"\xff\xfe" if encoding == "utf-16-le" else b""
    path.write_bytes(mark + TEXT.encode(encoding))
    assert read_text(path) == TEXT


def test_another_encoding_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("a\nb\ngröße\n".encode("latin-1"))
    with pytest.raises(UncloudedError, match=r"list\.txt is not UTF-8 text \(see line 3\)\. Save it as UTF-8\."):
        read_text(path)


def test_half_a_character_of_utf16_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("a".encode("utf-16")[:-1])
    with pytest.raises(UncloudedError, match=r"is not UTF-8 text \(see line 1\)"):
        read_text(path)


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(UncloudedError, match="cannot be read"):
            read_text(path)


def test_a_table_has_its_columns_and_rows(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text('cloudy, clear,stem\r\na.png, "b,c.png"\r\n', encoding="utf-8-sig", newline="")
    columns, rows = read_table(path)
    assert columns == ["cloudy", "clear", "stem"]
    assert rows == [{"cloudy": "a.png", "clear": "b,c.png", "stem": ""}]


def test_an_empty_table_has_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.touch()
    assert read_table(path) == ([], [])


def test_a_row_beyond_the_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("cloudy,clear\na,b\na,b,c\n", encoding="utf-8")
    with pytest.raises(UncloudedError, match=r"Line 3 of .*pairs\.csv has more cells than there are columns\."):
        read_table(path)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("cloudy,clear\n" + "a" * 140_000 + "\n", encoding="utf-8")
    with pytest.raises(UncloudedError, match="is not a CSV table"):
        read_table(path)
