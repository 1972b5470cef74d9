"""What the script of problem 3 is made of: what layers do, its intervals, its figures."""
