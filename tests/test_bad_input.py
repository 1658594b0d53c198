"""The part of `bad_input.py` that needs no training, and so a second or less a kind."""

from __future__ import annotations

import bad_input


def test_bad_input_is_refused_clearly() -> None:
    quick = [kind for kind in bad_input.kinds() if kind.group in ("names", "types", "overlays") and kind.words]
    found = bad_input.run(quick)
    assert len(found) > 80
    assert [(kind.name, what, said) for kind, what, said in found if what in bad_input.BAD] == []
