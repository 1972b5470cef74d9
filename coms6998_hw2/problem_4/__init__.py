"""What the scripts of problem 4 share: the training run, the rules, the batch policies, their figures."""
