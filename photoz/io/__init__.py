"""Files: one module a format, its reader beside its writer."""
