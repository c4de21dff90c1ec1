"""PostgreSQL: the only room that imports sqlalchemy."""
