"""Kinds of findings about labels, splits and label noise; see `kinds`."""

from __future__ import annotations

from typing import Final

from funduscope.doctor.kind import Kind

LABEL_KINDS: Final[dict[str, Kind]] = {
    # --- labels --------------------------------------------------------------------------------------------------
    "table_unreadable": Kind(
        "Labels",
        "error",
        "A label file that cannot be read",
        "Its labels are lost, and a training on this data set stops.",
        "Save it again as CSV in UTF-8 with the names of its columns in the first row.",
    ),
    "table_form": Kind(
        "Labels",
        "error",
        "A label file with cells out of place",
        "A shifted cell gives a photo another column's value.",
        "Look at the row: put values with commas in quotes, give each column one name, save as UTF-8.",
    ),
    "impossible_value": Kind(
        "Labels",
        "error",
        "A value that cannot be",
        "A training stops at it, or learns a class that does not exist.",
        "Correct it from its source; where it is not known, leave the cell empty (`--fix` does).",
    ),
    "contradicting_rows": Kind(
        "Labels",
        "error",
        "Rows that contradict each other",
        "One photo with two labels: at least one is wrong, and which of them is learned is chance.",
        "Find out which is right and keep that row.",
    ),
    "duplicated_row": Kind(
        "Labels",
        "warning",
        "One photo in two equal rows",
        "The photo counts twice in training and in every score.",
        "Remove one of the rows (`--fix` does).",
    ),
    "missing_row": Kind(
        "Labels",
        "warning",
        "A photo without a row",
        "The photo is left out, or taken as unlabelled, without a word.",
        "Add its row; where nothing is known of it, nothing is to be done.",
    ),
    "row_without_photo": Kind(
        "Labels",
        "warning",
        "A row without its photo",
        "The label is lost; often the name is misspelled and a photo stands without its label.",
        "Correct the name, or add the photo; remove the row where the photo was left out on purpose.",
    ),
    "empty_label": Kind(
        "Labels",
        "info",
        "A grade left empty",
        "The photo teaches nothing of that, where a forgotten entry would have.",
        "Fill it in where it is known.",
    ),
    "graded_reject": Kind(
        "Labels",
        "info",
        "Rejected photos that are graded",
        "A grade given to a photo that cannot be graded is noise.",
        "Leave these grades out of training and of scores; funduscope's reader of EyePACS does.",
    ),
    "points_of_another_size": Kind(
        "Labels",
        "error",
        "Points for photos of another size",
        "Every point lies beside what it marks.",
        "Scale the columns by the photos' width over the width of the photos that were marked.",
    ),
    "point_outside": Kind(
        "Labels",
        "error",
        "A point outside its photo",
        "A training stops at it, or learns that the landmark is at the edge.",
        "Mark the point again (x to the right, y down, in the photo's own pixels).",
    ),
    "point_outside_field": Kind(
        "Labels",
        "warning",
        "A point outside the field of view",
        "There is nothing to be seen at that place.",
        "Mark the point again, or leave it empty where the landmark is not in the photo.",
    ),
    "landmarks_implausible": Kind(
        "Labels",
        "warning",
        "Disc and fovea where no eye has them",
        "One of the two points is wrong, or the photo is turned.",
        "Look at the picture and mark the wrong one again.",
    ),
    "box_outside": Kind(
        "Labels",
        "error",
        "A box outside its photo",
        "Boxes of a copy of another size lie beside every lesion.",
        "Scale the file to the photos, or draw the box again.",
    ),
    "box_implausible": Kind(
        "Labels",
        "warning",
        "A disc box of no disc's size",
        "A disc's size is the unit in which distances on the retina are told.",
        "Draw the box again.",
    ),
    "dme_contradicts": Kind(
        "Labels",
        "warning",
        "Edema risk against exudates",
        "The risk is defined by where hard exudates lie, so one of the two labels is wrong.",
        "Look at the picture: correct the risk or the outline. A box around several lesions may be of another kind.",
    ),
    "lesions_above_grade": Kind(
        "Labels",
        "warning",
        "Lesions that the grade excludes",
        "Grade 0 is the absence of every lesion, grade 1 microaneurysms alone: one of the two labels is wrong.",
        "Look at the picture: correct the grade, or take away what is no lesion.",
    ),
    "grade_without_lesions": Kind(
        "Labels",
        "warning",
        "A grade without lesions",
        "Retinopathy without a lesion is contradictory: the grade is another photo's, or somebody outlined too little.",
        "Look at the picture: correct the grade, or write unknown where nobody looked for lesions.",
    ),
    # --- splits --------------------------------------------------------------------------------------------------
    "folds_row_twice": Kind(
        "Splits",
        "error",
        "A photo in two rows of the folds",
        "Which fold it is in depends on the program that reads the file.",
        "Keep one row (`--fix` does, where both say the same).",
    ),
    "folds_unknown_photo": Kind(
        "Splits",
        "warning",
        "A fold for a photo that is not here",
        "The folds were made for other photos: figures by them are not comparable.",
        "Correct the name, add the photo, or make the folds anew (`funduscope folds`).",
    ),
    "folds_missing_photo": Kind(
        "Splits",
        "warning",
        "A photo without a fold",
        "It is trained on or left out depending on the program, and may be a neighbor of a test photo.",
        "Add it to its visit's fold, or make the folds anew (`funduscope folds`).",
    ),
    "visit_across_folds": Kind(
        "Splits",
        "error",
        "A visit in several folds",
        "Eyes of one person in training and test: the model is asked what it has seen.",
        "Put all photos of a visit or patient into one fold (`funduscope folds` does).",
    ),
    "visit_across_splits": Kind(
        "Splits",
        "error",
        "A patient on both sides of a split",
        "Eyes of one person in training and test: the model is asked what it has seen.",
        "Leave the training side's photos of such patients out, and say so beside the score.",
    ),
    "twins_across_folds": Kind(
        "Splits",
        "error",
        "Twins in several folds or splits",
        "The same photo or eye is in training and in test, so that the test's figures are too good.",
        "Make the folds anew with twins joined (`funduscope folds` does), or join their visits (`--fix` does).",
    ),
    "fold_sizes": Kind(
        "Splits",
        "warning",
        "Folds of unequal size",
        "A small fold's figure is mostly chance, and the others train on less.",
        "Make the folds anew (`funduscope folds`).",
    ),
    "fold_classes": Kind(
        "Splits",
        "warning",
        "Grades spread unevenly over the folds",
        "A fold without a grade cannot test it, and agreement (kappa) depends on how common grades are.",
        "Make the folds anew, stratified by grade (`funduscope folds`).",
    ),
    # --- label noise ---------------------------------------------------------------------------------------------
    "label_noise": Kind(
        "Label noise",
        "info",
        "How much of the labels the models doubt",
        "Wrong labels bound every score, and wrong answers look the same from here: the sheet tells them apart.",
        "Look through the sheet from its beginning; where several of a row are right, stop.",
    ),
    "labels_unjudged": Kind(
        "Label noise",
        "info",
        "Labels that the models did not judge",
        "Nothing is known of such labels: that none of them is doubted does not make them right.",
        "Give a run for every fold (`--model` is repeatable); where labels are so few, have a grader look at them.",
    ),
    "doubtful_label": Kind(
        "Label noise",
        "warning",
        "A label that the models contradict",
        "Models that never saw the photo say something else with confidence: the label, or the models, are wrong here.",
        "Have a grader look at it without knowing either answer.",
    ),
}
"""In the order in which they are shown."""
