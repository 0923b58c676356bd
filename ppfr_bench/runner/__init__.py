"""From a suite to records: request, plan (suite -> cells), graph (cells -> stages), execution and scoring."""
