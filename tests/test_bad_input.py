"""The part of `bad_input.py` that needs no training, and so a second or less a kind."""

from __future__ import annotations

import bad_input

CONFIGURATION = ("names", "types", "overlays", "command")
DATA = ("structures", "leaks", "spacing")


def test_bad_input_is_refused_clearly() -> None:
    every = list(bad_input.kinds())
    assert len(every) >= 200 and len({(kind.group, kind.bundle, kind.name) for kind in every}) == len(every)
    quick = [kind for kind in every if kind.words and kind.bundle == "acdc_lv" and kind.group in CONFIGURATION + DATA]
    found = list(bad_input.run(quick))
    assert len(found) > 150
    assert [(kind.name, what, said) for kind, what, said in found if what in bad_input.BAD] == []
