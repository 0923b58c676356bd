"""Records: the result of each cell, the plan that says which of them make a board, and where both are kept."""
