"""A file per data set. Each has `NAME`, by which people know the set, `recognize(folder) -> bool`, which decides by the
folder's content, and `read(folder) -> list[Case]`. `data/sources.py` takes every file of this folder."""
