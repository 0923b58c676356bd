"""From a suite to records: plan (suite -> cells), lab (content-addressed stages), score, execute."""
