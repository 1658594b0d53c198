"""From a table of the thesis, or from finished runs, to numbers and pictures.

`table` and `compare` are imported by their own names: they are also commands.
"""
