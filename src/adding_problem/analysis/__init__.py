"""What the records of several runs say, in numbers and pictures."""
