"""Tables may be opened in a spreadsheet, and may have been written by a stranger."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.curves import row

from lic_train.rd.points import read_csv, write_csv


@pytest.mark.parametrize("name", ["=1+1.png", "+x", "-x", "@SUM(A1)", "\tx", "'quoted'", "a=b"])
def test_a_name_is_no_formula_and_comes_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rd.csv"
    write_csv([row(name, 0, 1.0, 30.0, image=name)], path)
    cells = path.read_text().splitlines()[1].split(",")
    assert not [cell for cell in cells if cell.strip('"')[:1] in ("=", "+", "@", "\t")]
    (back,) = read_csv(path)
    assert back.image == back.codec == name
