"""Figures and tables of rows that were measured; nothing here measures anything."""
