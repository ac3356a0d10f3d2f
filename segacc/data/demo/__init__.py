"""Demo: data sets that are painted by code, so that a trial needs no network."""
