"""Kinds of findings about masks and wrong joins; see `kinds`."""

from __future__ import annotations

from typing import Final

from funduscope.doctor.kind import Kind

MASK_KINDS: Final[dict[str, Kind]] = {
    # --- masks ---------------------------------------------------------------------------------------------------
    "mask_unreadable": Kind(
        "Masks",
        "error",
        "A mask that cannot be read",
        "A training stops at it, or takes the lesion for absent.",
        "Copy or export it again as PNG or TIFF.",
    ),
    "mask_missing": Kind(
        "Masks",
        "error",
        "A mask that is promised and not there",
        "A label file speaks of it, so the lesion would be taken for unknown or absent.",
        "Add the file; where there is none, empty the cell (unknown) or write none (absent).",
    ),
    "mask_misplaced": Kind(
        "Masks",
        "error",
        "A mask in another structure's folder",
        "Name and folder say two things, and which is believed depends on the program.",
        "Look at it and move or rename it.",
    ),
    "mask_unknown_photo": Kind(
        "Masks",
        "warning",
        "A mask of no photo",
        "It is not used, and the photo that it was drawn on may pass as one without lesions.",
        "Correct its name, or add the photo.",
    ),
    "mask_size": Kind(
        "Masks",
        "error",
        "A mask of another size than its photo",
        "Scaled without care it lies beside the lesions, or small ones are lost.",
        "Export it at the photo's own size, or find the photo that it was drawn on.",
    ),
    "mask_empty": Kind(
        "Masks",
        "error",
        "A mask that marks nothing",
        "It is as often a failed conversion as a finding that the lesion is absent.",
        "Look at its source: convert it again, or remove it and say that the lesion is absent.",
    ),
    "mask_soft": Kind(
        "Masks",
        "warning",
        "A mask with values between inside and outside",
        "Where inside begins is then a matter of the program: above zero widens every lesion, above half thins it.",
        "Export it again without smoothing, as PNG or TIFF; `--fix` takes half of the highest value as the edge.",
    ),
    "mask_alpha": Kind(
        "Masks",
        "warning",
        "A mask whose alpha plane says something else",
        "A program that takes the largest of four planes marks what is opaque: often the whole photo.",
        "Use its colors alone, or save it without alpha (`--fix` does).",
    ),
    "mask_conventions": Kind(
        "Masks",
        "warning",
        "Masks stored in several ways",
        "What reads one right may empty or fill the other: 1 of 255 is black, and red is dark as gray.",
        "Save all in one way, best as 0 and 255 in one plane (`--fix` does).",
    ),
    "mask_whole": Kind(
        "Masks",
        "error",
        "A mask that marks far too much",
        "A photo that is all lesion outweighs every true one in training and in scores.",
        "Look at it: where it is inverted, invert it; else export it again, or call it unknown.",
    ),
    "mask_outside_field": Kind(
        "Masks",
        "warning",
        "A mask outside the field of view",
        "There is no retina where it lies: it is shifted, mirrored, or another photo's.",
        "Look at it, and find the photo that it was drawn on.",
    ),
    "mask_swapped": Kind(
        "Masks",
        "error",
        "A mask of another structure",
        "Exudates are brighter than the retina around them, haemorrhages darker; here it is the reverse.",
        "Look at the picture and give the mask its right name.",
    ),
    "mask_copied": Kind(
        "Masks",
        "error",
        "One mask in two places",
        "Two photos, or two structures, cannot have lesions at the very same pixels.",
        "Find out whose it is and export the other again.",
    ),
    "votes_wrong": Kind(
        "Masks",
        "error",
        "Votes that are none",
        "Votes count experts in steps of 60; other values are read as nobody's.",
        "Export the file again without smoothing.",
    ),
    # --- joins ---------------------------------------------------------------------------------------------------
    "mask_misfit": Kind(
        "Joins",
        "warning",
        "A mask that does not fit its photo",
        "What it outlines looks like its surroundings: the mask may be shifted, mirrored or another eye's.",
        "Look at the picture: a faint lesion is possible, a wrong join more often so.",
    ),
    "disc_elsewhere": Kind(
        "Joins",
        "error",
        "The disc is elsewhere",
        "Labels that put one disc in two places belong to two eyes.",
        "Look at the picture and find out which label is of another photo; everything joined with it is as well.",
    ),
    "landmarks_swapped": Kind(
        "Joins",
        "error",
        "The fovea is marked on the disc",
        "Disc and fovea are exchanged, or the points are another eye's.",
        "Exchange the two points, or find the photo that they were marked on.",
    ),
    "side_conflict": Kind(
        "Joins",
        "warning",
        "Left or right?",
        "What is called a left eye looks like a right one: the photo is mirrored or upside down, or its row is "
        "another's.",
        "Look at the picture: the disc lies toward the nose, on the right in a right eye's photo.",
    ),
    "joined_by_number": Kind(
        "Joins",
        "error",
        "Joined by number",
        "The same number of IDRiD's A and of its B and C means two different eyes: these photos carry other people's "
        "labels.",
        "Take these labels away; photos of A that occur in B are found by content (kind same_photo).",
    ),
    "labels_of_other_eyes": Kind(
        "Joins",
        "error",
        "Labels that belong to other eyes",
        "So many contradictions between one file and what is drawn on its photos are no chance.",
        "Find out how the file's rows were joined to the photos, and join them anew.",
    ),
}
"""In the order in which they are shown."""
