"""``init_from`` says part, run and source; everything else is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lic_train.errors import ModelError
from lic_train.utils.starts import Start, starts


def test_part_and_source_are_the_label_unless_they_are_said() -> None:
    entries: dict[str, Any] = {
        "base": {"run": "a"},
        "twin": {"part": "residual.g_a", "source": "intra.g_a", "run": "b"},
        "all": {"run": "c"},
        "later": {"run": None, "optional": True},
    }
    assert starts(entries) == [
        Start("base", "base", "base", Path("a")),
        Start("twin", "residual.g_a", "intra.g_a", Path("b")),
        Start("all", "", "", Path("c")),
    ]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"base": {"run": None}}, "add init_from.base.run=RUN"),
        ({"base": {}}, "add init_from.base.run=RUN"),
        ({"base": "old"}, "is the old form: say init_from.base.run=old"),
        ({"all": "old"}, "say init_from.all.run=old"),
        ({"a.b from c.d": "old"}, "init_from.LABEL.part=a.b init_from.LABEL.source=c.d"),
        ({"base": {"runs": "x"}}, "no setting init_from.base.runs: there are run, part, source"),
    ],
)
def test_another_form_is_refused_with_what_to_type(entries: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        starts(entries)
