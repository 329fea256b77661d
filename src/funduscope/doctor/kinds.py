"""Every kind of finding: what it is called, what it spoils and what to do about it, each text once."""

from __future__ import annotations

from typing import Final

from funduscope.doctor.kind import Kind
from funduscope.doctor.kinds_labels import LABEL_KINDS
from funduscope.doctor.kinds_masks import MASK_KINDS

KINDS: Final[dict[str, Kind]] = {
    # --- one photograph or eye twice -----------------------------------------------------------------------------
    "same_photo": Kind(
        "Twins",
        "warning",
        "One photograph under two names",
        "Where one copy trains and the other tests, the model is asked what it has been told; where their labels "
        "differ, at least one is wrong.",
        "Keep one of the two, or give both one visit so that they stay in one fold; settle their labels.",
    ),
    "same_eye": Kind(
        "Twins",
        "info",
        "Two photographs of one eye",
        "An eye that is in training and test at once is recognized instead of read.",
        "Give both one visit, so that they stay in one fold (`funduscope folds` does); settle labels that differ.",
    ),
    # --- photographs ---------------------------------------------------------------------------------------------
    "unreadable": Kind(
        "Photographs",
        "error",
        "Cannot be read",
        "A training stops at such a file, or skips it unseen.",
        "Copy the file again from its source, or take it and its labels out.",
    ),
    "truncated": Kind(
        "Photographs",
        "error",
        "Cut short",
        "Many readers fill the missing rest with grey, and a model learns the grey.",
        "Copy the file again from its source; its end is missing.",
    ),
    "blank": Kind(
        "Photographs",
        "error",
        "Shows nothing",
        "A black, white or even picture with a label teaches a model to guess.",
        "Take the photo out, or mark its quality as reject.",
    ),
    "not_fundus": Kind(
        "Photographs",
        "error",
        "Not a fundus photograph",
        "Whatever label it carries is not about what it shows.",
        "Take it out of the data set.",
    ),
    "too_small": Kind(
        "Photographs",
        "warning",
        "Too small",
        "Microaneurysms and small exudates are gone below a few hundred pixels; what is graded cannot be seen.",
        "Get the original; a thumbnail cannot be enlarged back.",
    ),
    "blurred": Kind(
        "Photographs",
        "warning",
        "Blurred",
        "Small lesions cannot be seen, so a grade of 0 or 1 is not to be believed.",
        "Look at it: mark its quality as reject, or leave the photo out of training for grades.",
    ),
    "dark": Kind(
        "Photographs",
        "warning",
        "Too dark",
        "Lesions drown in the noise of the dark; a model may take darkness itself for a grade.",
        "Look at it: mark its quality as reject, or leave the photo out of training for grades.",
    ),
    "overexposed": Kind(
        "Photographs",
        "warning",
        "Over-exposed",
        "Where the picture is white nothing can be seen, exudates least of all.",
        "Look at it: mark its quality as reject, or leave the photo out of training for grades.",
    ),
    "cut": Kind(
        "Photographs",
        "warning",
        "Field of view cut off",
        "Part of the retina is missing that the label was given for: lesions there are in the grade, not in the photo.",
        "Get the uncropped photo; where the label was given for the crop itself, nothing is to be done.",
    ),
    "grey": Kind(
        "Photographs",
        "info",
        "Without color",
        "A model that learned from color reads grey photos worse: exudates and reflections look alike.",
        "Get the color photo where there is one; fluorescein angiograms and red-free photos do not belong in here.",
    ),
    "burned_in_text": Kind(
        "Photographs",
        "warning",
        "Text in the picture",
        "Burned-in text can name a person, and a model can read a grade off a clinic's stamp.",
        "Read it: where it names anyone, remove it before the data set goes anywhere; else crop or paint it over.",
    ),
    "personal_metadata": Kind(
        "Photographs",
        "warning",
        "Metadata that may name a person or a place",
        "Whoever gets the file gets the name, date or position in it.",
        "Write the photos again without metadata (`exiftool -all= FILE` does) and keep the originals safe.",
    ),
    "orientation": Kind(
        "Photographs",
        "info",
        "Turned by a tag",
        "Readers that do not know EXIF show it lying down, and masks drawn on the upright photo no longer fit.",
        "Write the photo upright, or read every file with a reader that follows the tag.",
    ),
    "mixed_sizes": Kind(
        "Photographs",
        "info",
        "Odd sizes in one data set",
        "A few photos of another shape come from elsewhere, or were cropped; boxes and masks may be in other pixels.",
        "Check where these files come from, and whether their labels are in their own pixels.",
    ),
    # --- cameras -------------------------------------------------------------------------------------------------
    "camera_families": Kind(
        "Cameras",
        "info",
        "Several cameras in one data set",
        "Scores hold for the cameras that a test has; report them by camera.",
        "Know them; nothing is wrong with several.",
    ),
    "camera_tells_label": Kind(
        "Cameras",
        "warning",
        "The camera gives the label away",
        "A model that recognizes the camera scores without looking at the retina.",
        "Score each camera apart, and balance the grades within each, by weights or by leaving photos out.",
    ),
    "camera_fold_skew": Kind(
        "Cameras",
        "warning",
        "Cameras spread unevenly over the folds",
        "A fold with another camera than the rest measures the camera, not the model.",
        "Make the folds anew, stratified by camera as well (`funduscope folds`).",
    ),
    # --- labels --------------------------------------------------------------------------------------------------
    "labels_unreadable": Kind(
        "Labels",
        "error",
        "Labels that no reader takes",
        "A training on this data set stops here, before it begins.",
        "Correct the place that is named; what lies behind it is examined once the labels can be read.",
    ),
    **LABEL_KINDS,
    **MASK_KINDS,
}
"""In the order in which they are shown."""
