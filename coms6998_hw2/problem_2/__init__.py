"""What the scripts of problem 2 share: the deep network of 2.1, the ensemble of 2.2 and 2.3, its figures."""
