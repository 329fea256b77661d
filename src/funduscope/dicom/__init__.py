"""Writes findings as DICOM objects of the study that the photo came from. Reading is in `imaging.dicom_file`."""
