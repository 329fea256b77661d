"""Image measures of a photo; whether it is a fundus photo; whether it can be graded."""
