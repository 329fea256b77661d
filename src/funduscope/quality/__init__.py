"""What is measured of a photo's light, sharpness and field; whether it is a fundus photo; whether it can be graded."""
