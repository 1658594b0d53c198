"""From a table of the thesis, or from finished runs, to numbers and pictures.

`table` and `compare` are imported by their own names: they are also commands.
"""

from importlib.util import find_spec

if find_spec("pandas") is None:
    raise ModuleNotFoundError("reproduce: pandas is not installed; pip install 'monai-constraints[reproduce]'")
