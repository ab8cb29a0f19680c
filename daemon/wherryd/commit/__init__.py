"""The commit: one conditional write makes a version exist, in the order of each lane."""
