"""Reads a screening program's photos in one run and answers in tables: a row per photo, per lesion and per patient.

In the order of the data: photo_list names the photos of a folder, a table or an archive (archives); store remembers
what was read; reader reads, in the processes of readers or ray_readers; columns, tables, patients and batch_html write
what OUT holds; run joins them.
"""
