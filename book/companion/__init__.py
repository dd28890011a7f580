"""What makes the book from devlib: runs, tables, claims, pages and the site."""
