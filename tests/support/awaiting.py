"""Suites whose records earlier versions of attacks and scorers have made: they are to be measured anew."""

AWAITING = {"standard", "lfw_quick"}
