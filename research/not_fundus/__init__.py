"""Other pictures than fundus photographs, and what tells them apart."""
