"""COMS6998, homework 2: one script for each problem."""
