"""The paper's claims: read, measured on tables, judged and put into words."""
