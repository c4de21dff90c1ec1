"""PostgreSQL: the only package that imports sqlalchemy."""
