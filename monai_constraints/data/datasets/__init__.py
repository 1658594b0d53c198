"""Data sets in their official layouts, one a file: a folder in, a datalist out."""
