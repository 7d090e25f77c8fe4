"""The layouts of a source: folders, tables, archives of arrays, data sets of Hugging Face."""
