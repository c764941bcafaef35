"""The compile report: what a bundle's VTA programs are predicted to do, against what they must do at the least."""
