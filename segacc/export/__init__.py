"""Export: trained models as files that open without segacc, checked against the original."""
