"""Results on paper: a page a photo for the file of a patient, and a sheet that the patient understands.

PDF needs the extra `report` (ReportLab, and HarfBuzz for scripts whose letters join); the sheet as HTML needs nothing.
"""
