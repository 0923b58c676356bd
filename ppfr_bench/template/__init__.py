"""Templates: the class of their protections, the view of their attackers, and the two encrypted protocols."""
